"""Between linopy expressions and flat arrays of labels and coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import linopy
    import xarray as xr

    from hiermarket.solving.program import Floats, Ints

    Expression = linopy.LinearExpression | linopy.QuadraticExpression
    ExpressionLike = Expression | linopy.Variable


@dataclass(frozen=True, slots=True)
class Terms:
    """A scalar expression: constant + Σ coefficient·variable + Σ coefficient·first·second.

    Attributes
    ----------
    labels, coefficients : arrays
        Linear terms; a label may come more than once.
    first, second, products : arrays
        Quadratic terms.
    constant : float
        The constant.
    """

    labels: Ints
    coefficients: Floats
    first: Ints
    second: Ints
    products: Floats
    constant: float

    @property
    def is_linear(self) -> bool:
        """Whether there is no quadratic term."""
        return len(self.products) == 0

    def summed(self) -> dict[tuple[int, int], float]:
        """Return the coefficient of each product of two labels, and of each label with −1; no zeros."""
        both = np.sort(np.array([self.first, self.second]), axis=0)
        keys = np.hstack([np.array([np.full(len(self.labels), -1), self.labels]), both]).T
        unique, place = np.unique(keys, axis=0, return_inverse=True)
        total = np.bincount(place, weights=np.concatenate([self.coefficients, self.products]), minlength=len(unique))
        return {(int(a), int(b)): float(value) for (a, b), value in zip(unique, total, strict=True) if value}


def terms_of(expression: ExpressionLike, where: str) -> Terms:
    """Read an expression as flat terms; cells of an array are summed.

    Parameters
    ----------
    expression : linopy expression or variable
        What to read.
    where : str
        What the expression is, for messages.

    Raises
    ------
    ModelError
        A coefficient or constant that is not finite.
    """
    from linopy import QuadraticExpression, Variable

    if isinstance(expression, Variable):
        expression = expression.to_linexpr()
    nothing, none = np.empty(0, dtype=np.int64), np.empty(0)
    first, second, products = nothing, nothing, none
    found, values = expression.linear_terms()
    if isinstance(expression, QuadraticExpression):
        flat = expression.flat
        both = flat[(flat["vars1"] != -1) & (flat["vars2"] != -1)]
        first = both["vars1"].to_numpy(dtype=np.int64)
        second = both["vars2"].to_numpy(dtype=np.int64)
        products = both["coeffs"].to_numpy(dtype=float)
    constants = np.asarray(expression.const, dtype=float)
    constant = float(constants[~np.isnan(constants)].sum())
    coefficients = np.asarray(values, dtype=float)
    if not (np.isfinite(coefficients).all() and np.isfinite(products).all() and np.isfinite(constant)):
        raise ModelError(
            "An expression has coefficients that are not finite",
            where=where,
            remedy="Look for NaN or infinity in the data that multiply the variables.",
        )
    return Terms(np.asarray(found, dtype=np.int64), coefficients, first, second, products, constant)


def scalar(model: linopy.Model, labels: Ints, coefficients: Floats, constant: float = 0.0) -> linopy.LinearExpression:
    """Return the scalar expression Σ coefficient·variable + constant; equal labels are summed."""
    import xarray as xr
    from linopy import LinearExpression

    unique, place = np.unique(labels, return_inverse=True)
    summed = np.bincount(place, weights=coefficients, minlength=len(unique))
    keep = summed != 0
    data = {"vars": ("_term", unique[keep]), "coeffs": ("_term", summed[keep]), "const": constant}
    return LinearExpression(xr.Dataset(data), model)


def scalar_quadratic(model: linopy.Model, first: Ints, second: Ints, products: Floats) -> linopy.QuadraticExpression:
    """Return the scalar expression Σ coefficient·first·second."""
    import xarray as xr
    from linopy import QuadraticExpression

    data = {"vars": (("_factor", "_term"), np.array([first, second])), "coeffs": ("_term", products), "const": 0.0}
    return QuadraticExpression(xr.Dataset(data), model)


def element_name(name: str, labels: xr.DataArray, label: int) -> str:
    """Name one element of a labelled array: ``p[unit=ours, hour=2]``."""
    place = np.argwhere(np.asarray(labels) == label)
    if not len(place) or labels.ndim == 0:
        return name
    parts = (
        f"{dim}={labels.indexes[dim][i] if dim in labels.indexes else i}"
        for dim, i in zip(labels.dims, place[0], strict=True)
    )
    return f"{name}[{', '.join(parts)}]"


def variable_names(model: linopy.Model, labels: Ints) -> Iterator[str]:
    """Name variables of a model by their labels."""
    for label in labels:
        for name, variable in model.variables.items():
            first, last = variable.range
            if first <= label < last:
                yield element_name(name, variable.labels, int(label))


def row_names(model: linopy.Model, labels: Ints) -> Iterator[str]:
    """Name rows of a model by their labels."""
    for label in labels:
        for name, constraint in model.constraints.items():
            first, last = constraint.range
            if first <= label < last:
                yield element_name(name, constraint.labels, int(label))
