"""What is computed on a worker: the stages of one batch, from its parcel to a file.

This module is all that a worker imports; it loads no library of networks, pictures,
tables or command lines.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from hiermarket.errors import HiermarketError, MarketWarning
from hiermarket.labels import BID
from hiermarket.results.totals import feeder_totals
from hiermarket.schema import bare
from hiermarket.stages.baseline import Baseline, feeders_alone
from hiermarket.stages.coordination import Chain, local_stages
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.interface import interface_offers
from hiermarket.stages.settlement import settle_feeders
from hiermarket.study.batches import options_for
from hiermarket.study.digest import digest_of_file
from hiermarket.study.manifest import LED, WHOLE, FailedPeriod, Part, Phase, failed_in
from hiermarket.study.parts import local_groups, read_local, write_part

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import xarray as xr

    from hiermarket.stages.coordination import Options
    from hiermarket.stages.tso_clearing import TsoClearing
    from hiermarket.study.source import Parcel


@dataclass(frozen=True, slots=True)
class Computed:
    """The groups of a part's file, and what its line of the manifest says of them."""

    groups: Mapping[str, xr.Dataset]
    counts: Mapping[str, float]
    failed: tuple[FailedPeriod, ...] = ()
    slices: tuple[str, ...] = ()


class Job(Protocol):
    """A batch and a phase: can be sent to a worker, and computed there."""

    phase: ClassVar[Phase]

    @property
    def batch(self) -> int:
        """Number of the batch."""

    @property
    def key(self) -> str:
        """Fingerprint of everything that the part depends on."""

    @property
    def feeders(self) -> tuple[str, ...]:
        """The feeders of the batch."""

    @property
    def folder(self) -> Path:
        """The results folder, which every worker sees."""

    def compute(self) -> Computed:
        """Return the part's groups."""


@dataclass(frozen=True, slots=True)
class LocalJob:
    """Everything of a batch that happens before the TSO: see `Job`.

    Parameters
    ----------
    parcel : Parcel
        Enough to make the market of the feeders.
    options : Options
        Behaviour, forwarding, grid model.
    """

    batch: int
    key: str
    feeders: tuple[str, ...]
    folder: Path
    parcel: Parcel
    options: Options

    phase: ClassVar[Phase] = Phase.LOCAL

    def compute(self) -> Computed:
        """Bids, DSO clearing, forwarding, baseline exchange."""
        market, options = self.parcel.market(), self.options
        local = local_stages(market, options_for(market, options))
        groups = local_groups(local, feeders_alone(market, grid=options.grid))
        groups["offers"] = interface_offers(local.clearing, local.forwarded).flat
        counts: dict[str, float] = {LED: 1} if local.bidding else {}
        counts |= {"periods": local.clearing.flat["status"].size}
        counts |= asdict(local.clearing.work + local.forwarded.work)
        return Computed(groups, counts, failed_in(local.clearing.flat["status"]))


@dataclass(frozen=True, slots=True)
class FinalJob:
    """Everything of a batch that happens after the TSO: see `Job`.

    Parameters
    ----------
    parcel, options : Parcel, Options
        As of the batch's `LocalJob`.
    local : Path
        The file that it wrote.
    cleared, baseline : TsoClearing
        What the TSO has cleared for these feeders, with and without local bids.
    """

    batch: int
    key: str
    feeders: tuple[str, ...]
    folder: Path
    parcel: Parcel
    options: Options
    local: Path
    cleared: TsoClearing
    baseline: TsoClearing

    phase: ClassVar[Phase] = Phase.FINAL

    def compute(self) -> Computed:
        """Disaggregation, AC check, settlement, what the indicators add up."""
        market = self.parcel.market()
        clearing, forwarded, alone = read_local(self.local, self.options)
        price = bare(clearing.flat["price"]).sel({BID: market.bids.data.indexes[BID]})
        market = market.with_bids(market.bids.data.assign(price=price))
        disaggregation = disaggregate(market, clearing, forwarded, self.cleared, solver=self.options.solver)
        chain = Chain(
            market=market,
            bidding=(),
            clearing=clearing,
            forwarded=forwarded,
            cleared=self.cleared,
            disaggregation=disaggregation,
            settlement=settle_feeders(market, clearing, self.cleared, disaggregation),
            baseline=Baseline(alone.flat, cleared=self.baseline),
            options=self.options,
        )
        groups = {
            "disaggregation": chain.disaggregation.flat,
            "settlement": chain.settlement.data,
            "totals": feeder_totals(chain).data,
        }
        return Computed(groups, {})


def attempt(job: Job) -> Part:
    """Finish a part on a worker; an error of the package itself, which another attempt would meet again, is its line.

    See `finish`. Any other exception is passed on.
    """
    began = time.perf_counter()
    try:
        return finish(job)
    except HiermarketError as error:
        return replace(failed(job, error), seconds=time.perf_counter() - began)


def finish(job: Job) -> Part:
    """Compute a part, write its file, and return its line of the manifest.

    Parameters
    ----------
    job : Job
        A batch and a phase.

    Raises
    ------
    HiermarketError
        Of the stages.
    """
    began = time.perf_counter()
    part = Part(job.phase, job.batch, job.key, feeders=len(job.feeders))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", MarketWarning)
        computed = job.compute()
    notes = dict.fromkeys(str(w.message) for w in heard if issubclass(w.category, MarketWarning))
    for other in heard:
        if not issubclass(other.category, MarketWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    file = file_of(job.phase, job.batch)
    path = job.folder / file
    write_part(computed.groups, path)
    return replace(
        part,
        file=file,
        bytes=path.stat().st_size,
        checksum=digest_of_file(path),
        seconds=time.perf_counter() - began,
        counts=computed.counts,
        failed=computed.failed,
        notes=tuple(notes),
        slices=computed.slices,
    )


def file_of(phase: Phase, batch: int) -> str:
    """Return the name of a part's file, as seen from the folder.

    >>> file_of(Phase.LOCAL, 12)
    'local/batch-00012.nc'
    """
    if batch == WHOLE:
        return f"{phase.value}.nc"
    return f"{phase.value}/batch-{batch:05d}.nc"


def failed(job: Job, error: BaseException) -> Part:
    """Return the line of a job that raised."""
    return Part(job.phase, job.batch, job.key, feeders=len(job.feeders), error=reason(error))


def reason(error: BaseException) -> str:
    """Return an error's kind and message, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
