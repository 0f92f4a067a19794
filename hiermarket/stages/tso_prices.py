"""Prices of the TSO's market where no line of an island counts: one rule wherever they are not unique."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, PERIOD
from hiermarket.schema import positions
from hiermarket.stages.merit_order import NEAR, NO_VOLUME
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
    lowest, highest = _margin(volume, values["grid_activation"], price, grid.sign.values)
    shape = values["grid_price"].shape
    low_of_bus, high_of_bus = np.full(shape, -np.inf), np.full(shape, np.inf)
    np.maximum.at(low_of_bus, at, lowest)
    np.minimum.at(high_of_bus, at, highest)
    short = (values["grid_unserved"] > NO_VOLUME) | (values["grid_spilled"] > NO_VOLUME)
    filled = np.diff(sources.first) > 0
    if filled.any():
        starts = sources.first[:-1][filled]
        lowest, highest = _margin(sources.volume, taken, sources.value, sources.sign)
        low_of_bus[filled] = np.maximum(low_of_bus[filled], np.maximum.reduceat(lowest, starts, axis=0))
        high_of_bus[filled] = np.minimum(high_of_bus[filled], np.minimum.reduceat(highest, starts, axis=0))
        # bids with hardly any effect at the interface have no price there
        short[filled] |= np.logical_or.reduceat(np.isinf(sources.value) & (taken > NO_VOLUME), starts, axis=0)
    shape = (int(island.max()) + 1, shape[1])
    low, high, undecided = np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape, dtype=bool)
    np.maximum.at(low, island, low_of_bus)
    np.minimum.at(high, island, high_of_bus)
    np.logical_or.at(undecided, island, short)
    one = np.where(np.isfinite(low), low, high)
    known = np.isfinite(one)
    other = np.where(np.isfinite(high), high, one)
    middle = np.where(known, one, 0.0) / 2 + np.where(known, other, 0.0) / 2
    # without any bid, any price from −VOLL to VOLL, and 0 is the middle
    by_rule = ~undecided & (~known | (low <= high + NEAR))
    return np.where(by_rule[island], middle[island], values["grid_price"])


def _margin(volume: Floats, active: Floats, cost: Floats, sign: Floats) -> tuple[Floats, Floats]:
    """Return the cost of each bid as a bound of the price from below and from above; ∓∞ where it is none."""
    up, known = (sign > 0)[:, None], np.isfinite(cost) & (volume > 0)
    in_use, spare = known & (active > NO_VOLUME), known & (volume - active > NO_VOLUME)
    # an up bid in use, a down bid that is left, would be so at any higher price
    return np.where(np.where(up, in_use, spare), cost, -np.inf), np.where(np.where(up, spare, in_use), cost, np.inf)
