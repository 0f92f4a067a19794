"""Small markets for the tests of what goes into them."""

import pandas as pd
import pytest

from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


@pytest.fixture(scope="session")
def feeders():
    """Two feeders with unlike buses over two hours."""
    parts = {}
    for name, buses in (("n", ["r", "1", "2"]), ("s", ["r", "1"])):
        table = pd.DataFrame({"parent": ["", *buses[:-1]], "r": 0.01, "x": 0.01}, index=buses)
        table.loc["r", ["r", "x"]] = 0.0
        parts[name] = feeder_from_table(table, name=name, periods=PERIODS)
    return parts


@pytest.fixture
def parts(feeders):
    """Everything that `balancing_market` takes, to be changed by a test."""
    offers = pd.DataFrame(
        {
            "feeder": ["n", "n", "s"],
            "bsp": ["A", "B", "A"],
            "bus": ["1", "2", "1"],
            "direction": ["up", "down", "up"],
            "price": [30.0, 25.0, 40.0],
            "volume": [0.2, 0.3, 0.1],
        }
    )
    return {
        "feeders": feeders,
        "bids": offers,
        "imbalance": pd.DataFrame({"feeder": ["n"], "bus": ["2"], "imbalance": [0.5]}),
        "tbm_prices": {"up": 60.0, "down": 20.0},
        "rules": MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    }


@pytest.fixture
def market_of(parts):
    """Make the market with some parts changed."""

    def make(**changed):
        given = parts | changed
        return balancing_market(given.pop("feeders"), **given)

    return make
