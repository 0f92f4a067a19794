"""From the printed table of a radial test feeder to a PyPSA network with ratings, and to its netCDF file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pypsa

#: Synthetic rating of a line: this multiple of its apparent power at peak, rounded up to a step.
HEADROOM = 1.5
STEP_MVA = 0.5
#: Voltage band of every bus [p.u.]; both feeders are below 0.95 at peak, so the band is wide.
V_MIN, V_MAX = 0.90, 1.05


def rating(apparent: float, step: float) -> float:
    """Return the synthetic rating of a branch.

    Parameters
    ----------
    apparent : float
        Apparent power at peak [MVA].
    step : float
        Ratings are multiples of this [MVA].

    >>> rating(1.1, 0.5)
    2.0
    """
    return step * max(1, math.ceil(round(HEADROOM * apparent / step, 9)))


def radial_network(
    name: str,
    v_nom: float,
    loads: Sequence[tuple[int, float, float]],
    branches: Sequence[tuple[int, int, float, float]],
) -> pypsa.Network:
    """Build the network of one feeder at peak, with synthetic ratings.

    Parameters
    ----------
    name : str
        Name of the network.
    v_nom : float
        Nominal voltage [kV].
    loads : sequence of (bus, active kW, reactive kvar)
        As printed; buses without load may be left out.
    branches : sequence of (from, to, r ohm, x ohm)
        As printed; from is the end nearer to the root.

    Returns
    -------
    pypsa.Network
        Buses "1", "2", …; the slack generator stands at bus "1"; lines are named "1-2",
        loads by their bus.
    """
    import pypsa

    network = pypsa.Network(name=name)
    buses = sorted({end for branch in branches for end in branch[:2]})
    network.add("Carrier", "AC")
    network.add("Bus", [str(bus) for bus in buses], v_nom=v_nom, v_mag_pu_min=V_MIN, v_mag_pu_max=V_MAX)
    network.add("Generator", "interface", bus="1", control="Slack", carrier="AC", p_set=0.0, p_nom=10.0)
    for bus, active, reactive in loads:
        network.add("Load", str(bus), bus=str(bus), p_set=active / 1e3, q_set=reactive / 1e3)
    for start, end, r, x in branches:
        network.add("Line", f"{start}-{end}", bus0=str(start), bus1=str(end), r=r, x=x)
    network.lines["s_nom"] = peak_ratings(network, "Line", STEP_MVA)
    return network


def peak_ratings(network: pypsa.Network, component: str, step: float) -> list[float]:
    """Return the synthetic rating [MVA] of every branch, from the AC power flow of a copy of the network."""
    state = network.copy()
    state.pf(x_tol=1e-8)
    flows = state.c[component].dynamic
    names = network.c[component].static.index
    ends = [
        (flows[f"p{end}"].iloc[0].reindex(names) ** 2 + flows[f"q{end}"].iloc[0].reindex(names) ** 2) ** 0.5
        for end in (0, 1)
    ]
    return [rating(max(first, second), step) for first, second in zip(*ends, strict=True)]


def write(network: pypsa.Network, script: str) -> Path:
    """Write a network beside the script that built it, and return the path of the file."""
    from pathlib import Path

    path = Path(script).with_name(f"{network.name}.nc")
    dataset = network.export_to_netcdf()
    # in a fixed order, so that equal data make equal files
    dataset = dataset[sorted(map(str, dataset.data_vars))]
    dataset = dataset.drop_vars(dataset.coords).assign_coords({n: dataset[n] for n in sorted(map(str, dataset.coords))})
    dataset.to_netcdf(path)
    return path
