"""The exceptions of the package: what is wrong, where, what was expected, what to do.

::

    HiermarketError
    ├── DataError (ValueError)          input values: every fault found, together
    ├── ModelError (ValueError)         a model or option that cannot be treated exactly
    │   └── UnboundedPairError          a big-M is needed and none can be proved
    ├── SolveError (RuntimeError)       a solver's answer that is no answer
    │   ├── InfeasibleError
    │   │   └── FollowerInfeasibleError whatever the leader decides, a follower has no decision
    │   ├── UnboundedError
    │   ├── LimitReachedError           time, iterations, nodes: no proved optimum
    │   └── NumericalError              any other status, or an answer that fails its own check
    ├── CertificateError (RuntimeError) a result whose certificate does not hold
    └── StudyError (RuntimeError)       a study of many feeders that cannot go on
        └── BatchesFailedError          batches without results; all others are kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

#: How many labels a message names before it says how many more there are.
MOST_LABELS = 5


def some_labels(labels: Sequence[object]) -> str:
    """Name up to five labels, and how many more there are."""
    named = ", ".join(str(label) for label in labels[:MOST_LABELS])
    more = len(labels) - MOST_LABELS
    return f"{named} (+{more} more)" if more > 0 else named


def meant(name: object, known: Sequence[str], *, otherwise: str = "Drop it.") -> str:
    """Return the remedy for a name that is not known: the nearest one that is.

    >>> meant("nort", ["north", "south"])
    "Is 'north' meant?"
    """
    near = get_close_matches(str(name), known, n=1)
    return f"Is {near[0]!r} meant?" if near else otherwise


class HiermarketError(Exception):
    """Root of every exception that the package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the input data.

    Parameters
    ----------
    where : str
        The array and the labels at fault, e.g. ``"bids.price at bsp=A, bus=18"``.
    found : str
        What stands there.
    expected : str
        What should stand there.
    remedy : str
        What the user can do.
    """

    where: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}. {self.remedy}"


class DataError(HiermarketError, ValueError):
    """Input data with faults; all faults found are reported together.

    Attributes
    ----------
    faults : tuple[Fault, ...]
        Every fault, in the order in which the data were read.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        head = "1 fault in the data" if count == 1 else f"{count} faults in the data"
        super().__init__("\n".join([f"{head}:", *(f"  {i}. {f}" for i, f in enumerate(self.faults, 1))]))


class ModelError(HiermarketError, ValueError):
    """A model, or an option for it, that the package cannot treat exactly.

    Attributes
    ----------
    what, where, remedy : str
        What is wrong, the names and labels it concerns, and what to do.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"{what} ({where}). {remedy}")


class UnboundedPairError(ModelError):
    """Complementarity pairs without a proved bound, where a MILP needs one.

    Attributes
    ----------
    side : str
        ``"primal"`` (slacks) or ``"dual"`` (multipliers).
    pairs : tuple[str, ...]
        The pairs, by family and labels.
    """

    def __init__(self, side: str, pairs: Sequence[str]) -> None:
        self.side, self.pairs = side, tuple(pairs)
        what = "multipliers" if side == "dual" else "slacks"
        super().__init__(
            f"No finite bound of these {what} can be proved",
            where=some_labels(self.pairs),
            remedy=f"Bound the variables behind them, declare BigM({side}=...), or use Branching.",
        )


class SolveError(HiermarketError, RuntimeError):
    """A solver's answer that is no answer.

    Attributes
    ----------
    what, where, status, remedy : str
        The problem that was solved, the labels of the block, the solver's own
        word for the outcome, and what to do.
    """

    outcome = "could not be solved"

    def __init__(self, what: str, *, where: str, status: str, remedy: str) -> None:
        self.what, self.where, self.status, self.remedy = what, where, status, remedy
        super().__init__(f"{what} {self.outcome} at {where} ({status}). {remedy}")


class InfeasibleError(SolveError):
    """No point satisfies all rows and bounds."""

    outcome = "is infeasible"


class FollowerInfeasibleError(InfeasibleError):
    """A follower has no feasible decision, or no finite optimum, whatever the leader decides."""

    outcome = "has a follower that cannot answer, whatever the leader decides,"


class UnboundedError(SolveError):
    """The objective improves without limit."""

    outcome = "is unbounded"


class LimitReachedError(SolveError):
    """A limit of time, iterations or nodes came before a proved optimum.

    Attributes
    ----------
    incumbent : object or None
        The best solution so far, where there is one; nothing says that it is an optimum.
    """

    outcome = "reached a limit before a proved optimum"
    incumbent: object | None = None


class NumericalError(SolveError):
    """The solver ended in any other way, or its answer fails its own check."""

    outcome = "ended without a trustworthy answer"


class CertificateError(HiermarketError, RuntimeError):
    """A bilevel result whose certificate does not hold.

    Attributes
    ----------
    failures : tuple[str, ...]
        Each check that failed, with its value, its tolerance and the labels.
    """

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__("The certificate does not hold:\n" + "\n".join(f"  - {failure}" for failure in self.failures))


class StudyError(HiermarketError, RuntimeError):
    """A study of many feeders that cannot begin, or cannot go on.

    Attributes
    ----------
    what, where, remedy : str
        What is wrong, the folder, file or feeders it concerns, and what to do.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"{what} ({where}). {remedy}")


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """A batch of a study that has no results.

    Parameters
    ----------
    phase : str
        What was being computed, in words.
    batch : int
        Its number.
    feeders : tuple[str, ...]
        The feeders in it.
    reason : str
        The error's kind and message.
    """

    phase: str
    batch: int
    feeders: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.phase}, batch {self.batch} ({some_labels(self.feeders)}): {self.reason}"


class BatchesFailedError(StudyError):
    """Batches of a study failed in every attempt; the results of all others are kept.

    Attributes
    ----------
    failures : tuple[BatchFailure, ...]
        Every batch that failed, with its feeders and the reason.
    """

    def __init__(self, failures: Sequence[BatchFailure], *, folder: str) -> None:
        self.failures = tuple(failures)
        count = len(self.failures)
        lines = "".join(f"\n  - {failure}" for failure in self.failures[:MOST_LABELS])
        more = f"\n  … and {count - MOST_LABELS} more, in the manifest" if count > MOST_LABELS else ""
        super().__init__(
            f"{count} batch{'es' if count > 1 else ''} of the study failed:{lines}{more}\n",
            where=folder,
            remedy="All other batches are kept. Correct the cause and run again to resume, or go on without these "
            "feeders with on_failure=OnFailure.CONTINUE.",
        )


class MarketWarning(UserWarning):
    """Input that is allowed but deserves a look, by label."""
