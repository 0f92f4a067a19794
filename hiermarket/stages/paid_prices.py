"""What one MWh of a bid, and of imbalance, is paid under the rules of the market."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, DIRECTION, PERIOD, Direction
from hiermarket.market.rules import ImbalancePricing, Pricing
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.rules import MarketRules
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats
    from hiermarket.stages.tso_clearing import TsoClearing


def paid_price(market: BalancingMarket, prices: xr.Dataset) -> xr.DataArray:
    """Return what one MWh of every bid is paid, or pays, in the DSO's market.

    Parameters
    ----------
    market : BalancingMarket
        The bids, and `MarketRules.pricing`.
    prices : Dataset
        ``nodal_price, reactive_price (bus, period)``.

    Returns
    -------
    DataArray (bid, period)
        EUR/MWh: λ + τκ at its bus, λ_root of its feeder, or its own price π.
    """
    data = market.bids.data
    if market.rules.pricing is Pricing.PAY_AS_BID:
        return bare(data.price)
    if market.rules.pricing is Pricing.UNIFORM:
        roots = roots_of(market, data.bid_node.values)
        return _at_buses(bare(prices["nodal_price"]), roots, data.indexes[BID])
    return worth(market, prices)


def worth(market: BalancingMarket, prices: xr.Dataset) -> xr.DataArray:
    """Return λ + τκ at the bus of every bid, (bid, period) [EUR/MWh]: the dearest accepted up bid, whatever it is paid.

    See `paid_price` for the parameters.
    """
    data = market.bids.data
    active, reactive = (
        _at_buses(bare(prices[name]), data.bid_node.values, data.indexes[BID])
        for name in ("nodal_price", "reactive_price")
    )
    return active + bare(data.reactive_ratio) * reactive.fillna(0.0)


def pays_own_price(market: BalancingMarket, prices: xr.Dataset) -> xr.DataArray:
    """Return (bid, period): where the price that an accepted bid asks for may move what it is paid.

    See `paid_price` for the parameters. With uniform prices it does through the uplift, where λ + τκ is above
    λ_root (up) or below it (down).
    """
    above = bare(market.bids.sign) * (worth(market, prices) - paid_price(market, prices)) > 0
    kinds = {Pricing.NODAL: False, Pricing.PAY_AS_BID: True}
    known = kinds.get(market.rules.pricing)
    return above if known is None else xr.full_like(above, known)


def as_cleared(market: BalancingMarket, flat: xr.Dataset) -> BalancingMarket:
    """Return the market at the prices with which it was cleared: ``price (bid, period)`` of the clearing."""
    data = market.bids.data
    return market.with_bids(data.assign(price=(data.price.dims, flat["price"].transpose(*data.price.dims).values)))


def earned(market: BalancingMarket, flat: xr.Dataset) -> xr.DataArray:
    """Return what every bid is paid in the DSO's market, uplift included, (bid, period) [EUR/h]; < 0 is paid by it.

    Parameters
    ----------
    market : BalancingMarket
        The bids at their offered prices, and the rules.
    flat : Dataset
        ``activation (bid, period)``, ``nodal_price, reactive_price (bus, period)``.
    """
    price, supplied = paid_price(market, flat), bare(market.bids.sign) * bare(flat["activation"])
    return price * supplied + shortfall(market.rules, bare(market.bids.data.price), price, supplied)


def imbalance_price(market: BalancingMarket, prices: xr.Dataset) -> xr.DataArray:
    """Return the balancing price that imbalance pays at every bus, before `ImbalancePricing`, (bus, period) [EUR/MWh].

    See `paid_price` for the parameters. λ of the bus with nodal pricing, λ_root of its feeder
    otherwise.
    """
    nodal = bare(prices["nodal_price"])
    if market.rules.pricing is Pricing.NODAL:
        return nodal
    buses = nodal.indexes[BUS]
    return _at_buses(nodal, roots_of(market, buses.to_numpy()), buses)


def roots_of(market: BalancingMarket, buses: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the root, as a flat label, of the feeder of every bus."""
    feeders = market.feeders
    owner = feeders.feeder_of.to_numpy()[positions(feeders.feeder_of.index, buses)]
    return feeders.roots.to_numpy()[positions(feeders.roots.index, owner)]


def _at_buses(nodal: xr.DataArray, at: NDArray[np.generic], index: pd.Index) -> xr.DataArray:
    """Look (bus, period) up at a bus for each label of an index."""
    values = nodal.transpose(BUS, PERIOD)
    found = values.values[positions(values.indexes[BUS], at)]
    dim = str(index.name)
    return xr.DataArray(found, dims=(dim, PERIOD), coords={dim: index, PERIOD: values.indexes[PERIOD]})


def dual_price(
    rules: MarketRules, price: xr.DataArray, imbalance: xr.DataArray, tbm_price: xr.DataArray
) -> xr.DataArray:
    """Return what imbalance pays with `MarketRules.imbalance_pricing`, by bus and period [EUR/MWh].

    Parameters
    ----------
    rules : MarketRules
        Single or dual.
    price : DataArray (bus, period)
        The balancing price.
    imbalance : DataArray (bus, period)
        MW, > 0 is a deficit.
    tbm_price : DataArray (direction, period)
        π^T, the price of balancing without local bids.

    Notes
    -----
    (35) of docs/model.md: a deficit pays max(λ, π^T_up), a surplus is paid min(λ, π^T_down).
    """
    if rules.imbalance_pricing is ImbalancePricing.SINGLE:
        return price
    up, down = (bare(tbm_price).sel({DIRECTION: d.value}, drop=True) for d in Direction)
    # (35)  p = max(λ, π^T_up) for I > 0,  min(λ, π^T_down) for I < 0                     [EUR/MWh]
    dearer = price.where(price >= up, up)
    cheaper = price.where(price <= down, down)
    return dearer.where(imbalance > 0, cheaper).where(imbalance != 0, price)


def shortfall(rules: MarketRules, price: xr.DataArray, paid: xr.DataArray, supplied: xr.DataArray) -> xr.DataArray:
    """Return by how much accepted bids would be paid less than their own price, EUR/h.

    Parameters
    ----------
    rules : MarketRules
        Only the uniform price can leave a bid short.
    price, paid : DataArray (bid, period)
        Price of the bid, and what it is paid [EUR/MWh].
    supplied : DataArray (bid, period)
        σ a [MW].
    """
    # (34)  max(0, σ (π − p) a)                                                      [EUR/h]
    short = ((price - paid) * supplied).clip(min=0.0)
    return short if rules.pricing is Pricing.UNIFORM else xr.zeros_like(short)


def grid_paid_price(side: TsoSide, cleared: TsoClearing) -> Floats:
    """Return what one MWh at every bus of the transmission grid is worth, (bus, period) [EUR/MWh].

    λ^T of the bus with nodal pricing, the uniform price otherwise.
    """
    nodal: Floats = cleared.flat["grid_price"].transpose("grid_bus", PERIOD).values
    if side.rules.pricing is Pricing.NODAL:
        return nodal
    return np.broadcast_to(cleared.flat["uniform_price"].values, nodal.shape)


def grid_bid_price(side: TsoSide, cleared: TsoClearing) -> Floats:
    """Return what one MWh of every transmission bid is paid, or pays, (grid bid, period) [EUR/MWh].

    The `grid_paid_price` of its bus, or its own price π with pay-as-bid.
    """
    data = cleared.grid_bids.data
    if side.rules.pricing is Pricing.PAY_AS_BID:
        own: Floats = data["price"].transpose(BID, PERIOD).values
        return own
    at = positions(cleared.flat.indexes["grid_bus"], data["bid_bus"].values)
    return grid_paid_price(side, cleared)[at]


def uniform_price(nodal: Floats, need: Floats) -> Floats:
    """Return one price for the whole transmission grid, (period) [EUR/MWh].

    Parameters
    ----------
    nodal, need : arrays (bus, period)
        λ^T [EUR/MWh] and W [MW].

    Notes
    -----
    (33) of docs/model.md: the mean of λ^T, weighted with |W|; where nothing is needed, the plain
    mean. Where no line counts, λ^T itself.
    """
    weight = np.where(np.abs(need).sum(axis=0) > 0, np.abs(need), 1.0)
    # (33)  λ^U = Σ |W| λ^T / Σ |W|                                                  [EUR/MWh]
    mean: Floats = (weight * nodal).sum(axis=0) / weight.sum(axis=0)
    return mean
