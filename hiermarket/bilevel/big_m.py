"""Each open pair as a binary choice: slack ≤ M z, multiplier ≤ M (1 − z)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, vstack

from hiermarket.bilevel.bounds import bounds_of
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.node import Nodes, Side, decided
from hiermarket.bilevel.reformulation import Assumption, PartAnswer, nothing
from hiermarket.errors import ModelError, UnboundedPairError
from hiermarket.solving.solver import Outcome, Session, SolverOptions

if TYPE_CHECKING:
    from hiermarket.bilevel.bounds import Bounds
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program

#: The MILP's value and that of its own decisions solved as an LP may differ by this, relative.
AGREEMENT = 1e-6
#: By how much bounds are enlarged for the second solve.
ENLARGED = 4.0


@dataclass(frozen=True, slots=True)
class BigM:
    """A MILP for each part, with bounds proved by LPs.

    Parameters
    ----------
    dual, primal : float, optional
        Bounds of multipliers and of slacks to assume where none can be proved; used for
        those pairs only, and reported in the certificate. Without them such a pair is
        refused.
    proof : Branching or None
        How the MILP's answer is proved a second time, by branching on pairs from there
        without any bound; where its node limit comes first, by a MILP with enlarged
        bounds and without presolve. None leaves the second proof out.
    """

    dual: float | None = None
    primal: float | None = None
    proof: Branching | None = field(default_factory=lambda: Branching(node_limit=1000))

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part.

        Parameters
        ----------
        part : Part
            The part; the leader's objective is linear.
        options : SolverOptions
            Tolerances and limits.

        Raises
        ------
        ModelError
            A quadratic leader's objective; pairs without a finite bound.
        """
        if part.program.quadratic is not None:
            raise ModelError(
                "A MILP needs a linear leader's objective",
                where="BigM",
                remedy="Use Branching, or state prices × volumes through dual_times_primal.",
            )
        bounds = bounds_of(part, options)
        if bounds is None:
            return nothing(part, Outcome.INFEASIBLE, "no point satisfies the relaxation", "big-M")
        return self.solve_bounded(part, bounds, options)

    def solve_bounded(self, part: Part, bounds: Bounds, options: SolverOptions) -> PartAnswer:
        """Solve one part with bounds known."""
        lacking = [np.flatnonzero(bounds.lacks(side)) for side in ("primal", "dual")]
        assumed = (lacking[0], lacking[1])
        bounds, assumptions = self._completed(part, bounds)
        open_ = np.flatnonzero(bounds.sides == Side.OPEN)
        answer = Session(milp(part, bounds), options).solve()
        found = nothing(part, answer.outcome, answer.status, "big-M")
        found = replace(found, dropped=len(bounds.sides) - len(open_))
        if answer.outcome is Outcome.INFEASIBLE and assumptions:
            status = f"infeasible under the declared bounds of {len(assumptions)} sides of pairs"
            found = replace(found, outcome=Outcome.TROUBLE, status=status)
        if not answer.optimal:
            return replace(found, binaries=len(open_), assumptions=assumptions)
        nodes = Nodes(part, options)
        leaf = nodes.solve(nodes.fixed(decided(part, answer.x, bounds.sides), answer.x)).answer
        sign = 1.0 if part.program.minimise else -1.0
        if not leaf.optimal or abs(sign * leaf.objective - answer.objective) > AGREEMENT * (1 + abs(answer.objective)):
            status = f"MILP says {answer.objective:.9g}, its own decisions give {sign * leaf.objective:.9g}"
            return replace(found, outcome=Outcome.TROUBLE, status=status, binaries=len(open_))
        return self._proved(
            part,
            bounds,
            options,
            PartAnswer(
                outcome=Outcome.OPTIMAL,
                status=answer.status,
                x=leaf.x,
                objective=sign * leaf.objective,
                method="big-M",
                binaries=len(open_),
                dropped=len(bounds.sides) - len(open_),
                nearest=_nearest(part, bounds, leaf.x, (open_, open_)),
                nearest_assumed=_nearest(part, bounds, leaf.x, assumed),
                assumptions=assumptions,
            ),
        )

    def _completed(self, part: Part, bounds: Bounds) -> tuple[Bounds, tuple[Assumption, ...]]:
        """Fill bounds that could not be proved with the declared ones."""
        assumptions: list[Assumption] = []
        filled = {"primal": bounds.slack.copy(), "dual": bounds.multiplier.copy()}
        for side, declared in (("primal", self.primal), ("dual", self.dual)):
            lacking = np.flatnonzero(bounds.lacks(side))
            if len(lacking) and declared is None:
                raise UnboundedPairError(side, [part.name(pair) for pair in lacking.tolist()])
            if declared is not None:
                filled[side][lacking] = declared
                assumptions += [Assumption(int(part.pairs[pair]), side, declared) for pair in lacking]
        return replace(bounds, slack=filled["primal"], multiplier=filled["dual"]), tuple(assumptions)

    def _proved(self, part: Part, bounds: Bounds, options: SolverOptions, found: PartAnswer) -> PartAnswer:
        """Prove an answer in a second way, and record by how much the two differ."""
        if self.proof is None:
            return found
        second = self.proof.prove(part, options, found)
        if second.outcome is not Outcome.OPTIMAL:
            larger = replace(bounds, slack=ENLARGED * bounds.slack, multiplier=ENLARGED * bounds.multiplier)
            tighter = replace(options, presolve=False, seed=options.seed + 1)
            answer = Session(milp(part, larger), tighter).solve()
            difference = abs(answer.objective - found.objective) if answer.optimal else float("nan")
        else:
            difference = abs(second.objective - found.objective)
        if difference <= AGREEMENT * (1 + abs(found.objective)):
            return replace(found, crosscheck=difference, nodes=second.nodes)
        status = f"the MILP's optimum is {found.objective:.9g}, a second proof differs by {difference:.3g}"
        return replace(found, outcome=Outcome.TROUBLE, status=status, crosscheck=difference, nodes=second.nodes)


def milp(part: Part, bounds: Bounds) -> Program:
    """Return the part as a MILP; its binaries are the last columns, one for each open pair.

    z = 1 leaves the slack free and forces the multiplier to zero, z = 0 the reverse.
    """
    base = bounds.relaxation
    open_ = np.flatnonzero(bounds.sides == Side.OPEN)
    count, width = len(open_), base.shape[1]
    lower, upper, row_lower, row_upper = (
        base.lower.copy(),
        base.upper.copy(),
        base.row_lower.copy(),
        base.row_upper.copy(),
    )
    silent = part.multiplier[bounds.sides == Side.MULTIPLIER_ZERO]
    lower[silent] = upper[silent] = 0.0
    tight = bounds.sides == Side.SLACK_ZERO
    value = -part.constant / part.sign
    in_row, in_column = tight & (part.row >= 0), tight & (part.row < 0)
    row_lower[part.row[in_row]] = row_upper[part.row[in_row]] = value[in_row]
    lower[part.column[in_column]] = upper[part.column[in_column]] = value[in_column]

    slack = _slack_rows(part, base, open_)
    unit = coo_array((np.ones(count), (np.arange(count), part.multiplier[open_])), shape=(count, width))
    multiplier = csr_array(unit.multiply(part.multiplier_sign[open_][:, None]))
    binaries = np.arange(count)
    # constant + sign·activity ≤ M z   and   multiplier ≤ M (1 − z)
    to_slack = coo_array((-bounds.slack[open_], (binaries, binaries)), shape=(count, count))
    to_multiplier = coo_array((bounds.multiplier[open_], (binaries, binaries)), shape=(count, count))
    nothing = csr_array((base.shape[0], count))
    matrix = vstack(
        [
            _beside(base.matrix, nothing),
            _beside(slack, csr_array(to_slack)),
            _beside(multiplier, csr_array(to_multiplier)),
        ]
    )
    return replace(
        base,
        cost=np.concatenate([part.program.cost, np.zeros(width - part.program.shape[1] + count)]),
        matrix=csr_array(matrix),
        row_lower=np.concatenate([row_lower, np.full(2 * count, -np.inf)]),
        row_upper=np.concatenate([row_upper, -part.constant[open_], bounds.multiplier[open_]]),
        lower=np.concatenate([lower, np.zeros(count)]),
        upper=np.concatenate([upper, np.ones(count)]),
        integer=np.concatenate(
            [part.program.integer, np.zeros(width - part.program.shape[1], dtype=bool), np.ones(count, dtype=bool)]
        ),
        columns=np.arange(width + count),
        rows=np.arange(base.shape[0] + 2 * count),
        minimise=part.program.minimise,
    )


def _beside(left: csr_array, right: csr_array) -> csr_array:
    from scipy.sparse import hstack

    return csr_array(hstack([left, right]))


def _slack_rows(part: Part, base: Program, open_: Ints) -> csr_array:
    """Return sign·activity (or sign·value) of the open pairs as rows."""
    count, width = len(open_), base.shape[1]
    by_row = part.row[open_] >= 0
    pick = coo_array(
        (part.sign[open_][by_row], (np.flatnonzero(by_row), part.row[open_][by_row])), shape=(count, base.shape[0])
    )
    direct = coo_array(
        (part.sign[open_][~by_row], (np.flatnonzero(~by_row), part.column[open_][~by_row])), shape=(count, width)
    )
    return csr_array(csr_array(pick) @ base.matrix + csr_array(direct))


def _nearest(part: Part, bounds: Bounds, x: Floats, pairs: tuple[Ints, Ints]) -> tuple[float, int, str] | None:
    """Return the largest ratio of a value to its bound, among some slacks and some multipliers."""
    primal, dual = pairs
    ratios = [part.slack(x)[primal] / bounds.slack[primal], part.magnitude(x)[dual] / bounds.multiplier[dual]]
    found = [
        (float(ratio.max()), int(part.pairs[at[int(np.argmax(ratio))]]), side)
        for ratio, at, side in zip(ratios, pairs, ("primal", "dual"), strict=True)
        if len(ratio)
    ]
    return max(found, default=None)
