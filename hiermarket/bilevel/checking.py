"""Check a solution against the rows, the pairs and the follower's own problem."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from hiermarket.bilevel.certificate import Certificate, Check
from hiermarket.bilevel.expression import row_names, variable_names
from hiermarket.bilevel.naming import part_name
from hiermarket.bilevel.pessimistic import pessimistic
from hiermarket.bilevel.places import positions
from hiermarket.solving.blocks import solve_blocks
from hiermarket.solving.program import Program
from hiermarket.solving.solver import SolverOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.bilevel.canonical import System
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.pessimistic import Pessimistic
    from hiermarket.bilevel.problem import Part, Problem
    from hiermarket.bilevel.reformulation import PartAnswer
    from hiermarket.solving.program import Floats

#: Residual of a row, relative to 1 + the sum of its terms' sizes: what an LP at 1e-9 leaves.
RESIDUAL = 1e-7
#: The smaller side of a pair; a pair is decided by bounds, so it is as exact as a bound.
PAIR = 1e-7
#: Regret and difference of objectives, relative to 1 + the value: two solves at 1e-9 each.
VALUE = 1e-6
#: A value this near to a bound that was only assumed may be held back by it.
NEAR = 0.999
#: Both sides of a pair below this count as a tie; the side that is decided is exact.
TIE = 1e-7


@dataclass(frozen=True, slots=True)
class _Worst:
    value: float
    at: int

    @classmethod
    def of(cls, values: Floats) -> _Worst:
        if not len(values):
            return cls(0.0, -1)
        at = int(np.argmax(np.where(np.isnan(values), np.inf, values)))
        return cls(float(values[at]), at)


def certify(
    mpec: Mpec, problem: Problem, x: Floats, answers: Sequence[PartAnswer], options: SolverOptions
) -> Certificate:
    """Check a solution and collect how it came about.

    Parameters
    ----------
    mpec : Mpec
        The problem.
    problem : Problem
        Its arrays.
    x : float array
        Values of all columns.
    answers : sequence of PartAnswer
        What the reformulation said of each part.
    options : SolverOptions
        For solving the follower once more.
    """
    program, pairs = problem.program, mpec.pairs
    activity = program.matrix @ x
    size = 1.0 + abs(program.matrix) @ np.abs(x)
    broken = np.maximum(program.row_lower - activity, activity - program.row_upper) / size
    conditions = np.isin(program.rows, mpec.stationarity_labels)
    outside = np.maximum(program.lower - x, x - program.upper) / (1.0 + np.abs(x))
    multipliers = np.isin(program.columns, mpec.multiplier_labels)

    def row_check(name: str, chosen: np.ndarray) -> Check:
        worst = _Worst.of(np.maximum(broken[chosen], 0.0))
        where = next(row_names(mpec.model, program.rows[chosen][[worst.at]]), "") if worst.at >= 0 else ""
        return Check(name, worst.value, RESIDUAL, where, "relative to the sizes of the row's terms")

    def bound_check(name: str, chosen: np.ndarray) -> Check:
        worst = _Worst.of(np.maximum(outside[chosen], 0.0))
        where = next(variable_names(mpec.model, program.columns[chosen][[worst.at]]), "") if worst.at >= 0 else ""
        return Check(name, worst.value, RESIDUAL, where, "relative to the value")

    slack, magnitude = _sides(mpec, problem, x, activity)
    smaller = np.minimum(slack / (1.0 + np.abs(pairs.constant)), magnitude)
    worst_pair = _Worst.of(np.maximum(smaller, 0.0))
    checks = [
        row_check("stationarity", conditions),
        row_check("rows of leader and follower", ~conditions),
        bound_check("bounds of leader and follower", ~multipliers),
        bound_check("signs of multipliers", multipliers),
        Check(
            "complementarity",
            worst_pair.value,
            PAIR,
            pairs.name(worst_pair.at) if worst_pair.at >= 0 else "",
            "the smaller side of a pair, a slack relative to 1 + its constant",
        ),
    ]
    unique, several_at = True, ""
    for number, system in enumerate(mpec.systems, 1):
        regret, is_unique, where = _follower(mpec, problem, system, x, (slack, magnitude), options)
        name = "follower's regret" if len(mpec.systems) == 1 else f"regret of follower {number}"
        checks.append(replace(regret, name=name))
        unique, several_at = unique and is_unique, several_at or where
    checks.extend(_second_solves(mpec, problem, answers))
    worst = pessimistic(mpec, problem, x, (slack > TIE, magnitude > TIE), options)
    return _collected(mpec, problem, answers, tuple(checks), (slack, magnitude), (unique, several_at), worst)


def _sides(mpec: Mpec, problem: Problem, x: Floats, activity: Floats) -> tuple[Floats, Floats]:
    pairs, program = mpec.pairs, problem.program
    value = np.empty(len(pairs))
    by_row = pairs.row >= 0
    value[by_row] = activity[positions(pairs.row[by_row], program.rows)]
    value[~by_row] = x[positions(pairs.column[~by_row], program.columns)]
    slack = pairs.constant + pairs.sign * value
    return slack, pairs.multiplier_sign * x[positions(pairs.multiplier, program.columns)]


def follower_program(mpec: Mpec, problem: Problem, system: System, x: Floats) -> Program:
    """Return the follower's own problem with the leader fixed."""
    others = x[positions(system.others, problem.program.columns)]
    rhs = system.rhs - system.other @ others
    return Program(
        cost=system.cost + system.cross @ others,
        quadratic=None if system.is_linear else csc_array(system.hessian),
        matrix=system.own,
        row_lower=np.where(system.kind >= 0, rhs, -np.inf),
        row_upper=np.where(system.kind <= 0, rhs, np.inf),
        lower=system.lower,
        upper=system.upper,
        integer=np.zeros(len(system.columns), dtype=bool),
        columns=system.columns,
        rows=system.rows,
        minimise=system.sense > 0,
    )


def _follower(
    mpec: Mpec, problem: Problem, system: System, x: Floats, sides: tuple[Floats, Floats], options: SolverOptions
) -> tuple[Check, bool, str]:
    """Solve the follower once more: its regret, and whether it could have decided otherwise."""
    program = follower_program(mpec, problem, system, x)
    own = x[positions(system.columns, problem.program.columns)]
    again = solve_blocks(program, options)
    each = program.cost * own
    if program.quadratic is not None:
        each = each + 0.5 * own * (program.quadratic @ own)
    blocks = again.block_of_column
    cost = np.bincount(blocks, weights=each, minlength=len(again.outcome))
    regret = system.sense * (cost - again.objective) / (1.0 + np.abs(again.objective))
    worst = _Worst.of(regret)
    where = part_name(mpec.model, system.columns[blocks == worst.at]) if worst.at >= 0 else ""
    check = Check("", worst.value, VALUE, where, "cost of its decision over its best one, relative to 1 + that")

    # the optimal face: every pair with a positive multiplier keeps its slack at zero
    magnitude = sides[1]
    pairs = mpec.pairs
    held = magnitude > TIE
    lower, upper = program.lower.copy(), program.upper.copy()
    row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
    in_row = held & np.isin(pairs.row, system.rows)
    at_row = positions(pairs.row[in_row], system.rows)
    row_lower[at_row] = row_upper[at_row] = np.where(system.kind[at_row] > 0, row_lower[at_row], row_upper[at_row])
    in_column = held & np.isin(pairs.column, system.columns)
    at_column = positions(pairs.column[in_column], system.columns)
    lower[at_column] = upper[at_column] = np.where(
        pairs.sign[in_column] > 0, program.lower[at_column], program.upper[at_column]
    )
    direction = np.random.default_rng(0).uniform(0.5, 1.0, len(own))
    face = replace(
        program, cost=direction, quadratic=None, lower=lower, upper=upper, row_lower=row_lower, row_upper=row_upper
    )
    if program.quadratic is not None:
        level = program.quadratic @ own
        face = replace(
            face,
            matrix=csr_array(vstack([face.matrix, csr_array(program.quadratic)])),
            row_lower=np.concatenate([row_lower, level - RESIDUAL]),
            row_upper=np.concatenate([row_upper, level + RESIDUAL]),
            rows=np.arange(len(row_lower) + len(level)),
        )
    lowest, highest = (
        solve_blocks(replace(face, minimise=sense), options, block_of_column=blocks) for sense in (True, False)
    )
    spread = highest.objective - lowest.objective
    several = ~(spread <= 1e-5 * (1.0 + np.abs(lowest.objective)))
    if not several.any():
        return check, True, ""
    at = int(np.flatnonzero(several)[0])
    return check, False, part_name(mpec.model, system.columns[lowest.block_of_column == at])


def _second_solves(mpec: Mpec, problem: Problem, answers: Sequence[PartAnswer]) -> list[Check]:
    def worst(name: str, values: Sequence[tuple[float, Part]], tolerance: float, reason: str) -> list[Check]:
        """Return the check of the largest value, at its part; none without values."""
        if not values:
            return []
        value, part = max(values, key=lambda pair: pair[0])
        return [Check(name, value, tolerance, part_name(mpec.model, part.program.columns), reason)]

    every = list(zip(answers, problem.parts, strict=True))
    crosschecks = [(a.crosscheck / (1.0 + abs(a.objective)), part) for a, part in every if a.crosscheck is not None]
    gaps = [(abs(a.objective - a.bound) / (1.0 + abs(a.objective)), part) for a, part in every if a.bound is not None]
    lone = [part for a, part in every if a.crosscheck is None and a.bound is None and len(part.pairs)]
    where = part_name(mpec.model, lone[0].program.columns) if lone else ""
    near = [
        (answer.nearest_assumed[0], mpec.pairs.name(answer.nearest_assumed[1]))
        for answer in answers
        if answer.nearest_assumed is not None
    ]
    return [
        *worst(
            "second proof's objective",
            crosschecks,
            VALUE,
            "found without the bounds of the first, relative to 1 + the value",
        ),
        Check("parts proved once only", float(len(lone)), 0.0, where, "a solver's word alone is no proof"),
        *worst("gap proved", gaps, VALUE, "objective and what nothing can be better than, relative to 1 + the value"),
        *(
            Check("value near an assumed bound", value, NEAR, pair, "ratio value / bound")
            for value, pair in sorted(near)[-1:]
        ),
    ]


def _collected(
    mpec: Mpec,
    problem: Problem,
    answers: Sequence[PartAnswer],
    checks: tuple[Check, ...],
    sides: tuple[Floats, Floats],
    face: tuple[bool, str],
    worst: Pessimistic,
) -> Certificate:
    slack, magnitude = sides
    methods: dict[str, int] = {}
    for answer in answers:
        methods[answer.method] = methods.get(answer.method, 0) + 1
    near = max((answer.nearest for answer in answers if answer.nearest is not None), default=None)
    nearest = f"{near[0]:.3g} of the {near[2]} bound of {mpec.pairs.name(near[1])}" if near else ""
    assumed = [
        f"{assumption.side} side of {mpec.pairs.name(assumption.pair)} <= {assumption.bound:g}"
        for answer in answers
        for assumption in answer.assumptions
    ]
    product = float(np.max(np.maximum(slack, 0) * np.maximum(magnitude, 0), initial=0.0))
    return Certificate(
        checks=checks,
        parts=len(problem.parts),
        methods=methods,
        pairs=len(mpec.pairs),
        dropped=sum(answer.dropped for answer in answers),
        binaries=sum(answer.binaries for answer in answers),
        nodes=sum(answer.nodes for answer in answers),
        largest_product=product,
        nearest=nearest,
        assumed=tuple(assumed),
        ties=int(((slack <= TIE) & (magnitude <= TIE)).sum()),
        unique=face[0],
        several_at=face[1],
        pessimistic=worst,
    )
