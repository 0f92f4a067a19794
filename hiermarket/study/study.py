"""A study as a value: feeders, options, the folder of its results, and how it is cut into batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.market.balancing_market import BalancingMarket
from hiermarket.market.scenarios import ScenarioMarket
from hiermarket.schema import option_of, raise_together
from hiermarket.stages.coordination import Options
from hiermarket.stages.forwarding_methods import Corrective
from hiermarket.study.source import MarketSource
from hiermarket.study.words import counted

if TYPE_CHECKING:
    from hiermarket.study.source import Extent, Source

#: What a batch may take of a worker's memory [bytes], besides the libraries.
MEMORY: Final = 1e9

#: Bytes at the peak of a batch for every bus and every bid, in each period; about twice what the shipped
#: day takes, whose LPs are left out four times of five. See docs/studies.md.
BYTES_PER_BUS: Final = 12_000
BYTES_PER_BID: Final = 6_000

#: Most feeders in a batch: a batch that fails, or whose worker dies, is computed anew.
MOST_FEEDERS: Final = 100


class OnFailure(StrEnum):
    """What becomes of a study in which a batch fails in every attempt."""

    STOP = "stop"
    """Finish and keep all other batches, then raise one error; a second run resumes."""
    CONTINUE = "continue"
    """Go on without the feeders of the batch; a warning and the results name them."""


@dataclass(frozen=True, slots=True)
class Study:
    """Many feeders under one TSO, and where their results go.

    Parameters
    ----------
    source : BalancingMarket, NetworkFiles, ReplicatedCase or any Source
        The feeders and the TSO's side. Feeders are made batch by batch.
    folder : str or Path
        The folder of the results: parts that are there, and whose inputs are the same,
        are not computed again.
    options : Options
        Behaviour of the BSPs, forwarding method, grid model.
    batch : int, optional
        Feeders in a batch; by default as many as fit into `MEMORY` (`batch_size`).
    on_failure : OnFailure
        What to do when a batch fails in every attempt.
    retries : int
        How often a batch is tried again when it ends with an error that may be one of the
        machine. Faults of the data and statuses of the solver are not tried again.

    Raises
    ------
    DataError
        For a market in scenarios, without feeders, with names that occur twice, for a batch of none, and for the
        forwarding method `Corrective`, whose TSO clears twice.
    """

    source: Source
    folder: Path
    options: Options = field(default_factory=Options)
    batch: int | None = None
    on_failure: OnFailure = OnFailure.STOP
    retries: int = 1

    def __init__(
        self,
        source: Source | BalancingMarket | ScenarioMarket,
        folder: str | Path,
        *,
        options: Options | None = None,
        batch: int | None = None,
        on_failure: OnFailure = OnFailure.STOP,
        retries: int = 1,
    ) -> None:
        if isinstance(source, ScenarioMarket):
            expected, remedy = "a market without scenarios", "Run it in memory, hm.run(market), or study each scenario."
            raise DataError([Fault("study.source", "a market in scenarios", expected, remedy)])
        given = MarketSource(source) if isinstance(source, BalancingMarket) else source
        faults = []
        names = given.names
        if not names:
            faults.append(Fault("study.source", "no feeder", "one feeder or more", "Name the feeders."))
        if len(set(names)) < len(names):
            faults.append(Fault("study.source", "names that occur twice", "a name for each feeder", "Rename them."))
        for name, number, least in (("batch", batch, 1), ("retries", retries, 0)):
            if number is not None and number < least:
                faults.append(Fault(f"study.{name}", str(number), f"{least} or more", "Correct it."))
        if options is not None and isinstance(options.forwarding, Corrective):
            expected = "a method with one clearing of the TSO"
            remedy = "Choose OfferCurve or SafeBox, or run the market itself: hm.run(market, options)."
            faults.append(Fault("study.options.forwarding", "Corrective", expected, remedy))
        raise_together(faults)
        values = {
            "source": given, "folder": Path(folder), "options": options or Options(), "batch": batch,
            "on_failure": option_of(OnFailure, on_failure, "study.on_failure"), "retries": retries,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        names, options = self.source.names, self.options
        # how many fit into memory may need a network to be read
        size = "as many as fit into memory" if self.batch is None else self.batch
        kinds = f"{type(options.behaviour).__name__}, {type(options.forwarding).__name__}"
        return (
            f"<Study of {counted(len(names), 'feeder')} ({some_labels(names)}) in {self.folder}: {kinds}; "
            f"feeders in a batch: {size}>"
        )

    @property
    def batches(self) -> tuple[tuple[str, ...], ...]:
        """The feeders of each batch; the same whatever the number of workers."""
        names = self.source.names
        size = batch_size(self.source.extent) if self.batch is None else self.batch
        return tuple(names[start : start + size] for start in range(0, len(names), size))


def batch_size(extent: Extent, memory: float = MEMORY) -> int:
    """Return how many feeders fit into the memory of a batch.

    Parameters
    ----------
    extent : Extent
        Buses and bids of a feeder, periods.
    memory : float
        Bytes.

    Returns
    -------
    int
        memory / (periods × (`BYTES_PER_BUS` × buses + `BYTES_PER_BID` × bids)), from 1 to
        `MOST_FEEDERS`.

    >>> from hiermarket.study.source import Extent
    >>> batch_size(Extent(buses=33, bids=17, periods=96))
    20
    """
    one = extent.periods * (BYTES_PER_BUS * extent.buses + BYTES_PER_BID * extent.bids)
    return max(1, min(MOST_FEEDERS, int(memory / one)))
