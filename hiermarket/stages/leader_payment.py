"""What a leader is paid, and earns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.schema import bare
from hiermarket.stages.dso_clearing import per_feeder
from hiermarket.stages.paid_prices import earned

if TYPE_CHECKING:
    import xarray as xr

    from hiermarket.market.balancing_market import BalancingMarket


def profit_of(market: BalancingMarket, own: xr.DataArray, values: xr.Dataset) -> xr.DataArray:
    """Return payment, by the rule of the market, less own cost of some bids, (feeder, period) [EUR].

    Parameters
    ----------
    market : BalancingMarket
        Bids, at the prices that are offered, and rules.
    own : bool DataArray (bid)
        Whose profit.
    values : Dataset
        ``activation (bid, period)``, ``nodal_price, reactive_price (bus, period)``: expected or cleared.
    """
    spent = bare(market.bids.sign) * bare(market.bids.data.cost) * bare(values.activation)
    # (10)  Δ Σ_own (payment − σ c a)                                                     [EUR]
    return per_feeder(bare(own) * (earned(market, values) - spent), market) * bare(market.duration)
