"""Wrong answers that a review found once: each with its working, so that none comes back."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.power_flow import power_flow, violations
from hiermarket.stages.ac_check import injections
from hiermarket.stages.paid_prices import paid_price
from tests.random_markets import random_market

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


def end_bus(rows, *, load, imbalance, line, limit=np.inf):
    """Two buses, bids at the end, TBM at 60 and 20."""
    table = pd.DataFrame({"parent": ["", "r"], "r": [0.0, line], "x": [0.0, line]}, index=["r", "e"])
    table["p_scheduled"], table["q_scheduled"] = [0.0, load.real], [0.0, load.imag]
    found = market(table.assign(v_min=0.1, v_max=2.0), {"bus": "e", **rows}, imbalance, voll=5000.0)
    return dataclasses.replace(found, tbm=found.tbm.assign(tbm_limit=xr.full_like(found.tbm.tbm_limit, limit)))


@pytest.mark.parametrize("screening", [True, False])
def test_without_any_offer_the_price_is_finite(screening):
    """No volume, no TBM, no need: any price up to lost load would do, and 0 is the middle."""
    rows = {"bsp": ["A"], "direction": ["up"], "price": [30.0], "volume": [0.0]}
    nobody = end_bus(rows, load=0j, imbalance=0.0, line=0.01, limit=0.0)
    cleared = hm.clear_dso(nobody, solver=hm.SolverOptions(screening=screening))
    assert cleared.flat.status.item() == 0
    assert cleared.flat.nodal_price.values.ravel() == pytest.approx([0.0, 0.0])
    assert cleared.flat.reactive_price.values.ravel() == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("screening", [True, False])
def test_a_bid_that_does_not_help_at_the_interface_sets_no_price(screening):
    # τ = −20 over r = x = 0.05 at −1 − j0.8: the bid takes more at the interface than it gives (φ < 0). It is
    # left alone, and the TBM at 60 serves in part: λ_root = 60, not the middle of 30 and 60
    rows = {"bsp": ["A"], "direction": ["up"], "price": [30.0], "volume": [0.1], "reactive_ratio": [-20.0]}
    one = end_bus(rows, load=-1 - 0.8j, imbalance=0.1, line=0.05)
    cleared = hm.clear_dso(one, solver=hm.SolverOptions(screening=screening))
    assert float(hm.forward(one, cleared).flat.interface_factor.min()) < 0
    assert cleared.flat.activation.item() == pytest.approx(0.0, abs=1e-9)
    assert cleared.flat.nodal_price.sel(bus="f/r").item() == pytest.approx(60.0, abs=1e-6)


def test_nothing_to_forward_is_nothing_without_screening_too():
    rows = {"bsp": ["A"], "direction": ["up"], "price": [30.0], "volume": [0.0]}
    nobody = end_bus(rows, load=-0.1 + 0j, imbalance=0.0, line=0.01)
    options = hm.SolverOptions(screening=False)
    forwarded = hm.forward(nobody, hm.clear_dso(nobody, solver=options), solver=options)
    assert not forwarded.flat.forwarded.any()


def test_a_fixed_voltage_is_a_limit_with_a_price():
    """v_min = v_max at a bus: the price there is that of the limit, also where the need ends with a bid."""
    whole = random_market(5, count=4)
    data = whole.feeders.data
    leaf = data.bus.values[data.depth.values == data.depth.values.max()][0]
    fixed = float(hm.clear_dso(whole, grid=LOSSLESS).flat.voltage.sel(bus=leaf).item()) - 0.004
    at = data.bus == leaf
    narrow = data.assign(v_min=data.v_min.where(~at, fixed), v_max=data.v_max.where(~at, fixed))
    whole = dataclasses.replace(whole, feeders=type(whole.feeders)(narrow))
    one, other = (hm.clear_dso(whole, grid=LOSSLESS, solver=hm.SolverOptions(screening=s)).flat for s in (True, False))
    np.testing.assert_allclose(one.nodal_price, other.nodal_price, atol=1e-6)
    assert one.voltage.sel(bus=leaf).item() == pytest.approx(fixed, abs=1e-8)
