"""AC power flow of radial feeders: backward and forward sweeps over all feeders and periods at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.network.levels import Level, levels
from hiermarket.schema import bare, fault_where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.network.feeders import Feeders

    Floats = NDArray[np.float64]
    Complexes = NDArray[np.complex128]
    Ints = NDArray[np.int64]

_RESULTS = {
    "v": ((BUS, PERIOD), "p.u.", "voltage magnitude"),
    "p_flow": ((BUS, PERIOD), "MW", "active flow of the branch into the bus at its parent, > 0 away from the root"),
    "q_flow": ((BUS, PERIOD), "Mvar", "reactive flow of the branch into the bus at its parent, > 0 away from the root"),
    "l": ((BUS, PERIOD), "MVA2", "squared series current of the branch into the bus"),
    "p_interface": ((FEEDER, PERIOD), "MW", "active import from the transmission grid"),
    "q_interface": ((FEEDER, PERIOD), "Mvar", "reactive import from the transmission grid"),
    "loss": ((FEEDER, PERIOD), "MW", "active losses of branches and shunts"),
    "converged": ((FEEDER, PERIOD), "1", "whether the sweeps converged"),
    "iterations": ((FEEDER, PERIOD), "1", "number of sweeps"),
}


@dataclass(frozen=True, slots=True)
class _Circuit:
    """The feeders as arrays by position."""

    levels: tuple[Level, ...]
    first: Ints
    feeder: Ints
    impedance: Complexes
    tap: Floats
    shunt: Complexes
    v_root: Floats

    def backward(self, voltage: Complexes, injection: Complexes) -> Complexes:
        """Return the current into each bus from above [MVA/p.u.], from the leaves to the roots."""
        current = np.conj(-injection / voltage) + self.shunt * voltage
        for level in reversed(self.levels):
            drawn = current[level.here] / self.tap[level.here]
            current[level.parents] += np.add.reduceat(drawn, level.begins, axis=0)
        return current

    def forward(self, current: Complexes) -> Complexes:
        """Return the voltages that the currents leave [p.u.], from the roots to the leaves."""
        voltage = np.empty_like(current)
        voltage[self.first] = self.v_root
        for level in self.levels:
            before = voltage[level.above] / self.tap[level.here]
            voltage[level.here] = before - self.impedance[level.here] * current[level.here]
        return voltage

    def per_feeder(self, values: Floats) -> Floats:
        """Return the sums over the buses of each feeder."""
        return np.add.reduceat(values, self.first, axis=0)


def _circuit(feeders: Feeders) -> _Circuit:
    data = feeders.data
    buses = data.indexes[BUS]
    column = {name: data[name].values[:, np.newaxis] for name in ("r", "x", "tap", "g", "b")}
    return _Circuit(
        levels=levels(feeders),
        first=buses.get_indexer(pd.Index(data["root"].values)),
        feeder=data.indexes[FEEDER].get_indexer(pd.Index(data["bus_feeder"].values)),
        impedance=column["r"] + 1j * column["x"],
        tap=column["tap"],
        shunt=column["g"] + 1j * column["b"],
        v_root=data["v_root"].values,
    )


def power_flow(
    feeders: Feeders, p: xr.DataArray, q: xr.DataArray, *, tolerance: float = 1e-10, max_iterations: int = 200
) -> xr.Dataset:
    """Solve the AC power flow of all feeders and periods by backward and forward sweeps.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    p, q : DataArray (bus, period)
        Net injections [MW, Mvar], > 0 into the grid, roots included.
    tolerance : float
        Largest change of a complex voltage in the last sweep [p.u.].
    max_iterations : int
        Number of sweeps after which a feeder's period counts as not converged.

    Returns
    -------
    Dataset
        ``v (bus, period)`` [p.u.]; ``p_flow, q_flow (bus, period)`` [MW, Mvar] at the
        parent's end of the branch into the bus, > 0 away from the root, NaN at roots;
        ``l (bus, period)`` [MVA²] squared current through the branch's impedance;
        ``p_interface, q_interface (feeder, period)`` [MW, Mvar] import of the root from the
        transmission grid; ``loss (feeder, period)`` [MW] of branches and shunts;
        ``converged, iterations (feeder, period)``. Everything else is NaN where a feeder's
        period did not converge.

    Raises
    ------
    DataError
        If labels of p or q are not those of the feeders, or values are not finite.

    Notes
    -----
    Solves (1)–(3) with l_n = (P_n² + Q_n²) t_n²/w_m: the current behind the ideal transformer
    at the parent. Each feeder's period stops on its own, so the answer does not depend on
    what else is solved in the same call.

    References
    ----------
    Baran and Wu 1989, doi 10.1109/61.25627.

    >>> import pandas as pd
    >>> from hiermarket.network.feeder import feeder_from_table
    >>> from hiermarket.network.feeders import combine
    >>> table = pd.DataFrame({"parent": ["", "1"], "r": [0, 0.1], "p_scheduled": [0, -0.9]}, index=["1", "2"])
    >>> two_bus = combine({"north": feeder_from_table(table, name="north")})
    >>> state = power_flow(two_bus, two_bus.data.p_scheduled, two_bus.data.q_scheduled)
    >>> state.v.sel(bus="north/2").round(6).item(), state.loss.round(6).item()  # v = 1 − 0.09/v
    (0.9, 0.1)
    """
    circuit = _circuit(feeders)
    injection = _values(feeders, p, "p") + 1j * _values(feeders, q, "q")
    periods = injection.shape[1]
    feeder_count = len(circuit.first)
    converged = np.zeros((feeder_count, periods), dtype=bool)
    iterations = np.zeros((feeder_count, periods), dtype=np.int64)
    with np.errstate(all="ignore"):  # a diverging feeder overflows; it is reported as not converged
        voltage = circuit.forward(np.zeros_like(injection))
        while not converged.all() and iterations.max() < max_iterations:
            new = circuit.forward(circuit.backward(voltage, injection))
            step = np.maximum.reduceat(np.abs(new - voltage), circuit.first, axis=0)
            voltage = np.where(converged[circuit.feeder], voltage, new)
            iterations += ~converged
            converged |= step <= tolerance
        voltage[~converged[circuit.feeder]] = np.nan
        current = circuit.backward(voltage, injection)
    return _state(feeders, circuit, voltage, current).assign(
        converged=((FEEDER, PERIOD), converged, _attrs("converged")),
        iterations=((FEEDER, PERIOD), iterations, _attrs("iterations")),
    )


def _attrs(name: str) -> dict[str, str]:
    _, units, long_name = _RESULTS[name]
    return {"units": units, "long_name": long_name}


def _state(feeders: Feeders, circuit: _Circuit, voltage: Complexes, current: Complexes) -> xr.Dataset:
    """Return the flows, imports and losses of voltages and currents."""
    sent = np.full_like(voltage, complex(np.nan, np.nan))
    for level in circuit.levels:
        sent[level.here] = voltage[level.above] / circuit.tap[level.here] * np.conj(current[level.here])
    squared_current = np.abs(current) ** 2
    squared_current[circuit.first] = np.nan
    imported = (voltage * np.conj(current))[circuit.first]
    series = circuit.impedance.real * squared_current
    series[circuit.first] = 0.0
    values = {
        "v": np.abs(voltage),
        "p_flow": sent.real,
        "q_flow": sent.imag,
        "l": squared_current,
        "p_interface": imported.real,
        "q_interface": imported.imag,
        "loss": circuit.per_feeder(series + circuit.shunt.real * np.abs(voltage) ** 2),
    }
    coords = {name: feeders.data[name] for name in (BUS, FEEDER, PERIOD, "bus_feeder", "bus_name")}
    return xr.Dataset({name: (_RESULTS[name][0], array, _attrs(name)) for name, array in values.items()}, coords=coords)


def _values(feeders: Feeders, array: xr.DataArray, name: str) -> Floats:
    """Return the values of an injection in the order of the feeders' labels."""
    faults = []
    if set(array.dims) != {BUS, PERIOD}:
        found = f"dimensions ({', '.join(map(str, array.dims))})"
        raise DataError([Fault(name, found, "(bus, period)", "Select or broadcast the other dimensions.")])
    for dim in (BUS, PERIOD):
        wanted, given = feeders.data.indexes[dim], array.indexes.get(dim)
        if given is None or not given.is_unique or len(given) != len(wanted) or not given.isin(wanted).all():
            apart = [] if given is None else list(given.symmetric_difference(wanted))
            found = f"labels missing, unknown or twice: {some_labels(apart)}" if apart else "no labels, or labels twice"
            faults.append(Fault(f"{name}.{dim}", found, "exactly the labels of the feeders", "Reindex the injections."))
    if faults:
        raise DataError(faults)
    placed = bare(array).sel({BUS: feeders.data[BUS].values, PERIOD: feeders.data[PERIOD].values})
    placed = placed.transpose(BUS, PERIOD).astype(float)
    broken = placed.copy(data=~np.isfinite(placed.values))
    faults = fault_where(broken, placed, name=name, expected="finite numbers", remedy="Fill the gaps.")
    if faults:
        raise DataError(faults)
    return np.asarray(placed.values, dtype=float)


def violations(feeders: Feeders, state: xr.Dataset) -> xr.Dataset:
    """Return by how much a state breaks the limits of voltages and branches.

    Parameters
    ----------
    feeders : Feeders
        The grids, with ``v_min``, ``v_max`` and ``s_max``.
    state : Dataset
        Of `power_flow`.

    Returns
    -------
    Dataset
        ``undervoltage, overvoltage (bus, period)`` [p.u.] and ``overload (bus, period)``
        [MVA], all ≥ 0 and NaN where the power flow did not converge.

    Notes
    -----
    A rating holds for the larger apparent power of the branch's two ends, behind the shunts: P + jQ
    at the parent, P − rl + j(Q − xl) at the bus. Shunts (charging) belong to the buses.
    """
    data = feeders.data
    v = bare(state["v"])
    p, q, l_ = (bare(state[name]) for name in ("p_flow", "q_flow", "l"))
    r, x, s_max, v_min, v_max = (bare(data[name]) for name in ("r", "x", "s_max", "v_min", "v_max"))
    sending = np.hypot(p, q)
    receiving = np.hypot(p - r * l_, q - x * l_)
    at_root = bare(data["depth"]) == 0
    # no branch feeds a root: 0 where its voltage is known
    overload = np.maximum(np.maximum(sending, receiving) - s_max, 0.0).where(~at_root, 0.0 * v)
    result = xr.Dataset(
        {
            "undervoltage": np.maximum(v_min - v, 0.0),
            "overvoltage": np.maximum(v - v_max, 0.0),
            "overload": overload,
        }
    )
    meanings = {
        "undervoltage": ("p.u.", "voltage below its lower limit"),
        "overvoltage": ("p.u.", "voltage above its upper limit"),
        "overload": ("MVA", "apparent power of the branch into the bus above its rating"),
    }
    for name, (units, long_name) in meanings.items():
        result[name] = result[name].transpose(BUS, PERIOD).assign_attrs(units=units, long_name=long_name)
    return result.assign_coords(bus_feeder=data["bus_feeder"], bus_name=data["bus_name"])
