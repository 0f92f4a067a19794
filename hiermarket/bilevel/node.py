"""One node: the problem with some pairs decided, solved as an LP, MILP or convex QP."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import null_space
from scipy.sparse import csc_array, csr_array

from hiermarket.errors import ModelError
from hiermarket.solving.solver import Answer, Outcome, Session

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions

#: An eigenvalue of the leader's Hessian may be this much below zero, relative to the largest.
CURVATURE_TOLERANCE = 1e-9
#: What rounding leaves of a zero in a projection, relative to the largest entry.
DUST = 1e-13


class Side(IntEnum):
    """What is decided about a pair."""

    OPEN = 0
    SLACK_ZERO = 1
    MULTIPLIER_ZERO = 2


class Nodes:
    """Solves nodes of one part, hot-started from one to the next.

    Parameters
    ----------
    part : Part
        The part; its leader's objective may be quadratic, and then it is solved where it
        is convex on the node's equations.
    options : SolverOptions
        Tolerances and limits.
    """

    def __init__(self, part: Part, options: SolverOptions) -> None:
        self.part = part
        self._options = options
        self._program = _minimised(part.program)
        self._curved = self._program.quadratic is not None and not _is_convex(self._program.quadratic.toarray())
        if self._program.quadratic is not None and self._program.integer.any():
            raise ModelError(
                "A quadratic leader's objective with integer variables cannot be solved",
                where=f"{int(self._program.integer.sum())} integer variables",
                remedy="Linearise the objective, or relax the integers.",
            )
        shown = replace(self._program, quadratic=None) if self._curved else self._program
        self._session = Session(shown, options)
        self._every_column = np.arange(part.program.shape[1])
        self._every_row = np.arange(part.program.shape[0])
        self.solves = 0

    @property
    def is_curved(self) -> bool:
        """Whether the leader's objective is not convex before pairs are decided."""
        return self._curved

    def solve(self, sides: Ints) -> Answer:
        """Solve the node in which some pairs are decided; the objective is minimised.

        Parameters
        ----------
        sides : int array
            A `Side` for each pair.

        Returns
        -------
        Answer
            Outcome `TROUBLE` stands for a node that is feasible but whose objective is not
            convex: it gives no bound.
        """
        self.solves += 1
        node = self._decided(sides)
        if (node.lower > node.upper).any() or (node.row_lower > node.row_upper).any():
            return _no_answer(Outcome.INFEASIBLE, "contradicting bounds", node)
        if self._curved:
            return self._solve_curved(node)
        return self._solve_plain(node)

    def _solve_plain(self, node: Program) -> Answer:
        session = self._session
        session.change_bounds(self._every_column, node.lower, node.upper)
        session.change_row_bounds(self._every_row, node.row_lower, node.row_upper)
        return session.solve()

    def _decided(self, sides: Ints) -> Program:
        """Return the program with the decided sides fixed through bounds."""
        part, program = self.part, self._program
        lower, upper = program.lower.copy(), program.upper.copy()
        row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
        silent = part.multiplier[sides == Side.MULTIPLIER_ZERO]
        lower[silent] = upper[silent] = 0.0
        tight = sides == Side.SLACK_ZERO
        value = -part.constant / part.sign
        rows = tight & (part.row >= 0)
        row_lower[part.row[rows]] = row_upper[part.row[rows]] = value[rows]
        columns = tight & (part.row < 0)
        # the bound of the other side stays: a lower and an upper bound at once leave an empty node
        below, above = columns & (part.sign > 0), columns & (part.sign < 0)
        upper[part.column[below]] = value[below]
        lower[part.column[above]] = np.maximum(lower[part.column[above]], value[above])
        return replace(program, lower=lower, upper=upper, row_lower=row_lower, row_upper=row_upper)

    def _solve_curved(self, node: Program) -> Answer:
        """Solve on the node's equations: x = origin + basis·t, where the objective may be convex."""
        assert node.quadratic is not None
        equal = node.row_lower == node.row_upper
        fixed = node.lower == node.upper
        size = node.shape[1]
        equations = np.vstack([node.matrix[np.flatnonzero(equal), :].toarray(), np.eye(size)[fixed]])
        right = np.concatenate([node.row_lower[equal], node.lower[fixed]])
        origin = np.linalg.lstsq(equations, right, rcond=None)[0] if len(right) else np.zeros(size)
        if len(right) and np.abs(equations @ origin - right).max() > 1e-7 * (1 + np.abs(right).max()):
            return _no_answer(Outcome.INFEASIBLE, "contradicting equations", node)
        basis = _without_dust(null_space(equations)) if len(right) else np.eye(size)
        quadratic = node.quadratic.toarray()
        reduced = basis.T @ quadratic @ basis
        scale = max(1.0, float(np.abs(quadratic).max()))
        feasible = self._solve_plain(replace(node, cost=np.zeros(size)))
        if feasible.outcome is Outcome.INFEASIBLE:
            return feasible
        if not _is_convex(reduced, scale):
            return replace(_no_answer(Outcome.TROUBLE, "not convex", node), x=feasible.x, has_point=feasible.has_point)
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
            return replace(feasible, objective=self.value(feasible.x))
        answer = Session(inner, self._options).solve()
        if not answer.has_point:
            return replace(_no_answer(answer.outcome, answer.status, node))
        x = origin + basis @ answer.x
        return replace(_no_answer(answer.outcome, answer.status, node), x=x, has_point=True, objective=self.value(x))

    def value(self, x: Floats) -> float:
        """Return the objective, minimised, at a point."""
        value = float(self._program.cost @ x)
        if self._program.quadratic is not None:
            value += 0.5 * float(x @ (self._program.quadratic @ x))
        return value


def _minimised(program: Program) -> Program:
    if program.minimise:
        return program
    quadratic = None if program.quadratic is None else csc_array(-program.quadratic)
    return replace(program, cost=-program.cost, quadratic=quadratic, minimise=True)


def _is_convex(hessian: np.ndarray, scale: float | None = None) -> bool:
    if not hessian.size:
        return True
    scale = max(1.0, float(np.abs(hessian).max())) if scale is None else scale
    return bool(np.linalg.eigvalsh(hessian)[0] >= -CURVATURE_TOLERANCE * scale)


def _cleaned(hessian: np.ndarray, scale: float) -> np.ndarray:
    """Return a convex Hessian without the negative curvature that rounding leaves: HiGHS refuses it."""
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    values = np.where(values < CURVATURE_TOLERANCE * scale, 0.0, values)
    return _without_dust((vectors * values) @ vectors.T)


def _without_dust(values: np.ndarray) -> np.ndarray:
    """Return an array without the entries that only rounding has left."""
    return np.where(np.abs(values) < DUST * max(1.0, float(np.abs(values).max(initial=0.0))), 0.0, values)


def _no_answer(outcome: Outcome, status: str, node: Program) -> Answer:
    columns, rows = np.full(node.shape[1], np.nan), np.full(node.shape[0], np.nan)
    return Answer(
        outcome=outcome,
        status=status,
        x=columns,
        dual=rows,
        reduced_cost=columns,
        objective=float("nan"),
        has_point=False,
        bound=float("nan"),
    )
