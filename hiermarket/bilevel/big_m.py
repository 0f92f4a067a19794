"""Each open pair as a binary choice: slack ≤ M z, multiplier ≤ M (1 − z)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.encoded import Plan, solve_encoded
from hiermarket.bilevel.encoding import Way

if TYPE_CHECKING:
    from hiermarket.bilevel.bounds import Bounds
    from hiermarket.bilevel.problem import Part
    from hiermarket.bilevel.reformulation import PartAnswer
    from hiermarket.solving.program import Ints
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class BigM:
    """A MILP for each part, with bounds proved by interval arithmetic and LPs.

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

    def plan(self, part: Part) -> Plan:
        """Return how each pair of a part is written."""
        count = len(part.pairs)
        declared = [np.full(count, np.nan if value is None else value) for value in (self.dual, self.primal)]
        ways = np.full(count, Way.BIG_M, dtype=np.int64)
        return Plan(ways, declared[0], declared[1], "highs", self.proof, "big-M")

    def solve(
        self, part: Part, options: SolverOptions, bounds: Bounds | None = None, start: Ints | None = None
    ) -> PartAnswer:
        """Solve one part.

        Parameters
        ----------
        part : Part
            The part; the leader's objective is linear.
        options : SolverOptions
            Tolerances and limits.
        bounds : Bounds, optional
            Proved bounds, where they are known already.
        start : int array, optional
            A `Side` for each pair of a point to start from.

        Raises
        ------
        ModelError
            A quadratic leader's objective; pairs without a finite bound.
        """
        return solve_encoded(part, self.plan(part), options, bounds, start)
