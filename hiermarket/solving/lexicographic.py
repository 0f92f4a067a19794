"""Several objectives in order of rank: each decides only among the optima of those before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.solving.program import Floats, Program
    from hiermarket.solving.solver import Answer, Session

#: A multiplier below this counts as zero when an optimal face is fixed: a hundred times the
#: solver's dual tolerance, and far below any difference of prices. It must not grow with the
#: largest cost: a value of lost load of 20,000 would make prices 0.02 apart a tie.
ZERO = 1e-7


def descend(program: Program, session: Session, first: Answer, then: Sequence[Floats]) -> tuple[Floats, int]:
    """Minimise further costs in turn, each among the optima of the ones before.

    Parameters
    ----------
    program : Program
        The linear program that the session holds.
    session : Session
        Solved to its optimum `first`; its bounds and costs are changed.
    first : Answer
        The optimum for the program's own cost.
    then : sequence of (n,) arrays
        Further costs by column, to be minimised in this order.

    Returns
    -------
    x : (n,) array
        The point after the last cost that could be decided.
    decided : int
        How many of the further costs were decided; fewer than `then` when tolerances
        made a face look empty.

    Notes
    -----
    By strict complementary slackness with any one dual optimum, the optimal face is the
    set of feasible points with every column of non-zero reduced cost and every row of
    non-zero dual at its active side. Fixing these and changing the cost takes about one
    simplex iteration from the optimal basis. Where every non-basic column and row has a
    multiplier, or no choice, the optimum is unique and nothing is left to decide.
    """
    if _is_unique(program, session, first):
        return first.x, len(then)
    every = np.arange(program.shape[1])
    lower, upper = program.lower.copy(), program.upper.copy()
    row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
    answer = first
    for decided, further in enumerate(then):
        fixed = np.flatnonzero(np.abs(answer.reduced_cost) > ZERO)
        lower[fixed] = upper[fixed] = _nearer(answer.x, lower, upper)[fixed]
        active = np.flatnonzero((np.abs(answer.dual) > ZERO) & (row_lower < row_upper))
        row_lower[active] = row_upper[active] = _nearer(program.matrix @ answer.x, row_lower, row_upper)[active]
        session.change_bounds(fixed, lower[fixed], upper[fixed])
        session.change_row_bounds(active, row_lower[active], row_upper[active])
        # a session that maximises turns every cost round
        cost = further if program.minimise else -further
        session.change_cost(every, cost)
        tried = session.solve()
        if not tried.optimal:
            return answer.x, decided
        answer = tried
    return answer.x, len(then)


def _is_unique(program: Program, session: Session, answer: Answer) -> bool:
    """Return whether no column and no row could leave its bound without cost."""
    columns, rows = session.nonbasic()
    held = (np.abs(answer.reduced_cost) > ZERO) | (program.lower == program.upper)
    active = (np.abs(answer.dual) > ZERO) | (program.row_lower == program.row_upper)
    return bool(held[columns].all() and active[rows].all())


def _nearer(value: Floats, lower: Floats, upper: Floats) -> Floats:
    return np.where(np.abs(value - lower) <= np.abs(value - upper), lower, upper)
