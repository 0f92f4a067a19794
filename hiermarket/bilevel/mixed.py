"""Each family of pairs its own way: big-M where bounds are good, SOS1 or indicators where they are not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.big_m import BigM
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.encoded import Plan, solve_encoded
from hiermarket.bilevel.sos1 import SOS1, Indicator
from hiermarket.errors import ModelError, some_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hiermarket.bilevel.problem import Part
    from hiermarket.bilevel.reformulation import PartAnswer
    from hiermarket.solving.solver import SolverOptions

    Encoding = BigM | SOS1 | Indicator


@dataclass(frozen=True, slots=True)
class Mixed:
    """Choose the reformulation of each family of pairs by its name.

    Parameters
    ----------
    families : mapping
        For names of row families (``need``) or bounds (``lower-p``, ``upper-p``) a `BigM`,
        `SOS1` or `Indicator`; e.g. ``{"need": SOS1(), "upper-p": BigM(dual=200)}``.
    otherwise : BigM, SOS1 or Indicator
        For all others.
    proof : Branching or None
        How the answer is proved a second time.

    Raises
    ------
    ModelError
        Names that are no families of pairs; SOS1 and indicators of different solvers.
    """

    families: Mapping[str, Encoding]
    otherwise: Encoding = field(default_factory=BigM)
    proof: Branching | None = field(default_factory=lambda: Branching(node_limit=1000))

    def plan(self, part: Part) -> Plan:
        """Return how each pair of a part is written."""
        known = [family.name for family in part.names.families]
        unknown = sorted(set(self.families) - set(known))
        if unknown:
            raise ModelError(
                "These are no families of complementarity pairs",
                where=some_labels(unknown),
                remedy=f"Families are: {', '.join(known)}.",
            )
        used = [*self.families.values(), self.otherwise]
        solvers = sorted({choice.solver for choice in used if not isinstance(choice, BigM)})
        if len(solvers) > 1:
            raise ModelError(
                "One problem is solved by one solver, but its families name several",
                where=some_labels(solvers),
                remedy="Give SOS1 and Indicator the same solver.",
            )
        plan = replace(self.otherwise.plan(part), proof=self.proof, method="mixed")
        plan = replace(plan, solver=solvers[0] if solvers else "highs")
        ways, dual, primal = plan.ways.copy(), plan.dual.copy(), plan.primal.copy()
        for family in part.names.families:
            if family.name in self.families:
                own = self.families[family.name].plan(part)
                here = (part.pairs >= family.start) & (part.pairs < family.stop)
                ways, dual, primal = (
                    np.where(here, theirs, ours)
                    for theirs, ours in ((own.ways, ways), (own.dual, dual), (own.primal, primal))
                )
        return replace(plan, ways=ways, dual=dual, primal=primal)

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part (see `Reformulation`)."""
        return solve_encoded(part, self.plan(part), options)
