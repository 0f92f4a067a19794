"""What a DSO collects above what it pays, named: the cost of losses, and the rent of limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD
from hiermarket.market.rules import Pricing
from hiermarket.network.feeders import Feeders, select
from hiermarket.network.linear_flow import eliminate
from hiermarket.schema import bare, direction_sign, positions
from hiermarket.stages.clearing_model import at_bus_values

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.program import Floats
    from hiermarket.stages.dso_clearing import DsoClearing


def cost_of_losses(market: BalancingMarket, clearing: DsoClearing, rent: Floats) -> Floats:
    """Return what the DSO collects for losses less what they cost, (feeder, period) [EUR].

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        The distribution markets.
    rent : array (feeder, period)
        What the DSO collects above what it pays [EUR].

    Returns
    -------
    array
        The rest of the rent is that of the limits: ratings, voltages, and the limit of the TBM.

    Notes
    -----
    (31), (32) of docs/model.md. With nodal prices, X and Y are what buses draw beyond the schedule,
    imbalance less activation and energy not served: at λ_root φ they pay for their marginal
    losses, and the DSO buys g. Limits have no part in it. With one price for all buses, nobody
    pays for losses at the margin, and the DSO buys the lost energy.
    """
    flat, hours, names = clearing.flat, market.duration.values, market.feeder_names
    volume = bare(flat["tbm_volume"]).sel({FEEDER: names}).fillna(0.0)
    g = (direction_sign() * volume).sum(DIRECTION).transpose(FEEDER, PERIOD).values
    buses = market.feeders.data.indexes[BUS]
    nodal = bare(flat["nodal_price"]).sel({BUS: buses}).transpose(BUS, PERIOD).values
    root = np.nan_to_num(nodal[positions(buses, market.feeders.roots.to_numpy())])
    owner = positions(names, market.feeders.feeder_of.loc[buses].to_numpy())
    drawn = np.zeros_like(g)
    supplied = bare(market.bids.sign) * bare(flat["activation"]).sel({BID: market.bids.data.indexes[BID]}).fillna(0.0)
    x = _at_buses(market.imbalance, buses) - _at_buses(at_bus_values(supplied, market), buses)
    x = x - np.nan_to_num(_at_buses(flat["unserved"], buses) - _at_buses(flat["spilled"], buses))
    if market.rules.pricing is not Pricing.NODAL:
        np.add.at(drawn, owner, x)
        # (32)  −Δ λ_root (g − Σ X)                                                       [EUR]
        bought: Floats = -hours * root * (g - drawn)
        return bought
    price = (direction_sign() * market.exchange_price * volume).sum(DIRECTION).transpose(FEEDER, PERIOD).values
    # where no other limit counts, the rent is that of losses but for a price above the TBM's at its limit
    found: Floats = rent - hours * (root * g - price)
    decided: NDArray[np.bool_] = flat["screened"].sel({FEEDER: names}).transpose(FEEDER, PERIOD).values.astype(bool)
    limited = ~decided
    some, when = np.asarray(limited.any(axis=1)), np.asarray(limited.any(axis=0))
    if not limited.any():
        return found
    part = select(market.feeders, [str(name) for name, known in zip(names, some, strict=True) if known])
    losses = clearing.losses.sel({BUS: part.branches, PERIOD: market.periods[np.flatnonzero(when)]})
    factor = eliminate(Feeders(part.data.isel({PERIOD: np.flatnonzero(when)})), losses).factors()
    at = np.flatnonzero(some[owner])
    ratio = bare(market.bids.data.reactive_ratio)
    y = -_at_buses(at_bus_values(supplied * ratio, market), buses)
    y = y - np.nan_to_num(_at_buses(flat["reactive_shortage"], buses) - _at_buses(flat["reactive_surplus"], buses))
    worth = np.zeros((len(names), int(when.sum())))
    np.add.at(worth, owner[at], factor[0] * x[at][:, when] + factor[1] * y[at][:, when])
    # (31)  Δ λ_root (Σ φ_1 X + φ_2 Y − g)                                                [EUR]
    by_rows = hours[when] * root[:, when] * (worth - g[:, when])
    found[:, when] = np.where(limited[:, when], by_rows, found[:, when])
    return found


def _at_buses(values: xr.DataArray, buses: pd.Index) -> Floats:
    return bare(values).sel({BUS: buses}).transpose(BUS, PERIOD).values
