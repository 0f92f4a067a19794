"""Bids one by one, everything unchecked, and repaired afterwards; what the grid makes of each."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermarket.errors import DataError, ModelError
from hiermarket.market.balancing_market import Transmission, balancing_market
from hiermarket.market.bids import bids
from hiermarket.market.cases import load_case
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, lossless
from hiermarket.stages.ac_check import injections
from hiermarket.stages.capability import forward
from hiermarket.stages.coordination import AsBid, Options, run_chain
from hiermarket.stages.correction import correct
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import (
    Corrective,
    Forwarding,
    Individual,
    MaximumRegulation,
    OfferCurve,
    SafeBox,
    Unfiltered,
)
from hiermarket.stages.settlement import settle
from hiermarket.stages.tso_clearing import clear_tso
from tests.random_markets import random_market
from tests.stages.test_capability import broken

LOSSLESS = LinDistFlow(loss_passes=0)


def excess(market, clearing, injected):
    """By how much injections (bid, period) beyond the clearing break the linear grid, by feeder."""
    sign = market.bids.sign.values[:, None]
    active = clearing.flat.activation.fillna(0.0) + sign * injected
    p, q = injections(market, active, clearing.recourse.fillna(0.0))
    return broken(market, linear_flow(market.feeders, lossless(market.feeders), p, q))


def test_every_method_has_a_name():
    kinds = {type(name.method()) for name in Forwarding}
    assert kinds == {SafeBox, MaximumRegulation, OfferCurve, Individual, Unfiltered, Corrective}
    assert Forwarding("corrective").method(undo=False) == Corrective(undo=False)


# each bid by itself


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_each_bid_alone_reaches_a_limit_and_no_further(seed):
    """A bid that is cut breaks nothing by itself, and with a hundredth more it breaks a limit."""
    market = random_market(seed, count=12, sizes=(3, 6))
    clearing = clear_dso(market, grid=LOSSLESS)
    before = excess(market, clearing, np.zeros(clearing.flat.activation.shape))
    flat = forward(market, clearing, method=Individual(undo=True)).flat
    up = market.bids.sign.values > 0
    known = (clearing.flat.status == 0).all("period")
    for k in range(market.bids.data.sizes["bid"]):
        feeder = str(market.bids.data.bid_feeder.values[k])
        if not bool(known.sel(feeder=feeder)) or float(before.sel(bus_feeder=feeder)) > 1e-9:
            continue
        for name, left, way in (("forwarded", "remaining", 1.0), ("forwarded_undo", "remaining_undo", -1.0)):
            volume = flat[name].values[k]
            injected = np.zeros(flat.forwarded.shape)
            injected[k] = way * (1.0 if up[k] else -1.0) * volume
            assert float(excess(market, clearing, injected).sel(bus_feeder=feeder)) < 1e-9
            if (volume < flat[left].values[k] - 1e-3).any():
                injected[k] += (
                    way * (1.0 if up[k] else -1.0) * np.where(volume < flat[left].values[k] - 1e-3, 1e-3, 0.0)
                )
                assert float(excess(market, clearing, injected).sel(bus_feeder=feeder)) > 1e-9


# everything, unchecked


def test_unfiltered_breaks_grids_that_the_safe_box_keeps_by_ac_power_flow():
    """Used to the full, up and down: the boxes break nothing in AC that the clearing keeps, the rest does."""
    market = random_market(41, count=14)
    clearing = clear_dso(market, grid=LinDistFlow(2))
    safe, unchecked = (
        forward(market, clearing, method=method).flat for method in (SafeBox(undo=True), Unfiltered(undo=True))
    )
    worst = {
        name: max(
            float((flat[f"corner_{limit}"] - clearing.flat[limit]).max())
            for limit in ("undervoltage", "overvoltage", "overload")
        )
        for name, flat in (("safe", safe), ("unchecked", unchecked))
    }
    assert worst["safe"] < 1e-5
    assert worst["unchecked"] > 0.01
    assert (unchecked.forwarded == unchecked.remaining).all()
    assert not unchecked.withheld.any()


# repaired afterwards


def stages(market, method, grid=LOSSLESS):
    clearing = clear_dso(market, grid=grid)
    forwarded = forward(market, clearing, method=method)
    return clearing, forwarded, clear_tso(market, clearing, forwarded)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), undo=st.booleans())
def test_the_repair_keeps_every_limit_and_the_balance(seed, undo):
    market = random_market(seed, count=8, sizes=(3, 6), transmission=True)
    clearing, forwarded, first = stages(market, Corrective(undo=undo))
    if first.flat.grid_status.any():
        return
    final = correct(market, clearing, forwarded, first)
    before = excess(market, clearing, np.zeros(first.flat.change.shape))
    sign = market.bids.sign.values[:, None]
    after = excess(market, clearing, sign * final.flat.change.fillna(0.0).values)
    assert (after <= np.maximum(before, 0.0) + 1e-5).all()
    kept = ~final.flat.repaired.sel(feeder=first.flat.bid_feeder).values
    np.testing.assert_array_equal(final.flat.change.values[kept], first.flat.change.values[kept])
    # what the feeders deliver and the grid's own bids meet the same need, before and after
    for flat in (first.flat, final.flat):
        own = (first.grid_bids.sign.values[:, None] * flat.grid_activation.values).sum(axis=0)
        lost = (flat.grid_unserved - flat.grid_spilled).sum("grid_bus").values
        delivered = flat.cleared_delivery.sum("feeder").values
        scheduled = market.transmission.grid.data.p_scheduled.sum("bus").values
        np.testing.assert_allclose(scheduled + own + lost + delivered, flat.need.sum("grid_bus").values, atol=1e-6)


def test_without_a_broken_limit_nothing_is_repaired():
    market = random_market(10, count=3, periods=2, transmission=True)
    clearing, forwarded, first = stages(market, Corrective())
    final = correct(market, clearing, forwarded, first)
    assert not final.flat.repaired.any()
    xr.testing.assert_identical(final.flat.drop_vars("repaired"), first.flat)


def test_a_repair_is_paid_as_bid_and_money_sums_to_zero():
    market = random_market(7, count=3, periods=2, transmission=True)
    chain = run_chain(market, Options(behaviour=AsBid(), forwarding=Corrective(), grid=LOSSLESS))
    assert chain.cleared.flat.repaired.any()
    as_bid = chain.cleared.flat.repaired.sel(feeder=chain.cleared.flat.bid_feeder).values
    flat = chain.disaggregation.flat
    np.testing.assert_allclose(flat.change_price.values[as_bid], market.bids.data.price.values[as_bid])
    assert chain.settlement.imbalance_of_money < 1e-10


@pytest.mark.parametrize("method", [OfferCurve(), Individual(undo=True), SafeBox(undo=True), Corrective()])
def test_no_method_that_keeps_the_grid_is_cheaper_than_the_offer_curve(method):
    """Cost at bid prices of all bids, local and of the transmission grid, stage 1 and TSO together."""
    for seed in (0, 12):
        market = random_market(seed, count=3, periods=2, transmission=True)
        costs = [cost(market, *stages_and_repair(market, way)) for way in (OfferCurve(), method)]
        assert costs[0] <= costs[1] + 1e-6


def stages_and_repair(market, method):
    clearing, forwarded, cleared = stages(market, method)
    if isinstance(method, Corrective):
        cleared = correct(market, clearing, forwarded, cleared)
    final = disaggregate(market, clearing, forwarded, cleared)
    assert settle(market, clearing, cleared, final).imbalance_of_money < 1e-9
    return cleared, final


def cost(market, cleared, final):
    own, grid = market.bids, cleared.grid_bids
    local = (market.duration * own.sign * own.data.price * final.flat.final_activation).sum()
    activated = cleared.flat.grid_activation.values
    others = (market.duration.values * grid.sign.values[:, None] * grid.data.price.values * activated).sum()
    lost = (cleared.flat.grid_unserved + cleared.flat.grid_spilled).sum("grid_bus")
    return float(local + others + (market.duration * market.rules.value_of_lost_load * lost).sum())


def test_steps_of_a_curve_are_not_repaired():
    market = load_case("two_bus")
    clearing = clear_dso(market, grid=LinDistFlow(loss_passes=0))
    forwarded = forward(market, clearing, method=OfferCurve())
    with pytest.raises(ModelError, match="no bids to repair"):
        correct(market, clearing, forwarded, clear_tso(market, clearing, forwarded))


def test_a_repair_elsewhere_costs_no_bid_its_price():
    """The TSO needs 1 MW, G offers 1.1 at 40, A 1.05 down at 60 behind 1 MW, B 1 up at 50 in another feeder.

    The TSO takes all of A and B, at 50. A can deliver 1 MW: the TSO takes .05 less of G, now at 40. B keeps its 50.
    """
    grids = {}
    for name, limit in (("f1", 1 / np.cos(np.pi / 12)), ("f2", np.inf)):
        table = {"parent": ["", "r"], "r": 0.0, "x": 0.0, "v_min": 0.5, "v_max": 1.5, "s_max": [np.inf, limit]}
        grids[name] = feeder_from_table(pd.DataFrame(table, index=["r", "e"]), name=name)
    periods = pd.DatetimeIndex(grids["f1"].data.period.values)
    g = {"feeder": "transmission", "bsp": ["G"], "bus": "transmission", "direction": "up", "price": 40.0, "volume": 1.1}
    own = xr.DataArray([[1.0]], dims=("bus", "period"), coords={"bus": ["transmission"], "period": periods})
    bid = {"feeder": ["f1", "f2"], "bsp": ["A", "B"], "bus": "e", "direction": ["down", "up"]}
    market = balancing_market(
        grids, bids=pd.DataFrame({**bid, "price": [60.0, 50.0], "volume": [1.05, 1.0], "cost": [60.0, 50.0]}),
        imbalance=pd.DataFrame({"feeder": ["f1"], "bus": "r", "imbalance": 0.0}), tbm_prices={"up": 70.0, "down": 20.0},
        rules=MarketRules(price_cap=200.0, value_of_lost_load=1000.0),
        transmission=Transmission(bids=bids(pd.DataFrame(g), periods), imbalance=own),
    )  # fmt: skip
    clearing, forwarded, first = stages(market, Corrective(undo=False))
    cleared = correct(market, clearing, forwarded, first)
    assert cleared.flat.repaired.values.ravel().tolist() == [True, False]
    assert (first.flat.grid_price.item(), cleared.flat.grid_price.item()) == pytest.approx((50.0, 40.0))
    assert cleared.flat.interface_price.sel(feeder="f2").item() == pytest.approx(50.0)
    settled = settle(market, clearing, cleared, disaggregate(market, clearing, forwarded, cleared))
    assert settled.data.profit.sel(bsp="B").item() == pytest.approx(0.0)
    assert settled.imbalance_of_money < 1e-9
    # (33) with the needs that the result names
    need, price = cleared.flat.need.values, cleared.flat.grid_price.values
    assert cleared.flat.uniform_price.item() == pytest.approx((abs(need) * price).sum() / abs(need).sum())


def test_what_is_no_method_is_named():
    market = load_case("two_bus")
    clearing = clear_dso(market, grid=LinDistFlow(loss_passes=0))
    for wrong in ("safe-box", SafeBox):
        with pytest.raises(DataError, match=r"method: found .*expected a method: SafeBox\(\)"):
            forward(market, clearing, method=wrong)
