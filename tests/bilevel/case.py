"""The format in which the bilevel problems of the tests are written down.

An expression is a sum of ``coefficient name`` and ``coefficient name*name``. In the leader's
objective and rows ``dual:row`` is ∂(follower's optimal objective, in its own sense)/∂(right-hand
side of the row); ``lower:y``, ``upper:y`` are the magnitudes of the multipliers of y's bounds
and ``fixed:y`` is its reduced cost where the bounds are equal. ``value:row*y*z`` is dual:row ×
what y and z put into the row, stated without a product. A row of a follower without a
variable of its own is written as the leader's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Player:
    """One follower: ``min ...`` or ``max ...``, what it decides, its rows."""

    objective: str
    variables: tuple[str, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    leader: str
    leader_variables: tuple[str, ...]
    leader_rows: tuple[str, ...]
    follower: str
    follower_variables: tuple[str, ...]
    follower_rows: tuple[str, ...]
    optimum: float | None  # None: infeasible; -inf or inf: unbounded
    tolerance: float = 1e-6  # relative to 1 + |optimum|
    solution: tuple[tuple[str, float], ...] = ()
    further: tuple[Player, ...] = ()  # more followers beside the first

    @property
    def followers(self) -> tuple[Player, ...]:
        return (Player(self.follower, self.follower_variables, self.follower_rows), *self.further)

    @property
    def is_quadratic(self) -> bool:
        """Whether the leader's objective has products."""
        return any("*" in word and not word.startswith("value:") for word in self.leader.split())

    @property
    def has_integers(self) -> bool:
        return any(text.endswith((" integer", " binary")) for text in self.leader_variables)
