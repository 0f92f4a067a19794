"""The files of a batch: flat arrays in a group for every stage, and stages made from them again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import xarray as xr

from hiermarket.network.losses import LossTerms
from hiermarket.results.netcdf import write_results
from hiermarket.results.results import flat_bidding, flat_inputs, storable
from hiermarket.schema import freeze
from hiermarket.stages.dso_clearing import DsoClearing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hiermarket.network.losses import LinDistFlow
    from hiermarket.stages.coordination import LocalStages

#: What a clearing holds besides its flat arrays.
STATE: Final = "clearing_state"

#: How `storable` marks an array of flags.
FLAGS: Final = "no yes"


def write_part(groups: Mapping[str, xr.Dataset], path: Path) -> None:
    """Write flat Datasets to the groups of one netCDF file: whole, or not at all.

    Parameters
    ----------
    groups : mapping name → Dataset
        Flat arrays.
    path : Path
        The file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_results(xr.DataTree.from_dict({name: storable(group) for name, group in groups.items()}), path)


def read_group(path: Path, group: str) -> xr.Dataset:
    """Read one group of a part into memory."""
    with xr.open_dataset(path, group=group, engine="netcdf4") as found:
        return restored(found.load())


def restored(dataset: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with flags and labels as they were before `storable`."""
    plain = dataset.copy()
    for name, array in dataset.variables.items():
        if array.attrs.get("flag_meanings") == FLAGS:
            kept = {key: value for key, value in array.attrs.items() if not key.startswith("flag_")}
            plain[name] = (array.dims, array.data.astype(bool), kept)
        elif array.dtype.kind not in "biufcmM":
            plain[name] = (array.dims, array.data.astype(object), array.attrs)
    return plain


def local_groups(local: LocalStages) -> dict[str, xr.Dataset]:
    """Return the groups of stages 1 and 2 of a batch."""
    groups = {
        "input": flat_inputs(local.market),
        "clearing": local.clearing.flat,
        STATE: _state(local.clearing),
        "forwarded": local.forwarded.flat,
    }
    if local.bidding:
        groups["bidding"] = flat_bidding(local.bidding)
    return groups


def read_clearing(path: Path, grid: LinDistFlow) -> DsoClearing:
    """Read the DSO clearing of a batch.

    Parameters
    ----------
    path : Path
        A file with the groups of `local_groups`.
    grid : LinDistFlow
        The grid model that was used.
    """
    state = read_group(path, STATE)
    losses = {str(name).removeprefix("losses."): a for name, a in state.items() if str(name).startswith("losses.")}
    arrays = {str(name): array for name, array in state.items() if not str(name).startswith("losses.")}
    numbers = {name: value.item() for name, value in state.attrs.items()}
    named = {name: array.rename(None) for name, array in losses.items()}
    flat = freeze(read_group(path, "clearing"))
    return DsoClearing(flat=flat, losses=LossTerms(**named), grid=grid, **arrays, **numbers)


def _state(clearing: DsoClearing) -> xr.Dataset:
    """Return the arrays and numbers of a clearing that are not in its flat Dataset."""
    arrays: dict[str, xr.DataArray] = {}
    numbers: dict[str, int | float] = {}
    for field in dataclasses.fields(clearing):
        value = getattr(clearing, field.name)
        if isinstance(value, xr.DataArray):
            arrays[field.name] = value
        elif isinstance(value, LossTerms):
            arrays |= {f"{field.name}.{term.name}": getattr(value, term.name) for term in dataclasses.fields(value)}
        elif isinstance(value, int | float):
            numbers[field.name] = value
    return xr.Dataset(arrays, attrs=numbers)
