"""Slow bids before, all others after: by hand, against another solver, and what must always hold."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import linprog
from scipy.sparse import block_diag, hstack, vstack

import hiermarket as hm
from hiermarket.errors import DataError
from hiermarket.market.scenarios import ScenarioMarket
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, lossless
from hiermarket.stages.clearing_program import read_clearing
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.risk import CVaR, cvar
from hiermarket.stages.two_stage import clear_two_stage
from tests.random_markets import random_market
from tests.resource_markets import random_resource_market
from tests.stages.conftest import LOSSLESS


def random_scenarios(seed, count=3, **changed):
    """Scenarios of one random market: other imbalance, prices of the TBM, volumes, schedule."""
    rng = np.random.default_rng(seed)
    base = random_market(seed, **changed)
    data, plan, markets = base.bids.data, base.feeders.data, {}
    for number in range(count):
        markets[f"s{number}"] = replace(
            base,
            feeders=replace(base.feeders, data=plan.assign(p_scheduled=plan.p_scheduled * rng.uniform(0.8, 1.2))),
            bids=replace(base.bids, data=data.assign(volume=data.volume * rng.uniform(0.5, 1.0, data.volume.shape))),
            imbalance=base.imbalance + rng.normal(0, 0.1, base.imbalance.shape),
            tbm=base.tbm.assign(tbm_price=base.tbm.tbm_price * rng.uniform(0.95, 1.3)),
        )
    weights = rng.uniform(0.1, 1.0, count)
    return ScenarioMarket(markets, xr.DataArray(weights / weights.sum(), {"scenario": [*markets]}, dims="scenario"))


def same(market, count=2):
    names = [f"s{k}" for k in range(count)]
    weights = xr.DataArray(np.full(count, 1 / count), {"scenario": names}, dims="scenario")
    return ScenarioMarket(dict.fromkeys(names, market), weights)


def slow_bids(market, seed=0):
    bids = next(iter(market.markets.values())).bids.data
    flags = np.random.default_rng(seed).random(bids.sizes["bid"]) < 0.5
    return xr.DataArray(flags, coords={"bid": bids.indexes["bid"]}, dims="bid")


def by_scipy(market, slow, risk):
    """Each scenario's own rows side by side, equal slow bids as rows, and HiGHS of scipy for the whole."""
    parts = [read_clearing(market.of(s), LOSSLESS) for s in market.scenarios]
    loads = [part.at(*_lossless(market.of(s))) for part, s in zip(parts, market.scenarios, strict=True)]
    weight, size, count = market.probability.values, loads[0].shape[1], len(parts)
    share = risk.weight if isinstance(risk, CVaR) else 0.0
    alpha = risk.alpha if isinstance(risk, CVaR) else 0.0
    matrix = block_diag([p.matrix for p in loads])
    tail = np.zeros((matrix.shape[0], count + 1))
    rows = hstack([matrix, tail]).tocsr()
    low, high = (np.concatenate([getattr(p, name) for p in loads]) for name in ("row_lower", "row_upper"))
    costs = hstack([block_diag([p.cost[None, :] for p in loads]), -np.ones((count, 1)), -np.eye(count)])
    labels = parts[0].model.variables["Bid-activation"].labels.sel(bid=slow.bid[slow.values]).values.ravel()
    at = np.searchsorted(loads[0].columns, labels)
    link = np.zeros(((count - 1) * len(at), size * count + count + 1))
    for k in range(1, count):
        here = np.arange((k - 1) * len(at), k * len(at))
        link[here, at], link[here, k * size + at] = 1.0, -1.0
    upper = np.isfinite(high) & (low != high)
    lower = np.isfinite(low) & (low != high)
    done = linprog(
        np.concatenate([np.concatenate([w * p.cost for w, p in zip(weight, loads, strict=True)]),
                        [share], share / (1 - alpha) * weight]),
        A_eq=vstack([rows[low == high], link]), b_eq=np.concatenate([low[low == high], np.zeros(len(link))]),
        A_ub=vstack([rows[upper], -rows[lower], costs]),
        b_ub=np.concatenate([high[upper], -low[lower], np.zeros(count)]),
        bounds=[*np.column_stack([np.concatenate([p.lower for p in loads]), np.concatenate([p.upper for p in loads])]),
                (None, None), *[(0, None)] * count],
    )  # fmt: skip
    assert done.status == 0
    return done.fun


def _lossless(market):
    plan, terms = market.feeders.data, lossless(market.feeders)
    bare = [plan[name].drop_vars(["bus_feeder", "bus_name"]) for name in ("p_scheduled", "q_scheduled")]
    return terms, linear_flow(market.feeders, terms, *bare).p_interface


@pytest.mark.parametrize("risk", [hm.Expectation(), CVaR(0.5, 0.6), CVaR(0.0, 3.0)], ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_another_solver_of_the_whole(seed, risk):
    market = random_scenarios(seed, count=3, periods=2, hours=0.5)
    slow = slow_bids(market, seed)
    found = clear_two_stage(market, here_and_now=slow, risk=risk, grid=LOSSLESS)
    assert found.value == pytest.approx(by_scipy(market, slow, risk), rel=1e-7, abs=1e-6)
    # what was decided before is the same in all scenarios
    before = found.flat.activation.transpose("bid", "scenario", "period").values[slow.values]
    np.testing.assert_allclose(before, np.broadcast_to(before[:, :1], before.shape), atol=1e-12)
    cost = found.flat.scenario_cost
    alpha = risk.alpha if isinstance(risk, CVaR) else 0.95
    assert found.cvar == pytest.approx(cvar(cost, market.probability, alpha))
    share = risk.weight if isinstance(risk, CVaR) else 0.0
    assert found.value == pytest.approx(found.expected_cost + share * found.cvar, abs=1e-6)
    assert found.evpi >= -1e-7
    assert found.vss >= -1e-7


@pytest.mark.parametrize("seed", [1, 4, 6])
def test_with_losses(seed):
    market = random_scenarios(seed, count=2, periods=1)
    slow = slow_bids(market, seed)
    grid = LinDistFlow(2)
    found = clear_two_stage(market, here_and_now=slow, grid=grid)
    assert found.evpi >= -1e-7
    assert found.vss >= -1e-7
    # with nothing to decide before, each scenario is its own clearing
    free = clear_two_stage(market, here_and_now=slow & False, grid=grid)
    for name in market.scenarios:
        alone = clear_dso(market.of(name), grid=grid)
        part = free.sel(scenario=name).flat.isel(scenario=0, drop=True)
        xr.testing.assert_allclose(part.activation, alone.flat.activation, atol=1e-6)
    assert free.evpi == pytest.approx(0.0, abs=1e-9)
    assert free.vss == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("risk", [hm.Expectation(), CVaR(0.5, 0.5)], ids=str)
def test_identical_scenarios_are_the_one_market(m33_case, risk):
    alone = clear_dso(m33_case, grid=LOSSLESS)
    market = same(m33_case, 3)
    found = clear_two_stage(market, here_and_now=m33_case.bids.of("A"), risk=risk, grid=LOSSLESS)
    for name in market.scenarios:
        part = found.flat.sel(scenario=name)
        np.testing.assert_allclose(
            part.activation.values, alone.flat.activation.transpose(*part.activation.dims).values, atol=1e-8
        )
    share = risk.weight if isinstance(risk, CVaR) else 0.0
    assert found.value == pytest.approx((1 + share) * float(alone.flat.clearing_cost.sum()))
    assert (found.evpi, found.vss) == pytest.approx((0.0, 0.0), abs=1e-8)


def test_by_hand():
    # Two buses, no losses, one hour. A: .2 MW up at 30, slow. B: .3 MW down at 25. The TBM: 60 up, 20 down.
    # windy (1/4): .3 MW are missing; calm (3/4): nothing is.
    case = hm.load_case("two_bus")
    deficit = case.imbalance.copy(data=[[0.0], [0.3]])
    weights = xr.DataArray([0.25, 0.75], {"scenario": ["windy", "calm"]}, dims="scenario")
    markets = {"windy": replace(case, imbalance=deficit), "calm": replace(case, imbalance=0 * deficit)}
    market = ScenarioMarket(markets, weights)
    found = clear_two_stage(market, here_and_now=case.bids.of("A"), grid=LOSSLESS)
    # A saves 60 when windy and is sold to B at 25 when calm: 60/4 + 3·25/4 = 33.75 > 30, so all of it is taken
    up = found.activation.sel(bsp="A", direction="up").squeeze(drop=True)
    assert up.values.tolist() == pytest.approx([0.2, 0.2])
    down = found.activation.sel(bsp="B", direction="down").squeeze(drop=True)
    assert down.values.tolist() == pytest.approx([0.0, 0.2])
    # windy .2·30 + .1·60 = 12; calm .2·30 − .2·25 = 1; expected 12/4 + 3/4; the dearest half: (12 + 1)/2
    assert found.flat.scenario_cost.values.tolist() == pytest.approx([12.0, 1.0])
    assert found.expected_cost == found.value == pytest.approx(3.75)
    assert cvar(found.flat.scenario_cost, weights, 0.5) == pytest.approx(6.5)
    # prices: the TBM's when windy, B's when calm; expected 33.75
    price = found.nodal_price.sel(bus="end").squeeze(drop=True)
    assert price.values.tolist() == pytest.approx([60.0, 25.0])
    # known before: windy 12, calm 0: 3
    assert found.evpi == pytest.approx(0.75)
    # expected inputs: .075 MW are missing and A is asked for them: 15.75/4 + 3·.375/4 = 4.21875
    assert found.vss == pytest.approx(0.46875)


def test_flags_must_be_of_the_bids(m33_case):
    market = same(m33_case)
    flags = m33_case.bids.of("A")
    for wrong in (flags.isel(bid=slice(1, None)), flags.astype(int), flags.rename(bid="offer")):
        with pytest.raises(DataError) as error:
            clear_two_stage(market, here_and_now=wrong, grid=LOSSLESS)
        assert error.value.faults[0].where == "here_and_now"


def test_resources_are_refused():
    held = random_resource_market(1)
    with pytest.raises(DataError) as error:
        clear_two_stage(same(held), here_and_now=slow_bids(same(held)), grid=LOSSLESS)
    assert error.value.faults[0].where == "resources"


def test_minimum_volumes_are_refused(m33_case):
    """They would make (49) a MILP, which has no prices."""
    data = m33_case.bids.data
    whole = same(m33_case.with_bids(data.assign(minimum=data.volume)))
    with pytest.raises(DataError) as error:
        clear_two_stage(whole, here_and_now=slow_bids(whole), grid=LOSSLESS)
    assert error.value.faults[0].where == "bids.minimum"
