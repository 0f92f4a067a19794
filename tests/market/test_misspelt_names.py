"""A misspelt column is told with the name that is meant, never dropped."""

import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.market.bids import bids
from hiermarket.network.feeder import feeder_from_table

PERIODS = pd.DatetimeIndex(["2026-01-01"])
ROW = {"feeder": ["f"], "bsp": ["A"], "bus": ["2"], "direction": ["up"], "price": [30.0], "volume": [0.1]}


def market(**changed):
    feeder = feeder_from_table(pd.DataFrame({"parent": ["", "1"], "r": [0, 0.01]}, index=["1", "2"]), name="f")
    parts = {
        "bids": pd.DataFrame(ROW),
        "imbalance": pd.DataFrame({"feeder": ["f"], "bus": ["2"], "imbalance": [0.1]}),
        "tbm_prices": {"up": 60.0, "down": 20.0},
        "rules": hm.MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    }
    return hm.balancing_market({"f": feeder}, **{**parts, **changed})


@pytest.mark.parametrize(
    ("column", "meant"), [("reactive_ration", "reactive_ratio"), ("costs", "cost"), ("prices", "price")]
)
def test_a_column_of_bids(column, meant):
    with pytest.raises(hm.DataError) as caught:
        bids(pd.DataFrame({**ROW, column: [1.0]}), PERIODS)
    (fault,) = caught.value.faults
    assert (fault.where, fault.found) == ("bids", repr(column))
    assert repr(meant) in fault.remedy


def test_a_column_of_the_imbalance():
    table = pd.DataFrame({"feeder": ["f"], "bus": ["2"], "imbalance": [0.1], "perod": ["2026-01-01"]})
    with pytest.raises(hm.DataError) as caught:
        market(imbalance=table)
    assert "'period'" in caught.value.faults[0].remedy


def test_a_direction_of_the_prices():
    with pytest.raises(hm.DataError) as caught:
        market(tbm_prices={"up": 60.0, "down": 20.0, "donw": 20.0})
    assert caught.value.faults[0].found == "'donw'"
    assert "'down'" in caught.value.faults[0].remedy
