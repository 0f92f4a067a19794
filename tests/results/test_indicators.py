"""Every indicator by hand on small cases, and once more from the bare arrays of a random one."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermarket.market.balancing_market import Transmission, balancing_market
from hiermarket.market.bids import bids
from hiermarket.market.cases import load_case
from hiermarket.market.rules import MarketRules, Pricing
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.nomenclature import QUANTITIES
from hiermarket.results.indicators import indicators, indicators_of
from hiermarket.results.totals import feeder_totals, grid_totals, join_totals
from hiermarket.stages.coordination import AsBid, Options, run_chain
from tests.parts import chain_of, random_split

LOSSLESS = LinDistFlow(loss_passes=0)


def by(found, name, **labels):
    return found[name].sel(labels).values.tolist()


def test_two_bus(two_bus_run):
    found = indicators(two_bus_run)
    # deficit .5: A .2 at 30, TBM .3 at 60; the TSO changes nothing (B's down is dearer to undo)
    both = [0.5, 0.0]
    assert by(found, "imbalance_energy") == pytest.approx(np.array([both, both]))
    assert by(found, "local_energy") == pytest.approx(np.array([[0.2, 0.0]] * 2))
    assert by(found, "tbm_energy") == pytest.approx(np.array([[0.3, 0.0]] * 2))
    assert by(found, "local_share") == pytest.approx([0.4, 0.4])
    assert by(found, "tbm_share") == pytest.approx([0.6, 0.6])
    assert by(found, "netting_share") == pytest.approx([0.0, 0.0], abs=1e-12)
    # before: .5·60 = 30. After, as payment: .2·60 + .3·60 = 30; as bid and true cost: .2·30 + .3·60 = 24
    assert by(found, "cost_before") == pytest.approx(np.full((2, 3), 30.0))
    assert by(found, "cost_after") == pytest.approx(np.array([[30.0, 24.0, 24.0]] * 2))
    assert by(found, "saving") == pytest.approx(np.array([[0.0, 0.2, 0.2]] * 2), abs=1e-12)
    # B's .3 MW down are forwarded, nothing is withheld
    assert by(found, "forwarded_energy") == pytest.approx([0.0, 0.3])
    assert by(found, "withheld_energy") == pytest.approx(0.0, abs=1e-12)
    assert by(found, "energy_not_served") == 0.0
    assert by(found, "worst_violation") == [[0.0] * 3] * 3


def test_m33(m33_run):
    found = indicators(m33_run).sel(stage="distribution")
    assert by(found, "imbalance_energy", direction="up") == pytest.approx(0.55725)
    assert by(found, "local_share") == pytest.approx(1.0)
    assert by(found, "tbm_share") == pytest.approx(0.0, abs=1e-12)
    assert by(found, "cost_before") == pytest.approx([33.435] * 3)
    # payment .55725·50, bid cost 21.0625; truthful: true cost is bid cost
    assert by(found, "cost_after") == pytest.approx([27.8625, 21.0625, 21.0625])
    assert by(found, "saving") == pytest.approx([0.16667, 0.37004, 0.37004], abs=1e-5)
    # undo of up counts as down: up .14275 of C
    assert by(found, "forwarded_energy", direction="up") == pytest.approx(0.14275)
    assert by(found, "forwarded_energy", direction="down") == pytest.approx(1.09016 - 0.14275, abs=1e-5)
    assert by(found, "withheld_energy") == pytest.approx(1.2 - 1.09016, abs=1e-5)


def test_bid_cost_and_true_cost_differ_where_bids_are_not_true():
    market = load_case("two_bus")
    price = market.bids.data.price
    dear = market.with_bids(market.bids.data.assign(price=price.copy(data=[[50.0], [21.0]])))
    found = indicators(run_chain(dear, Options(behaviour=AsBid(), grid=LOSSLESS))).sel(stage="distribution")
    # A offers at 50 what costs 30
    assert by(found, "cost_after") == pytest.approx([30.0, 0.2 * 50 + 18, 0.2 * 30 + 18])


def test_a_saving_is_undefined_where_the_baseline_earns():
    market = load_case("two_bus")
    # a surplus: the TBM alone pays .5·20
    surplus = dataclasses.replace(market, imbalance=-market.imbalance)
    found = indicators(run_chain(surplus, Options(grid=LOSSLESS)))
    assert (found.cost_before < 0).all()
    assert found.saving.isnull().all()
    # B takes .3 at 25, the TBM .2 at 20: −11.5, 1.5 better than −10
    assert by(found, "cost_after", stage="distribution", measure="bid cost") == pytest.approx(-11.5)
    assert by(found, "imbalance_energy", stage="distribution") == pytest.approx([0.0, 0.5])


def test_without_imbalance_there_are_no_shares():
    market = load_case("two_bus")
    still = dataclasses.replace(market, imbalance=0 * market.imbalance)
    found = indicators(run_chain(still, Options(grid=LOSSLESS)))
    for name in ("local_share", "tbm_share", "netting_share", "saving"):
        assert found[name].isnull().all()
    assert found.cost_before.sum() == 0


def test_what_is_not_served_counts_in_both_grids():
    market = load_case("two_bus")
    limited = dataclasses.replace(market, tbm=market.tbm.assign(tbm_limit=xr.full_like(market.tbm.tbm_limit, 0.1)))
    found = indicators(run_chain(limited, Options(grid=LOSSLESS)))
    # .5 − .2 − .1 at the end; the shares of .5 are .4 local, .2 TBM, .4 not served, and nothing nets out
    assert by(found, "energy_not_served") == pytest.approx(0.2)
    assert by(found, "netting_share") == pytest.approx([0.0, 0.0], abs=1e-9)
    assert found.saving.isnull().all()
    own = xr.DataArray([[0.4]], dims=("bus", "period"), coords={"bus": ["transmission"], "period": market.periods})
    side = dataclasses.replace(market.transmission, imbalance=own)
    found = indicators(run_chain(dataclasses.replace(limited, transmission=side), Options(grid=LOSSLESS)))
    # the one provider has .1: .1 + .4 − .1 = .4 more
    assert by(found, "energy_not_served") == pytest.approx(0.6)
    # shares refer to .5 of the feeder; then to .9 with the grid's own
    assert by(found, "imbalance_energy", direction="up") == pytest.approx([0.5, 0.9])


def test_a_baseline_without_power_flow_has_no_cost(two_bus_run):
    flat = two_bus_run.baseline.flat
    gone = {name: flat[name] * np.nan for name in flat}
    broken = dataclasses.replace(two_bus_run.baseline, flat=flat.assign(gone))
    found = indicators(dataclasses.replace(two_bus_run, baseline=broken))
    assert found.cost_before.isnull().all()
    assert found.saving.isnull().all()
    assert found.cost_after.notnull().all()
    assert found.worst_violation.sel(when="baseline").isnull().all()
    assert found.worst_violation.sel(when="distribution").notnull().all()


def test_every_figure_from_the_bare_arrays(random_run):
    run, found = random_run, indicators(random_run)
    market, hours = run.market, 0.25
    b, flat, end, tso = market.bids.data, run.clearing.flat, run.disaggregation.flat, run.cleared.flat
    offers = market.transmission.bids.data
    up, sign = b.bid_direction.values == "up", np.where(b.bid_direction.values == "up", 1, -1)[:, None]
    grid_up = offers.bid_direction.values == "up"
    grid_sign = np.where(grid_up, 1, -1)[:, None]
    own = market.transmission.imbalance
    first = [np.maximum(s * market.imbalance.values, 0).sum() * hours for s in (1, -1)]
    second = [np.maximum(s * own.values, 0).sum() * hours for s in (1, -1)]
    np.testing.assert_allclose(found.imbalance_energy, [first, np.add(first, second)])
    local = [[a.values[at].sum() * hours for at in (up, ~up)] for a in (flat.activation, end.final_activation)]
    np.testing.assert_allclose(found.local_energy, local)
    y = tso.grid_activation.values
    taken = flat.tbm_volume.sum(["feeder", "period"]).sel(direction=["up", "down"]).values * hours
    tbm = [taken, [y[grid_up].sum() * hours, y[~grid_up].sum() * hours]]
    np.testing.assert_allclose(found.tbm_energy, tbm, atol=1e-12)
    gross = np.sum(found.imbalance_energy.values, axis=1)
    np.testing.assert_allclose(found.local_share, np.sum(local, axis=1) / gross)
    np.testing.assert_allclose(found.tbm_share, np.sum(tbm, axis=1) / gross)
    first_lost = hours * (flat.unserved.sum() + flat.spilled.sum()).item()
    lost = np.array([first_lost, first_lost + hours * (tso.grid_unserved.sum() + tso.grid_spilled.sum()).item()])
    assert lost[0] > 0.01
    shares = found.local_share + found.tbm_share + found.netting_share
    np.testing.assert_allclose(shares, 1.0 - lost / gross)
    # where something is not served, nothing is saved
    assert found.saving.isnull().all()

    energy, final = hours * sign * flat.activation.values, hours * sign * end.final_activation.values
    node = list(b.bid_node.values)
    kappa = flat.reactive_price.fillna(0).sel(bus=node).values
    paid = (energy * (flat.nodal_price.sel(bus=node).values + b.reactive_ratio.values * kappa)).sum()
    way = np.array([1, -1])[:, None]
    bought = flat.tbm_volume.sum("feeder").sel(direction=["up", "down"]).values
    tbm_cost = hours * (way * bought * market.tbm.tbm_price.sel(direction=["up", "down"]).values).sum()
    lam = tso.interface_price.sel(feeder=list(b.bid_feeder.values)).values
    extra = hours * (sign * lam * tso.interface_factor.values * tso.change.values).sum()

    def transmission(result):
        y = hours * grid_sign * result.grid_activation.values
        price = result.grid_price.sel(grid_bus=list(offers.bid_bus.values)).values
        return np.array([(y * price).sum(), (y * offers.price.values).sum(), (y * offers.cost.values).sum()])

    local_cost = [(volume * b[name].values).sum() for volume in (energy, final) for name in ("price", "cost")]
    expected = [
        [paid + tbm_cost, local_cost[0] + tbm_cost, local_cost[1] + tbm_cost],
        np.add(transmission(tso), [paid + extra, local_cost[2], local_cost[3]]),
    ]
    np.testing.assert_allclose(found.cost_after, expected, atol=1e-9)
    alone = run.baseline.flat.baseline_cost.sum().item()
    np.testing.assert_allclose(found.cost_before, [[alone] * 3, transmission(run.baseline.cleared.flat)], atol=1e-9)

    f = run.forwarded.flat
    upward = f.forwarded.values[up].sum() + f.forwarded_undo.values[~up].sum()
    downward = f.forwarded.values[~up].sum() + f.forwarded_undo.values[up].sum()
    np.testing.assert_allclose(found.forwarded_energy.sel(direction=["up", "down"]), [hours * upward, hours * downward])
    np.testing.assert_allclose(found.withheld_energy, hours * f.withheld.sum())
    np.testing.assert_allclose(found.energy_not_served, lost[1], atol=1e-12)
    for when, result, head in (
        ("baseline", run.baseline.flat, "baseline_"), ("distribution", flat, ""), ("transmission", end, "")
    ):  # fmt: skip
        for limit in ("undervoltage", "overvoltage", "overload"):
            assert found.worst_violation.sel(when=when, limit=limit) == result[head + limit].max()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_parts_add_up_to_the_whole(random_run, seed):
    batches = random_split(random_run.market.feeder_names, np.random.default_rng(seed))
    parts = [feeder_totals(chain_of(random_run, names)) for names in batches]
    grid = grid_totals(random_run.market.tso_side, random_run.cleared, random_run.baseline.cleared)
    whole, found = indicators(random_run), indicators_of(join_totals([*parts, grid]))
    xr.testing.assert_allclose(found, whole, atol=1e-9)
    for name in whole:
        assert found[name].dims == whole[name].dims
        assert found[name].attrs == whole[name].attrs


def test_what_one_batch_does_not_know_the_whole_does_not(two_bus_run):
    known = feeder_totals(two_bus_run)
    flat = two_bus_run.baseline.flat
    gone = dataclasses.replace(two_bus_run.baseline, flat=flat.assign({name: flat[name] * np.nan for name in flat}))
    total = join_totals([known, feeder_totals(dataclasses.replace(two_bus_run, baseline=gone))]).data
    assert total.cost_before.isnull().all()
    assert total.worst_violation.sel(when="baseline").isnull().all()
    assert total.worst_violation.sel(when="transmission").notnull().all()


@pytest.mark.parametrize(
    ("pricing", "payment"),
    # the TSO needs 1.5 MW: G1 gives 1 MW at 10, G2 0.5 MW at 50; the price is 50
    [(Pricing.NODAL, 75.0), (Pricing.UNIFORM, 75.0), (Pricing.PAY_AS_BID, 35.0)],
)
def test_a_payment_is_what_the_settlement_pays(pricing, payment):
    feeder = feeder_from_table(pd.DataFrame({"parent": [""]}, index=["r"]), name="f")
    periods = pd.DatetimeIndex(feeder.data.period.values)
    grid = {"feeder": "transmission", "bsp": ["G1", "G2"], "bus": "transmission", "direction": "up"}
    offers = bids(pd.DataFrame({**grid, "price": [10.0, 50.0], "volume": 1.0}), periods)
    nothing = {"feeder": ["f"], "bsp": "A", "bus": "r", "direction": "up", "price": 90.0, "volume": 0.1}
    market = balancing_market(
        {"f": feeder}, bids=pd.DataFrame(nothing), tbm_prices={"up": 60.0, "down": 20.0},
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": "r", "imbalance": 1.5}),
        rules=MarketRules(200.0, 1000.0, pricing=pricing), transmission=Transmission(bids=offers),
    )  # fmt: skip
    chain = run_chain(market, Options(behaviour=AsBid(), grid=LOSSLESS))
    providers = chain.settlement.balance.sel(account=[f"transmission provider {name}" for name in ("G1", "G2")])
    assert float(providers.sum()) == pytest.approx(payment)
    found = indicators(chain)
    for name in ("cost_before", "cost_after"):
        assert by(found, name, stage="transmission") == pytest.approx([payment, 35.0, 35.0])


def test_dimensions_and_units_are_those_of_the_table(random_run):
    found = indicators(random_run)
    for name in found:
        assert set(found[name].dims) == set(QUANTITIES[name].dims), name
        assert found[name].attrs["units"] == QUANTITIES[name].unit
