"""Interval arithmetic on the rows of a program: cheap bounds of all columns at once.

Each row bounds each of its columns by the range that the others leave: from
L ≤ Σ a_j x_j ≤ U follows a_k x_k ≥ L − Σ_{j≠k} max a_j x_j, and the like. Repeated a few
times over all rows together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array

if TYPE_CHECKING:
    from hiermarket.solving.program import Floats, Ints, Program

#: Rounds of propagation; a bound needs as many as there are rows between it and a finite one.
ROUNDS = 8
#: Bounds beyond this are not worth a name: they come from cancellation.
LARGEST = 1e12


def tightened(program: Program) -> tuple[Floats, Floats]:
    """Return bounds of all columns that the rows imply, at least as tight as the given ones.

    Parameters
    ----------
    program : Program
        Rows and bounds; the objective plays no part.

    Returns
    -------
    lower, upper : float arrays
        Valid for every feasible point; crossing bounds tell that there is none.
    """
    entries = _entries(program.matrix)
    row, column, value = entries.row.astype(np.int64), entries.col.astype(np.int64), entries.data
    lower, upper = program.lower.copy(), program.upper.copy()
    size = program.shape[0]
    for _ in range(ROUNDS):
        least = np.where(value > 0, value * lower[column], value * upper[column])
        most = np.where(value > 0, value * upper[column], value * lower[column])
        least_others = _others(row, least, size, -np.inf)
        most_others = _others(row, most, size, np.inf)
        # a_k x_k lies between these two
        low, high = program.row_lower[row] - most_others, program.row_upper[row] - least_others
        from_below = np.where(value > 0, low / value, high / value)
        from_above = np.where(value > 0, high / value, low / value)
        new_lower, new_upper = lower.copy(), upper.copy()
        np.maximum.at(new_lower, column, _usable(from_below, -np.inf))
        np.minimum.at(new_upper, column, _usable(from_above, np.inf))
        # rounding must not cut a feasible point off
        new_lower = np.where(new_lower > lower, new_lower - 1e-9 * (1 + np.abs(new_lower)), lower)
        new_upper = np.where(new_upper < upper, new_upper + 1e-9 * (1 + np.abs(new_upper)), upper)
        new_lower, new_upper = np.maximum(new_lower, lower), np.minimum(new_upper, upper)
        if np.array_equal(new_lower, lower) and np.array_equal(new_upper, upper):
            break
        lower, upper = new_lower, new_upper
    return lower, upper


def _entries(matrix: csr_array) -> coo_array:
    """Return the entries that are not zero: 0 × ∞ has no value."""
    entries = coo_array(matrix)
    entries.eliminate_zeros()
    return entries


def _others(row: Ints, terms: Floats, size: int, infinite: float) -> Floats:
    """Return for each entry the sum of its row's other entries."""
    finite = np.isfinite(terms)
    total = np.bincount(row, weights=np.where(finite, terms, 0.0), minlength=size)
    open_ends = np.bincount(row[~finite], minlength=size)
    rest = total[row] - np.where(finite, terms, 0.0)
    return np.where(open_ends[row] - ~finite > 0, infinite, rest)


def _usable(values: Floats, nothing: float) -> Floats:
    return np.where(np.isfinite(values) & (np.abs(values) < LARGEST), values, nothing)


def activity(program: Program, rows: Ints, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Return the least and the largest activity of some rows for columns within bounds."""
    entries = _entries(program.matrix[rows, :])
    value = entries.data
    least = np.where(value > 0, value * lower[entries.col], value * upper[entries.col])
    most = np.where(value > 0, value * upper[entries.col], value * lower[entries.col])
    count = len(rows)
    low, high = np.zeros(count), np.zeros(count)
    np.add.at(low, entries.row, least)
    np.add.at(high, entries.row, most)
    return np.maximum(low, program.row_lower[rows]), np.minimum(high, program.row_upper[rows])
