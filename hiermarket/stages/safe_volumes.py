"""Volumes of bids that the grid carries: in a box, at its corners, each by itself, or unchecked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, PERIOD, Direction
from hiermarket.network.limits import limit_rows, sites
from hiermarket.network.linear_flow import eliminate
from hiermarket.schema import bare, positions
from hiermarket.solving.blocks import Work
from hiermarket.stages.corners import BROKEN, Corner, Reach, both_corners, broken
from hiermarket.stages.forwarding_methods import MaximumRegulation, SafeBox
from hiermarket.stages.interface_balance import bid_factors
from hiermarket.stages.largest_box import ROUNDING, CountingRows, Volumes, counting_rows, largest, together
from hiermarket.stages.resource_box import resource_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.limits import Sites
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.dso_clearing import DsoClearing

    Floats = NDArray[np.float64]


def boxes(
    market: BalancingMarket,
    clearing: DsoClearing,
    most: Volumes,
    method: SafeBox | MaximumRegulation,
    options: SolverOptions,
) -> Reach:
    """Find the volumes of (12) or (13), with the losses linearised at the corners.

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        What was cleared.
    most : Volumes
        What is left of every bid [MW].
    method : SafeBox or MaximumRegulation
        Which of them, and how many passes.
    options : SolverOptions
        Tolerances and limits.
    """
    who = sites(market.feeders, market.bids.node, bare(market.bids.data.reactive_ratio))
    around = [as_cleared(market, clearing, most)]
    factor = bid_factors(market, eliminate(market.feeders, around[0].losses).factors())
    whole = Part(market, clearing, who, most)
    volume, work, moving = most, Work(), np.arange(len(market.periods))
    least = ROUNDING if options.screening else -np.inf
    counted = np.zeros(clearing.flat.status.shape, dtype=bool)
    check = np.zeros((len(BROKEN), len(Direction), market.feeders.data.sizes[BUS], len(moving)))
    for number in range(1 if clearing.grid.loss_passes == 0 else 1 + method.corner_passes):
        part = whole.of_periods(moving)
        if number:
            around = part.corners(volume.of_periods(moving))
            check[..., moving] = broken(around)
        rows = counting(part, around, method, least=least)
        counted[:, moving] |= rows.cases((len(counted), len(moving)))
        price = bare(part.clearing.flat.price)
        new, of_pass = largest(part.market, part.most, rows, part.who, price, options)
        work += of_pass
        volume, changed = volume.replaced(moving, new)
        # where nothing moves any more, the limits were linearised at these corners already
        moving = moving if number == 0 or (len(changed) and market.resources is not None) else changed
        if not len(moving):
            break
    if len(moving):
        part = whole.of_periods(moving)
        check[..., moving] = broken(part.corners(volume.of_periods(moving)))
    return Reach(volume, factor, counted, check, work)


def alone(market: BalancingMarket, clearing: DsoClearing, most: Volumes) -> Reach:
    """Find the most of each bid by itself (15), with the losses of the cleared state.

    See `boxes` for the parameters.
    """
    sign = bare(market.bids.sign)
    who = sites(market.feeders, market.bids.node, bare(market.bids.data.reactive_ratio))
    here = as_cleared(market, clearing, most)
    injected = np.zeros_like(who.ratio)
    limits = limit_rows(market.feeders, here.losses, here.state, who, injected, sides=clearing.grid.sides)
    owner = positions(market.feeder_names, market.feeders.feeder_of.to_numpy())
    up, down = np.full((2, *who.ratio.shape), np.inf)
    for limit in limits:
        for room, toward in ((up, limit.coefficient), (down, -limit.coefficient)):
            # (15)  U_i ≤ h / c_i⁺,  D_i ≤ h / c_i⁻      ∀ limits                              [MW]
            most_of = _quotient(limit.room[:, None], toward)
            np.minimum.at(room, owner[limit.bus], most_of)
    high, low = (
        volume.clip(max=volume.copy(data=room[who.feeder, who.rank]))
        for volume, room in zip((v.transpose(BID, PERIOD) for v in most.extremes(sign)), (up, down), strict=True)
    )
    volume = Volumes(high.where(sign > 0, low), low.where(sign > 0, high))
    factor = bid_factors(market, eliminate(market.feeders, here.losses).factors())
    less = (volume.own < most.own - ROUNDING) | (volume.back < most.back - ROUNDING)
    counted = np.zeros(clearing.flat.status.shape, dtype=bool)
    of_bid = positions(market.feeder_names, market.bids.data.bid_feeder.values)
    np.logical_or.at(counted, of_bid, less.transpose(BID, PERIOD).values)
    check = broken(both_corners(market, clearing, volume))
    return Reach(volume, factor, counted, check, Work(screened=int((~counted).sum())))


def unfiltered(market: BalancingMarket, clearing: DsoClearing, most: Volumes) -> Reach:
    """Return everything that is left (16), and what its corners break.

    See `boxes` for the parameters.
    """
    factor = bid_factors(market, eliminate(market.feeders, as_cleared(market, clearing, most).losses).factors())
    counted = np.zeros(clearing.flat.status.shape, dtype=bool)
    check = broken(both_corners(market, clearing, most))
    return Reach(most, factor, counted, check, Work(screened=counted.size))


def as_cleared(market: BalancingMarket, clearing: DsoClearing, most: Volumes) -> Corner:
    """Return the grid as it was cleared."""
    return Corner(market, clearing, xr.zeros_like(most.own))


def _quotient(room: Floats, toward: Floats) -> Floats:
    """Return room / toward where toward > 0, no bound elsewhere."""
    known = toward > 0
    return np.where(known, room / np.where(known, toward, 1.0), np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some periods of what is forwarded: market, clearing, sites, and the volumes there are."""

    market: BalancingMarket
    clearing: DsoClearing
    who: Sites
    most: Volumes

    def of_periods(self, periods: NDArray[np.intp]) -> Part:
        """Return some of the periods, by position."""
        if len(periods) == len(self.market.periods):
            return self
        market, clearing = self.market.of_periods(periods), self.clearing.of_periods(periods)
        return Part(market, clearing, self.who.of_periods(periods), self.most.of_periods(periods))

    def corners(self, volume: Volumes) -> list[Corner]:
        """Return the grid with everything up, and with everything down."""
        return both_corners(self.market, self.clearing, volume)


def counting(part: Part, around: list[Corner], method: SafeBox | MaximumRegulation, *, least: float) -> CountingRows:
    """Return the limits that count, linearised at one or more corners, as (12) or (13) has them."""
    market, who, sides = part.market, part.who, part.clearing.grid.sides
    high, low = (a.transpose(BID, PERIOD).values for a in part.most.extremes(bare(market.bids.sign)))
    owner = positions(market.feeder_names, market.feeders.feeder_of.to_numpy())
    found, every_point = [], isinstance(method, SafeBox)
    for number, corner in enumerate(around):
        injected = who.total(corner.extra.transpose(BID, PERIOD).values)
        limits = limit_rows(market.feeders, corner.losses, corner.state, who, injected, sides=sides)
        # (12) looks at each direction by itself: up at the upper corner, down at the lower one
        directions = tuple(Direction) if len(around) == 1 else (tuple(Direction)[number],)
        found.append(counting_rows(limits, who, owner, (high, low), None if every_point else directions, least=least))
    box = resource_box(market, bare(part.clearing.flat.activation), part.most, every_point=every_point)
    return together(found, box)
