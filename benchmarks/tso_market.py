"""The TSO's market with the offers of many feeders: few LPs of few bids, against LPs of all bids.

Offers are random, of twenty bids each, under the 14-bus grid with lines that bind; imbalance is random, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.registry import Answers, Case, Ratio

if TYPE_CHECKING:
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.stages.interface import InterfaceOffers
    from hiermarket.stages.tso_clearing import TsoClearing

BIDS = 20

#: Limit of every line [MW], beside 259 MW of load: some bind.
RATING = 60.0


@dataclass(frozen=True, slots=True)
class Input:
    """The TSO's side and what the DSOs bring."""

    side: TsoSide
    offers: InterfaceOffers


def offers(feeders: int, periods: int) -> Input:
    """Make offers of so many feeders."""
    from hiermarket.market.cases import load_case
    from hiermarket.stages.interface import InterfaceOffers

    random = np.random.default_rng(5)
    case = load_case("ieee33")
    at = np.arange(periods) * len(case.periods) // periods
    index = pd.date_range("2026-01-01", periods=periods, freq="h")
    side = case.transmission
    if side.grid is None or side.bids is None or side.imbalance is None:
        raise ValueError("the case has a transmission grid with bids and imbalance")
    grid = side.grid.data.isel(period=at).assign_coords(period=index)
    own = side.bids.data.isel(period=at).assign_coords(period=index)
    names = [f"feeder {number}" for number in range(feeders)]
    buses = grid.indexes["bus"]
    shape, way = (feeders * BIDS, periods), np.tile(["up", "down"], feeders * BIDS // 2)
    price = np.where(way == "up", random.uniform(35, 90, shape[0]), random.uniform(5, 34, shape[0]))
    exchange = random.uniform(-0.2, 0.2, (feeders, periods)) + random.normal(0, 0.1, periods)
    flat = xr.Dataset(
        {
            "forwarded": (("bid", "period"), random.uniform(0, 0.1, shape) * (random.random(shape) < 0.7)),
            "forwarded_undo": (("bid", "period"), random.uniform(0, 0.05, shape) * (random.random(shape) < 0.2)),
            "forward_price": (("bid", "period"), np.repeat(price[:, None], periods, axis=1)),
            "interface_factor": (("bid", "period"), random.uniform(1.0, 1.06, shape)),
            "tbm_volume": (
                ("feeder", "direction", "period"),
                np.stack([exchange.clip(min=0), -exchange.clip(max=0)], axis=1),
            ),
        },
        coords={
            "bid": [f"{names[k // BIDS]}/A/1/{k % BIDS}/{way[k]}" for k in range(shape[0])], "period": index,
            "feeder": names, "direction": ["up", "down"], "bid_feeder": ("bid", np.repeat(names, BIDS)),
            "bid_bsp": ("bid", np.full(shape[0], "A")), "bid_bus": ("bid", np.full(shape[0], "1")),
            "bid_block": ("bid", np.tile(np.arange(BIDS), feeders)), "bid_direction": ("bid", way),
        },
    )  # fmt: skip
    limit = xr.DataArray(
        np.full((feeders, 2, periods), np.inf),
        dims=("feeder", "direction", "period"),
        coords={"feeder": names, "direction": ["up", "down"], "period": index},
    )
    tbm = case.tbm[["tbm_price"]].isel(period=at).assign_coords(period=index).assign(tbm_limit=limit)
    transmission = replace(
        side,
        grid=replace(side.grid, data=grid.assign(s_max=grid["s_max"] * 0 + RATING)),
        interface={name: str(buses[number % len(buses)]) for number, name in enumerate(names)},
        # providers grow with the feeders
        bids=replace(side.bids, data=own.assign(volume=own["volume"] * feeders / 20)),
        imbalance=side.imbalance.isel(period=at).assign_coords(period=index),
    )
    whole = replace(case.tso_side, tbm=tbm, duration=grid["duration"], transmission=transmission)
    return Input(whole, InterfaceOffers(flat))


@dataclass(frozen=True, slots=True)
class Cleared:
    """A clearing, and what it took."""

    clearing: TsoClearing
    solves: int
    note: str


def few(answers: Answers) -> Cleared:
    """Clear by merit order, and by LPs of the bids at the margin."""
    return _cleared(answers["build"], screening=True)


def every(answers: Answers) -> Cleared:
    """Clear by LPs of all bids."""
    return _cleared(answers["build"], screening=False)


def _cleared(given: Input, *, screening: bool) -> Cleared:
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.tso_clearing import clear_offers

    clearing = clear_offers(given.side, given.offers, solver=SolverOptions(screening=screening)).require()
    work = clearing.work
    return Cleared(clearing, work.solves, f"{work.screened} periods without an LP, {work.seconds:.2f} s in HiGHS")


def same_clearing(answers: Answers) -> None:
    """Volumes and prices must agree, bid by bid."""
    one, other = (answers[name].clearing.flat for name in ("few", "every"))
    for name in ("change", "grid_activation", "grid_price", "line_flow"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


CASES = (
    Case(
        name="tso",
        title="The TSO's clearing with the offers of N feeders × T periods on the 14-bus grid",
        build=offers,
        sizes=({"feeders": 10, "periods": 2}, {"feeders": 200, "periods": 24}, {"feeders": 1000, "periods": 96}),
        phases={"few": few, "every": every},
        agree=same_clearing,
        ratios=(Ratio(("few",), ("every",)),),
        grows="feeders",
    ),
)
