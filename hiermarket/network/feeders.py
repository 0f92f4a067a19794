"""Many feeders as one flat dataset, whose buses have unique labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.labels import BUS, FEEDER, PERIOD, SEPARATOR, flat_bus
from hiermarket.network.feeder import QUANTITIES as OF_ONE
from hiermarket.network.quantities import GridQuantity, index_faults, sealed, value_faults
from hiermarket.network.topology import tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hiermarket.network.feeder import Feeder

#: Every array of a set of feeders.
QUANTITIES = (
    *(replace(q, dims=(FEEDER, PERIOD)) if q.name == "v_root" else q for q in OF_ONE),
    GridQuantity("depth", (BUS,), "1", "number of branches between the bus and its root", minimum=0.0, kind=int),
    GridQuantity("root", (FEEDER,), "1", "bus at the interface to the transmission grid", kind=str),
)


@dataclass(frozen=True, slots=True, eq=False)
class Feeders:
    """Many radial feeders along one flat dimension ``bus``; made by `combine`.

    Parameters
    ----------
    data : xarray.Dataset
        Dimensions ``bus`` (flat labels such as ``"north/18"``, by feeder and then by depth:
        parents before children, the children of a bus side by side), ``feeder`` and
        ``period``. The arrays of a `Feeder` (``parent`` holds flat labels, ``v_root`` is by
        feeder and period), ``depth (bus)`` and ``root (feeder)``. Coordinates of ``bus``:
        ``bus_feeder`` and ``bus_name``, its name in the feeder. Copied and read-only.

    Raises
    ------
    DataError
        With every fault of the data.
    """

    data: xr.Dataset

    def __post_init__(self) -> None:
        faults = index_faults("feeders", self.data, (BUS, FEEDER, PERIOD))
        faults += value_faults("feeders", self.data, QUANTITIES)
        for name in ("bus_feeder", "bus_name"):
            if name not in self.data.coords:
                remedy = "Build the dataset with `combine`."
                faults.append(Fault(f"feeders.{name}", "no such coordinate", "a label for every bus", remedy))
        if faults:
            raise DataError(faults)
        object.__setattr__(self, "data", sealed(self.data, QUANTITIES))

    @property
    def roots(self) -> pd.Series:
        """Feeder → flat label of its root."""
        index = pd.Index(self.data[FEEDER].values, dtype=object, name=FEEDER)
        return pd.Series(self.data["root"].values, index=index, name="root", dtype=object)

    @property
    def branches(self) -> pd.Index:
        """Flat labels of all buses but the roots; each names the branch into its bus."""
        below = self.data["depth"].values > 0
        labels: pd.Index = pd.Index(self.data[BUS].values[below], dtype=object, name=BUS)
        return labels

    @property
    def parents(self) -> pd.Series:
        """Branch → flat label of its parent, named ``parent``."""
        values = self.data["parent"].values[self.data["depth"].values > 0]
        return pd.Series(values, index=self.branches, name="parent", dtype=object)

    @property
    def feeder_of(self) -> pd.Series:
        """Flat label of a bus → its feeder."""
        index = pd.Index(self.data[BUS].values, dtype=object, name=BUS)
        return pd.Series(self.data["bus_feeder"].values, index=index, name=FEEDER, dtype=object)


def select(feeders: Feeders, names: Sequence[str]) -> Feeders:
    """Return some of the feeders, in the order given.

    Parameters
    ----------
    feeders : Feeders
        The whole.
    names : sequence of str
        The feeders to keep.

    Raises
    ------
    DataError
        When there is no feeder of a name.
    """
    strange = [name for name in names if name not in feeders.roots.index]
    if strange:
        known = some_labels(list(feeders.roots.index))
        raise DataError([Fault("feeders", some_labels(strange), f"some of {known}", "Correct the name.")])
    owner = feeders.feeder_of
    buses = np.concatenate([owner.index[(owner == name).to_numpy()].to_numpy() for name in names])
    return Feeders(feeders.data.sel({FEEDER: list(names), BUS: buses}))


def combine(feeders: Mapping[str, Feeder]) -> Feeders:
    """Put feeders side by side along one flat dimension of buses.

    Parameters
    ----------
    feeders : mapping name → Feeder
        All with the same periods and durations; the name becomes the first part of the
        labels of the buses.

    Returns
    -------
    Feeders
        In the order of the mapping.

    Raises
    ------
    DataError
        With no feeder at all, names that are empty or hold the separator of flat labels,
        and periods or durations that differ from those of the first feeder.

    >>> from hiermarket.network.feeder import feeder_from_table
    >>> table = pd.DataFrame({"parent": ["2", ""], "r": [0.05, 0.0], "x": [0.02, 0.0]}, index=["1", "2"])
    >>> combine({"north": feeder_from_table(table, name="north")}).parents.to_dict()
    {'north/1': 'north/2'}
    """
    faults = _faults(feeders)
    if faults:
        raise DataError(faults)
    parts = [_flat(name, feeder) for name, feeder in feeders.items()]
    first = next(iter(feeders.values())).data
    together = xr.Dataset(
        coords={
            BUS: np.concatenate([part[BUS] for part in parts]),
            FEEDER: np.array(list(feeders), dtype=object),
            PERIOD: first[PERIOD].values,
        }
    )
    together = together.assign_coords(
        {name: (BUS, np.concatenate([part[name] for part in parts])) for name in ("bus_feeder", "bus_name")}
    )
    for quantity in QUANTITIES:
        if BUS in quantity.dims:
            together[quantity.name] = quantity.dims, np.concatenate([part[quantity.name] for part in parts])
    together["v_root"] = (FEEDER, PERIOD), np.stack([feeder.data["v_root"].values for feeder in feeders.values()])
    together["duration"] = PERIOD, first["duration"].values
    together["root"] = FEEDER, np.array([flat_bus(name, f.root) for name, f in feeders.items()], dtype=object)
    return Feeders(together)


def _flat(name: str, feeder: Feeder) -> dict[str, np.ndarray]:
    """Return the arrays of a feeder over its buses in depth order, with flat labels."""
    data = feeder.data
    buses = [str(bus) for bus in data[BUS].values]
    parents = [str(parent) for parent in data["parent"].values]
    fed = [position for position, bus in enumerate(buses) if bus != feeder.root]
    ends = [parents[position] for position in fed], [buses[position] for position in fed]
    found = tree(buses, ends, feeder.root, edges=ends[1], where=name)
    flat = {q.name: data[q.name].values[found.order] for q in OF_ONE if BUS in q.dims}
    local = np.array(buses, dtype=object)[found.order]
    return flat | {
        BUS: np.array([flat_bus(name, bus) for bus in local], dtype=object),
        "parent": np.array([flat_bus(name, parent) if parent else "" for parent in flat["parent"]], dtype=object),
        "depth": found.depth[found.order],
        "bus_feeder": np.full(len(buses), name, dtype=object),
        "bus_name": local,
    }


def _faults(feeders: Mapping[str, Feeder]) -> list[Fault]:
    if not feeders:
        return [Fault("feeders", "none", "at least one feeder", "Give a mapping from names to feeders.")]
    faults = []
    bad = [name for name in feeders if not isinstance(name, str) or not name or SEPARATOR in name]
    if bad:
        found = f"names {some_labels([repr(name) for name in bad])}"
        expected = f"non-empty strings without {SEPARATOR!r}, which parts feeder and bus in flat labels"
        faults.append(Fault("feeders", found, expected, "Rename them."))
    first_name, first = next(iter(feeders.items()))
    for array in (PERIOD, "duration"):
        wrong = [n for n, f in feeders.items() if not np.array_equal(f.data[array].values, first.data[array].values)]
        if wrong:
            found = f"{array}s of {some_labels(wrong)} that differ from those of {first_name}"
            remedy = "Select the same snapshots, with the same weightings, in every network."
            faults.append(Fault(f"feeders.{array}", found, "the same in every feeder", remedy))
    return faults
