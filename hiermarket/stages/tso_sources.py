"""Forwarded bids as price blocks at their bus, and which of them an LP has to decide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hiermarket.schema import positions
from hiermarket.stages.merit_order import LEAST_FACTOR
from hiermarket.stages.tso_model import Blocks, grid_buses, interface_buses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.stages.interface import InterfaceOffers

    Bools = NDArray[np.bool_]

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What may change the supply at the buses: forwarded bids, and undone ones; arrays (source, period).

    Those of a bus are neighbours.

    Attributes
    ----------
    bid : int array (source,)
        Position of the bid among all bids.
    rank : int array (source,)
        Place in the order in which ties are decided.
    sign : array (source,)
        Whether it adds (+1) to the supply at the bus or takes (−1) of it.
    first : int array (bus + 1,)
        Where the sources of each bus begin.
    volume, price, factor : arrays
        MW of the bid, EUR/MWh, MW at the bus per MW of the bid.
    value : array
        The price of its bus at which a source is worth as much as it costs [EUR/MWh]; ∞
        without a volume, or with hardly any effect at the bus.
    count : int
        How many bids there are; ranks of sources are below twice that.
    """

    bid: Ints
    rank: Ints
    sign: Floats
    first: Ints
    volume: Floats
    price: Floats
    factor: Floats
    value: Floats
    count: int

    @property
    def most(self) -> int:
        """Most sources at a bus."""
        return int(np.diff(self.first).max(initial=0))

    def of_periods(self, periods: Ints) -> Sources:
        """Return the sources in some periods."""
        arrays = ("volume", "price", "factor", "value")
        return replace(self, **{name: getattr(self, name)[:, periods] for name in arrays})

    def at_bus(self, values: Floats) -> Floats:
        """Sum values (source, period) by bus."""
        total = np.zeros((len(self.first) - 1, values.shape[1]))
        filled = np.diff(self.first) > 0
        if filled.any():
            total[filled] = np.add.reduceat(values, self.first[:-1][filled], axis=0)
        return total

    def of_bus(self, values: NDArray[Kind]) -> NDArray[Kind]:
        """Give every source the value (bus, period) of its bus."""
        return np.repeat(values, np.diff(self.first), axis=0)

    def gain(self, price: Floats) -> Floats:
        """Return what one MW of each bid is worth at prices (bus, period), (source, period) [EUR/MWh].

        > 0 where it is taken whole, < 0 where it is left: the negative reduced cost.
        """
        # σ (φ λ − π^F)
        return self.sign[:, None] * (self.factor * self.of_bus(price) - self.price)


def sources_of(side: TsoSide, offers: InterfaceOffers) -> Sources:
    """Return every bid with a volume in some period, and every undo.

    Parameters
    ----------
    side : TsoSide
        Where the feeders hang.
    offers : InterfaceOffers
        Bids with volumes, prices and interface factors.
    """
    flat = offers.flat
    hung = positions(grid_buses(side), interface_buses(side).loc[flat["bid_feeder"].values].to_numpy())
    volumes = flat["forwarded"].values, flat["forwarded_undo"].values
    bids = [np.flatnonzero((volume > 0).any(axis=1)) for volume in volumes]
    bid, undo = np.concatenate(bids), np.repeat([False, True], [len(some) for some in bids])
    order = np.argsort(hung[bid], kind="stable")
    bid, undo = bid[order], undo[order]
    first = np.searchsorted(hung[bid], np.arange(len(grid_buses(side)) + 1))
    volume = np.where(undo[:, None], volumes[1][bid], volumes[0][bid])
    # what has no volume may have no factor either
    price, factor = (
        np.where(volume > 0, flat[name].values[bid], nothing)
        for name, nothing in (("forward_price", 0.0), ("interface_factor", 1.0))
    )
    usable = (volume > 0) & (factor > LEAST_FACTOR)
    value = np.where(usable, price / np.where(usable, factor, 1.0), np.inf)
    return Sources(
        bid=bid,
        rank=bid + len(hung) * undo,
        sign=np.where(undo, -1.0, 1.0) * offers.sign.values[bid],
        first=first,
        volume=volume,
        price=price,
        factor=factor,
        value=value,
        count=len(hung),
    )


def places(sources: Sources) -> Ints:
    """Return the place of every source among those of its bus by value, (source, period)."""
    place = np.zeros(sources.value.shape, dtype=np.int64)
    for start, stop in pairwise(sources.first):
        order = sources.value[start:stop].argsort(axis=0, kind="stable")
        np.put_along_axis(place[start:stop], order, np.arange(stop - start)[:, None], axis=0)
    return place


def nearest(sources: Sources, place: Ints, price: Floats, count: int) -> Bools:
    """Return which sources have a value next to the price of their bus: so many on each side.

    Parameters
    ----------
    sources : Sources
        Of all buses.
    place : int array (source, period)
        Their `places`.
    price : (bus, period) array
        EUR/MWh.
    count : int
        How many on each side; bids with hardly any effect at the interface come on top.
    """
    below = sources.of_bus(sources.at_bus((sources.value < sources.of_bus(price)).astype(float)))
    near = (place >= below - count) & (place < below + count)
    return (near | ~(sources.factor > LEAST_FACTOR)) & (sources.volume > 0)


def blocks_of(sources: Sources, free: Bools) -> tuple[Blocks, Ints]:
    """Lay some of the sources out by bus.

    Returns
    -------
    Blocks
        Arrays (bus, slot, period).
    place : int array (bus, slot, period)
        The source in every slot; −1 where there is none.
    """
    count = np.cumsum(free, axis=0)
    before = np.concatenate([np.zeros((1, free.shape[1]), dtype=count.dtype), count])[sources.first]
    rows, columns = np.nonzero(free)
    bus = np.repeat(np.arange(len(sources.first) - 1), np.diff(sources.first))[rows]
    slot = count[rows, columns] - 1 - before[bus, columns]
    place = np.full((len(sources.first) - 1, int(slot.max(initial=-1)) + 1, free.shape[1]), -1, dtype=np.int64)
    place[bus, slot, columns] = rows
    laid = {}
    sign, rank = (np.broadcast_to(values[:, None], free.shape) for values in (sources.sign, sources.rank))
    for name, values, nothing in (
        ("volume", sources.volume, 0.0), ("price", sources.price, 0.0), ("factor", sources.factor, 1.0),
        ("sign", sign, 1.0), ("rank", rank, 0.0),
    ):  # fmt: skip
        laid[name] = np.full(place.shape, nothing)
        laid[name][bus, slot, columns] = values[rows, columns]
    return Blocks(**laid), place


def grouped(sources: Sources, place: Ints, free: Bools, count: int) -> Blocks:
    """Merge sources of each bus to so many blocks of neighbouring values, for a first guess of prices.

    Parameters
    ----------
    sources : Sources
        Of all buses.
    place : int array (source, period)
        Their `places`.
    free : (source, period) bool array
        Which of them to merge.
    count : int
        How many blocks a bus gets.

    Returns
    -------
    Blocks
        Each the sum of its sources at their mean value, as if all that take supply did so
        from the beginning and could be given back.
    """
    # MW at the bus; what has hardly any effect there does not change the guess
    amount = np.where(free & np.isfinite(sources.value), sources.factor * sources.volume, 0.0)
    sizes, periods = np.diff(sources.first), amount.shape[1]
    bus = np.repeat(np.arange(len(sizes)), sizes)[:, None]
    # as many sources in every group of a bus: their places are neighbours
    lowest, number = np.zeros((len(sizes), periods), dtype=np.int64), np.zeros((len(sizes), periods), dtype=np.int64)
    filled = sizes > 0
    if filled.any():
        starts = sources.first[:-1][filled]
        lowest[filled] = np.minimum.reduceat(np.where(free, place, sources.most), starts, axis=0)
        number[filled] = np.maximum.reduceat(np.where(free, place + 1, 0), starts, axis=0)
    width = np.maximum(number - lowest, 1)
    group = np.clip((place - sources.of_bus(lowest)) * count // sources.of_bus(width), 0, count - 1)
    cell = ((bus * count + group) * periods + np.arange(periods)).ravel()
    shape = (len(sizes), count, periods)
    worth = amount * np.where(amount > 0, sources.value, 0.0)
    volume, cost = (
        np.bincount(cell, values.ravel(), minlength=int(np.prod(shape))).astype(float).reshape(shape)
        for values in (amount, worth)
    )
    price = np.divide(cost, volume, out=np.zeros(shape), where=volume > 0)
    ones = np.ones(shape)
    return Blocks(volume=volume, price=price, factor=ones, sign=ones, rank=ones)
