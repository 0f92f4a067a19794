"""Wrong answers that a review found once: each with its working, so that none comes back."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.power_flow import power_flow, violations
from hiermarket.stages.ac_check import injections
from hiermarket.stages.bidding import paid_price

LOSSLESS = hm.LinDistFlow(loss_passes=0)
TWO = pd.DataFrame({"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01]}, index=["r", "e"])


def market(table, rows, need, *, voll=1000.0):
    return hm.balancing_market(
        {"f": feeder_from_table(table, name="f")},
        bids=pd.DataFrame(rows).assign(feeder="f"),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": [table.index[-1]], "imbalance": [need]}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(price_cap=100.0, value_of_lost_load=voll),
    )


@pytest.mark.parametrize("voll", [1e3, 1e5])
def test_a_high_value_of_lost_load_makes_no_ties(voll):
    # the dearer bid stands first: 1 MW at 50.015 and 1 MW at 50.000 for a need of 1 MW
    rows = [
        {"bsp": "R", "bus": "e", "direction": "up", "price": 50.015, "volume": 1.0},
        {"bsp": "S", "bus": "e", "direction": "up", "price": 50.000, "volume": 1.0},
    ]
    cleared = hm.clear_dso(market(TWO, rows, 1.0, voll=voll), grid=LOSSLESS)
    assert cleared.flat.activation.values.ravel() == pytest.approx([0.0, 1.0], abs=1e-9)


@pytest.mark.filterwarnings("ignore::hiermarket.errors.MarketWarning")
def test_a_loss_taken_in_part_is_not_taken_whole():
    # L: 0.6 MW up at cost 7, 1 MW down worth 32; the rival 2 MW up at 43; need 0.5 MW. L sells
    # 0.6 at 43 and buys 0.1 back at 43: 0.6 (43 − 7) − 0.1 (43 − 32) = 20.5. Offered above the
    # rival, the down bid would be taken whole: 0.6 · 36 − 1.0 · 11 = 10.6.
    rows = [
        {"bsp": "L", "bus": "e", "direction": "up", "price": 7.0, "volume": 0.6},
        {"bsp": "L", "bus": "e", "direction": "down", "price": 32.0, "volume": 1.0},
        {"bsp": "R", "bus": "e", "direction": "up", "price": 43.0, "volume": 2.0},
    ]
    led = hm.bid_strategically(market(TWO, rows, 0.5), "L", grid=LOSSLESS)
    assert led.objective == pytest.approx(20.5, abs=1e-6)
    bids = led.market.bids
    margin = bids.sign * (paid_price(led.market, led.clearing.flat) - bids.data.cost)
    realised = float((margin * led.clearing.flat.activation).where(bids.of("L"), 0.0).sum())
    # a tick of 0.01 EUR/MWh on 0.6 MW at the most
    assert realised == pytest.approx(20.5, abs=0.01)


def test_maximum_regulation_is_the_most_that_ac_allows():
    # one resource at the end of a chain; the most by bisection on the AC power flow
    table = pd.DataFrame(
        {
            "parent": ["", "r", "e"], "r": [0, 0.02, 0.02], "x": [0, 0.02, 0.02], "v_min": 0.9, "v_max": 1.03,
            "p_scheduled": [0, -0.2, -0.3], "q_scheduled": [0, -0.1, -0.1],
        },
        index=["r", "e", "h"],
    )  # fmt: skip
    rows = [
        {"bsp": "A", "bus": "h", "direction": d, "price": p, "volume": 3.0, "reactive_ratio": -0.3}
        for d, p in (("up", 90.0), ("down", 1.0))
    ]
    case = market(table, rows, 0.0)
    forwarded = hm.forward(case, hm.clear_dso(case), method=hm.MaximumRegulation())

    def safe(volumes):
        activation = xr.zeros_like(case.bids.data.volume) + np.array(volumes)[:, None]
        broken = violations(case.feeders, power_flow(case.feeders, *injections(case, activation)))
        return all(float(broken[name].max()) <= 1e-9 for name in broken)

    def most(direction):
        low, high = 0.0, 3.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if safe(middle * direction) else (low, middle)
        return low

    expected = [most(np.array([1.0, 0.0])), most(np.array([0.0, 1.0]))]
    # corner passes converge quadratically; the bisection stops at 3e-9 MW
    assert forwarded.flat.forwarded.values.ravel() == pytest.approx(expected, abs=1e-5)
