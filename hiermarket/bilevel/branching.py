"""Complementarity branch and bound: exact without any big-M.

Each node drops the pairs that are still open and solves what remains; a pair that is
violated splits the node into "slack = 0" and "multiplier = 0", both plain bounds. An
accepted point is solved once more with every pair decided, so that complementarity
holds exactly and not up to a tolerance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.node import Nodes, Side
from hiermarket.bilevel.reformulation import PartAnswer
from hiermarket.errors import ModelError
from hiermarket.solving.solver import Outcome, SolverOptions

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.solving.solver import Answer

#: Slack and multiplier of a pair below this are both taken for a pair that holds.
PAIR_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Branching:
    """Branch on complementarity pairs, no bounds needed.

    Parameters
    ----------
    node_limit : int
        How many nodes of one part may be solved.
    gap : float
        Relative gap between incumbent and bound at which a node is left.
    """

    node_limit: int = 200_000
    gap: float = 1e-9

    def solve(self, part: Part, options: SolverOptions, sides: Ints | None = None) -> PartAnswer:
        """Solve one part.

        Parameters
        ----------
        part : Part
            The part.
        options : SolverOptions
            Tolerances and limits of each node; the time limit is that of the whole search.
        sides : int array, optional
            A `Side` for each pair, where bounds have decided some; all open by default.

        Returns
        -------
        PartAnswer
            The optimum, or an outcome that says why there is none.
        """
        start = np.full(len(part.pairs), Side.OPEN, dtype=np.int64) if sides is None else sides
        return _Search(part, self, options).run(start)

    def prove(self, part: Part, options: SolverOptions, incumbent: PartAnswer) -> PartAnswer:
        """Prove that nothing is better than a point, or find what is; all pairs open.

        Parameters
        ----------
        part : Part
            The part.
        options : SolverOptions
            Tolerances and limits.
        incumbent : PartAnswer
            A point at which every pair holds.

        Returns
        -------
        PartAnswer
            The optimum: the incumbent, or something better.
        """
        search = _Search(part, self, options)
        search.best = search.nodes.value(incumbent.x)
        search.best_x = incumbent.x
        return search.run(np.full(len(part.pairs), Side.OPEN, dtype=np.int64))


@dataclass(slots=True)
class _Search:
    part: Part
    settings: Branching
    options: SolverOptions
    nodes: Nodes = field(init=False)
    best: float = np.inf
    best_x: Floats | None = None
    uncertain: str = ""

    def __post_init__(self) -> None:
        self.nodes = Nodes(self.part, self.options)

    def run(self, start: Ints) -> PartAnswer:
        opposite = _opposites(self.part)
        stack: list[tuple[Ints, float]] = [(start, -np.inf)]
        started = time.monotonic()
        while stack:
            if self.nodes.solves >= self.settings.node_limit or time.monotonic() - started > self.options.time_limit:
                return self._answer(Outcome.LIMIT, f"{self.nodes.solves} nodes, {len(stack)} open")
            sides, bound = stack.pop()
            if bound >= self._cutoff():
                continue
            answer = self.nodes.solve(sides)
            if answer.outcome is Outcome.INFEASIBLE:
                continue
            if answer.outcome is Outcome.LIMIT:
                return self._answer(Outcome.LIMIT, answer.status)
            decided = not (sides == Side.OPEN).any()
            if not answer.optimal and decided:
                if answer.outcome is Outcome.UNBOUNDED:
                    return self._answer(Outcome.UNBOUNDED, answer.status)
                self._refuse_curved(answer)
                self.uncertain = answer.status
                continue
            if answer.optimal and (answer.objective >= self._cutoff() or self._accept(answer, sides)):
                continue
            if decided:
                continue
            below = answer.objective if answer.optimal else -np.inf
            stack.extend((child, below) for child in _children(self.part, answer, sides, opposite))
        if self.uncertain:
            return self._answer(Outcome.TROUBLE, self.uncertain)
        if self.best_x is None:
            return self._answer(Outcome.INFEASIBLE, "every node is infeasible")
        return self._answer(Outcome.OPTIMAL, "every node solved")

    def _cutoff(self) -> float:
        return self.best - self.settings.gap * (1.0 + abs(self.best)) if np.isfinite(self.best) else np.inf

    def _accept(self, answer: Answer, sides: Ints) -> bool:
        """Try the point with every pair decided; return whether it closes the node."""
        slack, magnitude = self.part.slack(answer.x), self.part.magnitude(answer.x)
        open_ = sides == Side.OPEN
        holds = bool((np.minimum(slack, magnitude)[open_] <= PAIR_TOLERANCE).all())
        if not holds and self.best_x is not None:
            return False
        guess = np.where(open_, np.where(slack <= magnitude, Side.SLACK_ZERO, Side.MULTIPLIER_ZERO), sides)
        leaf = answer if not open_.any() else self.nodes.solve(guess)
        if not leaf.optimal:
            return False
        if leaf.objective < self.best:
            self.best, self.best_x = leaf.objective, leaf.x
        return leaf.objective <= answer.objective + self.settings.gap * (1.0 + abs(answer.objective))

    def _refuse_curved(self, answer: Answer) -> None:
        if self.nodes.is_curved and answer.outcome is Outcome.TROUBLE and answer.status == "not convex":
            raise ModelError(
                "The leader's objective is not convex, not even with every pair decided",
                where=f"part {self.part.number}",
                remedy="Products of prices and volumes: state them through dual_times_primal.",
            )

    def _answer(self, outcome: Outcome, status: str) -> PartAnswer:
        sign = 1.0 if self.part.program.minimise else -1.0
        found = self.best_x is not None and outcome in (Outcome.OPTIMAL, Outcome.LIMIT)
        return PartAnswer(
            outcome=outcome,
            status=status,
            x=self.best_x if found and self.best_x is not None else np.full(self.part.program.shape[1], np.nan),
            objective=sign * self.best if found else float("nan"),
            method="branching",
            nodes=self.nodes.solves,
        )


def _opposites(part: Part) -> Ints:
    """Return for each bound pair the pair of the variable's other bound; −1 if none."""
    opposite = np.full(len(part.pairs), -1, dtype=np.int64)
    is_bound = np.flatnonzero(part.row < 0)
    order = is_bound[np.argsort(part.column[is_bound], kind="stable")]
    same = np.flatnonzero(part.column[order][1:] == part.column[order][:-1])
    opposite[order[same]], opposite[order[same + 1]] = order[same + 1], order[same]
    return opposite


def _children(part: Part, answer: Answer, sides: Ints, opposite: Ints) -> list[Ints]:
    """Split a node at its most violated pair; the likelier child comes last, to be solved first."""
    open_ = np.flatnonzero(sides == Side.OPEN)
    if answer.has_point and np.isfinite(answer.x).all():
        slack, magnitude = part.slack(answer.x)[open_], part.magnitude(answer.x)[open_]
        chosen = int(np.argmax(np.minimum(slack, magnitude) + slack * magnitude))
        pair, slack_first = open_[chosen], bool(slack[chosen] <= magnitude[chosen])
    else:
        pair, slack_first = open_[0], True
    tight, silent = sides.copy(), sides.copy()
    tight[pair], silent[pair] = Side.SLACK_ZERO, Side.MULTIPLIER_ZERO
    if opposite[pair] >= 0 and tight[opposite[pair]] == Side.OPEN:
        # at one bound, the other one has room: its multiplier is zero
        tight[opposite[pair]] = Side.MULTIPLIER_ZERO
    return [silent, tight] if slack_first else [tight, silent]
