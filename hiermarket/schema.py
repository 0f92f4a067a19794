"""Labelled values: checked once, read-only, unstacked to named dimensions on request."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, meant, some_labels
from hiermarket.labels import BID, BID_DIMS, BLOCK, BSP, BUS, DIRECTION, FEEDER, PERIOD, RESOURCE, SCENARIO, Direction
from hiermarket.nomenclature import QUANTITIES, describe

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Option = TypeVar("Option", bound=StrEnum)

#: On the flat dimension ``bid``: coordinate name → dimension of the unstacked result.
BID_COORDS = {"bid_feeder": FEEDER, "bid_bsp": BSP, "bid_bus": BUS, "bid_block": BLOCK, "bid_direction": DIRECTION}
#: The order of dimensions in flat arrays; any other dimension comes between the last two.
FLAT_ORDER = (SCENARIO, "corner", FEEDER, BID, BUS, "grid_bus", "grid_bid", "line", RESOURCE, DIRECTION, PERIOD)

#: Sums over feeders, by BSP: of some feeders they would say what they are not.
OVER_FEEDERS = ("profit",)

#: On the flat dimension ``bus``.
BUS_COORDS = {"bus_feeder": FEEDER, "bus_name": BUS}


def freeze(dataset: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with every array read-only and its dimensions in one order (`FLAT_ORDER`)."""
    known = [dim for dim in FLAT_ORDER[:-1] if dim in dataset.dims]
    frozen = dataset.transpose(*known, ..., *(dim for dim in FLAT_ORDER[-1:] if dim in dataset.dims))
    for name in frozen.variables:
        values = frozen[name].values
        if isinstance(values, np.ndarray) and name not in frozen.indexes:
            copy = values.copy()
            copy.flags.writeable = False
            frozen[name] = (frozen[name].dims, copy, frozen[name].attrs)
            # assignment copies arrays of strings
            frozen[name].values.flags.writeable = False
    return frozen


def freeze_array(array: xr.DataArray) -> xr.DataArray:
    """Make the values of one array read-only; returns a copy."""
    return freeze(array.to_dataset(name="_"))["_"].rename(array.name)


def bare(array: xr.DataArray) -> xr.DataArray:
    """Drop every coordinate that is no dimension."""
    return array.drop_vars([name for name in array.coords if name not in array.dims])


def direction_sign() -> xr.DataArray:
    """Return σ (direction): +1 for up, −1 for down."""
    return xr.DataArray([float(d.sign) for d in Direction], coords={DIRECTION: [d.value for d in Direction]})


def positions(index: pd.Index, labels: ArrayLike) -> NDArray[np.intp]:
    """Return the position of every label in an index; −1 where it is not there."""
    return index.get_indexer(pd.Index(np.asarray(labels)))


def labels_where(mask: xr.DataArray) -> list[str]:
    """Name the labels at which a boolean array is true: ``"bus=18, period=…"``."""
    positions = np.argwhere(mask.values)
    coords = {dim: mask.indexes.get(dim, pd.RangeIndex(mask.sizes[dim])) for dim in mask.dims}
    return [
        "(" + ", ".join(f"{dim}={coords[dim][place]}" for dim, place in zip(mask.dims, at, strict=True)) + ")"
        for at in positions
    ]


def fault_where(mask: xr.DataArray, values: xr.DataArray, *, name: str, expected: str, remedy: str) -> list[Fault]:
    """Return one fault for all places at which a mask is true, or none."""
    if not bool(mask.any()):
        return []
    found = [str(v) for v in np.asarray(values.broadcast_like(mask).transpose(*mask.dims).values)[mask.values]]
    return [Fault(f"{name} at {some_labels(labels_where(mask))}", some_labels(found), expected, remedy)]


def unknown_names(where: str, names: Iterable[Hashable], known: Sequence[str]) -> list[Fault]:
    """Return a fault for every name that would be dropped without a word, with the nearest known one."""
    expected = f"names among {', '.join(known)}"
    return [Fault(where, f"{name!r}", expected, meant(name, known)) for name in names if name not in known]


def raise_together(faults: Sequence[Fault]) -> None:
    """Raise one DataError for all faults, if there are any.

    Raises
    ------
    DataError
        When there is at least one fault.
    """
    if faults:
        raise DataError(faults)


def option_of(kind: type[Option], given: object, name: str) -> Option:
    """Return an option that was given as such or by its value.

    Parameters
    ----------
    kind : StrEnum
        The options.
    given : object
        One of them, or the string that is its value.
    name : str
        What is chosen, for the error.

    Raises
    ------
    DataError
        When there is no such option.
    """
    known = [str(one) for one in kind]
    if given not in known:
        raise_together([Fault(name, repr(given), f"one of {', '.join(known)}", "Choose a known one.")])
    return kind(str(given))


def require_kind(given: object, kinds: Sequence[type], name: str) -> None:
    """Refuse an option of no known kind: a class instead of its value, a string, another option.

    Parameters
    ----------
    given : object
        The option.
    kinds : sequence of classes
        What it may be.
    name : str
        What is chosen, for the error.

    Raises
    ------
    DataError
        When it is none of them.
    """
    if not isinstance(given, tuple(kinds)):
        expected = "one of " + ", ".join(f"{kind.__name__}()" for kind in kinds)
        remedy = f"Give a value, such as hm.{kinds[0].__name__}(), and no class or string."
        raise_together([Fault(name, repr(given), expected, remedy)])


def _unstack_one(array: xr.DataArray, dim: str, coords: Mapping[str, str]) -> xr.DataArray:
    """Turn one flat dimension into the named ones; absent combinations are NaN."""
    names = list(coords.values())
    index = pd.MultiIndex.from_arrays([array[name].values for name in coords], names=names)
    rest = array.drop_vars([name for name, c in array.coords.items() if dim in c.dims]).rename({dim: "_flat"})
    # labels keep the order in which they first appear: buses of a feeder are not sorted as strings
    order = [pd.Index(pd.unique(index.get_level_values(name)), name=name) for name in names]
    stacked = rest.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "_flat"))
    return stacked.unstack("_flat").reindex({name.name: name for name in order})


def unstack(flat: xr.Dataset) -> xr.Dataset:
    """Return a flat Dataset with the named dimensions of the public results.

    Parameters
    ----------
    flat : Dataset
        Dims ``bid`` and ``bus`` with their label coordinates (`BID_COORDS`,
        `BUS_COORDS`), and any others.

    Returns
    -------
    Dataset
        The same arrays over (feeder, bsp, bus, block, direction) and (feeder, bus);
        NaN where there is no such bid or bus.
    """
    parts: dict[Hashable, xr.DataArray] = {}
    for name, array in flat.data_vars.items():
        attrs = array.attrs
        part = array
        if BID in array.dims:
            part = _unstack_one(part, BID, BID_COORDS)
            part = part.transpose(*BID_DIMS[:-1], ...)
        elif BUS in array.dims and "bus_feeder" in array.coords:
            part = _unstack_one(part, BUS, BUS_COORDS)
            part = part.transpose(FEEDER, BUS, ...)
        part.attrs = attrs
        parts[name] = part
    return describe(_join(parts))


def select_flat(flat: xr.Dataset, labels: Mapping[str, object]) -> xr.Dataset:
    """Return the part of a flat Dataset that has some labels; dimensions stay, also where one label is left.

    Parameters
    ----------
    flat : Dataset
        Dims ``bid`` and ``bus`` with their label coordinates, and any others.
    labels : mapping dimension of the named results → label, sequence of labels or slice
        Each applies to every array that has such labels: ``feeder`` to bids, buses and
        feeders alike; a slice to ordered dimensions such as ``period``. With ``feeder``, sums
        over all feeders are left out (`OVER_FEEDERS`).

    Raises
    ------
    DataError
        When there is no such dimension, or no such label.
    """
    faults: list[Fault] = []
    kept: dict[str, NDArray[np.bool_]] = {}
    for name, wanted in labels.items():
        homes = _homes(flat, name)
        if not homes:
            known = {str(dim) for dim in flat.dims} | {str(c).partition("_")[2] for c in flat.coords}
            faults += unknown_names("sel", [name], sorted(known - {BID, "node", "resource", "name", "kind", ""}))
            continue
        found: set[object] = set()
        there: dict[str, None] = {}
        asked = wanted if isinstance(wanted, slice) else list(np.atleast_1d(np.asarray(wanted)))
        for dim, coord in homes:
            index = pd.Index(flat[coord].values)
            there |= dict.fromkeys(map(str, index))
            if isinstance(asked, slice):
                here = np.zeros(len(index), dtype=bool)
                here[index.slice_indexer(asked.start, asked.stop)] = True
            else:
                exact = pd.Index(np.asarray(asked, dtype=index.dtype) if index.dtype.kind in "iufM" else asked)
                found |= {one for one, known in zip(asked, exact.isin(index), strict=True) if known}
                here = index.isin(exact)
            kept[dim] = kept.get(dim, np.ones(len(index), dtype=bool)) & here
        strange = [] if isinstance(asked, slice) else [str(one) for one in asked if one not in found]
        if strange:
            names = list(there)
            # with several, the nearest one of each in turn
            remedy = " ".join(dict.fromkeys(meant(one, names, otherwise="Correct the label.") for one in strange[:3]))
            faults.append(Fault(f"sel({name})", some_labels(strange), f"labels such as {some_labels(names)}", remedy))
    raise_together(faults)
    sums = [name for name in OVER_FEEDERS if FEEDER in labels and name in flat]
    return flat.drop_vars(sums).isel({dim: np.flatnonzero(here) for dim, here in kept.items()})


def _homes(flat: xr.Dataset, name: str) -> list[tuple[str, str]]:
    """Return the flat dimensions that have labels of a named one, and the coordinate that holds them."""
    # bid_feeder, bid_bus, bus_feeder, account_feeder, …; the name of a bus in its feeder is bus_name
    coords = {dim: "bus_name" if dim == name == BUS else f"{dim}_{name}" for dim in map(str, flat.dims)}
    homes = [(dim, coord) for dim, coord in coords.items() if coord in flat.coords]
    own = name in flat.indexes and (name, "bus_name") not in homes
    return [*homes, (name, name)] if own else homes


def join_flat(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the flat Datasets of different feeders one behind the other, label by label.

    Parameters
    ----------
    parts : sequence of Dataset
        The same arrays, each of other feeders, those of resources where a feeder has some;
        arrays without a dimension of the feeder (by period alone) are taken from the first.
    """
    if len(parts) == 1:
        return parts[0]
    joined: dict[Hashable, xr.DataArray] = {}
    for name in dict.fromkeys(name for part in parts for name in part.data_vars):
        pieces = [part[name] for part in parts if name in part]
        first = pieces[0]
        along = next((dim for dim in (BID, BUS, RESOURCE, FEEDER) if dim in first.dims), None)
        joined[name] = first if along is None else xr.concat(pieces, dim=along, coords="minimal", join="outer")
        joined[name].attrs = first.attrs
    return xr.Dataset(joined)


def _join(parts: Mapping[Hashable, xr.DataArray]) -> xr.Dataset:
    """Put arrays with partly different labels into one Dataset.

    Labels keep the order of the array that has most of them, dimensions that of the
    nomenclature.
    """
    orders: dict[Hashable, pd.Index] = {}
    for dim in {dim for part in parts.values() for dim in part.dims}:
        indexes = sorted((p.indexes[dim] for p in parts.values() if dim in p.indexes), key=len, reverse=True)
        for index in indexes:
            known = orders.get(dim)
            orders[dim] = index if known is None else known.append(index.difference(known, sort=False))
    joined = xr.Dataset()
    for name, part in parts.items():
        row = QUANTITIES.get(str(name))
        order = [dim for dim in (SCENARIO, *row.dims) if dim in part.dims] if row else part.dims
        wanted = {dim: orders[dim] for dim in part.dims if dim in orders}
        joined[name] = part.reindex(wanted).transpose(*order, ...)
    return joined


@dataclass(frozen=True, slots=True, repr=False)
class Labelled:
    """A frozen result around one flat Dataset.

    Parameters
    ----------
    flat : Dataset
        The arrays with flat ``bid`` and ``bus`` labels.

    Notes
    -----
    ``result.name`` and ``result["name"]`` return one array with named dimensions, and
    ``result.data`` all of them; ``result.flat`` is the way for large studies.
    """

    flat: xr.Dataset

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim}: {size}" for dim, size in self.flat.sizes.items())
        lines = textwrap.wrap(", ".join(map(str, self.flat.data_vars)), width=96)
        return "\n".join([f"<{type(self).__name__} ({sizes})>", *(f"    {line}" for line in lines)])

    @property
    def data(self) -> xr.Dataset:
        """All arrays with the named dimensions of the nomenclature."""
        return unstack(self.flat.compute())

    def sel(self, **labels: object) -> Labelled:
        """Return the part of the result that has some labels.

        Parameters
        ----------
        **labels : label, sequence of labels or slice
            By named dimension: ``feeder, bsp, bus, block, direction, period``, …

        Returns
        -------
        Labelled
            The same arrays of those feeders, bids, buses and periods; ``.data`` has them
            with named dimensions, ``.flat`` as they are kept.

        Raises
        ------
        DataError
            When there is no such dimension, or no such label.
        """
        return Labelled(select_flat(self.flat, labels))

    def __getitem__(self, name: str) -> xr.DataArray:
        if name not in self.flat:
            expected = f"one of {', '.join(map(str, self.flat.data_vars))}"
            remedy = meant(name, [str(known) for known in self.flat.data_vars], otherwise="Correct the name.")
            raise DataError([Fault(type(self).__name__, repr(name), expected, remedy)])
        return unstack(self.flat[[name]].compute())[name]

    def __getattr__(self, name: str) -> xr.DataArray:
        if name.startswith("_") or name == "flat" or name not in self.flat:
            kind = type(self).__name__
            raise AttributeError(f"{kind} has no array or attribute {name!r}")
        return self[name]

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *map(str, self.flat.data_vars)]
