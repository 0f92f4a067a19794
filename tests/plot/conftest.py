"""Runs that are drawn: one period and two feeders, by hand; pictures are closed after each test."""

from collections.abc import Iterator

import pandas as pd
import pytest

from hiermarket.market.balancing_market import BalancingMarket, balancing_market
from hiermarket.market.cases import load_case
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.coordination import Chain, Options, Truthful, run_chain

LOSSLESS = LinDistFlow(loss_passes=0)


@pytest.fixture(scope="session")
def m33() -> Chain:
    return run_chain(load_case("m33"), Options(behaviour=Truthful(), grid=LOSSLESS))


def two_days() -> BalancingMarket:
    """Two feeders over two days of one period each; in the first, the south's voltage limit of 0.97 binds."""
    periods = pd.to_datetime(["2026-03-01 12:00", "2026-03-02 12:00"])
    line = {"parent": ["", "root", "a", "a"], "r": [0.0, 0.02, 0.02, 0.02], "x": [0.0, 0.0, 0.0, 0.0], "v_min": 0.97}
    feeders = {
        name: feeder_from_table(pd.DataFrame(line, index=["root", "a", "b", "c"]), name=name, periods=periods)
        for name in ("north", "south")
    }
    bids = {
        "feeder": ["north", "north", "south"], "bsp": ["A", "B", "A"], "bus": ["b", "c", "b"],
        "direction": ["up", "down", "up"], "price": [30.0, 25.0, 35.0], "volume": [0.2, 0.3, 0.4],
    }  # fmt: skip
    need = [("north", "b", 0.5), ("south", "b", 1.2), ("north", "b", -0.1), ("south", "b", 0.0)]
    rows = [(*row, periods[k // 2]) for k, row in enumerate(need)]
    return balancing_market(
        feeders,
        bids=pd.DataFrame(bids),
        imbalance=pd.DataFrame(rows, columns=["feeder", "bus", "imbalance", "period"]),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    )


@pytest.fixture(scope="session")
def two_feeders() -> Chain:
    return run_chain(two_days(), Options(behaviour=Truthful(), grid=LOSSLESS))


@pytest.fixture(scope="session")
def two_feeders_with_losses() -> Chain:
    return run_chain(two_days(), Options(behaviour=Truthful()))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
