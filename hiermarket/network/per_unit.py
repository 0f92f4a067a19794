"""Kilovolt, ohm and siemens to MVA and back: the only place that converts them.

There is no base power anywhere. With P in MW and w = v² in p.u.², an impedance is
measured in 1/MVA (ohm/kV², which is per unit on 1 MVA) and an admittance in MVA at 1 p.u.
(siemens·kV²).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BUS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from hiermarket.network.topology import Tree

    Floats = NDArray[np.float64]


def per_mva(ohm: ArrayLike, kilovolts: ArrayLike) -> Floats:
    """Return impedances [1/MVA] of impedances [ohm] at nominal voltages [kV].

    >>> float(per_mva(0.0922, 12.66).round(9))
    0.000575259
    """
    return np.asarray(np.asarray(ohm, dtype=float) / np.asarray(kilovolts, dtype=float) ** 2)


def mva(siemens: ArrayLike, kilovolts: ArrayLike) -> Floats:
    """Return admittances [MVA at 1 p.u.] of admittances [S] at nominal voltages [kV].

    >>> float(mva(0.001, 10.0).round(9))
    0.1
    """
    return np.asarray(np.asarray(siemens, dtype=float) * np.asarray(kilovolts, dtype=float) ** 2)


def ohms(per_unit: float, kilovolts: float, base_mva: float) -> float:
    """Return an impedance [ohm] of one in per unit on a base power.

    >>> ohms(0.1, 10.0, 100.0)
    0.1
    """
    return per_unit * kilovolts**2 / base_mva


def siemens(per_unit: float, kilovolts: float, base_mva: float) -> float:
    """Return an admittance [S] of one in per unit on a base power.

    >>> siemens(0.1, 10.0, 100.0)
    0.1
    """
    return per_unit * base_mva / kilovolts**2


@dataclass(frozen=True, slots=True)
class Branches:
    """Branches as seen from the parent: an ideal transformer, then r + jx; shunts moved to both buses.

    Attributes
    ----------
    r, x : (branch,) array
        Series impedance [1/MVA].
    tap : (branch,) array
        Ratio of the ideal transformer at the parent side.
    parent_shunt, child_shunt : (branch,) complex array
        Shunt admittance g + jb at the parent and at the child [MVA at 1 p.u.].
    """

    r: Floats
    x: Floats
    tap: Floats
    parent_shunt: NDArray[np.complex128]
    child_shunt: NDArray[np.complex128]


def seen_from_parent(
    impedance: NDArray[np.complex128],
    admittance: NDArray[np.complex128],
    ratio: Floats,
    tapped_at_parent: NDArray[np.bool_],
) -> Branches:
    """Refer two-ports with a tap on either side to the parent side.

    Parameters
    ----------
    impedance : (branch,) complex array
        Series impedance r + jx [1/MVA].
    admittance : (branch,) complex array
        Whole shunt admittance g + jb [MVA at 1 p.u.], half of it at each end of the impedance.
    ratio : (branch,) array
        Ratio of the ideal transformer between its bus and the impedance; 1 for lines.
    tapped_at_parent : (branch,) bool array
        Whether the ideal transformer stands at the parent (else at the child).

    Returns
    -------
    Branches
        The same two-ports.

    Notes
    -----
    At the parent: v_m/τ − z i = v_n, so t = τ; the half shunt at the impedance's parent end sees v_m/τ,
    that is y/(2τ²) at the bus. At the child: v_m − z i = v_n/τ and the child's current is i/τ;
    times τ this is v_m/(1/τ) − τ²z (i/τ) = v_n, so t = 1/τ, the impedance is τ²z, and the
    child's half shunt is y/(2τ²). A phase shift turns all voltages behind a radial branch by
    the same angle and changes none of these.

    >>> at_child = seen_from_parent(np.array([0.1j]), np.array([0j]), np.array([1.25]), np.array([False]))
    >>> at_child.tap.item(), at_child.x.round(9).item()
    (0.8, 0.15625)
    """
    half = admittance / 2
    referred = np.where(tapped_at_parent, impedance, impedance * ratio**2)
    return Branches(
        r=referred.real,
        x=referred.imag,
        tap=np.where(tapped_at_parent, ratio, 1 / ratio),
        parent_shunt=np.where(tapped_at_parent, half / ratio**2, half),
        child_shunt=np.where(tapped_at_parent, half, half / ratio**2),
    )


def radial_arrays(branches: pd.DataFrame, buses: list[str], found: Tree, shunts: pd.DataFrame) -> xr.Dataset:
    """Return the arrays over buses of a radial grid: branches seen from the parent, shunts summed by bus.

    Parameters
    ----------
    branches : pandas.DataFrame
        Columns bus0, bus1; r, x [1/MVA] and g, b [MVA] of the two-port; ratio of its ideal
        transformer, which stands at bus0 where at_bus0; s_max [MVA].
    buses : list of str
        Labels of the buses.
    found : Tree
        Of the branches, by position in `buses`.
    shunts : pandas.DataFrame
        Columns g_pu, b_pu [MVA at 1 p.u.] by bus.

    Returns
    -------
    xarray.Dataset
        ``parent, r, x, tap, g, b, s_max (bus)`` of a `Feeder`.
    """
    names = np.array(buses, dtype=object)
    fed = np.flatnonzero(found.edge >= 0)
    into = branches.iloc[found.edge[fed]]
    above = found.parent[fed]
    seen = seen_from_parent(
        into["r"].to_numpy() + 1j * into["x"].to_numpy(),
        into["g"].to_numpy() + 1j * into["b"].to_numpy(),
        into["ratio"].to_numpy(dtype=float),
        (into["bus0"].to_numpy() == names[above]) == into["at_bus0"].to_numpy(dtype=bool),
    )
    shunt = np.zeros(len(buses), dtype=complex)
    np.add.at(shunt, above, seen.parent_shunt)
    np.add.at(shunt, fed, seen.child_shunt)
    fixed = shunts.reindex(buses).fillna(0.0)
    shunt += fixed["g_pu"].to_numpy() + 1j * fixed["b_pu"].to_numpy()
    at_bus = {
        name: np.full(len(buses), value, dtype=kind)
        for name, value, kind in (
            ("parent", "", object), ("r", 0.0, float), ("x", 0.0, float), ("tap", 1.0, float), ("s_max", np.inf, float),
        )
    }  # fmt: skip
    into_bus = {"parent": names[above], "r": seen.r, "x": seen.x, "tap": seen.tap, "s_max": into["s_max"].to_numpy()}
    for name, values in into_bus.items():
        at_bus[name][fed] = values
    arrays = at_bus | {"g": shunt.real, "b": shunt.imag}
    return xr.Dataset({name: (BUS, values) for name, values in arrays.items()}, coords={BUS: names})
