"""The balance at the interface (21): what a feeder lacks there, and what a MW of each bid is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, FEEDER, PERIOD
from hiermarket.schema import bare, positions
from hiermarket.stages.ac_check import injections

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.linear_flow import LinearGrid

    Floats = NDArray[np.float64]


def start(market: BalancingMarket) -> tuple[Floats, Floats]:
    """Return the net injections (bus, period) with nothing activated [MW, Mvar]."""
    p, q = injections(market, xr.zeros_like(bare(market.bids.data.volume)))
    return p.transpose(BUS, PERIOD).values, q.transpose(BUS, PERIOD).values


def interface_need(
    market: BalancingMarket, grid: LinearGrid, scheduled_import: xr.DataArray, held: Floats | float = 0.0
) -> xr.DataArray:
    """Return W (feeder, period): what the interface lacks when nothing is activated [MW].

    Parameters
    ----------
    market : BalancingMarket
        Schedule and imbalance.
    grid : LinearGrid
        Of the losses.
    scheduled_import : DataArray (feeder, period)
        P^sched [MW].
    held : array (feeder, period)
        What the reactive support of the losses' state saves at the interface, Σ φ_2 q° [MW].
    """
    imports = scheduled_import.transpose(FEEDER, PERIOD)
    return imports.copy(data=grid.state(*start(market)).interface - held - imports.values)


def bid_factors(market: BalancingMarket, factor: Floats) -> xr.DataArray:
    """Return φ_1 + τ φ_2 of every bid: MW at the interface per MW injected, (bid, period).

    Parameters
    ----------
    market : BalancingMarket
        Where the bids are, and their reactive ratios.
    factor : array (2, bus, period)
        Of `LinearGrid.factors`.
    """
    data = market.bids.data
    place = positions(market.feeders.data.indexes[BUS], data.bid_node.values)
    ratio = bare(data.reactive_ratio).transpose(BID, PERIOD)
    return ratio.copy(data=factor[0, place] + ratio.values * factor[1, place])
