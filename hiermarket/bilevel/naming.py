"""Names of the independent parts: the labels that all variables of a part share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.expression import variable_names
from hiermarket.errors import some_labels

if TYPE_CHECKING:
    import linopy
    import xarray as xr

    from hiermarket.solving.program import Ints


def family_name(name: str, labels: xr.DataArray) -> str:
    """Name a labelled array with dimensions and size, e.g. ``p(unit, hour) × 6``; masked elements do not count."""
    dims = f"({', '.join(map(str, labels.dims))})" if labels.dims else ""
    return f"{name}{dims} × {int((np.asarray(labels) != -1).sum())}"


def family_names(arrays: Iterable[tuple[str, xr.DataArray]]) -> str:
    """Name labelled arrays with dimensions and sizes; ``nothing`` without any."""
    return ", ".join(family_name(name, labels) for name, labels in arrays) or "nothing"


def part_name(model: linopy.Model, labels: Ints) -> str:
    """Name a part by the labels its variables share, e.g. ``hour=2``; by its first variables otherwise.

    Parameters
    ----------
    model : linopy.Model
        The model of the variables.
    labels : int array
        The model's labels of the part's columns.
    """
    seen: dict[str, set[object]] = {}
    choices: dict[str, int] = {}
    for name in model.variables:
        variable = model.variables[name]
        first, last = variable.range
        inside = labels[(labels >= first) & (labels < last)] - first
        if not len(inside) or not variable.labels.ndim:
            continue
        for dim, at in zip(variable.labels.dims, np.unravel_index(inside, variable.labels.shape), strict=True):
            index = variable.labels.indexes.get(dim)
            if index is not None:
                seen.setdefault(str(dim), set()).update(index[np.unique(at)])
                choices[str(dim)] = max(choices.get(str(dim), 0), len(index))
    shared = [f"{dim}={next(iter(found))}" for dim, found in seen.items() if len(found) == 1 and choices[dim] > 1]
    if shared:
        return ", ".join(shared)
    names = list(variable_names(model, labels[:6]))
    return f"the part with {some_labels(names)}" if names else "the empty part"
