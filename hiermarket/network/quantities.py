"""What a grid's dataset must hold, and the check that reports every fault of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import PERIOD
from hiermarket.schema import fault_where, freeze, labels_where

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GridQuantity:
    """One array of a grid's dataset.

    Parameters
    ----------
    name, dims, units, long_name : str, tuple[str, ...], str, str
        What it is called, its dimensions in order, its unit, and what it means.
    minimum : float
        Smallest value allowed.
    positive : bool
        Whether the minimum itself is not allowed.
    infinite : bool
        Whether +∞ ("no limit") is allowed.
    kind : type
        float, int, or str for labels.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    minimum: float = -np.inf
    positive: bool = False
    infinite: bool = False
    kind: type = float

    @property
    def domain(self) -> str:
        """The values allowed, in words."""
        if self.kind is str:
            return "strings"
        lower = "" if np.isneginf(self.minimum) else f" {'>' if self.positive else '>='} {self.minimum:g}"
        return f"{'numbers' if self.infinite else 'finite numbers'}{lower}" + (" or inf" if self.infinite else "")


def _where(owner: str, array: xr.DataArray, at: NDArray[np.bool_]) -> str:
    """Name an array and up to five labels where a condition holds."""
    return f"{owner}.{array.name} at {some_labels(labels_where(array.copy(data=at)))}"


def index_faults(owner: str, dataset: xr.Dataset, dims: Sequence[str]) -> list[Fault]:
    """Report missing, non-string, duplicate or disordered labels of the dimensions."""
    faults = []
    for dim in dims:
        if dim not in dataset.indexes:
            faults.append(Fault(f"{owner}.{dim}", "no labels", f"a coordinate {dim!r}", "Give every position a label."))
            continue
        index = dataset.indexes[dim]
        if dim == PERIOD:
            faults += _period_faults(owner, index)
        elif strange := [label for label in index if not isinstance(label, str) or not label]:
            found = f"labels that are no strings or empty: {some_labels([repr(label) for label in strange])}"
            faults.append(Fault(f"{owner}.{dim}", found, "non-empty strings", "Convert the labels with str()."))
        if not index.is_unique:
            found = f"labels that stand twice: {some_labels(list(index[index.duplicated()].unique()))}"
            faults.append(Fault(f"{owner}.{dim}", found, "unique labels", "Rename or merge them."))
    return faults


def _period_faults(owner: str, index: pd.Index) -> list[Fault]:
    where = f"{owner}.{PERIOD}"
    if not isinstance(index, pd.DatetimeIndex) or index.tz is not None:
        found = f"labels of type {index.dtype}"
        return [Fault(where, found, "timestamps without a time zone", "Convert to UTC, then drop the zone.")]
    if len(index) == 0:
        return [Fault(where, "no period", "at least one period", "Give a timestamp to each market time unit.")]
    if index.hasnans:
        return [Fault(where, "NaT", "timestamps", "Drop the missing timestamps or fill them in.")]
    if not index.is_monotonic_increasing:
        return [Fault(where, "periods out of order", "ascending timestamps", "Sort by period.")]
    return []


def value_faults(owner: str, dataset: xr.Dataset, quantities: Sequence[GridQuantity]) -> list[Fault]:
    """Report missing arrays, wrong dimensions or types, NaN, and values outside the domain."""
    faults = []
    for quantity in quantities:
        where = f"{owner}.{quantity.name}"
        if quantity.name not in dataset.variables:
            faults.append(Fault(where, "no such array", f"{quantity.long_name} [{quantity.units}]", "Add it."))
            continue
        array = dataset[quantity.name]
        if array.dims != quantity.dims:
            found = f"dimensions ({', '.join(map(str, array.dims))})"
            faults.append(Fault(where, found, f"({', '.join(quantity.dims)})", "Transpose or broadcast it."))
            continue
        values = array.values
        if quantity.kind is str:
            outside = np.array([not isinstance(value, str) for value in values.ravel()], dtype=bool).reshape(
                values.shape
            )
        elif not (np.issubdtype(values.dtype, np.number) and np.isrealobj(values)):
            faults.append(Fault(where, f"values of type {values.dtype}", quantity.domain, "Convert it to float."))
            continue
        else:
            below = values <= quantity.minimum if quantity.positive else values < quantity.minimum
            outside = np.isnan(values) | below | np.isneginf(values) | (np.isposinf(values) & (not quantity.infinite))
        if outside.any():
            found = some_labels(list(dict.fromkeys(str(value) for value in values[outside].tolist())))
            remedy = f"Correct the {quantity.long_name}."
            faults.append(Fault(_where(owner, array, outside), found, quantity.domain, remedy))
    return faults


def duration_faults(owner: str, dataset: xr.Dataset) -> list[Fault]:
    """Report periods that are longer than the time to the next one."""
    hours = np.diff(dataset.indexes[PERIOD].to_numpy()) / np.timedelta64(1, "h")
    duration = dataset["duration"]
    overlap = duration.copy(data=np.append(duration.values[:-1] > hours + 1e-9, False))
    expected = "at most the time to the next period [h]"
    remedy = "Use the true length of a market time unit, e.g. 0.25 h for quarter-hours."
    return fault_where(overlap, duration, name=f"{owner}.duration", expected=expected, remedy=remedy)


def sealed(dataset: xr.Dataset, quantities: Sequence[GridQuantity]) -> xr.Dataset:
    """Return a read-only copy of the quantities, in their order, with units on every array."""
    copy = dataset[[quantity.name for quantity in quantities]]
    for quantity in quantities:
        values: NDArray[np.generic] = np.asarray(
            copy[quantity.name].values, dtype=object if quantity.kind is str else quantity.kind
        )
        copy[quantity.name] = quantity.dims, values, {"units": quantity.units, "long_name": quantity.long_name}
    frozen = freeze(copy)
    for name in frozen.variables.keys() - frozen.indexes.keys():
        # xarray copies arrays of strings on the way in
        frozen[name].values.flags.writeable = False
    return frozen
