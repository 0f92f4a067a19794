"""Prices of the TSO's market where no line of an island counts: one rule wherever they are not unique."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, PERIOD
from hiermarket.schema import positions
from hiermarket.stages.merit_order import NEAR, NO_VOLUME, middle, price_bounds
from hiermarket.stages.tso_model import grid_buses, offers_of_grid
from hiermarket.stages.tso_screening import islands

if TYPE_CHECKING:
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats
    from hiermarket.stages.tso_sources import Sources


def price_by_rule(side: TsoSide, sources: Sources, taken: Floats, values: dict[str, Floats]) -> Floats:
    """Return the prices, by rule where the activated bids alone decide them.

    Parameters
    ----------
    side : TsoSide
        The TSO's side, with bids.
    sources : Sources
        The bids of the DSOs.
    taken : (source, period) array
        What is activated of them [MW].
    values : mapping name → array
        ``grid_price, grid_unserved, grid_spilled`` (bus), ``grid_activation`` (grid_bid), each
        by period.

    Returns
    -------
    (bus, period) array
        EUR/MWh. In an island where everything is served and no bid that is left would be
        cheaper than one that is taken, no line counts, and any price between the dearest
        bid taken and the cheapest one left clears the market: it is the middle of both, or
        the one that there is. Elsewhere the multipliers of the LP.
    """
    island, grid = islands(side), offers_of_grid(side)
    at = positions(grid_buses(side), grid.data["bid_bus"].values)
    volume, price = (grid.data[name].transpose(BID, PERIOD).values for name in ("volume", "price"))
    lowest, highest = price_bounds(values["grid_activation"], volume, price, grid.sign.values[:, None] > 0)
    shape = values["grid_price"].shape
    low_of_bus, high_of_bus = np.full(shape, -np.inf), np.full(shape, np.inf)
    np.maximum.at(low_of_bus, at, lowest)
    np.minimum.at(high_of_bus, at, highest)
    short = (values["grid_unserved"] > NO_VOLUME) | (values["grid_spilled"] > NO_VOLUME)
    filled = np.diff(sources.first) > 0
    if filled.any():
        starts = sources.first[:-1][filled]
        # a bid with hardly any effect at the interface has no price there
        volume = np.where(np.isfinite(sources.value), sources.volume, 0.0)
        lowest, highest = price_bounds(np.minimum(taken, volume), volume, sources.value, sources.sign[:, None] > 0)
        low_of_bus[filled] = np.maximum(low_of_bus[filled], np.maximum.reduceat(lowest, starts, axis=0))
        high_of_bus[filled] = np.minimum(high_of_bus[filled], np.minimum.reduceat(highest, starts, axis=0))
        short[filled] |= np.logical_or.reduceat(np.isinf(sources.value) & (taken > NO_VOLUME), starts, axis=0)
    shape = (int(island.max()) + 1, shape[1])
    low, high, undecided = np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape, dtype=bool)
    np.maximum.at(low, island, low_of_bus)
    np.minimum.at(high, island, high_of_bus)
    np.logical_or.at(undecided, island, short)
    price = middle(low, high)
    by_rule = ~undecided & (low <= high + NEAR) & (np.abs(price) <= side.rules.value_of_lost_load)
    return np.where(by_rule[island], price[island], values["grid_price"])
