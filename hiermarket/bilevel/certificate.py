"""What was checked about a bilevel solution after it was found, apart from how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiermarket.errors import CertificateError

if TYPE_CHECKING:
    from hiermarket.bilevel.pessimistic import Pessimistic


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and what it may be at most.

    Attributes
    ----------
    name : str
        What was checked.
    value : float
        What was found; NaN fails.
    tolerance : float
        What it may be.
    where : str
        The labels at which the value was found.
    reason : str
        Why this tolerance.
    """

    name: str
    value: float
    tolerance: float
    where: str
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the value is within its tolerance."""
        return bool(self.value <= self.tolerance)

    @property
    def share(self) -> float:
        """How much of its tolerance the value takes; more than 1 fails."""
        if self.value == 0.0:
            return 0.0
        return self.value / self.tolerance if self.tolerance else float("inf")

    def __str__(self) -> str:
        at = f" at {self.where}" if self.where else ""
        return f"{self.name} is {self.value:.3g}{at}; at most {self.tolerance:.3g} is allowed ({self.reason})"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The checks of one solution, and how it came about.

    Attributes
    ----------
    checks : tuple[Check, ...]
        Residuals of the conditions, the follower's regret, the second solve.
    parts : int
        Independent parts.
    methods : mapping
        How many parts went each way.
    pairs, dropped, binaries : int
        Complementarity pairs; pairs decided by bounds beforehand; pairs with a binary.
    nodes : int
        Nodes solved by branching.
    largest_product : float
        Largest slack × multiplier.
    nearest : str
        The largest ratio of a value to its big-M, with its pair.
    assumed : tuple[str, ...]
        Bounds that were declared, not proved.
    ties : int
        Pairs whose slack and multiplier are both zero.
    unique : bool
        Whether the follower has no other optimal decision; if it has, the one that suits
        the leader was taken.
    several_at : str
        Where it has more than one.
    pessimistic : Pessimistic
        The leader's value if the follower, where it is indifferent, answers as badly for
        the leader as it may, and where its duals (prices) are not unique, they are the worst
        ones; the solution itself is optimistic in both.
    """

    checks: tuple[Check, ...]
    parts: int
    methods: dict[str, int]
    pairs: int
    dropped: int
    binaries: int
    nodes: int
    largest_product: float
    nearest: str
    assumed: tuple[str, ...]
    ties: int
    unique: bool
    several_at: str
    pessimistic: Pessimistic

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    @property
    def failures(self) -> tuple[str, ...]:
        """The checks that fail, in words."""
        return tuple(str(check) for check in self.checks if not check.ok)

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"{name!r}; checks are: {', '.join(check.name for check in self.checks)}")

    def require(self) -> Certificate:
        """Return the certificate, or raise.

        Raises
        ------
        CertificateError
            If a check fails; it names each with value, tolerance and labels.
        """
        if not self.ok:
            raise CertificateError(self.failures)
        return self

    def _pessimistic_in_words(self) -> str:
        value, note = self.pessimistic.value, self.pessimistic.note
        if value is None:
            return note
        return f"{value:.9g}" + (f" ({note})" if note else "")

    def __str__(self) -> str:
        head = "Certificate holds" if self.ok else "Certificate DOES NOT HOLD"
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [head]
        lines += [
            f"  {'ok ' if check.ok else 'NOT'}  {check.name:<{width}}  {check.value:10.3g}"
            f"  (at most {check.tolerance:.3g}){'  ' + check.where if not check.ok else ''}"
            for check in self.checks
        ]
        ways = ", ".join(f"{count} by {method}" for method, count in self.methods.items())
        decision = "unique" if self.unique else f"not unique at {self.several_at}: the one that suits the leader"
        lines += [
            f"  independent parts     {self.parts} ({ways})",
            f"  pairs                 {self.pairs}: {self.dropped} decided beforehand, {self.binaries} with a binary",
            f"  nodes branched on     {self.nodes}",
            f"  largest product       {self.largest_product:.3g}",
            f"  nearest big-M         {self.nearest or 'no big-M was used'}",
            f"  assumed bounds        {'; '.join(self.assumed) or 'none'}",
            f"  ties                  {self.ties} pairs with slack and multiplier both zero",
            f"  follower's decision   {decision}",
            f"  pessimistic value     {self._pessimistic_in_words()}",
        ]
        return "\n".join(lines)
