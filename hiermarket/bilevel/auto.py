"""The default: a MILP where every bound is proved, branching on pairs otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.big_m import BigM
from hiermarket.bilevel.bounds import bounds_of
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.node import Side
from hiermarket.bilevel.reformulation import PartAnswer
from hiermarket.solving.solver import Outcome

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class Auto:
    """Choose for each part: a MILP with proved bounds, else branching.

    Parameters
    ----------
    big_m : BigM
        How the MILPs are solved; bounds declared there are not used, as branching needs none.
    branching : Branching
        Where a bound cannot be proved, the leader's objective is quadratic, or the MILP's
        answer fails its own check.
    """

    big_m: BigM = field(default_factory=BigM)
    branching: Branching = field(default_factory=Branching)

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part (see `Reformulation`)."""
        if not len(part.pairs):
            return self.branching.solve(part, options)
        bounds = bounds_of(part, options)
        if bounds is None:
            return PartAnswer(
                outcome=Outcome.INFEASIBLE,
                status="no point satisfies the relaxation",
                x=np.full(part.program.shape[1], np.nan),
                objective=float("nan"),
                method="bounds",
            )
        if bounds.proved and part.program.quadratic is None:
            answer = self.big_m.solve_bounded(part, bounds, options)
            if answer.outcome is not Outcome.TROUBLE:
                return answer
            return self.branching.solve(part, options)
        answer = self.branching.solve(part, options, bounds.sides)
        return replace(answer, dropped=int((bounds.sides != Side.OPEN).sum()))
