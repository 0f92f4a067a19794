"""The default: a MILP where every bound is proved, branching on pairs otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hiermarket.bilevel.branching import Branching

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.bilevel.reformulation import PartAnswer
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class Auto:
    """Choose for each part."""

    branching: Branching = field(default_factory=Branching)

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part."""
        return self.branching.solve(part, options)
