"""Strong duality instead of complementarity: one row for each follower, no pair is written at all.

For an LP follower, primal and dual feasibility and *cost = dual objective* are the KKT
conditions. The row is linear where no leader's variable stands in the follower's rows or
cost; a leader's integer times a bounded dual (or volume) is linearised exactly, bit by bit::

    x = x̲ + Σ_k 2^k b_k,    w_k = b_k y:   y̲ b_k ≤ w_k ≤ ȳ b_k,   y − ȳ (1 − b_k) ≤ w_k ≤ y − y̲ (1 − b_k)

A continuous leader's variable leaves a product that only a spatial solver takes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, vstack

from hiermarket.bilevel.bits import bits_of, pins
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.polish import polished, second_proof
from hiermarket.bilevel.reformulation import PartAnswer, nothing
from hiermarket.bilevel.relaxation import bound_columns, linear
from hiermarket.bilevel.sides import Side
from hiermarket.errors import ModelError, some_labels
from hiermarket.solving.extended import Extended, Products
from hiermarket.solving.solver import Outcome, Session

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class StrongDuality:
    """One strong-duality row for each follower in the place of its complementarity pairs.

    Parameters
    ----------
    solver : str
        ``"highs"`` where the row is linear or can be made so; ``"scip"`` takes products of
        the leader's continuous variables with duals as they are.
    proof : Branching or None
        How the answer is proved a second time; None leaves that out.
    """

    solver: str = "highs"
    proof: Branching | None = field(default_factory=lambda: Branching(node_limit=1000))

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part.

        Raises
        ------
        ModelError
            A quadratic follower or leader's objective; products that stay, with the pairs of
            names that they consist of.
        """
        self._check(part)
        if self.solver == "scip":
            from hiermarket.solving.scip import solve_scip

            answer = solve_scip(_bilinear(part), options)
        else:
            program = self._linear(part, options)
            if program is None:
                return nothing(part, Outcome.INFEASIBLE, "no point satisfies rows and bounds", "strong duality")
            answer = Session(program, options).solve()
        sides = np.full(len(part.pairs), Side.OPEN, dtype=np.int64)
        return second_proof(part, options, polished(part, options, answer, sides, "strong duality"), self.proof)

    def _check(self, part: Part) -> None:
        if any(not duality.is_equation for duality in part.dualities):
            raise ModelError(
                "Strong duality of a quadratic follower is a quadratic row",
                where=f"part {part.number}",
                remedy="Use Branching() or SOS1().",
            )
        if part.program.quadratic is not None:
            raise ModelError(
                "Strong duality needs a linear leader's objective here",
                where=f"part {part.number}",
                remedy='Use Branching() or SOS1(solver="scip").',
            )
        if self.solver not in ("highs", "scip"):
            raise ModelError(
                "Strong duality is solved by HiGHS or SCIP",
                where=f"solver={self.solver!r}",
                remedy='Use solver="highs" or solver="scip".',
            )

    def _linear(self, part: Part, options: SolverOptions) -> Program | None:
        """Return the part with strong-duality rows, products of integers linearised."""
        program = part.program
        for duality in part.dualities:
            fixed = program.lower[duality.first] == program.upper[duality.first]
            bounded = np.isfinite(program.lower[duality.first]) & np.isfinite(program.upper[duality.first])
            whole = program.integer[duality.first] & ~fixed & bounded
            self._refuse(part, duality.first[~fixed & ~whole], duality.second[~fixed & ~whole])
            # a fixed leader's variable is a coefficient
            columns = np.concatenate([duality.columns, duality.second[fixed]])
            values = np.concatenate(
                [duality.coefficients, duality.products[fixed] * program.lower[duality.first[fixed]]]
            )
            program = _with_row(program, columns, values)
            if not whole.any():
                continue
            first, second, product = duality.first[whole], duality.second[whole], duality.products[whole]
            found = _ranges(part, second, options)
            if found is None:
                return None
            self._refuse(part, first[~np.isfinite(found).all(axis=0)], second[~np.isfinite(found).all(axis=0)])
            program = _with_bits(program, first, second, product, found)
        return program

    def _refuse(self, part: Part, first: Ints, second: Ints) -> None:
        if not len(first):
            return
        names = [f"{part.column_name(a)} × {part.column_name(b)}" for a, b in zip(first, second, strict=True)]
        raise ModelError(
            "Strong duality holds products of the leader's variables with the follower's that cannot be linearised",
            where=some_labels(names),
            remedy='Use Auto() or Branching(); or StrongDuality(solver="scip"), which takes them as they are.',
        )


def _with_row(program: Program, columns: Ints, values: Floats) -> Program:
    """Add the row Σ value·column = 0."""
    entries = (values, (np.zeros(len(columns), dtype=np.int64), columns))
    row = csr_array(coo_array(entries, shape=(1, program.shape[1])))
    return replace(
        program,
        matrix=csr_array(vstack([program.matrix, row])),
        row_lower=np.append(program.row_lower, 0.0),
        row_upper=np.append(program.row_upper, 0.0),
        rows=np.arange(program.shape[0] + 1),
    )


def _ranges(part: Part, columns: Ints, options: SolverOptions) -> np.ndarray | None:
    """Return proved lower and upper bounds of columns; None if rows and bounds have no point."""
    unique, place = np.unique(columns, return_inverse=True)
    plain = linear(part)
    loose = ~(np.isfinite(plain.lower[unique]) & np.isfinite(plain.upper[unique]))
    lower, upper = plain.lower[unique].copy(), plain.upper[unique].copy()
    if loose.any():
        found = bound_columns(plain, unique[loose], options)
        if found is None:
            return None
        lower[loose], upper[loose] = found
    return np.array([lower[place], upper[place]])


def _with_bits(program: Program, first: Ints, second: Ints, product: Floats, ranges: np.ndarray) -> Program:
    """Add product·x·y to the last row, x an integer of the leader with finite bounds, y within ranges."""
    rows, columns = program.shape
    data: list[tuple[int, int, float]] = []
    least: list[float] = []
    most: list[float] = []
    lower, upper, integer = [], [], []
    bits: dict[int, list[tuple[int, float]]] = {}
    base: dict[int, float] = {}

    def add_column(low: float, high: float, *, whole: bool) -> int:
        lower.append(low)
        upper.append(high)
        integer.append(whole)
        return columns + len(lower) - 1

    def add_row(terms: list[tuple[int, float]], low: float, high: float) -> None:
        data.extend((rows + len(least), column, value) for column, value in terms if value)
        least.append(low)
        most.append(high)

    for x in np.unique(first).tolist():
        base[x], factors = bits_of(program.lower[x], program.upper[x])
        bits[x] = [(add_column(0.0, 1.0, whole=True), factor) for factor in factors]
        add_row([(x, 1.0), *((b, -factor) for b, factor in bits[x])], base[x], base[x])
    rows_of_product = pins(*ranges)
    for number, (x, y, coefficient) in enumerate(zip(first.tolist(), second.tolist(), product.tolist(), strict=True)):
        data.append((rows - 1, y, coefficient * base[x]))
        for b, factor in bits[x]:
            w = add_column(-np.inf, np.inf, whole=False)
            data.append((rows - 1, w, coefficient * factor))
            for pin in rows_of_product:
                limit = float(pin.limit[number])
                ends = (limit, np.inf) if pin.sign == ">=" else (-np.inf, limit)
                add_row([(w, 1.0), (y, pin.of_own), (b, float(pin.of_binary[number]))], *ends)
    row, column, value = (np.array(part) for part in zip(*data, strict=True))
    width, height = columns + len(lower), rows + len(least)
    old = coo_array(program.matrix)
    entries = (
        np.concatenate([old.data, value]),
        (np.concatenate([old.row, row]), np.concatenate([old.col, column])),
    )
    return replace(
        program,
        cost=np.concatenate([program.cost, np.zeros(len(lower))]),
        matrix=csr_array(coo_array(entries, shape=(height, width))),
        row_lower=np.concatenate([program.row_lower, least]),
        row_upper=np.concatenate([program.row_upper, most]),
        lower=np.concatenate([program.lower, lower]),
        upper=np.concatenate([program.upper, upper]),
        integer=np.concatenate([program.integer, np.array(integer, dtype=bool)]),
        columns=np.arange(width),
        rows=np.arange(height),
    )


def _bilinear(part: Part) -> Extended:
    """Return the part with strong-duality rows that hold their products."""
    program = part.program
    rows, first, second, coefficient = [], [], [], []
    for duality in part.dualities:
        program = _with_row(program, duality.columns, duality.coefficients)
        rows.append(np.full(len(duality.products), program.shape[0] - 1))
        first.append(duality.first)
        second.append(duality.second)
        coefficient.append(duality.products)
    if not rows:
        return Extended(program)
    joined = (np.concatenate(array) for array in (rows, first, second, coefficient))
    return Extended(program, products=Products(*joined))
