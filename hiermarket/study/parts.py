"""The files of a batch: flat arrays in a group for every stage, and stages made from them again."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from hiermarket.market.bids import Bids
from hiermarket.network.losses import LossTerms
from hiermarket.results.netcdf import write_results
from hiermarket.results.results import flat_bidding, flat_inputs, storable
from hiermarket.schema import freeze
from hiermarket.solving.blocks import Work
from hiermarket.stages.baseline import Alone
from hiermarket.stages.capability import Forwarded
from hiermarket.stages.dso_clearing import DsoClearing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hiermarket.stages.coordination import LocalStages, Options

#: What a clearing holds besides its flat arrays.
STATE: Final = "clearing_state"

#: How `storable` marks an array of flags.
FLAGS: Final = "no yes"

#: Held while a file is open.
READING: Final = threading.RLock()


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


@contextmanager
def open_group(path: Path, group: str) -> Iterator[xr.Dataset]:
    """Open one group of a part for a moment, with flags and labels as they were before `storable`.

    Notes
    -----
    One at a time in a process, and closed again: the netCDF library does not stand a file
    that is opened while another group of it is open.
    """
    with READING, xr.open_dataset(path, group=group, engine="netcdf4") as found:
        yield found


def read_group(path: Path, group: str) -> xr.Dataset:
    """Read one group of a part into memory."""
    with open_group(path, group) as found:
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


def read_bids(path: Path, group: str) -> Bids:
    """Read bids from a group of a file."""
    data = read_group(path, group)
    plain = {name: c for name, c in data.coords.items() if c.dtype == object and name not in data.dims}
    return Bids(data.assign_coords({name: (c.dims, c.values.astype(str)) for name, c in plain.items()}))


def local_groups(local: LocalStages, alone: Alone) -> dict[str, xr.Dataset]:
    """Return the groups of everything that a batch computes before the TSO."""
    groups = {
        "input": flat_inputs(local.market),
        "clearing": local.clearing.flat,
        STATE: _state(local.clearing),
        "forwarded": local.forwarded.flat.assign_attrs(dataclasses.asdict(local.forwarded.work)),
        "baseline": alone.flat,
    }
    if local.bidding:
        groups["bidding"] = flat_bidding(local.bidding)
    return groups


def read_local(path: Path, options: Options) -> tuple[DsoClearing, Forwarded, Alone]:
    """Read what a batch has computed before the TSO.

    Parameters
    ----------
    path : Path
        A file with the groups of `local_groups`.
    options : Options
        With which it was computed.
    """
    state = read_group(path, STATE)
    losses = {str(name).removeprefix("losses."): a for name, a in state.items() if str(name).startswith("losses.")}
    fields: dict[str, Any] = {str(name): array for name, array in state.items() if not str(name).startswith("losses.")}
    fields["losses"] = LossTerms(**{name: array.rename(None) for name, array in losses.items()})
    clearing = DsoClearing(flat=freeze(read_group(path, "clearing")), grid=options.grid, work=work_of(state), **fields)
    volumes = read_group(path, "forwarded")
    flat = freeze(volumes.drop_attrs(deep=False))
    forwarded = Forwarded(flat=flat, method=options.forwarding, work=work_of(volumes))
    return clearing, forwarded, Alone(freeze(read_group(path, "baseline")))


def work_of(stored: xr.Dataset) -> Work:
    """Read what a stage has cost back from the attributes of its group."""
    return Work(**{name: value.item() for name, value in stored.attrs.items()})


def _state(clearing: DsoClearing) -> xr.Dataset:
    """Return the arrays and numbers of a clearing that are not in its flat Dataset."""
    arrays: dict[str, xr.DataArray] = {}
    for field in dataclasses.fields(clearing):
        value = getattr(clearing, field.name)
        if isinstance(value, xr.DataArray):
            arrays[field.name] = value
        elif isinstance(value, LossTerms):
            arrays |= {
                f"{field.name}.{term.name}": getattr(value, term.name)
                for term in dataclasses.fields(value)
                if getattr(value, term.name) is not None
            }
    return xr.Dataset(arrays, attrs=dataclasses.asdict(clearing.work))
