"""One node: the problem with some pairs decided, solved as an LP or convex QP, with what its multipliers prove."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import null_space
from scipy.sparse import csc_array, csr_array

from hiermarket.bilevel.convexity import concave
from hiermarket.bilevel.safe_bound import objective_proved, proves_empty
from hiermarket.bilevel.sides import Side, with_sides
from hiermarket.solving.relay import Relay
from hiermarket.solving.solver import Answer, Outcome, Session

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions

#: An eigenvalue of the leader's Hessian may be this much below zero, relative to the largest.
CURVATURE_TOLERANCE = 1e-9
#: A value this near to an integer is one.
INTEGRALITY = 1e-6
#: What rounding leaves of a zero in a projection, relative to the largest entry.
DUST = 1e-13
#: Weight of the leader's objective where a follower's answer is looked for: it breaks ties in the leader's favour.
FAVOUR = 0.1


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a node decides: a side for some pairs, and ranges of the leader's integers.

    Attributes
    ----------
    sides : int array
        A `Side` for each pair.
    least, most : float arrays
        Range of each integer column, in the order of `Nodes.integers`.
    """

    sides: Ints
    least: Floats
    most: Floats

    @property
    def complete(self) -> bool:
        """Whether every pair is decided and every integer fixed."""
        return not (self.sides == Side.OPEN).any() and bool((self.least == self.most).all())


@dataclass(frozen=True, slots=True)
class Node:
    """One node's answer.

    Attributes
    ----------
    answer : Answer
        Values of the part's own columns; outcome `TROUBLE` with status "not convex" stands
        for a node that is feasible but whose objective is not convex: it gives no bound.
    proved : float
        Bound of the minimised objective that its multipliers prove: +inf for a node proved
        empty, −inf for nothing proved.
    """

    answer: Answer
    proved: float


class Nodes:
    """Solves nodes of one part, hot-started from one to the next.

    Parameters
    ----------
    part : Part
        The part; its leader's objective may be quadratic, and then it is solved where it
        is convex on the node's equations.
    options : SolverOptions
        Tolerances and limits.
    cuts : Program, optional
        A relaxation of the part (see `relaxation`), whose further rows and columns
        strengthen every node.
    session : Relay, optional
        That of a part that is solved already; it is taken over if the structure is the same.
    """

    def __init__(
        self, part: Part, options: SolverOptions, cuts: Program | None = None, session: Relay | None = None
    ) -> None:
        self.part = part
        self._options = options
        self._width = part.program.shape[1]
        own = _minimised(part.program)
        self._own = own
        self._curved = own.quadratic is not None and bool(concave(own.quadratic.toarray()[None])[0])
        # HiGHS' QP solver may not end on the redundant rows of the cuts
        self._program = own if cuts is None or own.quadratic is not None else _on(cuts, own)
        self.integers = np.flatnonzero(part.program.integer)
        self._program = replace(self._program, integer=np.zeros(self._program.shape[1], dtype=bool))
        shown = replace(self._program, quadratic=None) if self._curved else self._program
        if session is not None and session.fits(shown, options):
            session.replace(shown)
        else:
            session = Relay(shown, options)
        self.session = session
        self._every_column = np.arange(self._program.shape[1])
        self._every_row = np.arange(self._program.shape[0])
        self.solves = 0

    @property
    def is_curved(self) -> bool:
        """Whether the leader's objective is not convex before pairs are decided."""
        return self._curved

    def root(self, sides: Ints) -> Decisions:
        """Return decisions about some pairs only; integers keep their bounds."""
        least = np.ceil(self._own.lower[self.integers] - INTEGRALITY)
        most = np.floor(self._own.upper[self.integers] + INTEGRALITY)
        return Decisions(sides, least, most)

    def fixed(self, sides: Ints, x: Floats) -> Decisions:
        """Return decisions about every pair, with the integers as a point has them."""
        value = np.round(x[self.integers]) + 0.0
        return Decisions(sides, value, value)

    def solve(self, decisions: Decisions) -> Node:
        """Solve one node; the objective is minimised, integers are relaxed to their ranges."""
        self.solves += 1
        node = self._decided(decisions)
        if (node.lower > node.upper).any() or (node.row_lower > node.row_upper).any():
            return Node(_no_answer(Outcome.INFEASIBLE, "contradicting bounds", self._width), float("inf"))
        solved = self._solve_curved(node) if self._curved else self._solve_plain(node)
        answer = solved.answer
        return Node(replace(answer, x=answer.x[: self._width]), solved.proved)

    def _solve_plain(self, node: Program, *, prove: bool = True) -> Node:
        session: Session = self.session
        session.change_bounds(self._every_column, node.lower, node.upper)
        session.change_row_bounds(self._every_row, node.row_lower, node.row_upper)
        answer = session.solve()
        if not prove:
            return Node(answer, float("-inf"))
        proved = _proved(node, answer, session)
        if answer.outcome is Outcome.INFEASIBLE and proved < 0:
            # a start from the last basis may call a node empty that is not: only a proof counts
            session = Session(node, replace(self._options, presolve=False))
            answer = session.solve()
            proved = _proved(node, answer, session)
        return Node(answer, proved)

    def answered(self, decisions: Decisions, x: Floats) -> Floats | None:
        """Return a point at which linear followers answer to the leader's decision of another point.

        With the leader's factors fixed, dual objective less cost is linear, and zero where the
        followers are optimal. A little of the leader's objective is added: the point is a guess only.
        """
        dualities = self.part.dualities
        if self._own.quadratic is not None or not dualities or not all(one.is_equation for one in dualities):
            return None
        node = self._decided(decisions)
        lower, upper, cost = node.lower.copy(), node.upper.copy(), FAVOUR * self._program.cost
        for duality in dualities:
            value = np.clip(x[duality.first], lower[duality.first], upper[duality.first])
            lower[duality.first] = upper[duality.first] = value
            np.add.at(cost, duality.columns, -duality.coefficients)
            np.add.at(cost, duality.second, -duality.products * value)
        session = self.session
        session.change_cost(self._every_column, cost)
        self.solves += 1
        answer = self._solve_plain(replace(node, lower=lower, upper=upper), prove=False).answer
        session.change_cost(self._every_column, self._program.cost)
        return answer.x[: self._width] if answer.optimal else None

    def has_integer_point(self, decisions: Decisions) -> bool:
        """Return whether a node has a point with integers, whatever its objective."""
        node = self._decided(decisions)
        integer = np.zeros(node.shape[1], dtype=bool)
        integer[self.integers] = True
        search = replace(node, cost=np.zeros(node.shape[1]), quadratic=None, integer=integer)
        return Session(search, self._options).solve().has_point

    def _decided(self, decisions: Decisions) -> Program:
        """Return the program with the decided sides fixed through bounds."""
        node = with_sides(self.part, self._program, decisions.sides)
        # its bounds are its own copies
        node.lower[self.integers], node.upper[self.integers] = decisions.least, decisions.most
        return node

    def _solve_curved(self, node: Program) -> Node:
        """Solve on the node's equations: x = origin + basis·t, where the objective may be convex."""
        assert node.quadratic is not None
        equal = node.row_lower == node.row_upper
        fixed = node.lower == node.upper
        size = node.shape[1]
        equations = np.vstack([node.matrix[np.flatnonzero(equal), :].toarray(), np.eye(size)[fixed]])
        right = np.concatenate([node.row_lower[equal], node.lower[fixed]])
        origin = np.linalg.lstsq(equations, right, rcond=None)[0] if len(right) else np.zeros(size)
        if len(right) and np.abs(equations @ origin - right).max() > 1e-7 * (1 + np.abs(right).max()):
            return Node(_no_answer(Outcome.INFEASIBLE, "contradicting equations", size), float("inf"))
        basis = _without_dust(null_space(equations)) if len(right) else np.eye(size)
        quadratic = node.quadratic.toarray()
        reduced = basis.T @ quadratic @ basis
        scale = max(1.0, float(np.abs(quadratic).max()))
        feasible = self._solve_plain(replace(node, cost=np.zeros(size)))
        if feasible.answer.outcome is Outcome.INFEASIBLE:
            return feasible
        if not _is_convex(reduced, scale):
            point = feasible.answer
            answer = replace(_no_answer(Outcome.TROUBLE, "not convex", size), x=point.x, has_point=point.has_point)
            return Node(answer, float("-inf"))
        small = np.abs(reduced).max(initial=0.0) <= CURVATURE_TOLERANCE * scale
        open_rows = node.matrix[np.flatnonzero(~equal), :]
        around = open_rows @ origin
        rows = csr_array(_without_dust(np.vstack([open_rows @ basis, basis[~fixed]])))
        inner = replace(
            node,
            cost=_without_dust(basis.T @ (node.cost + quadratic @ origin)),
            quadratic=None if small else csc_array(_cleaned(reduced, scale)),
            matrix=rows,
            row_lower=np.concatenate([node.row_lower[~equal] - around, (node.lower - origin)[~fixed]]),
            row_upper=np.concatenate([node.row_upper[~equal] - around, (node.upper - origin)[~fixed]]),
            lower=np.full(basis.shape[1], -np.inf),
            upper=np.full(basis.shape[1], np.inf),
            integer=np.zeros(basis.shape[1], dtype=bool),
            columns=np.arange(basis.shape[1]),
            rows=np.arange(rows.shape[0]),
        )
        if not basis.shape[1]:
            value = self.value(feasible.answer.x)
            return Node(replace(feasible.answer, objective=value), value)
        session = Session(inner, self._options)
        answer = session.solve()
        if not answer.has_point:
            return Node(_no_answer(answer.outcome, answer.status, size), _proved(inner, answer, session))
        x = origin + basis @ answer.x
        found = replace(_no_answer(answer.outcome, answer.status, size), x=x, has_point=True, objective=self.value(x))
        # the constant of the objective at the origin is in neither of the two
        return Node(found, _proved(inner, answer, session) + self.value(origin))

    def value(self, x: Floats) -> float:
        """Return the objective, minimised, at a point."""
        return self._own.value(x)


def _proved(program: Program, answer: Answer, session: Session) -> float:
    """Return what an answer's multipliers prove of a minimised objective; +inf if no point is left."""
    if answer.optimal:
        return objective_proved(program, answer)
    empty = answer.outcome is Outcome.INFEASIBLE and proves_empty(program, session.infeasible_ray())
    return float("inf") if empty else float("-inf")


def _on(cuts: Program, own: Program) -> Program:
    """Return the cuts' rows and columns with the part's own linear objective."""
    more = cuts.shape[1] - own.shape[1]
    return replace(cuts, cost=np.concatenate([own.cost, np.zeros(more)]), minimise=True)


def _minimised(program: Program) -> Program:
    if program.minimise:
        return program
    quadratic = None if program.quadratic is None else csc_array(-program.quadratic)
    return replace(program, cost=-program.cost, quadratic=quadratic, minimise=True)


def _is_convex(hessian: np.ndarray, scale: float) -> bool:
    return not hessian.size or bool(np.linalg.eigvalsh(hessian)[0] >= -CURVATURE_TOLERANCE * scale)


def _cleaned(hessian: np.ndarray, scale: float) -> np.ndarray:
    """Return a convex Hessian without the negative curvature that rounding leaves: HiGHS refuses it."""
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    values = np.where(values < CURVATURE_TOLERANCE * scale, 0.0, values)
    return _without_dust((vectors * values) @ vectors.T)


def _without_dust(values: np.ndarray) -> np.ndarray:
    """Return an array without the entries that only rounding has left."""
    return np.where(np.abs(values) < DUST * max(1.0, float(np.abs(values).max(initial=0.0))), 0.0, values)


def _no_answer(outcome: Outcome, status: str, size: int) -> Answer:
    columns = np.full(size, np.nan)
    return Answer(
        outcome=outcome,
        status=status,
        x=columns,
        dual=np.empty(0),
        reduced_cost=columns,
        objective=float("nan"),
        has_point=False,
        bound=float("nan"),
    )
