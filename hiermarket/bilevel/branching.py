"""Complementarity branch and bound: exact without any big-M.

Each node drops the pairs that are still open and solves what remains, strengthened by the
strong duality of the followers; a pair that is violated splits the node into "slack = 0" and
"multiplier = 0", both plain bounds; an integer of the leader splits it as in any branch and
bound. An accepted point is solved once more with everything decided, so that complementarity
holds exactly and not up to a tolerance. Each node that is left is proved by its own
multipliers (see `safe_bound`), and the weakest of these proofs is the gap that is reported.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.node import INTEGRALITY, Decisions, Nodes
from hiermarket.bilevel.reformulation import PartAnswer, differ, nothing
from hiermarket.bilevel.relaxation import relaxation
from hiermarket.bilevel.sides import Side, decided
from hiermarket.errors import ModelError
from hiermarket.solving.solver import Outcome, SolverOptions

if TYPE_CHECKING:
    from hiermarket.bilevel.node import Node
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.relay import Relay
    from hiermarket.solving.solver import Answer

#: Slack and multiplier of a pair below this are both taken for a pair that holds.
PAIR_TOLERANCE = 1e-9
#: Nodes between two tries of an incumbent, which then double.
FIRST_TRY = 8
#: A tree that has grown by more than this from one part to the next is not handed on.
GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Branching:
    """Branch on complementarity pairs and on the leader's integers, no bounds needed.

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
            The optimum, or an outcome that says why there is none; a limit reached comes
            with the best point so far.
        """
        cuts = None
        if len(part.pairs) and part.program.quadratic is None:
            cuts = relaxation(part, options)
            if cuts is None:
                return nothing(part, Outcome.INFEASIBLE, "no point satisfies the relaxation", "branching")
        # every search to come has a session of its own: this one's is handed on when it is done
        session = None if part.precedent is None else part.precedent.session
        search = _Search(part, self, options, cuts, session)
        found = search.without_cuts(search.begin(sides))
        doubtful = found.outcome is Outcome.INFEASIBLE and search.proved == -np.inf
        if cuts is not None and (found.outcome is Outcome.TROUBLE or doubtful):
            return _Search(part, self, options, None).begin(sides)
        return found

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
        # without the cuts: what bounds may have got wrong must not go into the second proof
        search = _Search(part, self, options, None)
        search.best = search.nodes.value(incumbent.x)
        search.best_x = incumbent.x
        return search.run(_all_open(part))


@dataclass(slots=True)
class _Search:
    part: Part
    settings: Branching
    options: SolverOptions
    cuts: Program | None
    session: Relay | None = None
    nodes: Nodes = field(init=False)
    best: float = np.inf
    best_x: Floats | None = None
    best_decisions: Decisions | None = None
    #: the least bound among the nodes that were left: nothing in them can be better
    proved: float = np.inf
    uncertain: str = ""
    #: after how many nodes the followers are next asked for an incumbent
    next_try: int = 0
    #: the sides of each node that was left
    leaves: list[Ints] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = Nodes(self.part, self.options, self.cuts, self.session)

    def begin(self, sides: Ints | None) -> PartAnswer:
        """Search from the root, with what a part of the same structure has taught."""
        precedent = self.part.precedent
        if sides is not None or len(self.nodes.integers):
            return self.run(_all_open(self.part) if sides is None else sides)
        if precedent is None:
            return self.run(_all_open(self.part))
        if not self._offer(self.nodes.root(precedent.sides)).optimal:
            self._try_answer(precedent.x)
        self.next_try = self.nodes.solves + FIRST_TRY
        first, leaves = self.best, precedent.leaves
        found = self.run(_all_open(self.part), leaves)
        optimal = found.outcome is Outcome.OPTIMAL
        if optimal and leaves and (found.bound is None or differ(found.objective, found.bound)):
            # leaves that their own multipliers do not prove: their common parents may be proved
            self.proved, self.leaves = np.inf, []
            found = self.run(_all_open(self.part))
            optimal = found.outcome is Outcome.OPTIMAL
        # leaves that were needed before the optimum was known, or in a part that differs, are too many for the next
        was_known = optimal and first - self.best <= self.settings.gap * (1.0 + abs(self.best))
        is_short = was_known and (not leaves or len(self.leaves) <= GROWTH * len(leaves) + 2)
        return replace(found, leaves=tuple(self.leaves)) if is_short else found

    def _try_answer(self, x: Floats) -> None:
        """Let the followers answer to the leader of a point, and take the pattern of that as an incumbent."""
        self.next_try = 2 * self.nodes.solves + FIRST_TRY
        point = self.nodes.answered(self.nodes.root(_all_open(self.part)), x)
        if point is None:
            return
        self._offer(self.nodes.fixed(decided(self.part, point), point))

    def _offer(self, complete: Decisions) -> Answer:
        """Solve a node with everything decided, and keep its point if it is the best."""
        answer = self.nodes.solve(complete).answer
        if answer.optimal and answer.objective < self.best:
            self.best, self.best_x, self.best_decisions = answer.objective, answer.x, complete
        return answer

    def without_cuts(self, found: PartAnswer) -> PartAnswer:
        """Solve the best decisions once more on the part's own rows: cuts are exact to their tolerance only."""
        if self.cuts is None or self.best_decisions is None or found.outcome not in (Outcome.OPTIMAL, Outcome.LIMIT):
            return found
        program = self.part.program
        activity = program.matrix @ found.x
        broken = np.maximum(program.row_lower - activity, activity - program.row_upper)
        if (broken <= self.options.feasibility).all():
            return found
        answer = Nodes(self.part, self.options).solve(self.best_decisions).answer
        sign = self.part.sense
        if not answer.optimal or differ(found.objective, sign * answer.objective):
            status = f"cuts say {found.objective:.9g}, without them it is {sign * answer.objective:.9g}"
            return replace(nothing(self.part, Outcome.TROUBLE, status, "branching"), nodes=found.nodes)
        return replace(found, x=answer.x, objective=sign * answer.objective)

    def run(self, start: Ints, leaves: tuple[Ints, ...] = ()) -> PartAnswer:
        """Search a node to its end; it splits into these leaves, which cover it, where there are some."""
        opposite = _opposites(self.part)
        stack: list[tuple[Decisions, float]] = [(self.nodes.root(start), -np.inf)]
        started = time.monotonic()
        while stack:
            if self.nodes.solves >= self.settings.node_limit or time.monotonic() - started > self.options.time_limit:
                return self._limited(f"{self.nodes.solves} nodes, {len(stack)} open", stack)
            decisions, bound = stack.pop()
            if bound >= self._cutoff():
                self.proved = min(self.proved, bound)
                self.leaves.append(decisions.sides)
                continue
            node = self.nodes.solve(decisions)
            answer = node.answer
            if answer.outcome is Outcome.LIMIT:
                return self._limited(answer.status, [*stack, (decisions, bound)])
            # what a child's multipliers fail to prove, its parent's may
            proved = max(node.proved, bound)
            if answer.optimal and self.nodes.solves >= self.next_try:
                self._try_answer(answer.x)
            if self._is_left(node, decisions):
                self.proved = min(self.proved, proved)
                self.leaves.append(decisions.sides)
                continue
            if not answer.optimal and not (decisions.sides == Side.OPEN).any():
                if answer.outcome is Outcome.UNBOUNDED and self.nodes.has_integer_point(decisions):
                    return self._answer(Outcome.UNBOUNDED, answer.status)
                if decisions.complete:
                    self._refuse_curved(answer)
                    self.uncertain = answer.status
                    continue
            children = [self.nodes.root(sides) for sides in leaves] or self._children(node, decisions, opposite)
            leaves = ()
            stack.extend((child, proved) for child in children)
        if self.uncertain:
            return self._answer(Outcome.TROUBLE, self.uncertain)
        if self.best_x is None:
            return self._answer(Outcome.INFEASIBLE, "every node is infeasible")
        return self._answer(Outcome.OPTIMAL, "every node solved")

    def _is_left(self, node: Node, decisions: Decisions) -> bool:
        """Return whether a node holds nothing better than what is known."""
        answer = node.answer
        if answer.outcome is Outcome.INFEASIBLE:
            return True
        return answer.optimal and (answer.objective >= self._cutoff() or self._accept(answer, decisions))

    def _cutoff(self) -> float:
        return self.best - self.settings.gap * (1.0 + abs(self.best)) if np.isfinite(self.best) else np.inf

    def _accept(self, answer: Answer, decisions: Decisions) -> bool:
        """Try the point with everything decided; return whether it closes the node."""
        smaller = np.minimum(self.part.slack(answer.x), self.part.magnitude(answer.x))
        integers = answer.x[self.nodes.integers]
        rounded = np.clip(np.round(integers) + 0.0, decisions.least, decisions.most)
        holds = bool((smaller[decisions.sides == Side.OPEN] <= PAIR_TOLERANCE).all())
        holds = holds and bool((np.abs(integers - rounded) <= INTEGRALITY).all())
        if not holds and self.best_x is not None:
            return False
        sides = decided(self.part, answer.x, decisions.sides)
        leaf = self._offer(Decisions(sides, rounded, rounded))
        if not leaf.optimal:
            return False
        return leaf.objective <= answer.objective + self.settings.gap * (1.0 + abs(answer.objective))

    def _children(self, node: Node, decisions: Decisions, opposite: Ints) -> list[Decisions]:
        """Split a node: at the integer that is farthest from one, else at the most violated pair."""
        answer = node.answer
        has_point = answer.has_point and bool(np.isfinite(answer.x).all())
        open_ = (decisions.sides == Side.OPEN).any()
        free = decisions.least < decisions.most
        if free.any() and (has_point or not open_):
            away = np.zeros(len(free))
            if has_point:
                value = np.clip(answer.x[self.nodes.integers], decisions.least, decisions.most)
                away = np.where(free, np.abs(value - np.round(value)), 0.0)
            if away.max() > INTEGRALITY:
                return _halves(decisions, int(np.argmax(away)), float(value[np.argmax(away)]))
            if not open_:
                return self._split_range(decisions, free)
        return _sides(self.part, answer, decisions, opposite)

    def _split_range(self, decisions: Decisions, free: np.ndarray) -> list[Decisions]:
        """Split the range of an integer in the middle where no point says where."""
        middle = (decisions.least + decisions.most) / 2
        finite = free & np.isfinite(middle)
        if not finite.any():
            self.uncertain = "integers without bounds"
            return []
        at = int(np.flatnonzero(finite)[0])
        return _halves(decisions, at, float(middle[at]))

    def _refuse_curved(self, answer: Answer) -> None:
        if self.nodes.is_curved and answer.outcome is Outcome.TROUBLE and answer.status == "not convex":
            raise ModelError(
                "The leader's objective is not convex, not even with every pair decided",
                where=f"part {self.part.number}",
                remedy="Products of prices and volumes: state them through dual_times_primal, or use SOS1() with SCIP.",
            )

    def _limited(self, status: str, stack: list[tuple[Decisions, float]]) -> PartAnswer:
        self.proved = min([self.proved, *(bound for _, bound in stack)])
        return self._answer(Outcome.LIMIT, status)

    def _answer(self, outcome: Outcome, status: str) -> PartAnswer:
        sign = self.part.sense
        found = self.best_x is not None and outcome in (Outcome.OPTIMAL, Outcome.LIMIT)
        answer = replace(nothing(self.part, outcome, status, "branching"), session=self.nodes.session)
        if not found or self.best_x is None:
            return replace(answer, nodes=self.nodes.solves)
        return replace(
            answer,
            x=self.best_x,
            objective=sign * self.best,
            bound=sign * min(self.proved, self.best),
            nodes=self.nodes.solves,
        )


def _all_open(part: Part) -> Ints:
    return np.full(len(part.pairs), Side.OPEN, dtype=np.int64)


def _opposites(part: Part) -> Ints:
    """Return for each bound pair the pair of the variable's other bound; −1 if none."""
    opposite = np.full(len(part.pairs), -1, dtype=np.int64)
    is_bound = np.flatnonzero(part.row < 0)
    order = is_bound[np.argsort(part.column[is_bound], kind="stable")]
    same = np.flatnonzero(part.column[order][1:] == part.column[order][:-1])
    opposite[order[same]], opposite[order[same + 1]] = order[same + 1], order[same]
    return opposite


def _halves(decisions: Decisions, at: int, value: float) -> list[Decisions]:
    """Split an integer's range at a value; the nearer half comes last, to be solved first."""
    below, above = decisions.most.copy(), decisions.least.copy()
    below[at], above[at] = np.floor(value), np.floor(value) + 1
    halves = [replace(decisions, most=below), replace(decisions, least=above)]
    return halves if value - np.floor(value) > 0.5 else halves[::-1]


def _sides(part: Part, answer: Answer, decisions: Decisions, opposite: Ints) -> list[Decisions]:
    """Split a node at its most violated pair; the likelier child comes last, to be solved first."""
    sides = decisions.sides
    open_ = np.flatnonzero(sides == Side.OPEN)
    if answer.has_point and np.isfinite(answer.x).all():
        slack, magnitude = part.slack(answer.x)[open_], part.magnitude(answer.x)[open_]
        chosen = int(np.argmax(np.minimum(slack, magnitude)))
        pair, slack_first = open_[chosen], bool(slack[chosen] <= magnitude[chosen])
    else:
        pair, slack_first = open_[0], True
    tight, silent = sides.copy(), sides.copy()
    tight[pair], silent[pair] = Side.SLACK_ZERO, Side.MULTIPLIER_ZERO
    if opposite[pair] >= 0 and tight[opposite[pair]] == Side.OPEN:
        # at one bound, the other one has room: its multiplier is zero
        tight[opposite[pair]] = Side.MULTIPLIER_ZERO
    children = [replace(decisions, sides=silent), replace(decisions, sides=tight)]
    return children if slack_first else children[::-1]
