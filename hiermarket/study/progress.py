"""What a study tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiermarket.study.words import counted

if TYPE_CHECKING:
    from hiermarket.study.manifest import Phase


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase of a study is.

    Parameters
    ----------
    phase : Phase
        What is being computed.
    batches, of_batches : int
        Done, those of an earlier run included, and all.
    feeders, of_feeders : int
        The same, in feeders.
    kept : int
        Batches that an earlier run had done.
    failed : int
        Batches that failed.
    seconds : float
        Since the phase began.
    """

    phase: Phase
    batches: int
    of_batches: int
    feeders: int
    of_feeders: int
    kept: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Feeders computed in a second; 0 before the first batch."""
        computed = self.batches - self.kept
        if not computed or not self.seconds:
            return 0.0
        return self.feeders * computed / self.batches / self.seconds

    @property
    def left(self) -> float:
        """Seconds to the end of the phase at this rate; NaN before the first batch."""
        return (self.of_feeders - self.feeders) / self.rate if self.rate else float("nan")

    def __str__(self) -> str:
        batches = counted(self.batches, "batch", of=self.of_batches)
        text = f"{self.phase.words}: {batches}, {counted(self.feeders, 'feeder')}"
        text += f", {self.rate:.3g} a second" if self.rate else ""
        text += f", {self.kept} of an earlier run" if self.kept else ""
        return text + (f", {self.failed} failed" if self.failed else "")
