"""Bounds of both sides of every pair, proved by interval arithmetic and LPs over a relaxation.

A pair whose slack cannot reach zero has a zero multiplier, a pair whose slack or multiplier
cannot leave zero is decided: neither needs a binary. What remains gets the LP's maximum as
its big-M, which no KKT point exceeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.intervals import activity, tightened
from hiermarket.bilevel.relaxation import relaxation, widened
from hiermarket.bilevel.sides import Side
from hiermarket.solving.solver import Outcome, Session

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Bools, Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions

#: A slack that stays above this (relative to 1 + its constant) is taken to stay above zero.
AWAY = 1e-6
#: A side that stays below this (relative to 1 + its constant) is taken for zero: the solver's own feasibility.
ZERO = 1e-9


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is proved about the pairs of one part.

    Attributes
    ----------
    sides : int array
        A `Side` for each pair: decided, or open.
    slack, multiplier : float arrays
        Largest value of each side; infinite where none could be proved.
    solves : int
        LPs solved.
    relaxation : Program
        What they were proved on.
    """

    sides: Ints
    slack: Floats
    multiplier: Floats
    solves: int
    relaxation: Program

    @property
    def proved(self) -> bool:
        """Whether every open pair has finite bounds."""
        return not (self.lacks("primal").any() or self.lacks("dual").any())

    def lacks(self, side: str) -> Bools:
        """Return which open pairs lack a finite bound of their ``"primal"`` or ``"dual"`` side."""
        largest = self.slack if side == "primal" else self.multiplier
        return np.asarray((self.sides == Side.OPEN) & ~np.isfinite(largest))


def bounds_of(part: Part, options: SolverOptions) -> Bounds | None:
    """Bound every pair of a part.

    Parameters
    ----------
    part : Part
        The part.
    options : SolverOptions
        Tolerances of the LPs.

    Returns
    -------
    Bounds or None
        None if no point satisfies the relaxation: the part is infeasible.
    """
    program = relaxation(part, options)
    if program is None:
        return None
    session = Session(program, options)
    first = session.solve()
    if first.outcome is Outcome.INFEASIBLE:
        return None
    return _Bounding(part, program, session, first.x).run()


def ranges_of(part: Part, program: Program, lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the least and the largest slack and the largest multiplier of each pair.

    Parameters
    ----------
    part : Part
        The part.
    program : Program
        Its rows, or a relaxation whose first rows and columns are the part's.
    lower, upper : float arrays
        Bounds of the columns.
    """
    low, high = lower[part.column], upper[part.column]
    rows = np.flatnonzero(part.row >= 0)
    low[rows], high[rows] = activity(program, part.row[rows], lower, upper)
    up = part.sign > 0
    least = part.constant + np.where(up, low, -high)
    most = part.constant + np.where(up, high, -low)
    largest = np.where(part.multiplier_sign > 0, upper[part.multiplier], -lower[part.multiplier])
    return least, most, largest


class _Bounding:
    def __init__(self, part: Part, program: Program, session: Session, point: Floats) -> None:
        self._part, self._program, self._session = part, program, session
        count = len(part.pairs)
        self._columns = part.program.shape[1]
        self._scale = 1.0 + np.abs(part.constant)
        # what points seen so far show to be reachable: no LP is needed to learn it
        self._slack_reaches_zero = np.zeros(count, dtype=bool)
        self._slack_leaves_zero = np.zeros(count, dtype=bool)
        self._multiplier_leaves_zero = np.zeros(count, dtype=bool)
        self._see(point)

    def _see(self, point: Floats) -> None:
        x = point[: self._columns]
        if not np.isfinite(x).all():
            return
        slack, magnitude = self._part.slack(x), self._part.magnitude(x)
        self._slack_reaches_zero |= slack <= AWAY * self._scale
        self._slack_leaves_zero |= slack > AWAY * self._scale
        self._multiplier_leaves_zero |= magnitude > AWAY

    def run(self) -> Bounds:
        part = self._part
        count = len(part.pairs)
        sides = np.full(count, Side.OPEN, dtype=np.int64)
        least, slack, multiplier = self._intervals()
        sides[least > AWAY * self._scale] = Side.MULTIPLIER_ZERO
        sides[(sides == Side.OPEN) & (multiplier <= ZERO)] = Side.MULTIPLIER_ZERO
        for pair in np.flatnonzero(sides == Side.OPEN).tolist():
            if not self._slack_reaches_zero[pair] and self._extreme_slack(pair, least=True) > AWAY * self._scale[pair]:
                sides[pair] = Side.MULTIPLIER_ZERO
                continue
            if not np.isfinite(multiplier[pair]) or not self._multiplier_leaves_zero[pair]:
                multiplier[pair] = min(multiplier[pair], self._largest_multiplier(pair))
                if multiplier[pair] <= ZERO:
                    sides[pair] = Side.MULTIPLIER_ZERO
                    continue
            if not np.isfinite(slack[pair]) or not self._slack_leaves_zero[pair]:
                slack[pair] = min(slack[pair], self._extreme_slack(pair, least=False))
            if slack[pair] <= ZERO * self._scale[pair]:
                sides[pair] = Side.SLACK_ZERO
        return Bounds(
            sides=sides,
            slack=widened(np.maximum(slack, 0.0), 1.0),
            multiplier=widened(np.maximum(multiplier, 0.0), 1.0),
            solves=self._session.solves,
            relaxation=self._program,
        )

    def _intervals(self) -> tuple[Floats, Floats, Floats]:
        """Return the least and the largest slack and the largest multiplier by interval arithmetic."""
        return ranges_of(self._part, self._program, *tightened(self._program))

    def _optimum(self, columns: Ints, cost: Floats) -> tuple[Outcome, float]:
        """Minimise one expression over the relaxation."""
        self._session.change_cost(columns, cost)
        answer = self._session.solve()
        self._session.change_cost(columns, np.zeros(len(columns)))
        if answer.optimal:
            self._see(answer.x)
        return answer.outcome, answer.objective

    def _extreme_slack(self, pair: int, *, least: bool) -> float:
        part, direction = self._part, 1.0 if least else -1.0
        if part.row[pair] >= 0:
            matrix, row = self._program.matrix, part.row[pair]
            here = slice(matrix.indptr[row], matrix.indptr[row + 1])
            columns, cost = matrix.indices[here].astype(np.int64), matrix.data[here]
        else:
            columns, cost = part.column[[pair]], np.ones(1)
        outcome, value = self._optimum(columns, direction * part.sign[pair] * cost)
        if outcome is not Outcome.OPTIMAL:
            return -np.inf if least else np.inf
        return float(part.constant[pair] + direction * value)

    def _largest_multiplier(self, pair: int) -> float:
        part = self._part
        outcome, value = self._optimum(part.multiplier[[pair]], -part.multiplier_sign[[pair]])
        return float(-value) if outcome is Outcome.OPTIMAL else np.inf
