"""Runs in scenarios, and what they cost together: every scenario as if it were run alone."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.errors import DataError
from hiermarket.market.scenarios import ScenarioMarket, probabilities_of
from hiermarket.results.table import texts
from hiermarket.stages.coordination import run_chain
from hiermarket.stages.risk import CVaR, cvar
from tests.random_markets import random_market
from tests.resource_markets import bid
from tests.resource_markets import market as resource_market

STAGES = ("clearing", "forwarded", "cleared", "disaggregation", "baseline")


def in_scenarios(market, factors, probabilities=None):
    """The market with its imbalance times a factor in each scenario."""
    markets = {name: dataclasses.replace(market, imbalance=market.imbalance * f) for name, f in factors.items()}
    return ScenarioMarket(markets, probabilities_of(probabilities, list(markets)))


@pytest.fixture(scope="module")
def run():
    # f0 and f1 with own transmission side, two periods; in "none" nobody needs anything
    market = random_market(4, count=2, periods=2, transmission=True)
    return hm.run(
        in_scenarios(market, {"calm": 0.5, "none": 0.0, "storm": 1.2}, {"calm": 0.5, "none": 0.2, "storm": 0.3})
    )


def test_every_scenario_is_as_if_run_alone(run):
    for name, market in run.market.markets.items():
        alone = run_chain(market, run.options) if name == "storm" else run.of(name)
        for stage in STAGES:
            found, expected = getattr(run, stage).flat, getattr(alone, stage).flat
            assert set(found) == set(expected)
            for key, array in expected.items():
                one = found[key].sel(scenario=name, drop=True).transpose(*array.dims)
                np.testing.assert_array_equal(one.values, array.values, err_msg=f"{stage}.{key}")
        paid, expected = run.settlement.data.payment.sel(scenario=name), alone.settlement.data.payment
        assert float(np.abs(paid.sum(["account", "period"]) - 0.0).max()) < 1e-9
        same = paid.sel(account=expected["account"], item=expected["item"]).transpose(*expected.dims)
        np.testing.assert_array_equal(same.values, expected.values)


def test_scenario_leads_every_array(run):
    for stage in STAGES:
        result = getattr(run, stage)
        for dataset in (result.flat, result.data):
            assert all(array.dims[0] == "scenario" for array in dataset.data_vars.values()), stage
    assert run.clearing.activation.dims[:2] == ("scenario", "feeder")
    assert run.clearing.nodal_price.attrs["units"] == "EUR/MWh"
    some = run.clearing.sel(scenario=["storm"], feeder="f1")
    assert dict(some.flat.sizes)["scenario"] == 1
    with pytest.raises(DataError, match="storm"):
        run.clearing.sel(scenario="strom")
    with pytest.raises(DataError, match="storm"):
        run.of("strom")


def test_identical_scenarios_cost_what_one_costs():
    market, options = random_market(7, periods=2), hm.Options(grid=hm.LinDistFlow(loss_passes=0))
    run, alone = hm.run(in_scenarios(market, {"a": 1.0, "b": 1.0}), options), hm.run(market, options)
    figures, known = hm.risk(run), hm.indicators(alone)
    for name in ("expected_cost", "cvar_cost", "lowest_cost", "highest_cost"):
        np.testing.assert_allclose(figures[name], known.cost_after, rtol=1e-14)
    np.testing.assert_allclose(figures.expected_local_share, known.local_share, rtol=1e-14)


def test_figures_by_hand():
    # two buses without losses: the deficit is 0.5 MW; A gives 0.2 MW at 30, the TBM the rest at 60 EUR/MWh.
    # calm: 0.1 MW, A alone at the price 30: 3 EUR paid, 3 EUR bid cost
    # storm: 0.5 MW, 0.2 × 30 + 0.3 × 60 = 24 EUR bid cost; paid at 60: 30 EUR
    market = in_scenarios(hm.load_case("two_bus"), {"calm": 0.2, "storm": 1.0}, {"calm": 0.75, "storm": 0.25})
    run = hm.run(market, hm.Options(grid=hm.LinDistFlow(loss_passes=0)))
    figures = hm.risk(run, measure=CVaR(alpha=0.5)).sel(stage="distribution")
    # bid cost: 0.75 × 3 + 0.25 × 24 = 8.25; worst half: (0.25 × 24 + 0.25 × 3) / 0.5 = 13.5
    bid = figures.sel(measure="bid cost")
    assert float(bid.expected_cost) == pytest.approx(8.25, abs=1e-9)
    assert float(bid.cvar_cost) == pytest.approx(13.5, abs=1e-9)
    assert (float(bid.lowest_cost), float(bid.highest_cost)) == pytest.approx((3.0, 24.0), abs=1e-9)
    # expected energy of A: 0.75 × 0.1 + 0.25 × 0.2 = 0.125 of 0.75 × 0.1 + 0.25 × 0.5 = 0.2 MWh
    assert float(figures.expected_local_share) == pytest.approx(0.625, abs=1e-9)


def test_tree_and_file(run, tmp_path):
    tree = hm.result_tree(run)
    hm.write_results(tree, tmp_path / "run.nc")
    back = hm.read_results(tmp_path / "run.nc")
    assert list(back["clearing"].scenario.values) == ["calm", "none", "storm"]
    assert float(back["input"].probability.sum()) == pytest.approx(1.0)
    xr.testing.assert_equal(back["risk"].to_dataset(), tree["risk"].to_dataset())
    held = run.clearing.activation
    np.testing.assert_array_equal(back["clearing"].activation.sel(bus=held.bus).values, held.values)


def test_the_tree_has_the_gaps_of_prices_and_how_they_were_closed(tmp_path):
    two_bus = hm.load_case("two_bus")
    markets = {"calm": two_bus, "storm": dataclasses.replace(two_bus, imbalance=2 * two_bus.imbalance)}
    market = ScenarioMarket(markets, probabilities_of(None, list(markets)))
    options = hm.Options(grid=hm.LinDistFlow(loss_passes=0), exchange_prices=hm.FixedPoint())
    iterated = hm.run(market, options)
    hm.write_results(hm.result_tree(iterated), tmp_path / "run.nc")
    back = hm.read_results(tmp_path / "run.nc")
    told = json.loads(back["exchange_prices"].attrs["by_scenario"])
    for name, one in iterated.chains.items():
        gap = hm.price_gap(one.market, one.clearing, one.cleared)
        np.testing.assert_array_equal(back["tso"].price_gap.sel(scenario=name).values, gap.values)
        prices = one.price_iteration.exchange_price
        np.testing.assert_array_equal(back["exchange_prices"].exchange_price.sel(scenario=name).values, prices.values)
        assert told[name]["consistent"] == int(one.price_iteration.consistent)


def test_report(run):
    first, second = hm.report(run, risk=CVaR(0.5))
    assert [row[0] for row in texts(first)] == ["calm", "none", "storm"]
    assert "CVaR 0.5" in str(second.columns[3].header).replace("\n", " ")


def test_strategic_leaders_know_the_scenario():
    options = hm.Options(behaviour=hm.OneLeader("A"), grid=hm.LinDistFlow(loss_passes=0))
    run = hm.run(in_scenarios(hm.load_case("two_bus"), {"calm": 0.2, "storm": 1.0}), options)
    offers = hm.result_tree(run)["bidding"].offer_price.sel(bsp="A", bus="end", direction="up").squeeze()
    # calm: A has 0.2 MW for 0.1 MW, and is worth just less than the TBM's 60
    # storm: the TBM sets the price, 60, and A stays a tick below
    assert offers.dims == ("scenario",)
    for name in ("calm", "storm"):
        expected = run.of(name).bidding[0].flat.offer_price.sel(bid="feeder/A/end/0/up").item()
        assert offers.sel(scenario=name).item() == expected
    assert 60.0 - 0.1 < offers.sel(scenario="storm").item() <= 60.0


@pytest.mark.parametrize("seed", range(20))
def test_cvar_is_the_mean_of_the_worst_atoms(seed):
    rng = np.random.default_rng(seed)
    # probabilities in hundredths: the tail is a whole number of equally likely draws
    counts = rng.multinomial(100 - 6, np.full(6, 1 / 6)) + 1
    values = rng.normal(0, 50, 6).round(1)
    draws = np.sort(np.repeat(values, counts))[::-1]
    for tail in (1, 7, 30, 99, 100):
        found = cvar(values, counts / 100, 1 - tail / 100)
        assert found == pytest.approx(draws[:tail].mean(), abs=1e-9)
    # (47) as a minimum over η, which is attained at one of the values
    alpha = 0.37
    least = min(eta + (counts / 100) @ np.maximum(values - eta, 0) / (1 - alpha) for eta in values)
    assert cvar(values, counts / 100, alpha) == pytest.approx(least, abs=1e-9)


def test_cvar_at_its_ends():
    values, weights = [3.0, -1.0, 8.0], [0.5, 0.3, 0.2]
    assert cvar(values, weights, 0.0) == pytest.approx(np.dot(values, weights), abs=1e-12)
    assert cvar(values, weights, 1 - 1e-9) == pytest.approx(8.0, abs=1e-12)
    assert np.isnan(cvar([np.nan, 1.0], [0.5, 0.5], 0.5))


@pytest.mark.parametrize(("alpha", "weight"), [(1.0, 1.0), (-0.1, 1.0), (np.nan, 1.0), (0.5, -1.0), (0.5, np.inf)])
def test_measures_that_mean_nothing_are_refused(alpha, weight):
    with pytest.raises(DataError):
        CVaR(alpha, weight)


# resources


def test_what_a_resource_can_do_may_differ_by_scenario():
    """Need 0.5 MW; a wind farm offers it at 10, and has 0.5 MW more than scheduled, or nothing; TBM at 70."""
    table = pd.DataFrame({"resource": "W", "p_max": [0.5, 0.0], "scenario": ["windy", "calm"]})
    market = resource_market([0.5], [bid("up", 0.5, 10.0, "W")], table)
    chain = hm.run(market, hm.Options(grid=hm.LinDistFlow(loss_passes=0)))
    cost = chain.clearing.flat.clearing_cost.squeeze(drop=True)
    assert cost.sel(scenario="windy").item() == pytest.approx(5.0)
    assert cost.sel(scenario="calm").item() == pytest.approx(35.0)
    output = chain.clearing.data.resource_output.squeeze(drop=True)
    assert output.sel(scenario=["windy", "calm"]).values.tolist() == pytest.approx([0.5, 0.0])
    assert hm.risk(chain).expected_cost.sel(stage="distribution", measure="bid cost").item() == pytest.approx(20.0)
    with pytest.raises(DataError, match="resources"):
        hm.clear_two_stage(market, here_and_now=market.of("calm").bids.of("A"))


def test_a_storage_in_scenarios_is_as_if_run_alone(tmp_path):
    battery = pd.DataFrame({"resource": ["B"], "energy_start": 0.9, "energy_max": 2.0, "p_min": -1.0, "p_max": 1.0})
    rows = [bid("up", 1.0, 45.0, "B"), bid("down", 1.0, 30.0, "B")]
    one = resource_market([0.8, 0.7], rows, battery)
    many = in_scenarios(one, {"low": 0.5, "high": 1.0})
    chain = hm.run(many, hm.Options(grid=hm.LinDistFlow(loss_passes=0)))
    for name in many.scenarios:
        alone = hm.clear_dso(many.of(name), grid=hm.LinDistFlow(loss_passes=0)).data.stored_energy
        np.testing.assert_allclose(chain.clearing.data.stored_energy.sel(scenario=name).values, alone.values)
    tree = hm.read_results(hm.write_results(hm.result_tree(chain), tmp_path / "run.nc"))
    np.testing.assert_array_equal(
        tree["clearing"]["stored_energy"].load().values, chain.clearing.data.stored_energy.values
    )


def test_resources_of_scenarios_have_the_same_names():
    table = pd.DataFrame({"resource": ["W", "V"], "p_max": 0.5, "scenario": ["windy", "calm"]})
    with pytest.raises(DataError, match="resources"):
        resource_market([0.5], [bid("up", 0.5, 10.0, "W")], table)


def test_equilibria_and_consistent_prices_of_scenarios_are_in_the_tree():
    many = in_scenarios(hm.load_case("two_bus"), {"low": 0.5, "high": 1.0})
    options = hm.Options(
        behaviour=hm.AllStrategic(), grid=hm.LinDistFlow(loss_passes=0), exchange_prices=hm.FixedPoint()
    )
    tree = hm.result_tree(hm.run(many, options))
    for group, array in (("equilibrium", "regret"), ("exchange_prices", "exchange_price")):
        assert tree[group][array].dims[0] == "scenario"
        assert set(json.loads(tree[group].attrs["by_scenario"])) == {"low", "high"}
