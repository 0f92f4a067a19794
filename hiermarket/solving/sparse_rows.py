"""Rows of a sparse array as one labelled linopy expression, without a dense array in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import linopy
    import xarray as xr
    from scipy.sparse import csr_array

    from hiermarket.solving.program import Floats


def labelled(model: linopy.Model, rows: csr_array, constant: Floats, labels: xr.DataArray) -> linopy.LinearExpression:
    """Return the expression rows·variables + constant, laid out as a labelled array.

    Parameters
    ----------
    model : linopy.Model
        The model of the variables.
    rows : (n, number of labels) sparse array
        One row for each cell of `labels` that is not masked, in order; its columns are
        labels of variables.
    constant : (n,) array
        Constants.
    labels : DataArray
        The array whose dims, coordinates and mask (−1) the expression takes over.
    """
    import xarray as xr
    from linopy import LinearExpression

    active = np.flatnonzero(np.asarray(labels).ravel() != -1)
    counts = np.diff(rows.indptr)
    width = int(counts.max(initial=0))
    variables = np.full((labels.size, width), -1, dtype=np.int64)
    coefficients = np.full((labels.size, width), np.nan)
    within = np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], counts)
    at = np.repeat(active, counts)
    variables[at, within] = rows.indices
    coefficients[at, within] = rows.data
    constants = np.full(labels.size, np.nan)
    constants[active] = constant
    shape = labels.shape
    data = xr.Dataset(
        {
            "vars": ((*labels.dims, "_term"), variables.reshape(*shape, width)),
            "coeffs": ((*labels.dims, "_term"), coefficients.reshape(*shape, width)),
            "const": (labels.dims, constants.reshape(shape)),
        },
        coords={dim: labels.indexes[dim] for dim in labels.dims if dim in labels.indexes},
    )
    return LinearExpression(data, model)
