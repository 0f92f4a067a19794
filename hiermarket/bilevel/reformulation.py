"""Ways to solve a problem with complementarity pairs, and what each returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.solving.relay import Relay
    from hiermarket.solving.solver import Outcome, SolverOptions


#: A solver's value and that of its own decisions solved exactly may differ by this, relative.
AGREEMENT = 1e-6


@dataclass(frozen=True, slots=True)
class Assumption:
    """A bound that the user declared and nobody proved.

    Attributes
    ----------
    pair : int
        The number of the pair.
    side : str
        ``"primal"`` or ``"dual"``.
    bound : float
        The declared bound.
    """

    pair: int
    side: str
    bound: float


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """What a reformulation found for one part.

    Attributes
    ----------
    outcome : Outcome
        What it is worth.
    status : str
        In words.
    x : float array
        Values of the part's columns; NaN without a point.
    objective : float
        The leader's objective, in its own sense.
    method : str
        Which way it went.
    nodes : int
        Nodes solved by branching.
    binaries, dropped : int
        Pairs with a binary, and pairs that a bound decided beforehand.
    nearest : tuple[float, int, str] or None
        The largest ratio value/M, its pair and side.
    nearest_assumed : tuple[float, int, str] or None
        The same among bounds that were declared, not proved.
    assumptions : tuple[Assumption, ...]
        Declared bounds that were used.
    crosscheck : float or None
        |objective − objective of a second proof that does not use the bounds of the first|.
    bound : float or None
        What nothing can be better than, by the multipliers of every node that was left.
    leaves : tuple of int arrays
        The leaves of a short tree that proved it, for the next part (see `Precedent`).
    session : Relay or None
        With which branching solved its nodes, for the next part too.
    """

    outcome: Outcome
    status: str
    x: Floats
    objective: float
    method: str
    nodes: int = 0
    binaries: int = 0
    dropped: int = 0
    nearest: tuple[float, int, str] | None = None
    nearest_assumed: tuple[float, int, str] | None = None
    assumptions: tuple[Assumption, ...] = field(default=())
    crosscheck: float | None = None
    bound: float | None = None
    leaves: tuple[Ints, ...] = ()
    session: Relay | None = None


def differ(first: float, second: float) -> bool:
    """Whether two objectives are not the same within what two solves may differ by."""
    return not abs(first - second) <= AGREEMENT * (1 + abs(first))


def nothing(part: Part, outcome: Outcome, status: str, method: str) -> PartAnswer:
    """Return the answer of a part without a point."""
    return PartAnswer(
        outcome=outcome,
        status=status,
        x=np.full(part.program.shape[1], np.nan),
        objective=float("nan"),
        method=method,
    )


class Reformulation(Protocol):
    """A way to solve one independent part exactly."""

    def solve(self, part: Part, options: SolverOptions) -> PartAnswer:
        """Solve one part."""
        ...
