"""One market over all grids: by an LP of its own, by hand, and against what other clearings may do."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hiermarket as hm
from hiermarket.market.bids import bids
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.grid import TransmissionGrid
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import lossless
from hiermarket.stages.common_clearing import clear_common
from tests.oracles import common_lp
from tests.random_markets import random_market

LOSSLESS = hm.LinDistFlow(loss_passes=0)


def own_imbalance(market, cleared):
    """The imbalance of every transmission bus, 0 where none is given."""
    buses = [str(bus) for bus in cleared.flat.grid_bus.values]
    nothing = xr.DataArray(
        np.zeros((len(buses), len(market.periods))), coords={"grid_bus": buses, "period": market.periods}
    )
    own = market.transmission.imbalance
    return nothing if own is None else own.rename(bus="grid_bus").reindex(grid_bus=buses, fill_value=0.0)


def assert_same_as_the_oracle(market, cleared, terms=None):
    own = own_imbalance(market, cleared)
    for period in market.periods:
        other = common_lp(market, own, cleared.grid_bids, period, terms=terms, imported=cleared.scheduled_import)
        mine = float(cleared.flat.common_cost.sel(period=period))
        assert mine == pytest.approx(other.objective, rel=1e-7, abs=1e-6)
        # prices are compared where the oracle's are a subgradient: the cost is convex in what is needed
        hours = float(market.duration.sel(period=period))
        for bus in map(str, own.grid_bus.values):
            for step in (1e-4, -1e-4):
                moved = common_lp(
                    market, own + step * (own.grid_bus == bus), cleared.grid_bids, period,
                    terms=terms, imported=cleared.scheduled_import,
                )  # fmt: skip
                price = float(cleared.flat.grid_price.sel(grid_bus=bus, period=period))
                assert moved.objective >= other.objective + hours * step * price - 1e-6


@pytest.mark.parametrize("transmission", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_lossless_optimum_is_that_of_an_lp_written_row_by_row(seed, transmission):
    market = random_market(seed, count=3, periods=2, hours=0.5, transmission=transmission)
    assert_same_as_the_oracle(market, clear_common(market, grid=LOSSLESS).require())


@pytest.mark.parametrize("seed", range(3))
def test_optimum_with_losses_is_that_of_an_lp_with_the_same_terms(seed):
    market = random_market(seed, count=2, transmission=True)
    cleared = clear_common(market).require()
    losses = cleared.losses
    terms = losses.constant, losses.by_p, losses.by_q, losses.by_w
    assert_same_as_the_oracle(market, cleared, terms)


def test_losses_are_taken_as_they_are_given():
    market = random_market(1, count=2, transmission=True)
    found = clear_common(market)
    again = clear_common(market, losses=found.losses)
    assert again.losses is found.losses
    np.testing.assert_allclose(again.flat.common_cost, found.flat.common_cost, rtol=1e-9)
    none = clear_common(market, losses=lossless(market.feeders))
    np.testing.assert_allclose(none.flat.common_cost, clear_common(market, grid=LOSSLESS).flat.common_cost, rtol=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_state_follows_from_the_activation_and_keeps_every_limit(seed):
    market = random_market(seed, count=3, transmission=True)
    flat = clear_common(market, grid=LOSSLESS).flat
    # some random grids have no state at all: ratings with tight voltages behind taps
    assume(not flat.grid_status.any())
    feeders = market.feeders.data
    sign = market.bids.sign
    at = [list(feeders.bus.values).index(node) for node in market.bids.node]
    p = feeders.p_scheduled - market.imbalance + flat.unserved - flat.spilled
    q = feeders.q_scheduled + flat.reactive_shortage.fillna(0) - flat.reactive_surplus.fillna(0)
    p, q = p.transpose("bus", "period").values.copy(), q.transpose("bus", "period").values.copy()
    np.add.at(p, at, (sign * flat.activation).values)
    np.add.at(q, at, (sign * market.bids.data.reactive_ratio * flat.activation).transpose("bid", "period").values)
    like = feeders.p_scheduled.transpose("bus", "period")
    state = linear_flow(market.feeders, lossless(market.feeders), like.copy(data=p), like.copy(data=q))
    plan = linear_flow(market.feeders, lossless(market.feeders), like, feeders.q_scheduled)
    np.testing.assert_allclose(state.v, flat.voltage, atol=1e-7)
    exchange = (state.p_interface - plan.p_interface).transpose("feeder", "period")
    np.testing.assert_allclose(exchange, flat.interface_exchange, atol=1e-7)
    below = feeders.depth > 0
    assert bool((flat.voltage >= feeders.v_min - 1e-7).where(below, True).all())
    assert bool((flat.voltage <= feeders.v_max + 1e-7).where(below, True).all())
    # every root pays the price of the bus where it hangs
    roots = market.feeders.roots
    np.testing.assert_allclose(flat.nodal_price.sel(bus=roots.to_numpy()), flat.interface_price, atol=1e-6)


def two_feeders(limit):
    """Feeder f lacks 0.5 MW and hangs at T1 with a dear bid of the grid; feeder g at T2 has a cheap local one."""
    index = pd.date_range("2026-01-01", periods=1, freq="h")
    table = pd.DataFrame({"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01]}, index=["r", "e"])
    grid = xr.Dataset(
        {
            "bus0": ("line", ["T1"]), "bus1": ("line", ["T2"]), "susceptance": ("line", [100.0]),
            "s_max": ("line", [limit]), "p_scheduled": (("bus", "period"), np.zeros((2, 1))),
            "duration": ("period", [1.0]),
        },
        coords={"bus": ["T1", "T2"], "line": ["T1-T2"], "period": index},
    )  # fmt: skip
    columns = ["feeder", "bsp", "bus", "direction", "price", "volume"]
    dear = pd.DataFrame([("transmission", "G", "T1", "up", 60.0, 1.0)], columns=columns)
    return hm.balancing_market(
        {name: feeder_from_table(table, name=name, periods=index) for name in ("f", "g")},
        bids=pd.DataFrame([("g", "A", "e", "up", 20.0, 1.0)], columns=columns),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [0.5]}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(200.0, 1000.0),
        transmission=hm.Transmission(
            grid=TransmissionGrid(grid), interface={"f": "T1", "g": "T2"}, bids=bids(dear, index)
        ),
    )


def test_by_hand_across_a_line():
    # 0.1 MW at 20 crosses the line, 0.4 MW at 60 stands in front of it: 2 + 24 = 26 EUR
    cleared = clear_common(two_feeders(0.1), grid=LOSSLESS).require()
    assert cleared.flat.common_cost.item() == pytest.approx(26.0)
    assert cleared.flat.activation.item() == pytest.approx(0.1)
    assert cleared.flat.grid_activation.item() == pytest.approx(0.4)
    assert cleared.flat.interface_exchange.values.ravel().tolist() == pytest.approx([0.5, -0.1])
    assert cleared.flat.interface_price.values.ravel().tolist() == pytest.approx([60.0, 20.0])
    assert cleared.nodal_price.sel(feeder="f", bus="e").item() == pytest.approx(60.0)
    assert cleared.flat.line_flow.item() == pytest.approx(-0.1)
    # without the limit the cheap one does all: 0.5 · 20 = 10 EUR
    assert clear_common(two_feeders(1.0), grid=LOSSLESS).flat.common_cost.item() == pytest.approx(10.0)


def test_ties_are_decided_by_gross_activation_then_order():
    market = random_market(2, count=2, transmission=True)
    data = market.bids.data
    # every local bid at one price: up and down at the same price would trade for nothing
    market = market.with_bids(data.assign(price=0 * data.price + 30.0))
    found, again = (clear_common(market, grid=LOSSLESS).flat for _ in range(2))
    np.testing.assert_array_equal(found.activation, again.activation)
    owner, up = found.bid_feeder.values, found.bid_direction.values == "up"
    at = found.bid_bus.values
    for feeder in set(owner):
        for bus in set(at[owner == feeder]):
            mine = (owner == feeder) & (at == bus) & (data.reactive_ratio.values[:, 0] == 0)
            both = [float(found.activation.values[mine & way].sum()) for way in (up, ~up)]
            assert min(both) == pytest.approx(0.0, abs=1e-9)


def test_a_period_without_an_optimum_is_told():
    market = random_market(0, count=2, transmission=True)
    cleared = clear_common(market, grid=LOSSLESS, solver=hm.SolverOptions(time_limit=0.0))
    assert int(cleared.flat.grid_status.item()) != 0
    assert np.isnan(cleared.flat.activation).all()
    with pytest.raises(hm.SolveError):
        cleared.require()
