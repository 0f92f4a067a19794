"""Reactive support of some feeders through the parts of a study: the same as in one call."""

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.network.feeder import feeder_from_table
from hiermarket.stages.coordination import local_stages
from hiermarket.study.batches import join_stages

OPTIONS = hm.Options(forwarding=hm.SafeBox(undo=True))


@pytest.fixture(scope="module")
def market():
    """Two equal feeders whose voltage limit counts; the second one has an inverter, the first no table."""
    periods = pd.date_range("2026-01-01", periods=2, freq="h")
    table = pd.DataFrame(
        {"parent": ["", "root"], "r": [0.0, 0.05], "x": [0.0, 0.05], "v_min": 0.95}, index=["root", "end"]
    )
    bids = [
        {"feeder": name, "bsp": "A", "direction": "up", "price": 80.0, "volume": 1.0, "resource": ""}
        for name in ("a", "b")
    ]
    inverter = {"feeder": "b", "bsp": "B", "direction": "up", "price": 0.0, "volume": 0.0, "resource": "R"}
    return hm.balancing_market(
        {name: feeder_from_table(table, name=name, periods=periods) for name in ("a", "b")},
        bids=pd.DataFrame([*bids, inverter]).assign(bus="end"),
        imbalance=pd.DataFrame({"feeder": ["a", "b"], "bus": "end", "imbalance": 1.0}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(price_cap=200.0, value_of_lost_load=3000.0),
        resources=pd.DataFrame({"feeder": ["b"], "resource": "R", "q_min": -0.3, "q_max": 0.3}),
    )


@pytest.fixture(scope="module")
def whole(market):
    return hm.run(market, OPTIONS)


def test_a_study_has_the_support(market, whole, tmp_path):
    results = hm.run(hm.Study(market, tmp_path / "study", options=OPTIONS, batch=1))
    given = results["clearing"].flat["reactive_support"]
    np.testing.assert_allclose(given, whole.clearing.flat.reactive_support, atol=1e-9)
    assert float(given.min()) > 0.05
    voltage = results["disaggregation"].flat["ac_voltage"].sel(bus=whole.disaggregation.flat.bus.values)
    np.testing.assert_allclose(voltage, whole.disaggregation.flat.ac_voltage, atol=1e-9)
    assert float(results["disaggregation"].flat["undervoltage"].max()) < 1e-6


def test_joined_parts_have_the_support_of_those_that_have_some(market, whole):
    parts = [local_stages(market.of_feeders([name]), OPTIONS) for name in ("a", "b")]
    assert parts[0].market.resources is None
    joined = join_stages(market, parts).clearing
    np.testing.assert_allclose(joined.flat.reactive_support, whole.clearing.flat.reactive_support, atol=1e-9)
    np.testing.assert_allclose(
        joined.losses.support.sel(bus=["a/end", "b/end"]), whole.clearing.losses.support.sel(bus=["a/end", "b/end"]),
        atol=1e-9,
    )  # fmt: skip
