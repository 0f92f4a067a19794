"""The default: branching where it ends soon, a MILP with proved bounds where it does not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.big_m import BigM
from hiermarket.bilevel.bounds import bounds_of
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.reformulation import PartAnswer, nothing
from hiermarket.bilevel.sides import Side, decided
from hiermarket.solving.solver import Outcome

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class Auto:
    """Choose for each part: a few nodes of branching; a MILP with proved bounds; branching to the end.

    Parameters
    ----------
    first_nodes : int
        How many nodes of branching are tried before bounds are looked for, for each pair.
    big_m : BigM
        How the MILPs are solved; bounds declared there are not used, as branching needs none.
    branching : Branching
        Where a bound cannot be proved, the leader's objective is quadratic, or the MILP's
        answer fails its own check.
    """

    first_nodes: int = 6
    big_m: BigM = field(default_factory=BigM)
    branching: Branching = field(default_factory=Branching)

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part (see `Reformulation`)."""
        limit = min(50 + self.first_nodes * len(part.pairs), self.branching.node_limit)
        first = replace(self.branching, node_limit=limit).solve(part, options)
        if first.outcome is not Outcome.LIMIT:
            return first
        if part.program.quadratic is not None:
            return self.branching.solve(part, options)
        bounds = bounds_of(part, options)
        if bounds is None:
            return nothing(part, Outcome.INFEASIBLE, "no point satisfies the relaxation", "bounds")
        if bounds.proved:
            has_point = bool(np.isfinite(first.x).all())
            start = decided(part, first.x) if has_point else None
            answer = self.big_m.solve(part, options, bounds, start)
            if answer.outcome is Outcome.LIMIT and has_point:
                return _better(part, first, answer)
            return self.branching.solve(part, options) if answer.outcome is Outcome.TROUBLE else answer
        answer = self.branching.solve(part, options, bounds.sides)
        return replace(answer, dropped=int((bounds.sides != Side.OPEN).sum()))


def _better(part: Part, first: PartAnswer, second: PartAnswer) -> PartAnswer:
    """Return the better of two incumbents with the better of their bounds."""
    sign = part.sense
    best = second if sign * second.objective < sign * first.objective else first
    bounds = [one.bound for one in (first, second) if one.bound is not None and np.isfinite(one.bound)]
    return replace(best, outcome=Outcome.LIMIT, bound=max(bounds, key=lambda bound: sign * bound, default=None))
