"""The offer curve is the value function of the feeder: by hand, by LPs of its own, and back to the bids."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermarket.errors import MarketWarning
from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.cases import load_case
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.capability import forward
from hiermarket.stages.coordination import AsBid, Options, run_chain
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import OfferCurve
from hiermarket.stages.interface import interface_offers
from hiermarket.stages.tso_clearing import clear_tso
from tests.oracles import dso_lp
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


def steps_of(forwarded, feeder, way, t=0):
    """Price and volume of the steps of one curve, outward."""
    flat = forwarded.flat.sel(feeder=feeder, direction=way).isel(period=t)
    some = flat.step_volume.values > 0
    return np.stack([flat.step_price.values[some], flat.step_volume.values[some]], axis=1)


def two_feeders_bids(rating=np.inf):
    """A root and a bus behind r = x = 0.01; A 0.4 MW up at 30, B 0.3 MW down at 25; deficit 0.1 MW at the bus."""
    line = {"parent": ["", "root"], "r": [0.0, 0.01], "x": [0.0, 0.01], "s_max": [np.inf, rating]}
    feeder = feeder_from_table(pd.DataFrame(line, index=["root", "end"]), name="f")
    rows = [
        {"feeder": "f", "bsp": "A", "bus": "end", "direction": "up", "price": 30.0, "volume": 0.4},
        {"feeder": "f", "bsp": "C", "bus": "root", "direction": "up", "price": 45.0, "volume": 0.2},
        {"feeder": "f", "bsp": "B", "bus": "end", "direction": "down", "price": 25.0, "volume": 0.3},
    ]
    return balancing_market(
        {"f": feeder}, bids=pd.DataFrame(rows),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["end"], "imbalance": [0.1]}),
        tbm_prices={"up": 60.0, "down": 20.0}, rules=MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    )  # fmt: skip


# by hand


def test_steps_by_hand():
    """A gives 0.1 of 0.4 and C 0.0 of 0.2 in stage 1.

    More: A's 0.3 at 30, then C's 0.2 at 45. Less: A's 0.1 undone saves 30, then B's 0.3 at 25.
    """
    market = two_feeders_bids()
    clearing = clear_dso(market, grid=LOSSLESS)
    forwarded = forward(market, clearing, method=OfferCurve())
    np.testing.assert_allclose(steps_of(forwarded, "f", "up"), [(30.0, 0.3), (45.0, 0.2)], atol=1e-9)
    np.testing.assert_allclose(steps_of(forwarded, "f", "down"), [(30.0, 0.1), (25.0, 0.3)], atol=1e-9)
    assert forwarded.work.solves == 0
    kept = forward(market, clearing, method=OfferCurve(undo=False))
    np.testing.assert_allclose(steps_of(kept, "f", "down"), [(25.0, 0.3)], atol=1e-9)


def test_a_rating_cuts_the_curve():
    """12 sides keep 0.12·cos 15° on the line: with nothing but 0.1 − 0.1 on it, A may send 0.1159 MW up the line.

    So A's step ends there, C at the root goes on, and B's step ends where 0.1159 MW flow down.
    """
    most = 0.12 * np.cos(np.pi / 12)
    market = two_feeders_bids(rating=0.12)
    clearing = clear_dso(market, grid=LOSSLESS)
    forwarded = forward(market, clearing, method=OfferCurve())
    np.testing.assert_allclose(steps_of(forwarded, "f", "up"), [(30.0, most), (45.0, 0.2)], atol=1e-9)
    np.testing.assert_allclose(steps_of(forwarded, "f", "down"), [(30.0, 0.1), (25.0, most - 0.1)], atol=1e-9)
    assert forwarded.work.solves > 0
    assert forwarded.flat.forwarded.values.ravel() == pytest.approx([most, 0.2, most - 0.1])
    assert forwarded.flat.forwarded_undo.values.ravel() == pytest.approx([0.1, 0.0, 0.0])


def test_steps_are_offered_at_the_interface():
    market = two_feeders_bids()
    clearing = clear_dso(market, grid=LOSSLESS)
    flat = interface_offers(clearing, forward(market, clearing, method=OfferCurve())).flat
    assert list(flat.bid.values) == [
        f"f/DSO/interface/{number}/{way}" for number in (0, 1) for way in ("up", "down")
    ]  # fmt: skip
    assert flat.forwarded.values.ravel() == pytest.approx([0.3, 0.1, 0.2, 0.3])
    assert (flat.interface_factor == 1.0).all()


# the value function


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), undo=st.booleans(), share=st.floats(-1.0, 1.0))
def test_the_area_under_the_steps_is_what_an_lp_of_its_own_says(seed, undo, share):
    """V(y) − V(0) of (14) against (8) written row by row, with the interface fixed at y."""
    market = random_market(seed, count=10, sizes=(3, 6))
    clearing = clear_dso(market, grid=LOSSLESS)
    forwarded = forward(market, clearing, method=OfferCurve(undo=undo))
    t = market.periods[0]
    for feeder in market.feeder_names:
        lost = sum(
            abs(clearing.recourse[name].sel(bus=clearing.flat.bus_feeder == feeder)).sum() for name in clearing.recourse
        )
        if clearing.flat.status.sel(feeder=feeder).item() or lost > 1e-9:
            continue
        way = "up" if share >= 0 else "down"
        steps = steps_of(forwarded, feeder, way)
        wanted = abs(share) * sum(volume for _, volume in steps)
        area, left = 0.0, wanted
        for price, volume in steps:
            area += price * min(volume, left)
            left -= min(volume, left)
        held = market.with_bids(market.bids.data)
        if not undo:
            # nothing below what is activated: taken as given, its cost as a constant
            held = with_activated(market, clearing)
        values = [value_at(held, clearing, feeder, t, y) for y in (0.0, wanted if way == "up" else -wanted)]
        assert values[1] - values[0] == pytest.approx(area if way == "up" else -area, abs=2e-6, rel=1e-7)


def with_activated(market, clearing):
    """The market in which the activated volume is part of the schedule, and the rest of each bid is left."""
    data, active = market.bids.data, clearing.flat.activation
    sign = np.where(data.bid_direction.values == "up", 1.0, -1.0)[:, None]
    need = market.imbalance.copy(deep=True)
    place = need.indexes["bus"].get_indexer(data.bid_node.values)
    values = need.values.copy()
    np.add.at(values, place, -(sign * active.values))
    reactive = market.feeders.data.q_scheduled.values.copy()
    np.add.at(reactive, place, sign * data.reactive_ratio.values * active.values)
    feeders = type(market.feeders)(
        market.feeders.data.assign(q_scheduled=(market.feeders.data.q_scheduled.dims, reactive))
    )
    volume = np.maximum(data.volume.values - active.values, 0.0)
    moved = dataclasses.replace(market, feeders=feeders, imbalance=need.copy(data=values))
    return moved.with_bids(data.assign(volume=(data.volume.dims, volume)))


def value_at(market, clearing, feeder, t, y):
    """Least cost per hour of the feeder's bids with the interface moved by y from where stage 1 left it."""
    flat = clearing.flat.sel(feeder=feeder, period=t)
    taken = float(flat.tbm_volume.sel(direction="up") - flat.tbm_volume.sel(direction="down"))
    tbm = market.tbm.assign(tbm_limit=xr.zeros_like(market.tbm.tbm_limit))
    fixed = dataclasses.replace(market, tbm=tbm)
    imported = float(clearing.scheduled_import.sel(feeder=feeder, period=t)) + taken - y
    return dso_lp(fixed, feeder, t, imported=imported).objective


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), undo=st.booleans())
def test_screened_and_solved_curves_are_the_same(seed, undo):
    market = random_market(seed, count=8, sizes=(2, 6), periods=2)
    clearing = clear_dso(market, grid=LinDistFlow(1))
    quick, slow = (
        forward(market, clearing, method=OfferCurve(undo=undo), solver=SolverOptions(screening=on))
        for on in (True, False)
    )
    for feeder in market.feeder_names:
        for t in range(2):
            for way in ("up", "down"):
                # equal prices may be one step or two
                one, two = (steps_of(f, feeder, way, t) for f in (quick, slow))
                ends = np.unique(np.round(np.concatenate([one[:, 1].cumsum(), two[:, 1].cumsum()]), 9))
                for end in ends:
                    areas = [area(steps, end) for steps in (one, two)]
                    assert areas[0] == pytest.approx(areas[1], abs=2e-6)


def area(steps, end):
    """Cost of the first `end` MW, as far as they go."""
    start = steps[:, 1].cumsum() - steps[:, 1]
    return float((np.clip(end - start, 0.0, steps[:, 1]) * steps[:, 0]).sum())


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), undo=st.booleans())
def test_prices_rise_outward(seed, undo):
    market = random_market(seed, count=8, periods=2)
    forwarded = forward(market, clear_dso(market, grid=LinDistFlow(1)), method=OfferCurve(undo=undo))
    for feeder in market.feeder_names:
        for t in range(2):
            up, down = ([price for price, _ in steps_of(forwarded, feeder, way, t)] for way in ("up", "down"))
            # from the least delivery to the most
            slopes = np.array([*down[::-1], *up])
            assert (np.diff(slopes) > -1e-4 * (1 + abs(slopes[1:]))).all()


def test_an_end_of_the_curve_that_a_hot_start_calls_infeasible():
    """A room of 2e-16 beside the end: with y fixed exactly there, the LP was infeasible by rounding."""
    market = random_market(20220, count=4, periods=3, transmission=True)
    price = market.tbm.tbm_price.copy(data=np.full_like(market.tbm.tbm_price, 25.0))
    tbm = market.tbm.assign(tbm_price=price, tbm_limit=xr.full_like(market.tbm.tbm_limit, np.inf))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarketWarning)
        market = dataclasses.replace(market, tbm=tbm)
    forwarded = forward(market, clear_dso(market, grid=LOSSLESS), method=OfferCurve())
    assert forwarded.flat.step_volume.sum() > 1.0


# back to the bids


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), undo=st.booleans(), passes=st.integers(0, 1))
def test_what_was_cleared_is_delivered_at_prices_that_support_it(seed, undo, passes):
    """Bids stay within their volumes, deliver what was cleared, and none would rather do otherwise at its price."""
    market = random_market(seed, count=8, periods=2, transmission=True)
    clearing = clear_dso(market, grid=LinDistFlow(passes))
    forwarded = forward(market, clearing, method=OfferCurve(undo=undo))
    cleared = clear_tso(market, clearing, forwarded)
    if cleared.flat.grid_status.any():
        return
    flat = disaggregate(market, clearing, forwarded, cleared).flat
    sign = market.bids.sign
    each = sign * forwarded.flat.interface_factor * flat.change
    delivered = each.groupby("bid_feeder").sum().sel(bid_feeder=list(market.feeder_names))
    np.testing.assert_allclose(delivered.values, cleared.flat.cleared_delivery.values, atol=1e-8)
    known = flat.final_activation.notnull()
    assert (flat.final_activation.where(known, 0.0) >= -1e-8).all()
    assert (flat.final_activation.where(known, 0.0) <= market.bids.data.volume + 1e-8).all()
    gain = sign * (flat.change_price - market.bids.data.price)
    assert (gain.where(flat.change > 1e-6, 0.0) > -1e-4).all()
    assert (gain.where(flat.change < -1e-6, 0.0) < 1e-4).all()


def test_nothing_is_changed_where_the_tso_takes_nothing():
    market = random_market(3, count=4)
    clearing = clear_dso(market, grid=LOSSLESS)
    forwarded = forward(market, clearing, method=OfferCurve())
    nothing = clear_tso(market, clearing, None)
    flat = disaggregate(market, clearing, forwarded, nothing).flat
    assert not flat.change.fillna(0.0).any()


def test_m33_forwards_as_much_as_its_safe_box(m33_case):
    """1.0902 MW are safe in any mix; the ends of the curve need one direction only, and reach at least as far."""
    clearing = clear_dso(m33_case, grid=LOSSLESS)
    forwarded = forward(m33_case, clearing, method=OfferCurve())
    volume = forwarded.flat.step_volume.fillna(0.0)
    assert float(volume.sum()) > 1.09015


def test_the_whole_chain():
    chain = run_chain(load_case("ieee33"), Options(behaviour=AsBid(), forwarding=OfferCurve()))
    assert chain.settlement.imbalance_of_money < 1e-9
    assert float(abs(chain.disaggregation.flat.change).sum()) > 1.0
    # half a MW is moved; what losses make of it beyond the linearisation is two hundredths of it
    assert float(abs(chain.disaggregation.flat.delivered - chain.cleared.flat.cleared_delivery).max()) < 0.02
