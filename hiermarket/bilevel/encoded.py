"""Solve a part with its pairs written as big-M rows, SOS1 sets or indicators: one way for all of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.bounds import bounds_of, ranges_of
from hiermarket.bilevel.encoding import Choices, Way, encode
from hiermarket.bilevel.intervals import tightened
from hiermarket.bilevel.polish import polished, second_proof
from hiermarket.bilevel.reformulation import Assumption, PartAnswer, differ, nothing
from hiermarket.bilevel.relaxation import relaxation
from hiermarket.bilevel.sides import Side, decided
from hiermarket.errors import ModelError, UnboundedPairError
from hiermarket.solving.solver import Outcome, Session

if TYPE_CHECKING:
    from hiermarket.bilevel.bounds import Bounds
    from hiermarket.bilevel.branching import Branching
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.extended import Extended
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import Answer, SolverOptions

#: By how much bounds are enlarged for a second solve.
ENLARGED = 4.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How each pair of a part is written, and who solves it.

    Attributes
    ----------
    ways : int array
        A `Way` for each pair.
    dual, primal : float arrays
        Declared bounds of each pair's sides, for big-M where none is proved; NaN where
        none is declared.
    solver : str
        ``"highs"``, ``"scip"`` or a solver that linopy knows.
    proof : Branching or None
        How the answer is proved a second time.
    method : str
        What to call it.
    """

    ways: Ints
    dual: Floats
    primal: Floats
    solver: str
    proof: Branching | None
    method: str


def solve_encoded(
    part: Part, plan: Plan, options: SolverOptions, bounds: Bounds | None = None, start: Ints | None = None
) -> PartAnswer:
    """Solve one part as planned.

    Parameters
    ----------
    part : Part
        The part.
    plan : Plan
        How.
    options : SolverOptions
        Tolerances and limits.
    bounds : Bounds, optional
        Proved bounds, where they are known already.
    start : int array, optional
        A `Side` for each pair of a point that HiGHS may start from.

    Raises
    ------
    ModelError
        A quadratic leader's objective with HiGHS; pairs by big-M without a finite bound.
    """
    if part.program.quadratic is not None and plan.solver == "highs":
        raise ModelError(
            "A MILP needs a linear leader's objective",
            where=plan.method,
            remedy='Use Branching, SOS1(solver="scip"), or state prices × volumes through dual_times_primal.',
        )
    made = choices_of(part, plan, options, bounds)
    if made is None:
        return nothing(part, Outcome.INFEASIBLE, "no point satisfies the relaxation", plan.method)
    base, choices, assumptions, has_bounds = made
    binaries = None if start is None else _start(choices, start)
    answer = _solved(encode(part, base, choices), plan.solver, options, binaries)
    if answer.outcome is Outcome.UNBOUNDED and plan.solver != "highs" and plan.proof is not None:
        # a spatial solver may call a relaxation's ray unbounded: pairs decide
        return plan.proof.solve(part, options)
    found = replace(
        _exact(part, plan, options, answer, choices),
        binaries=choices.binaries,
        dropped=int((choices.sides != Side.OPEN).sum()),
        assumptions=assumptions,
    )
    if found.outcome is Outcome.INFEASIBLE and assumptions:
        status = f"infeasible under the declared bounds of {len(assumptions)} sides of pairs"
        found = replace(found, outcome=Outcome.TROUBLE, status=status)
    if found.outcome is Outcome.OPTIMAL:
        found = _with_nearest(part, choices, found)
        # a spatial solver has its own bound: branching cannot prove an objective that is not convex
        found = found if found.bound is not None else second_proof(part, options, found, plan.proof)
    # a declared bound, enlarged, proves nothing
    proved = plan.proof is None or found.bound is not None or not has_bounds or bool(assumptions)
    if found.outcome is not Outcome.OPTIMAL or proved:
        return found
    return _again_enlarged(part, base, choices, options, found)


def _exact(part: Part, plan: Plan, options: SolverOptions, answer: Answer, choices: Choices) -> PartAnswer:
    if answer.optimal and part.program.quadratic is not None:
        return _fixed_again(part, plan, options, answer, choices)
    return polished(part, options, answer, choices.sides, plan.method)


def _with_nearest(part: Part, choices: Choices, found: PartAnswer) -> PartAnswer:
    """Note the value that is nearest to its big-M, and to one that was only assumed."""
    by_m = np.flatnonzero((choices.sides == Side.OPEN) & (choices.ways == Way.BIG_M))
    assumed = {
        side: np.flatnonzero(np.isin(part.pairs, [a.pair for a in found.assumptions if a.side == side]))
        for side in ("primal", "dual")
    }
    return replace(
        found,
        nearest=_nearest(part, choices, found.x, (by_m, by_m)),
        nearest_assumed=_nearest(part, choices, found.x, (assumed["primal"], assumed["dual"])),
    )


def choices_of(
    part: Part, plan: Plan, options: SolverOptions, bounds: Bounds | None
) -> tuple[Program, Choices, tuple[Assumption, ...], bool] | None:
    """Return base program, choices, assumptions and whether there are bounds; None for a part proved infeasible.

    Raises
    ------
    UnboundedPairError
        Pairs by big-M without a proved or a declared bound.
    """
    if not (plan.ways == Way.BIG_M).any():
        base: Program | None = part.program
        if part.program.quadratic is None:
            base = relaxation(part, options)
        return None if base is None else (*_unbounded_choices(part, plan, base), (), False)
    bounds = bounds or bounds_of(part, options)
    if bounds is None:
        return None
    filled, assumptions = {"primal": bounds.slack.copy(), "dual": bounds.multiplier.copy()}, []
    for side, declared in (("primal", plan.primal), ("dual", plan.dual)):
        lacking = np.flatnonzero(bounds.lacks(side) & (plan.ways == Way.BIG_M))
        refused = lacking[np.isnan(declared[lacking])]
        if len(refused):
            raise UnboundedPairError(side, [part.name(pair) for pair in refused.tolist()])
        filled[side][lacking] = declared[lacking]
        assumptions += [Assumption(int(part.pairs[pair]), side, float(declared[pair])) for pair in lacking]
    choices = Choices(bounds.sides, plan.ways, filled["primal"], filled["dual"])
    return bounds.relaxation, choices, tuple(assumptions), True


def _unbounded_choices(part: Part, plan: Plan, base: Program) -> tuple[Program, Choices]:
    """Return base program and choices where no pair needs a bound."""
    lower, upper = tightened(base)
    _, slack, multiplier = ranges_of(part, base, lower, upper)
    sides = np.full(len(part.pairs), Side.OPEN, dtype=np.int64)
    tight = replace(base, lower=lower, upper=upper) if (lower <= upper).all() else base
    return tight, Choices(sides, plan.ways, np.maximum(slack, 0.0), multiplier)


def _start(choices: Choices, sides: Ints) -> Floats:
    """Return the binaries of a point: 1 where a slack may be positive (see `encoding`)."""
    open_ = choices.sides == Side.OPEN
    by_m = sides[open_ & (choices.ways == Way.BIG_M)]
    by_indicator = sides[open_ & (choices.ways == Way.INDICATOR)]
    return np.concatenate([by_m, by_indicator]).astype(float) - Side.SLACK_ZERO


def _solved(extended: Extended, solver: str, options: SolverOptions, binaries: Floats | None = None) -> Answer:
    if extended.is_plain and solver == "highs":
        session = Session(extended.program, options)
        if binaries is not None:
            width = extended.program.shape[1]
            session.start_from(np.arange(width - len(binaries), width), binaries)
        return session.solve()
    if solver == "scip":
        from hiermarket.solving.scip import solve_scip

        return solve_scip(extended, options)
    from hiermarket.solving.by_linopy import solve_by_linopy

    return solve_by_linopy(extended, options, solver)


def _fixed_again(part: Part, plan: Plan, options: SolverOptions, answer: Answer, choices: Choices) -> PartAnswer:
    """Solve a point's decisions again under a quadratic objective that need not be convex."""
    sides = decided(part, answer.x, choices.sides)
    again = _solved(encode(part, part.program, replace(choices, sides=sides)), plan.solver, options)
    if again.outcome is Outcome.LIMIT:
        return nothing(part, Outcome.LIMIT, again.status, plan.method)
    if not again.optimal or differ(answer.objective, again.objective):
        status = f"{plan.method} says {answer.objective:.9g}, its own decisions give {again.objective:.9g}"
        return nothing(part, Outcome.TROUBLE, status, plan.method)
    found = PartAnswer(Outcome.OPTIMAL, again.status, again.x, again.objective, plan.method)
    return replace(found, bound=answer.bound if np.isfinite(answer.bound) else None)


def _again_enlarged(
    part: Part, base: Program, choices: Choices, options: SolverOptions, found: PartAnswer
) -> PartAnswer:
    """Solve once more with enlarged bounds and without presolve, where branching came to its limit."""
    larger = replace(choices, slack=ENLARGED * choices.slack, multiplier=ENLARGED * choices.multiplier)
    tighter = replace(options, presolve=False, seed=options.seed + 1)
    answer = Session(encode(part, base, larger).program, tighter).solve()
    if answer.optimal and not differ(found.objective, answer.objective):
        return replace(found, crosscheck=abs(answer.objective - found.objective))
    status = f"the optimum is {found.objective:.9g}, with enlarged bounds {answer.objective:.9g} ({answer.status})"
    return replace(found, outcome=Outcome.TROUBLE, status=status)


def _nearest(part: Part, choices: Choices, x: Floats, pairs: tuple[Ints, Ints]) -> tuple[float, int, str] | None:
    """Return the largest ratio of a value to its bound, among some slacks and some multipliers."""
    primal, dual = pairs
    ratios = [part.slack(x)[primal] / choices.slack[primal], part.magnitude(x)[dual] / choices.multiplier[dual]]
    found = [
        (float(ratio.max()), int(part.pairs[at[int(np.argmax(ratio))]]), side)
        for ratio, at, side in zip(ratios, pairs, ("primal", "dual"), strict=True)
        if len(ratio)
    ]
    return max(found, default=None)
