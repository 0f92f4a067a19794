"""Results to netCDF and back: written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


def write_results(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a result tree to a netCDF file.

    Parameters
    ----------
    tree : DataTree
        Of `hiermarket.results.results.result_tree`.
    path : str or Path
        The file; an existing one is replaced once the new one is complete.

    Returns
    -------
    Path
        The file.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        tree.to_netcdf(draft, engine="netcdf4")
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def read_results(path: str | Path) -> xr.DataTree:
    """Read a result tree from a netCDF file, into memory.

    Parameters
    ----------
    path : str or Path
        A file that `write_results` wrote.

    Returns
    -------
    DataTree
        The same groups, arrays, labels and attributes.
    """
    import xarray as xr

    with xr.open_datatree(path, engine="netcdf4") as tree:
        return tree.load()
