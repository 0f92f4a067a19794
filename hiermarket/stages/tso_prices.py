"""Prices of the TSO's market where no line of an island counts: one rule wherever they are not unique."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, PERIOD
from hiermarket.schema import positions
from hiermarket.stages.tso_model import grid_buses, offers_of_grid

if TYPE_CHECKING:
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.stages.tso_sources import Sources

#: Volumes below this are none [MW]: the feasibility tolerance of the LPs.
NO_VOLUME = 1e-9
#: Prices this close are one [EUR/MWh].
NEAR = 1e-6


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
    island = _islands(side)
    grid = offers_of_grid(side)
    at = positions(grid_buses(side), grid.data["bid_bus"].values)
    offered = {name: grid.data[name].transpose(BID, PERIOD).values for name in ("volume", "price")}
    bus_of_source = np.repeat(np.arange(len(island)), np.diff(sources.first))
    lowest, highest = np.full(values["grid_price"].shape, -np.inf), np.full(values["grid_price"].shape, np.inf)
    for bus, sign, volume, active, cost in (
        (bus_of_source, sources.sign, sources.volume, taken, sources.value),
        (at, grid.sign.values, offered["volume"], values["grid_activation"], offered["price"]),
    ):
        up, known = (sign > 0)[:, None], np.isfinite(cost) & (volume > 0)
        in_use, spare = known & (active > NO_VOLUME), known & (volume - active > NO_VOLUME)
        # what adds to the supply at this cost, and what would add at that
        np.maximum.at(lowest, bus, np.where(np.where(up, in_use, spare), cost, -np.inf))
        np.minimum.at(highest, bus, np.where(np.where(up, spare, in_use), cost, np.inf))
    short = (values["grid_unserved"] > NO_VOLUME) | (values["grid_spilled"] > NO_VOLUME)
    # bids with hardly any effect at the interface have no price there
    odd = np.zeros(short.shape, dtype=bool)
    np.logical_or.at(odd, bus_of_source, np.isinf(sources.value) & (taken > NO_VOLUME))
    shape = (int(island.max(initial=-1)) + 1, short.shape[1])
    low, high, undecided = np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape, dtype=bool)
    np.maximum.at(low, island, lowest)
    np.minimum.at(high, island, highest)
    np.logical_or.at(undecided, island, short | odd)
    some = np.isfinite(low) | np.isfinite(high)
    by_rule = some & ~undecided & (low <= high + NEAR)
    middle = np.where(np.isfinite(low), low, high) / 2 + np.where(np.isfinite(high), high, low) / 2
    return np.where(by_rule[island], middle[island], values["grid_price"])


def _islands(side: TsoSide) -> Ints:
    """Return the number of the island of every bus."""
    grid = side.transmission.grid
    return np.zeros(1, dtype=np.int64) if grid is None else grid.island_of.to_numpy(dtype=np.int64)
