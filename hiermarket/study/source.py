"""Where a study's feeders come from: known by name, made batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from hiermarket.labels import BID, BUS
from hiermarket.market.balancing_market import BalancingMarket, Transmission
from hiermarket.study.digest import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hiermarket.market.tso_side import TsoSide


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a feeder of a study is, for the size of its batches.

    Parameters
    ----------
    buses, bids, periods : int
        Of the largest feeder, or of a typical one.
    """

    buses: int
    bids: int
    periods: int


class Parcel(Protocol):
    """What travels to a worker: enough to make the market of a batch there."""

    def market(self) -> BalancingMarket:
        """Return the market of the batch's feeders, without the TSO's side."""


@runtime_checkable
class Source(Protocol):
    """The feeders of a study, and the TSO's side."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every feeder, in order."""

    @property
    def extent(self) -> Extent:
        """The size of a feeder."""

    def side(self) -> TsoSide:
        """Return the TSO's side, of all feeders."""

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a digest of everything that the market of these feeders is made of."""

    def parcel(self, names: Sequence[str], kept: Path) -> Parcel:
        """Return the parcel of a batch.

        Parameters
        ----------
        names : sequence of str
            Its feeders.
        kept : Path
            A file of arrays that the source may have written for this batch, and may read
            again if `fingerprint` is what it was.
        """


@runtime_checkable
class KnowsBsps(Protocol):
    """A source that can tell who bids, before any feeder is made."""

    @property
    def bsps(self) -> tuple[str, ...]:
        """Who bids in some feeder."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """The arrays of a batch's market."""

    arrays: BalancingMarket

    def market(self) -> BalancingMarket:
        """Return the market of the batch's feeders, without the TSO's side."""
        return self.arrays


@dataclass(frozen=True, slots=True)
class MarketSource:
    """A market that is in memory.

    Parameters
    ----------
    market : BalancingMarket
        All feeders.
    """

    market: BalancingMarket

    @property
    def names(self) -> tuple[str, ...]:
        """Every feeder, in order."""
        return tuple(str(name) for name in self.market.feeder_names)

    @property
    def extent(self) -> Extent:
        """The mean size of a feeder."""
        count = len(self.market.feeder_names)
        sizes = (self.market.feeders.data.sizes[BUS], self.market.bids.data.sizes[BID])
        buses, bids = (-(-size // count) for size in sizes)
        return Extent(buses, bids, len(self.market.periods))

    @property
    def bsps(self) -> tuple[str, ...]:
        """Who bids in some feeder."""
        return tuple(self.market.bids.bsps)

    def side(self) -> TsoSide:
        """Return the TSO's side, of all feeders."""
        return self.market.tso_side

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a digest of the arrays of these feeders."""
        part = local(self.market.of_feeders(names))
        return digest(part.feeders.data, part.bids.data, part.imbalance, part.tbm, part.rules, part.resources)

    def parcel(self, names: Sequence[str], kept: Path) -> InMemory:
        """Return the arrays of these feeders."""
        return InMemory(local(self.market.of_feeders(names)))


def local(market: BalancingMarket) -> BalancingMarket:
    """Return a market without the TSO's grid and bids, which no stage before the TSO needs."""
    return replace(market, transmission=Transmission())
