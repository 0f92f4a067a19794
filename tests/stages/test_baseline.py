"""The TBM alone: C0 by hand, with losses, and for surpluses."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.network.power_flow import power_flow, violations
from hiermarket.stages.baseline import feeders_alone, tbm_alone
from hiermarket.stages.tso_clearing import clear_needs
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


def test_m33(m33_case):
    # .55725 MW at 60; with losses the change of the AC interface flow
    assert tbm_alone(m33_case, grid=LOSSLESS).flat.baseline_cost.item() == pytest.approx(33.435, abs=1e-9)
    lossy = tbm_alone(m33_case).flat
    d = m33_case.feeders.data
    after, before = (
        power_flow(m33_case.feeders, d.p_scheduled - factor * m33_case.imbalance, d.q_scheduled) for factor in (1, 0)
    )
    exchange = (after.p_interface - before.p_interface).item()
    assert lossy.exchange.item() == pytest.approx(exchange, abs=1e-12)
    assert lossy.baseline_cost.item() == pytest.approx(60 * exchange, abs=1e-9)
    assert exchange > 0.55725
    low = violations(m33_case.feeders, after).undervoltage
    np.testing.assert_allclose(lossy.baseline_undervoltage, low, atol=1e-12)


def market_of(deficit, tbm, hours=1.0, load=0.0):
    index = pd.date_range("2026-01-01", periods=len(deficit), freq=pd.Timedelta(hours=hours))
    table = pd.DataFrame(
        {"parent": ["", "r"], "r": [0, 0.1], "x": [0, 0.1], "p_scheduled": [0, load]}, index=["r", "e"]
    )
    return balancing_market(
        {"f": feeder_from_table(table, name="f", periods=index, duration=hours)},
        bids=pd.DataFrame(
            {"feeder": ["f"], "bsp": ["A"], "bus": ["e"], "direction": ["up"], "price": [30.0], "volume": [0.1]}
        ),
        imbalance=pd.DataFrame({"feeder": "f", "bus": "e", "period": index, "imbalance": deficit}),
        tbm_prices={"up": tbm[0], "down": tbm[1]}, rules=MarketRules(200.0, 1000.0),
    )  # fmt: skip


@pytest.mark.parametrize("hours", [0.25, 1.0])
def test_surplus_and_deficit(hours):
    # buys .5 at 60 and sells .4 at 20
    found = tbm_alone(market_of([0.5, -0.4], (60.0, 20.0), hours), grid=LOSSLESS)
    assert found.flat.exchange.values.ravel().tolist() == pytest.approx([0.5, -0.4])
    assert found.flat.baseline_cost.values.ravel().tolist() == pytest.approx([hours * 30.0, -hours * 8.0])
    assert found.cleared.flat.grid_activation.values.tolist() == [pytest.approx([0.5, 0]), pytest.approx([0, 0.4])]


def test_without_a_power_flow_there_is_no_cost():
    # 2.5 MW over 0.1 + 0.1j are beyond the nose of the curve (about 1.2 MW): no state, no cost, no zero either
    found = tbm_alone(market_of([0.1, 2.4], (60.0, 20.0), load=-0.1)).flat
    assert np.isfinite(found.baseline_cost.values[0, 0])
    assert np.isnan(found.baseline_cost.values[0, 1])


@pytest.mark.parametrize("passes", [0, 2])
def test_batches_are_cleared_once(passes):
    market, grid = random_market(12, count=5, periods=2, transmission=True), LinDistFlow(loss_passes=passes)
    whole = tbm_alone(market, grid=grid)
    parts = [feeders_alone(market.of_feeders(names), grid=grid) for names in (["f0", "f1"], ["f2"], ["f3", "f4"])]
    exchange = xr.concat([part.flat.exchange for part in parts], dim="feeder")
    np.testing.assert_allclose(exchange, whole.flat.exchange, atol=1e-12)
    cleared = clear_needs(market.tso_side, exchange)
    assert cleared.flat.sizes["bid"] == 0
    for name in ("grid_price", "grid_activation", "interface_price"):
        np.testing.assert_allclose(cleared.flat[name], whole.cleared.flat[name], atol=1e-9)
    for name in whole.flat:
        dim = whole.flat[name].dims[0]
        joined = xr.concat([part.flat[name] for part in parts], dim=dim)
        np.testing.assert_allclose(joined, whole.flat[name], atol=1e-12)
