"""A linear relaxation of one part that every KKT point satisfies, for bounding its pairs.

Rows and bounds of leader and followers, stationarity, signs of the multipliers, and strong
duality of every follower. Strong duality makes most multipliers finite. Where it holds
products (of the leader's variables with duals or with the follower's variables), each
product is a column of its own between McCormick's four planes; a plane that would need an
infinite bound is left out, so that the row then says nothing rather than something wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from hiermarket.solving.solver import Outcome, Session

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Duality, Part
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions

#: A bound found by an LP is widened by this, relative to 1 + its size: the LP's own tolerance.
MARGIN = 1e-7


def relaxation(part: Part, options: SolverOptions) -> Program | None:
    """Return the relaxation; the part's columns and rows come first, in their order.

    Parameters
    ----------
    part : Part
        The part.
    options : SolverOptions
        For the LPs that bound the factors of the products.

    Returns
    -------
    Program or None
        None if it is infeasible already: then so is the part.
    """
    plain = linear(part)
    factors = np.unique(
        np.concatenate(
            [
                np.empty(0, dtype=np.int64),
                *(np.concatenate([duality.first, duality.second]) for duality in part.dualities),
            ]
        )
    )
    lower, upper = plain.lower.copy(), plain.upper.copy()
    loose = factors[~(np.isfinite(lower[factors]) & np.isfinite(upper[factors]))]
    if len(loose):
        found = bound_columns(plain, loose, options)
        if found is None:
            return None
        lower[loose], upper[loose] = found
    program = plain
    for duality in part.dualities:
        program = _with_duality(program, duality, lower, upper)
    return program


def linear(part: Part) -> Program:
    """Return rows and bounds of a part without its objective, integers relaxed."""
    count = part.program.shape[1]
    return replace(
        part.program,
        cost=np.zeros(count),
        quadratic=None,
        integer=np.zeros(count, dtype=bool),
        minimise=True,
        columns=np.arange(count),
        rows=np.arange(part.program.shape[0]),
    )


def widened(values: Floats, direction: float) -> Floats:
    """Move bounds outwards by the LP's own tolerance."""
    finite = np.isfinite(values)
    return np.where(finite, values + direction * MARGIN * (1.0 + np.abs(np.where(finite, values, 0.0))), values)


def bound_columns(program: Program, columns: Ints, options: SolverOptions) -> tuple[Floats, Floats] | None:
    """Return the least and the largest value of some columns; None if the program is infeasible."""
    session = Session(program, options)
    lower, upper = program.lower[columns].copy(), program.upper[columns].copy()
    for position, column in enumerate(columns):
        for bound, direction in ((lower, 1.0), (upper, -1.0)):
            if np.isfinite(bound[position]):
                continue
            session.change_cost(np.array([column]), np.array([direction]))
            answer = session.solve()
            session.change_cost(np.array([column]), np.array([0.0]))
            if answer.outcome is Outcome.INFEASIBLE:
                return None
            if answer.optimal:
                bound[position] = direction * answer.objective
    return widened(lower, -1.0), widened(upper, 1.0)


def _with_duality(program: Program, duality: Duality, lower: Floats, upper: Floats) -> Program:
    """Add one follower's strong duality, with a column for each product."""
    rows, count = program.shape
    products = len(duality.products)
    width = count + products
    row = (
        np.concatenate([duality.coefficients, duality.products]),
        np.concatenate([duality.columns, count + np.arange(products)]),
    )
    values, places, least = _planes(duality, lower, upper, count)
    # plain concatenation: scipy's stacking costs more than all of these together
    matrix = program.matrix
    ends = len(matrix.data) + len(row[0]) + places.shape[1] * np.arange(len(least) + 1)
    entries = (
        np.concatenate([matrix.data, row[0], values.ravel()]),
        np.concatenate([matrix.indices, row[1], places.ravel()]).astype(np.int32),
        np.concatenate([matrix.indptr, ends]).astype(np.int32),
    )
    return replace(
        program,
        cost=np.zeros(width),
        matrix=csr_array(entries, shape=(rows + 1 + len(least), width)),
        row_lower=np.concatenate([program.row_lower, [0.0], least]),
        row_upper=np.concatenate(
            [program.row_upper, [0.0 if duality.is_equation else np.inf], np.full(len(least), np.inf)]
        ),
        lower=np.concatenate([program.lower, np.full(products, -np.inf)]),
        upper=np.concatenate([program.upper, np.full(products, np.inf)]),
        integer=np.concatenate([program.integer, np.zeros(products, dtype=bool)]),
        columns=np.arange(width),
        rows=np.arange(rows + 1 + len(least)),
    )


def _planes(duality: Duality, lower: Floats, upper: Floats, count: int) -> tuple[Floats, Ints, Floats]:
    """Return McCormick's planes of w = x·y as rows ≥, three entries each: those whose two bounds are finite.

    w ≥ x̲ y + y̲ x − x̲ y̲,  w ≥ x̄ y + ȳ x − x̄ ȳ,  w ≤ x̄ y + y̲ x − x̄ y̲,  w ≤ x̲ y + ȳ x − x̲ ȳ
    """
    x, y = duality.first, duality.second
    w = count + np.arange(len(x))
    of_x = np.array([lower[x], upper[x], upper[x], lower[x]])
    of_y = np.array([lower[y], upper[y], lower[y], upper[y]])
    keep = np.isfinite(of_x) & np.isfinite(of_y)
    sign = np.broadcast_to(np.array([[1.0], [1.0], [-1.0], [-1.0]]), keep.shape)[keep]
    at_x, at_y = of_x[keep], of_y[keep]
    places = np.broadcast_to(np.stack([w, y, x], axis=-1), (*keep.shape, 3))[keep]
    return np.stack([sign, -sign * at_x, -sign * at_y], axis=-1), places, -sign * at_x * at_y
