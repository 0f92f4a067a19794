"""One radial distribution feeder as one checked, read-only dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault
from hiermarket.labels import BUS, PERIOD
from hiermarket.network.quantities import GridQuantity, duration_faults, index_faults, sealed, value_faults
from hiermarket.network.topology import tree
from hiermarket.schema import fault_where

#: Every array of a feeder.
QUANTITIES = (
    GridQuantity("parent", (BUS,), "1", "bus at the other end of the branch into the bus, empty at the root", kind=str),
    GridQuantity("r", (BUS,), "1/MVA", "series resistance of the branch into the bus", minimum=0.0),
    GridQuantity("x", (BUS,), "1/MVA", "series reactance of the branch into the bus", minimum=0.0),
    GridQuantity("tap", (BUS,), "1", "ratio of the ideal transformer at the parent side", minimum=0.0, positive=True),
    GridQuantity("g", (BUS,), "MVA", "shunt conductance at the bus at 1 p.u.", minimum=0.0),
    GridQuantity("b", (BUS,), "MVA", "shunt susceptance at the bus at 1 p.u., > 0 capacitive"),
    GridQuantity(
        "s_max", (BUS,), "MVA", "rating of the branch into the bus", minimum=0.0, positive=True, infinite=True
    ),
    GridQuantity("v_min", (BUS,), "p.u.", "lower voltage limit", minimum=0.0),
    GridQuantity("v_max", (BUS,), "p.u.", "upper voltage limit", minimum=0.0, positive=True, infinite=True),
    GridQuantity("v_root", (PERIOD,), "p.u.", "voltage at the root", minimum=0.0, positive=True),
    GridQuantity("p_scheduled", (BUS, PERIOD), "MW", "scheduled net active injection, > 0 into the grid"),
    GridQuantity("q_scheduled", (BUS, PERIOD), "Mvar", "scheduled net reactive injection, > 0 into the grid"),
    GridQuantity("duration", (PERIOD,), "h", "length of the period", minimum=0.0, positive=True),
)

#: Columns that a table of a feeder may leave out.
DEFAULTS = {
    "r": 0.0, "x": 0.0, "tap": 1.0, "g": 0.0, "b": 0.0, "s_max": np.inf, "v_min": 0.0, "v_max": np.inf,
    "p_scheduled": 0.0, "q_scheduled": 0.0,
}  # fmt: skip

#: The period of data without a timestamp.
UNDATED = pd.Timestamp("2026-01-01")


@dataclass(frozen=True, slots=True, eq=False)
class Feeder:
    """One radial feeder: a branch into every bus but the root, limits, shunts and the schedule.

    Parameters
    ----------
    data : xarray.Dataset
        Dimensions ``bus`` (strings, with the root) and ``period`` (timestamps without a
        time zone); the arrays of `QUANTITIES`; attributes ``name`` and ``root``. It is
        copied, and the copy's arrays are read-only.

    Raises
    ------
    DataError
        With every fault of the data.

    Notes
    -----
    There is no base power: with P in MW and w = v² in p.u.², r and x are in 1/MVA and

    w_n = w_m/t² − 2(rP + xQ) + (r² + x²) l,   l = (P² + Q²) t²/w_m   [MVA²]

    for the branch from parent m into bus n with an ideal transformer of ratio t at m; P, Q
    are the flows at m, away from the root. Shunts draw g w and inject b w.

    >>> table = pd.DataFrame({"parent": ["", "1"], "r": [0.0, 0.05], "x": [0.0, 0.02]}, index=["1", "2"])
    >>> feeder = feeder_from_table(table.assign(p_scheduled=[0.0, -1.0]), name="north")
    >>> feeder.root, feeder.data.p_scheduled.sel(bus="2").item()
    ('1', -1.0)
    """

    data: xr.Dataset

    def __post_init__(self) -> None:
        faults = check(self.data)
        if faults:
            raise DataError(faults)
        object.__setattr__(self, "data", sealed(self.data, QUANTITIES))

    @property
    def name(self) -> str:
        """Name of the feeder."""
        return str(self.data.attrs["name"])

    @property
    def root(self) -> str:
        """The bus at the interface to the transmission grid."""
        return str(self.data.attrs["root"])


def check(data: xr.Dataset) -> list[Fault]:
    """Return every fault of a feeder's dataset, with labels.

    Parameters
    ----------
    data : xarray.Dataset
        See `Feeder`.

    Returns
    -------
    list[Fault]
        Empty if there is none.
    """
    owner = str(data.attrs.get("name", "feeder"))
    faults = [
        Fault(f"{owner}.attrs", f"no {key!r}", "a non-empty string", f"Set data.attrs[{key!r}].")
        for key in ("name", "root")
        if not isinstance(data.attrs.get(key), str) or not data.attrs[key]
    ]
    faults += index_faults(owner, data, (BUS, PERIOD))
    faults += value_faults(owner, data, QUANTITIES)
    if faults:
        return faults
    faults += duration_faults(owner, data)
    crossed = data["v_min"] >= data["v_max"]
    remedy = "Widen the band or exchange the sides."
    faults += fault_where(crossed, data["v_min"], name=f"{owner}.v_min", expected="less than v_max", remedy=remedy)
    return faults + _tree_faults(owner, data)


def _tree_faults(owner: str, data: xr.Dataset) -> list[Fault]:
    """Report what keeps the parents from being a tree under the root."""
    faults = []
    root = data.attrs["root"]
    buses = [str(bus) for bus in data.indexes[BUS]]
    parents = dict(zip(buses, (str(parent) for parent in data["parent"].values), strict=True))
    orphans = [bus for bus, parent in parents.items() if not parent and bus != root]
    for bus in orphans:
        where = f"{owner}.parent at (bus={bus})"
        faults.append(Fault(where, "no parent", f"a bus; only root {root} has none", "Name the bus that feeds it."))
    if parents.get(root):
        where = f"{owner}.parent at (bus={root})"
        faults.append(
            Fault(where, f"parent {parents[root]}", "none at the root", "Set it to '', or name another root.")
        )
    fed = [bus for bus in buses if parents[bus] and bus != root]
    try:
        tree(buses, ([parents[bus] for bus in fed], fed), root, edges=[f"into {bus}" for bus in fed], where=owner)
    except DataError as error:
        faults += error.faults
    at_root = data.sel({BUS: root}) if root in parents else None
    if at_root is not None and (at_root["r"] != 0 or at_root["x"] != 0 or at_root["tap"] != 1):
        found = f"r {at_root['r'].item():g}, x {at_root['x'].item():g}, tap {at_root['tap'].item():g}"
        remedy = "The root has no branch; put the impedance into the branches below."
        faults.append(Fault(f"{owner} at (bus={root})", found, "r = x = 0, tap = 1 at the root", remedy))
    return faults


def feeder_from_table(
    table: pd.DataFrame,
    *,
    name: str,
    periods: pd.DatetimeIndex | None = None,
    duration: float = 1.0,
    v_root: float = 1.0,
) -> Feeder:
    """Return a feeder from a table with one row per bus and the same schedule in every period.

    Parameters
    ----------
    table : pandas.DataFrame
        Index: labels of the buses. Column ``parent`` (empty at the root), and any of r, x
        [1/MVA], tap, g, b [MVA], s_max [MVA], v_min, v_max [p.u.], p_scheduled [MW],
        q_scheduled [Mvar]. Left out: no impedance, no shunt, no limit, no injection.
    name : str
        Name of the feeder.
    periods : pandas.DatetimeIndex, optional
        One period, 2026-01-01 00:00, by default.
    duration : float
        Length of every period [h].
    v_root : float
        Voltage at the root [p.u.].

    Returns
    -------
    Feeder
        The root is the bus without a parent.

    Raises
    ------
    DataError
        If there is not exactly one bus without a parent, and for all that `Feeder` reports.
    """
    periods = pd.DatetimeIndex([UNDATED]) if periods is None else periods
    roots = table.index[table["parent"] == ""]
    if len(roots) != 1:
        found = f"{len(roots)} buses without a parent"
        raise DataError([Fault(f"{name}.parent", found, "exactly one, the root", "Leave the root's parent empty.")])
    columns = table.reindex(columns=["parent", *DEFAULTS]).astype({"parent": object})
    for column in DEFAULTS.keys() - set(table.columns):
        columns[column] = DEFAULTS[column]
    ones = np.ones(len(periods))
    data = xr.Dataset(coords={BUS: table.index.to_numpy(dtype=object), PERIOD: periods.to_numpy()})
    for quantity in QUANTITIES:
        if quantity.dims == (BUS,):
            data[quantity.name] = BUS, columns[quantity.name].to_numpy()
        elif quantity.dims == (BUS, PERIOD):
            data[quantity.name] = (BUS, PERIOD), np.outer(columns[quantity.name], ones)
    data["v_root"] = PERIOD, v_root * ones
    data["duration"] = PERIOD, duration * ones
    return Feeder(data.assign_attrs(name=name, root=str(roots[0])))
