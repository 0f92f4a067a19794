"""Why a bilevel problem has no solution: which side fails, and the rows at which it fails.

Asked in turn, each by one LP that may break some rows at a price and breaks as little as it can:

1. the follower's rows, with the leader free within its bounds;
2. the leader's rows besides;
3. stationarity and the signs of the multipliers: without them no decision is ever optimal.

If all three can be met, it is the follower's optimal answers that break the leader's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, hstack

from hiermarket.bilevel.expression import row_names
from hiermarket.bilevel.relaxation import linear
from hiermarket.errors import FollowerInfeasibleError, InfeasibleError, some_labels
from hiermarket.solving.solver import Session

if TYPE_CHECKING:
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Bools, Floats
    from hiermarket.solving.solver import SolverOptions

#: A row broken by less than this, relative to 1 + its side, is met.
MET = 1e-7


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Which error an infeasible part deserves.

    Attributes
    ----------
    error : type
        `FollowerInfeasibleError` or `InfeasibleError`.
    status : str
        What contradicts what, with the labels of rows.
    remedy : str
        What to do.
    """

    error: type[InfeasibleError]
    status: str
    remedy: str


def diagnose(mpec: Mpec, part: Part, options: SolverOptions) -> Diagnosis:
    """Say why a part without a solution has none."""
    rows = part.program.rows
    follower = np.isin(rows, np.concatenate([system.rows for system in mpec.systems]))
    optimal = np.isin(rows, mpec.stationarity_labels)
    leader = ~follower & ~optimal
    broken = _broken(part, asked=follower, soft=follower, options=options)
    if broken.any():
        return Diagnosis(
            FollowerInfeasibleError,
            f"its rows contradict each other within all bounds: {_names(mpec, part, broken)}",
            "Give the follower recourse (a slack at a high cost), or widen the bounds in these rows.",
        )
    broken = _broken(part, asked=follower | leader, soft=leader, options=options)
    if broken.any():
        return Diagnosis(
            InfeasibleError,
            f"the leader's rows contradict the follower's: {_names(mpec, part, broken)}",
            "Relax these rows of the leader, or the bounds in them.",
        )
    broken = _broken(part, asked=optimal, soft=optimal, options=options)
    if broken.any():
        return Diagnosis(
            FollowerInfeasibleError,
            f"its cost falls without end, whatever the leader decides: {_names(mpec, part, broken)}",
            "Bound the follower's variables, or price them.",
        )
    limiting = f"the leader's rows: {_names(mpec, part, leader)}" if leader.any() else "the bounds of both"
    return Diagnosis(
        InfeasibleError,
        f"no optimal answer of the follower satisfies {limiting}",
        "The follower's optimum breaks them whatever the leader decides: relax them, or give those that hold "
        "a follower's variable to the follower.",
    )


def _broken(part: Part, *, asked: Bools, soft: Bools, options: SolverOptions) -> Bools:
    """Return which soft rows stay broken when as little as possible is, the other asked rows being met."""
    program = linear(part)
    at = np.flatnonzero(soft)
    count, width = len(at), program.shape[1]
    if not count:
        return np.zeros(program.shape[0], dtype=bool)
    short = csr_array(coo_array((np.ones(count), (at, np.arange(count))), shape=(program.shape[0], count)))
    elastic = replace(
        program,
        cost=np.concatenate([np.zeros(width), np.ones(2 * count)]),
        matrix=csr_array(hstack([program.matrix, short, -short])),
        row_lower=np.where(asked, program.row_lower, -np.inf),
        row_upper=np.where(asked, program.row_upper, np.inf),
        lower=np.concatenate([program.lower, np.zeros(2 * count)]),
        upper=np.concatenate([program.upper, np.full(2 * count, np.inf)]),
        integer=np.zeros(width + 2 * count, dtype=bool),
        columns=np.arange(width + 2 * count),
    )
    answer = Session(elastic, options).solve()
    broken = np.zeros(program.shape[0], dtype=bool)
    if answer.optimal:
        by: Floats = answer.x[width : width + count] + answer.x[width + count :]
        side = np.where(np.isfinite(program.row_lower[at]), program.row_lower[at], program.row_upper[at])
        broken[at] = by > MET * (1.0 + np.abs(side))
    return broken


def _names(mpec: Mpec, part: Part, chosen: Bools) -> str:
    labels = part.program.rows[chosen]
    return some_labels([*row_names(mpec.model, labels[:6]), *labels[6:]])
