"""Offers that lead to what a leader expects: among equally good ones, those that say most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, FEEDER, PERIOD
from hiermarket.schema import bare
from hiermarket.stages.decides import PricesAndVolumes
from hiermarket.stages.dso_clearing import clear_dso, per_feeder
from hiermarket.stages.leader_payment import profit_of
from hiermarket.stages.paid_prices import worth
from hiermarket.stages.resource_safety import held_by_resources

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LinDistFlow
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.decides import Decides
    from hiermarket.stages.dso_clearing import DsoClearing

#: A volume or price difference below this counts as none [MW, EUR/MWh]: a thousand times
#: the solver's feasibility tolerance.
NEGLIGIBLE = 1e-6

#: Ticks below the paid price of a bid that is accepted whole; one that is accepted in part,
#: and sets the price, gets one.
FIRST_TICKS = 5


@dataclass(frozen=True, slots=True)
class Offered:
    """Offers of a leader, and their clearing by the tie rule; made by `offered`.

    Attributes
    ----------
    market : BalancingMarket
        With the offered prices and volumes.
    clearing : DsoClearing
        Of these offers.
    """

    market: BalancingMarket
    clearing: DsoClearing


def offered(
    market: BalancingMarket,
    own: xr.DataArray,
    expected: xr.Dataset,
    tick: float,
    *,
    decides: Decides,
    grid: LinDistFlow,
    solver: SolverOptions | None,
) -> Offered:
    """Make and clear the offers of a leader, volumes whole wherever that is as good.

    Parameters
    ----------
    market : BalancingMarket
        Bids and rules.
    own : bool DataArray (bid)
        The leader's bids.
    expected : Dataset
        What it expects, of `LeaderProblem.read`.
    tick : float
        See `bid_strategically`.
    decides : PricesOnly or PricesAndVolumes
        Whether volumes may be withheld.
    grid, solver
        Of the clearing.
    """

    def cleared(prices: xr.DataArray, volumes: xr.DataArray) -> Offered:
        offers = with_offers(market, prices, volumes)
        return Offered(offers, clear_dso(offers, grid=grid, solver=solver))

    volume = bare(market.bids.data.volume).transpose(BID, PERIOD)
    price = offers_of(market, own, expected, tick)
    whole = cleared(price, volume)
    if not isinstance(decides, PricesAndVolumes):
        return whole
    less = withheld(market, own, expected, decides.shade)
    its_price = offers_of(with_offers(market, price, less), own, expected, tick)
    part = cleared(its_price, less)
    # whole volumes, unless a part of them is cleared at a gain: more than ticks can cost
    sold = per_feeder(bare(own) * bare(expected.activation), market) * bare(market.duration)
    gain = profit_of(part.market, own, part.clearing.flat) - profit_of(whole.market, own, whole.clearing.flat)
    more = gain - FIRST_TICKS * tick * sold
    if bool(held_by_resources(market).any()):
        more = more.sum(PERIOD).broadcast_like(gain)
    pays = more > NEGLIGIBLE
    if not bool(pays.any()):
        return whole
    if bool((pays | (sold <= 0)).all()):
        return part
    owner = xr.DataArray(market.bids.data.bid_feeder.values, dims=BID, coords={BID: own.indexes[BID]})
    here = pays.sel({FEEDER: owner}).drop_vars(FEEDER)
    return cleared(its_price.where(here, price), less.where(here, volume))


def with_offers(market: BalancingMarket, prices: xr.DataArray, volumes: xr.DataArray) -> BalancingMarket:
    """Return a market with other prices and volumes, (bid, period) [EUR/MWh, MW]."""
    data = market.bids.data
    new = {"price": prices, "volume": volumes}
    return market.with_bids(data.assign({n: (data[n].dims, a.transpose(*data[n].dims).values) for n, a in new.items()}))


def withheld(market: BalancingMarket, own: xr.DataArray, expected: xr.Dataset, shade: float) -> xr.DataArray:
    """Return volumes with no more of the leader's than it expects to sell, less the shade, (bid, period) [MW].

    All own volumes fall in the same proportion: of all directions the one along which the clearing's
    prices are worth most to the leader.
    """
    sold = expected.activation.where(expected.activation > NEGLIGIBLE, 0.0)
    volume = bare(market.bids.data.volume)
    less: xr.DataArray = np.minimum((1.0 - shade) * sold, volume).where(bare(own), volume)
    return less.transpose(BID, PERIOD)


def offers_of(
    market: BalancingMarket, own: xr.DataArray, expected: xr.Dataset, tick: float | xr.DataArray
) -> xr.DataArray:
    """Choose, among equally good offer prices, those that say most.

    Stationarity of a bid leaves its price free on one side: an accepted bid may be
    offered at anything up to λ + τκ, a rejected one at anything dearer.

    Parameters
    ----------
    market : BalancingMarket
        Bids, with the volumes that are offered, and rules.
    own : bool DataArray (bid)
        The leader's bids.
    expected : Dataset
        What it expects.
    tick : float or DataArray (bid, period)
        See `bid_strategically`.

    Returns
    -------
    DataArray (bid, period)
        EUR/MWh, within floor and cap; the rivals' prices as they are.
    """
    data, sign = market.bids.data, bare(market.bids.sign)
    most = worth(market, expected)
    accepted = expected.activation > NEGLIGIBLE
    # withheld on purpose: the bid would be accepted at its cost, and its offer keeps it out
    kept_out = ~accepted & (sign * (most - bare(data.cost)) > NEGLIGIBLE)
    # a bid taken whole goes before the one that sets the price, which is taken in part; none
    # goes below its cost for it
    whole = is_whole(market, expected)
    step = (tick * xr.ones_like(most)).where(~whole, FIRST_TICKS * tick)
    room = sign * (most - bare(data.cost))
    step = step.where(room < 0, np.minimum(step, room))
    # a loss taken in part, to move the price, must not become a loss taken whole
    step = step.where((room >= -NEGLIGIBLE) | whole, -tick)
    chosen = (most - sign * step).where(accepted, expected.offer.where(kept_out, bare(data.cost)))
    # what a resource holds together is not paid its own price: its offers are those of the optimum
    chosen = chosen.where(~held_by_resources(market), expected.offer)
    offers = chosen.where(bare(own), bare(data.price)).transpose(BID, PERIOD)
    return offers.clip(market.rules.price_floor, market.rules.price_cap)


def is_whole(market: BalancingMarket, expected: xr.Dataset) -> xr.DataArray:
    """Return (bid, period): where all that is offered is expected to be taken."""
    whole: xr.DataArray = expected.activation > bare(market.bids.data.volume) - NEGLIGIBLE
    return whole
