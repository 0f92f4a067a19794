"""One box for all scenarios: safe in each of them, and the safe box where there is one scenario only."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import hiermarket as hm
from hiermarket.errors import ModelError
from hiermarket.market.scenarios import ScenarioMarket, probabilities_of
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.limits import limit_rows, sites
from hiermarket.schema import bare
from hiermarket.stages.ac_check import ac_state, injections
from hiermarket.stages.capability import forward
from hiermarket.stages.common_box import forward_common
from hiermarket.stages.corners import Corner
from hiermarket.stages.dso_clearing import clear_dso
from tests.random_markets import random_market

LOSSLESS = hm.LinDistFlow(loss_passes=0)


def scenarios_of(market, *factors):
    markets = {f"s{k}": dataclasses.replace(market, imbalance=market.imbalance * f) for k, f in enumerate(factors)}
    return ScenarioMarket(markets, probabilities_of(None, list(markets)))


def cleared(market, grid=None):
    return {name: clear_dso(one, grid=grid) for name, one in market.markets.items()}


@pytest.mark.parametrize("seed", [0, 5])
def test_identical_scenarios_give_the_safe_box(seed):
    market = random_market(seed, count=2, periods=2)
    clearing = clear_dso(market)
    two = scenarios_of(market, 1.0, 1.0)
    found = forward_common(two, dict.fromkeys(two.scenarios, clearing), method=hm.CommonBox(undo=True))
    alone = forward(market, clearing, method=hm.SafeBox(undo=True))
    for one in found.values():
        for name in ("forwarded", "forwarded_undo", "withheld", "corner_overload"):
            np.testing.assert_allclose(one.flat[name], alone.flat[name], atol=1e-9, err_msg=name)
    in_one = forward(market, clearing, method=hm.CommonBox(undo=True))
    np.testing.assert_array_equal(in_one.flat.forwarded, alone.flat.forwarded)


def test_by_hand():
    # root – end behind a line of 1 MVA, r = 0, cut at corners of a polygon of 12 sides: for P alone at its corner
    # P ≤ 1. The load of 0.2 MW (calm) or 0.7 MW (storm) flows in; a down bid of 1 MW at the end draws more.
    # calm leaves 0.8 MW, storm 0.3 MW: the common box is 0.3 MW. An up bid of 0.4 MW is safe in both.
    # a corner of the polygon lies on the P axis or half a side from it: the room is cos(15°) = 0.9659 of the rating
    line = pd.DataFrame({"parent": ["", "root"], "r": [0.0, 0.0], "x": [0.0, 0.001], "s_max": [np.inf, 1.0]},
                        index=["root", "end"])  # fmt: skip
    offers = pd.DataFrame({"feeder": "f", "bsp": "A", "bus": "end", "direction": ["up", "down"],
                           "price": [99.0, 1.0], "volume": [0.4, 1.0]})  # fmt: skip
    need = pd.DataFrame({"feeder": "f", "bus": "end", "imbalance": [0.2, 0.7], "scenario": ["calm", "storm"]})
    market = hm.balancing_market(
        {"f": feeder_from_table(line, name="f")}, bids=offers, imbalance=need, tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    )  # fmt: skip
    found = forward_common(market, cleared(market, LOSSLESS))
    rating = np.cos(np.pi / 12)
    for name in ("calm", "storm"):
        box = found[name].flat.forwarded.squeeze()
        assert box.sel(bid="f/A/end/0/up").item() == pytest.approx(0.4, abs=1e-9)
        assert box.sel(bid="f/A/end/0/down").item() == pytest.approx(rating - 0.7, abs=1e-7)
    # each alone: calm could forward more
    calm = forward(market.of("calm"), clear_dso(market.of("calm"), grid=LOSSLESS)).flat.forwarded
    assert calm.sel(bid="f/A/end/0/down").item() == pytest.approx(rating - 0.2, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_largest_by_an_lp_over_all_rows(seed):
    """The lossless box against scipy with the rows of all scenarios, none left out."""
    market = random_market(seed, count=1, sizes=(3, 6))
    three = scenarios_of(market, 0.3, 0.8, 1.1)
    clearings = cleared(three, LOSSLESS)
    found = next(iter(forward_common(three, clearings).values())).flat.forwarded.values[:, 0]
    sign = bare(market.bids.sign).values
    least = np.min([(market.bids.data.volume - c.flat.activation).values[:, 0] for c in clearings.values()], axis=0)
    who = sites(market.feeders, market.bids.node, bare(market.bids.data.reactive_ratio))
    rows, rooms = [], []
    for name, clearing in clearings.items():
        one = three.of(name)
        corner = Corner(one, clearing, 0.0 * bare(one.bids.data.volume))
        for limit in limit_rows(one.feeders, corner.losses, corner.state, who, np.zeros_like(who.ratio), sides=12):
            c = limit.coefficient[:, :, 0][:, who.rank]
            rows.append(np.where(sign > 0, np.maximum(c, 0.0), np.maximum(-c, 0.0)))
            rooms.append(limit.room[:, 0])
    best = linprog(-np.ones(len(sign)), A_ub=np.vstack(rows), b_ub=np.concatenate(rooms),
                   bounds=[(0, max(v, 0.0)) for v in least])  # fmt: skip
    assert found.sum() == pytest.approx(-best.fun, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_every_point_is_safe_in_every_scenario_by_ac_power_flow(seed):
    market = random_market(seed + 40, count=1, periods=1)
    three = scenarios_of(market, 0.2, 0.6, 1.0)
    clearings = cleared(three)
    found = forward_common(three, clearings, method=hm.CommonBox(undo=True))
    rng = np.random.default_rng(seed)
    box = next(iter(found.values())).flat
    for name, clearing in clearings.items():
        np.testing.assert_array_equal(found[name].flat.forwarded, box.forwarded)
        one, flat = three.of(name), clearing.flat
        base = {kind: float(flat[kind].max()) for kind in ("undervoltage", "overvoltage", "overload")}
        for _ in range(6):
            share = rng.choice([0.0, 1.0], flat.activation.shape)
            moved = flat.activation + share * box.forwarded - (1 - share) * box.forwarded_undo
            p, q = injections(one, bare(moved), clearing.recourse)
            state = ac_state(one, p, q)
            for kind, before in base.items():
                assert float(state[kind].max()) <= before + 1e-4, (name, kind)


def test_a_run_forwards_the_same_everywhere():
    market = random_market(2, count=2, transmission=True)
    run = hm.run(scenarios_of(market, 0.5, 1.0), hm.Options(forwarding=hm.CommonBox()))
    box = run.forwarded.flat.forwarded
    np.testing.assert_array_equal(box.sel(scenario="s0"), box.sel(scenario="s1"))
    assert run.settlement.imbalance_of_money < 1e-6
    assert run.of("s0").options.forwarding == hm.CommonBox()


def test_other_reactive_ratios_are_refused():
    market = random_market(1)
    other = market.with_bids(market.bids.data.assign(reactive_ratio=market.bids.data.reactive_ratio + 0.1))
    two = ScenarioMarket({"a": market, "b": other}, probabilities_of(None, ["a", "b"]))
    with pytest.raises(ModelError, match="reactive ratios"):
        forward_common(two, cleared(two, LOSSLESS))


def test_minimum_volumes_are_refused():
    market = random_market(1)
    held = market.with_bids(market.bids.data.assign(minimum=market.bids.data.volume))
    two = scenarios_of(held, 1.0, 0.5)
    with pytest.raises(ModelError, match="CommonBox"):
        hm.run(two, hm.Options(forwarding=hm.CommonBox()))
