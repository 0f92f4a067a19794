"""Reactive support of resources: by hand, against LPs of scipy, in AC, and through all stages."""

import dataclasses
import itertools
import warnings

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.errors import DataError, MarketWarning, ModelError
from hiermarket.market.bids import Bids
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.paid_prices import paid_price
from hiermarket.stages.resource_safety import held_by_resources, safe_volumes
from tests.oracles import dso_lp
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)
EVERYTHING = hm.SolverOptions(screening=False)
KINDS = {"a": "activation", "s+": "unserved", "s-": "spilled", "z+": "reactive_shortage", "z-": "reactive_surplus"}


def two_bus(q_max=0.0, q_min=0.0, *, need=(1.0,), v=(0.95, 1.1), more=(), q_by_period=None, resources=("R",)):
    """A root and a bus "end"; A has 1 MW up at 80, the inverter R of B gives only reactive power; the TBM has 60."""
    index = pd.date_range("2026-01-01", periods=len(need), freq="h")
    table = {"parent": ["", "root"], "r": [0.0, 0.05], "x": [0.0, 0.05], "v_min": v[0], "v_max": v[1]}
    feeder = feeder_from_table(pd.DataFrame(table, index=["root", "end"]), name="f", periods=index)
    rows = [
        {"bsp": "A", "direction": "up", "price": 80.0, "volume": 1.0},
        {"bsp": "B", "direction": "up", "price": 0.0, "volume": 0.0, "resource": "R"},
        *more,
    ]
    bids = pd.DataFrame(rows).assign(feeder="f", bus="end").fillna({"resource": "", "block": 0})
    of = {"resource": resources, "q_max": q_max}
    if q_by_period is not None:
        of = {"resource": "R", "period": index, "q_max": q_by_period}
    table = pd.DataFrame(of).assign(feeder="f", q_min=q_min)
    imbalance = pd.DataFrame({"feeder": "f", "bus": "end", "period": index, "imbalance": need})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarketWarning)
        return hm.balancing_market(
            {"f": feeder}, bids=bids, imbalance=imbalance, tbm_prices={"up": 60.0, "down": 20.0}, resources=table,
            rules=hm.MarketRules(price_cap=200.0, value_of_lost_load=3000.0),
        )  # fmt: skip


def supported(seed, most=0.3, *, share=1.0, count=1, periods=1, **options):
    """A random market with a resource behind all bids of a BSP at a bus, `share` of them with reactive support."""
    plain = random_market(seed, count=count, sizes=(3, 7), periods=periods, **options)
    data, rng = plain.bids.data, np.random.default_rng(seed)
    names = np.array([f"{b} {n}" for b, n in zip(data.bid_bsp.values, data.bid_bus.values, strict=True)])
    table = pd.DataFrame({"feeder": data.bid_feeder.values, "resource": names}).drop_duplicates(ignore_index=True)
    high, low = (rng.uniform(0, most, len(table)) * (rng.random(len(table)) < share) for _ in range(2))
    bids = Bids(data.assign_coords(bid_resource=("bid", names)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarketWarning)
        found = hm.resources(table.assign(q_max=high, q_min=-low), plain.periods)
        return dataclasses.replace(plain, bids=bids, resources=found)


def lost(cleared):
    flat = cleared.flat
    return sum(flat[name].fillna(0.0).sum() for name in cleared.recourse).item()


def costs(market, cleared):
    """Objective (8): cost at bid prices and lost load, (feeder, period) [EUR]."""
    flat = cleared.flat
    buses = sum(flat[name].fillna(0.0) for name in cleared.recourse)
    of_feeder = buses.groupby("bus_feeder").sum().rename(bus_feeder="feeder").sel(feeder=market.feeder_names)
    return flat.clearing_cost + market.rules.value_of_lost_load * market.duration * of_feeder


def values_of(array, period):
    """Values by label of one period."""
    one = array.sel(period=period).fillna(0.0)
    return dict(zip(map(str, one.indexes[one.dims[0]]), map(float, one.values), strict=True))


def support_by_bus(market, cleared, feeder, period):
    """(least, most, held) of each bus of a feeder with support."""
    found, table = {}, market.resources
    nodes = dict(zip(table.labels, table.nodes_of(market.bids), strict=True))
    for name, bus in nodes.items():
        if not name.startswith(f"{feeder}/"):
            continue
        low, high = (float(table.data[side].sel(resource=name, period=period)) for side in ("q_min", "q_max"))
        if (low < 0 or high > 0) and bus not in market.feeders.roots.to_numpy():
            before = found.get(bus, (0.0, 0.0, 0.0))
            held = cleared.losses.support
            state = 0.0 if held is None else float(held.sel(bus=bus, period=period))
            found[bus] = (before[0] + low, before[1] + high, state)
    return found


# by hand


def test_support_takes_the_place_of_a_bid():
    # w = 1 − 2 (r P + x Q) ≥ 0.95² = 0.9025 with P = 1 − a, Q = −q: 0.1 (a + q) ≥ 0.0025. A MW of A costs 20 more than
    # the TBM's, a Mvar of the inverter nothing: of 0, 0.01, 0.025 and 0.3 Mvar it takes up to 0.025, A does the rest
    cleared = hm.clear_dso(two_bus(need=(1.0,) * 4, q_by_period=(0.0, 0.01, 0.025, 0.3)), grid=LOSSLESS)
    bid = np.array([0.025, 0.015, 0.0, 0.0])
    np.testing.assert_allclose(cleared.flat.activation.sum("bid"), bid, atol=1e-9)
    np.testing.assert_allclose(cleared.reactive_support.values[0], [0.0, 0.01, 0.025, 0.025], atol=1e-9)
    assert cleared.reactive_support.dims == ("resource", "period")
    # the cost falls from 60.5 EUR over 60.3 to 60
    np.testing.assert_allclose(cleared.flat.clearing_cost.values[0], 60.0 + 20.0 * bid, atol=1e-7)
    np.testing.assert_allclose(cleared.flat.voltage.sel(bus="f/end"), 0.95, atol=1e-9)
    # a Mvar more is worth x/r = 1 MW of the bid's 20 EUR/MWh where the bid is needed, and else nothing
    price = cleared.flat.reactive_price.sel(bus="f/end").values
    np.testing.assert_allclose(price[[0, 1, 3]], [20.0, 20.0, 0.0], atol=1e-7)


def test_too_high_a_voltage_is_lowered_by_taking():
    # 1 MW surplus: w = 1 + 2·0.05·1 = 1.1 > 1.045² = 1.092025, so q = −(1.1 − 1.092025)/0.1 = −0.07975; where the
    # inverter may take 0.05, the other 0.02975 MW are not taken by anybody
    market = two_bus(q_by_period=(0.5, 0.5), q_min=(-0.5, -0.05), need=(-1.0, -1.0), v=(0.9, 1.045))
    cleared = hm.clear_dso(market, grid=LOSSLESS)
    np.testing.assert_allclose(cleared.flat.reactive_support.values[0], [-0.07975, -0.05], atol=1e-9)
    assert lost(cleared) == pytest.approx(0.02975, abs=1e-9)


@pytest.mark.parametrize("options", [hm.SolverOptions(), EVERYTHING], ids=["screened", "solved"])
def test_support_is_not_used_to_save_losses(options):
    # a reactive load of 0.3 Mvar would lose less with support, and no limit counts: none, and the merit order decides
    market = two_bus(1.0, -1.0, v=(0.8, 1.1))
    grid = market.feeders.data
    drawn = grid.q_scheduled.where(grid.bus != "f/end", -0.3)
    market = dataclasses.replace(market, feeders=type(market.feeders)(grid.assign(q_scheduled=drawn)))
    cleared = hm.clear_dso(market, solver=options)
    assert cleared.flat.reactive_support.item() == pytest.approx(0.0, abs=1e-9)
    assert cleared.flat.reactive_price.sel(bus="f/end").item() > 1.0  # it would be worth something
    assert bool(cleared.flat.screened.item()) is options.screening


def test_of_two_inverters_the_first_one():
    # 0.025 Mvar are needed, as above; either could give 0.02
    more = [{"bsp": "C", "direction": "up", "price": 0.0, "volume": 0.0, "resource": "S"}]
    market = two_bus(0.02, -0.5, more=more, resources=("R", "S"))
    cleared = hm.clear_dso(market, grid=LOSSLESS)
    assert cleared.flat.reactive_support.values.ravel() == pytest.approx([0.02, 0.005], abs=1e-9)


# against LPs written by themselves


@pytest.mark.parametrize("grid", [LOSSLESS, LinDistFlow()], ids=["lossless", "losses"])
def test_a_clearing_is_the_optimum_of_an_independent_lp(grid):
    market = supported(1, count=25, periods=2)
    cleared = hm.clear_dso(market, grid=grid)
    terms = tuple(getattr(cleared.losses, name) for name in ("constant", "by_p", "by_q", "by_w"))
    used = 0
    for feeder, period in itertools.product(market.feeder_names, market.periods):
        at = {"feeder": feeder, "period": period}
        if cleared.flat.status.sel(at).item():
            continue
        bounds = support_by_bus(market, cleared, feeder, period)
        imported = float(cleared.scheduled_import.sel(at))
        solved = dso_lp(market, feeder, period, terms if grid.loss_passes else None, imported, support=bounds)
        # both solve to 1e-9 MW, and a MW of lost load costs 1000 EUR
        assert costs(market, cleared).sel(at).item() == pytest.approx(solved.objective, abs=2e-5)
        given = cleared.flat.reactive_support[cleared.flat.resource_feeder == feeder].sel(period=period)
        if not cleared.flat.screened.sel(at).item():
            # no other optimum of the same activations, recourse and exchange has less support
            held = {
                (kind, label): value
                for kind, name in KINDS.items()
                for label, value in values_of(cleared.flat[name], period).items()
            }
            least = dso_lp(
                market, feeder, period, terms if grid.loss_passes else None, imported, support=bounds, held=held
            )
            # 1e-9 MW that is free is up to 1e-4 Mvar where shunts turn support into active power at a rating
            assert abs(given).sum().item() == pytest.approx(least.objective, abs=2e-4)
            used += abs(given).sum().item() > 1e-6
    assert used >= 5
    solved = hm.clear_dso(market, grid=grid, solver=EVERYTHING).flat
    np.testing.assert_allclose(solved.clearing_cost, cleared.flat.clearing_cost, atol=1e-5)
    np.testing.assert_allclose(solved.reactive_support, cleared.flat.reactive_support, atol=1e-6)


def test_more_capability_never_costs_more():
    full = supported(2, count=40)
    data, found = full.resources.data, []
    for scale in (0.0, 0.3, 1.0):
        table = type(full.resources)(data.assign(q_min=scale * data.q_min, q_max=scale * data.q_max))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarketWarning)
            market = dataclasses.replace(full, resources=table)
        found.append(costs(market, hm.clear_dso(market, grid=LOSSLESS)).values)
    # 1e-9 MW at the value of lost load
    assert np.nanmax(found[1] - found[0]) < 1e-5
    assert np.nanmax(found[2] - found[1]) < 1e-5
    assert np.nansum(found[0] - found[2]) > 1.0


# in AC, and through all stages


def chain_case(**options):
    """A bid down and another one up, left for the TSO, whose own bids are dear; the voltage limit counts."""
    more = [
        {"bsp": "C", "direction": "down", "price": 15.0, "volume": 0.6},
        {"bsp": "B", "direction": "up", "price": 75.0, "volume": 0.4, "resource": "R", "block": 1},
    ]
    market = two_bus(0.3, -0.3, need=(1.0, 0.95), more=more, **options)
    own = [
        {"feeder": "transmission", "bsp": "G", "bus": "transmission", "direction": way, "price": price, "volume": 5.0}
        for way, price in (("up", 120.0), ("down", 1.0))
    ]
    side = hm.Transmission(bids=hm.bids(pd.DataFrame(own), market.periods))
    return dataclasses.replace(market, transmission=side)


def test_the_limit_is_kept_in_ac():
    alone = hm.clear_dso(two_bus(0.0))
    cleared = hm.clear_dso(two_bus(0.3))
    # two passes leave 1e-6 of the linearisation
    assert cleared.flat.ac_voltage.min().item() == pytest.approx(0.95, abs=2e-6)
    assert abs(cleared.flat.ac_mismatch).max().item() < 1e-5
    assert cleared.flat.activation.sum().item() == pytest.approx(0.0, abs=1e-9)
    assert alone.flat.activation.sum().item() > 0.05
    assert cleared.flat.clearing_cost.item() < alone.flat.clearing_cost.item() - 0.5


@pytest.mark.parametrize(
    "method", [hm.SafeBox(undo=True), hm.MaximumRegulation(), hm.OfferCurve(undo=True), hm.Individual()], ids=str
)
def test_what_the_tso_activates_keeps_the_limits(method):
    market = chain_case()
    clearing = hm.clear_dso(market)
    assert clearing.flat.reactive_support.min().item() > 0.01
    forwarded = hm.forward(market, clearing, method=method)
    cleared = hm.clear_tso(market, clearing, forwarded)
    final = hm.disaggregate(market, clearing, forwarded, cleared)
    accounts = hm.settle(market, clearing, cleared, final)
    assert accounts.imbalance_of_money < 1e-9
    # to the second order of what moves
    assert final.flat.undervoltage.max().item() < 2e-4
    assert final.flat.overvoltage.max().item() < 2e-4
    # the TSO takes what is cheaper than its own bids
    assert cleared.flat.change.sum().item() > 0.1


def test_everything_in_the_safe_box_is_safe():
    market = chain_case()
    clearing = hm.clear_dso(market)
    forwarded = hm.forward(market, clearing, method=hm.SafeBox(undo=True))
    corners = forwarded.flat
    assert max(corners[f"corner_{name}"].max().item() for name in ("undervoltage", "overvoltage")) < 2e-4
    assert (corners.forwarded.sum() + corners.forwarded_undo.sum()).item() > 0.1


def test_it_holds_no_bids_together():
    market = chain_case()
    assert not bool(held_by_resources(market).any())
    assert not market.resources.couples.any()
    np.testing.assert_array_equal(safe_volumes(market).bids.data.volume, market.bids.data.volume)
    whole = hm.clear_dso(market)
    for t in range(2):
        part = hm.clear_dso(market.of_periods(np.array([t])))
        np.testing.assert_allclose(part.flat.reactive_support, whole.flat.reactive_support.isel(period=[t]), atol=1e-9)


def test_a_failed_feeder_has_no_support(monkeypatch):
    import hiermarket.stages.dso_clearing as module
    from hiermarket.solving.solver import Outcome

    solve = module.solve_whole
    monkeypatch.setattr(
        module, "solve_whole",
        lambda *given: dataclasses.replace(found := solve(*given), outcome=[Outcome.LIMIT] * len(found.outcome)),
    )  # fmt: skip
    cleared = hm.clear_dso(two_bus(0.3), grid=LOSSLESS)
    assert np.isnan(cleared.flat.reactive_support.item())


def test_the_common_market_has_it_too():
    market = dataclasses.replace(chain_case(), transmission=hm.Transmission())
    with_it = hm.clear_common(market, grid=LOSSLESS)
    without = hm.clear_common(market.without_resources(), grid=LOSSLESS)
    # 0.025 MW of the bid at 75 in the place of the TBM's at 60, in the first hour alone
    saved = float(without.flat.common_cost.sum()) - float(with_it.flat.common_cost.sum())
    assert saved == pytest.approx(0.025 * 15.0, abs=1e-6)
    assert with_it.flat.reactive_support.values.ravel() == pytest.approx([0.025, 0.0], abs=1e-9)
    assert with_it.flat.voltage.min().item() >= 0.95 - 1e-9
    lossy = hm.clear_common(market)
    assert lossy.flat.ac_voltage.min().item() == pytest.approx(0.95, abs=1e-5)


# a leader


@pytest.mark.parametrize("grid", [LOSSLESS, LinDistFlow()], ids=["lossless", "losses"])
def test_a_leader_beside_an_inverter(grid):
    # lossless: support of 0.01 leaves 0.015 MW to A and to a rival with 0.005 at 120: A is paid the cap of 200 for the
    # last 0.01, or 120 for all but nothing of the rival: 0.01·(200 − 80) = 1.2, or 0.015·(120 − 80) = 0.6 EUR
    rival = [{"bsp": "C", "direction": "up", "price": 120.0, "volume": 0.005}]
    q_max = 0.01 if grid is LOSSLESS else 0.03
    found = hm.bid_strategically(two_bus(q_max, more=rival), "A", grid=grid, tick=0.0)
    assert found.certificate.ok
    assert found.revenue_gap < 1e-6
    if grid is LOSSLESS:
        assert found.objective == pytest.approx(1.2, abs=1e-6)
    # the same hour at many prices of A: none earns more, and one nearly as much
    prices = np.arange(0.0, 200.1, 4.0)
    many = two_bus(q_max, more=rival, need=(1.0,) * len(prices))
    data, own = many.bids.data, np.flatnonzero(many.bids.of("A").values)
    offered = data.price.values.copy()
    offered[own] = prices
    many = many.with_bids(data.assign(price=(data.price.dims, offered)))
    cleared = hm.clear_dso(many, grid=grid)
    margin = many.bids.sign * (paid_price(many, cleared.flat) - data.cost)
    earned = (many.bids.of("A") * margin * cleared.flat.activation).sum("bid").max().item()
    # with losses, each is linearised at a state of its own
    assert found.objective >= earned - (1e-6 if grid is LOSSLESS else 1e-2)
    assert found.objective <= earned + 0.2


def test_no_leader_where_the_inverter_does_it_alone():
    assert hm.bid_strategically(two_bus(0.3), "A", grid=LOSSLESS).objective == pytest.approx(0.0, abs=1e-6)


# what is refused


@pytest.mark.parametrize("columns", [{"q_max": -0.1}, {"q_min": 0.1}, {"q_max": np.inf}, {"q_min": -np.inf}])
def test_impossible_capabilities(columns):
    with pytest.raises(DataError, match=next(iter(columns))):
        two_bus(**columns)


def test_a_market_without_its_resources_is_refused():
    market = two_bus(0.3)
    clearing = hm.clear_dso(market)
    with pytest.raises(ModelError, match="reactive support"):
        hm.forward(market.without_resources(), clearing)
