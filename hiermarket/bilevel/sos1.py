"""Pairs as SOS1 sets or indicators, for solvers that know them: no bound of any pair is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.encoded import Plan, solve_encoded
from hiermarket.bilevel.encoding import Way

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.bilevel.reformulation import PartAnswer
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class SOS1:
    """At most one of slack and multiplier is not zero: a special ordered set for each pair.

    With SCIP the leader's objective may be any quadratic, as prices × volumes that are not
    linear; it is then solved by spatial branching.

    Parameters
    ----------
    solver : str
        ``"scip"`` (the extra ``hiermarket[scip]``), or a solver that linopy knows and that
        has SOS1 sets, as ``"gurobi"``.
    proof : Branching or None
        How the answer is proved a second time; None leaves that out.
    """

    solver: str = "scip"
    proof: Branching | None = field(default_factory=lambda: Branching(node_limit=1000))

    def plan(self, part: Part) -> Plan:
        """Return how each pair of a part is written."""
        return _plan(part, Way.SOS1, self.solver, self.proof, "SOS1")

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part (see `Reformulation`)."""
        return solve_encoded(part, self.plan(part), options)


@dataclass(frozen=True, slots=True)
class Indicator:
    """A binary for each pair that forces one of its sides to zero, without any big-M (see `SOS1`)."""

    solver: str = "scip"
    proof: Branching | None = field(default_factory=lambda: Branching(node_limit=1000))

    def plan(self, part: Part) -> Plan:
        """Return how each pair of a part is written."""
        return _plan(part, Way.INDICATOR, self.solver, self.proof, "indicator")

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part (see `Reformulation`)."""
        return solve_encoded(part, self.plan(part), options)


def _plan(part: Part, way: Way, solver: str, proof: Branching | None, method: str) -> Plan:
    count = len(part.pairs)
    undeclared = np.full(count, np.nan)
    return Plan(np.full(count, way, dtype=np.int64), undeclared, undeclared, solver, proof, method)
