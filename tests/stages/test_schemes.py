"""Coordination schemes: by hand on two buses, and what must hold between them on random markets."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hiermarket as hm
from hiermarket.network.feeder import feeder_from_table
from hiermarket.stages.schemes import every_scheme
from tests.random_markets import random_market

LOSSLESS = hm.LinDistFlow(loss_passes=0)

# a price of the interface may lie above an up bid, which then trades without any imbalance: it is told
pytestmark = pytest.mark.filterwarnings("ignore::hiermarket.errors.MarketWarning")


def market_with_a_clearing(seed, **shape):
    """A random market whose feeders can be cleared: some have voltage limits that no injection mends."""
    market = random_market(seed, transmission=True, **shape)
    assume(not hm.clear_dso(market, grid=LOSSLESS).flat.status.any())
    return market


def coordinate(scheme, market, grid=LOSSLESS):
    return scheme.coordinate(market, grid=grid, solver=None)


def system_cost(found):
    """Σ σπ(a + z) + Σ σπy + VOLL of everything that is not served, term by term [EUR]."""
    market, flat = found.market, found.flat
    hours = market.duration
    local = (hours * market.bids.sign * market.bids.data.price * flat.final_activation).sum()
    offers = found.grid_bids
    grid = (offers.sign * offers.data.price).transpose("bid", "period").values * flat.grid_activation.values
    lost = [flat[name].fillna(0.0) for name in ("unserved", "spilled", "reactive_shortage", "reactive_surplus")]
    lost_energy = sum(float((hours * one).sum()) for one in (*lost, flat.grid_unserved, flat.grid_spilled))
    return float(local) + float((hours.values * grid).sum()) + market.rules.value_of_lost_load * lost_energy


@pytest.fixture(scope="module")
def two_bus():
    return hm.load_case("two_bus")


# Deficit 0.5 MW; A 0.2 MW up at 30, B 0.3 MW down at 25, TBM up 60 and down 20 EUR/MWh, lost load 1000.
BY_HAND = {
    # everything at 60: 0.5 · 60
    hm.TsoOnly(): {"cost": 30.0, "exchange": 0.5, "up": 0.0, "down": 0.0, "interface": 30.0},
    # A, and 0.3 MW that nobody serves: 0.2 · 30 + 0.3 · 1000
    hm.LocalOnly(): {"cost": 306.0, "exchange": 0.0, "up": 0.2, "down": 0.0, "interface": 0.0},
    # A is cheaper than the TBM: 6 + 0.3 · 60, which the DSO pays the TSO
    hm.Fragmented(): {"cost": 24.0, "exchange": 0.3, "up": 0.2, "down": 0.0, "interface": 18.0},
    # at 40, A still goes first, and B (25) is worth less than what it would sell: 6 + 0.3 · 60; the DSO pays 0.3 · 40
    hm.Fragmented(40.0): {"cost": 24.0, "exchange": 0.3, "up": 0.2, "down": 0.0, "interface": 12.0},
    # at 28, A is left; B is left too: 0.5 · 60, of which the DSO pays 0.5 · 28
    hm.Fragmented(28.0): {"cost": 30.0, "exchange": 0.5, "up": 0.0, "down": 0.0, "interface": 14.0},
    # free: B pays 25 for 0.3 MW that the DSO takes from the interface: −0.3 · 25 + 0.8 · 60
    hm.Fragmented(0.0): {"cost": 40.5, "exchange": 0.8, "up": 0.0, "down": 0.3, "interface": 0.0},
    # the DSO is paid to take more: as at 0, and it receives 0.8 · 10
    hm.Fragmented(-10.0): {"cost": 40.5, "exchange": 0.8, "up": 0.0, "down": 0.3, "interface": -8.0},
    # nothing that is left helps the TSO
    hm.Sequential(): {"cost": 24.0, "exchange": 0.3, "up": 0.2, "down": 0.0, "interface": 18.0},
    # A goes first, and 0.3 MW come over the interface at its price of 60
    hm.Common(): {"cost": 24.0, "exchange": 0.3, "up": 0.2, "down": 0.0, "interface": 18.0},
}


@pytest.mark.parametrize("scheme", BY_HAND, ids=lambda scheme: scheme.name)
def test_by_hand(scheme, two_bus):
    found, wanted = coordinate(scheme, two_bus), BY_HAND[scheme]
    assert system_cost(found) == pytest.approx(wanted["cost"])
    assert found.flat.interface_exchange.item() == pytest.approx(wanted["exchange"])
    assert found.flat.final_activation.values.ravel().tolist() == pytest.approx([wanted["up"], wanted["down"]])
    paid = found.settlement.data.payment.sel(account="TSO").sum("period")
    names = [name for name in ("energy from the TBM", "energy over the interface") if name in paid.indexes["item"]]
    assert float(paid.sel(item=names).sum()) == pytest.approx(wanted["interface"])
    assert found.settlement.imbalance_of_money == pytest.approx(0.0, abs=1e-9)


def test_payments_of_an_interface_price_are_named(two_bus):
    items = coordinate(hm.Fragmented(40.0), two_bus).settlement.data.payment
    assert "energy over the interface" in items.indexes["item"]
    assert "energy from the TBM" not in items.indexes["item"]
    # the TSO buys at 60 what it sells at 40: 0.3 · 20 is missing, on an account of its own
    assert float(items.sel(item="price difference", account="TSO").sum()) == pytest.approx(6.0)


@pytest.mark.parametrize(("price", "traded"), [(40.0, "/A/"), (28.0, None), (0.0, "/B/")])
def test_bids_that_trade_with_the_interface_without_any_imbalance_are_told(price, traded, two_bus):
    """A sells at 30 what the DSO is paid 40 for; B pays 25 for what the DSO has for 0 EUR/MWh."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coordinate(hm.Fragmented(price), two_bus)
    told = [str(w.message) for w in caught if issubclass(w.category, hm.MarketWarning)]
    assert [traded in words for words in told] == ([] if traded is None else [True])


def test_names():
    names = [scheme.name for scheme in every_scheme()]
    assert names[:4] == ["TSO only", "local only", "fragmented", "sequential, SafeBox"]
    assert names[-1] == "common"
    assert len(set(names)) == len(names)
    assert hm.Fragmented(12.5).name == "fragmented at 12.5 EUR/MWh"
    assert hm.Sequential(hm.SafeBox(undo=True)).name == "sequential, SafeBox (undo)"
    assert (
        hm.Sequential(hm.OfferCurve(undo=False), hm.OneLeader("A")).name == "sequential, OfferCurve (no undo), A leads"
    )
    assert hm.Sequential(hm.SafeBox(corner_passes=1), hm.Truthful()).name == (
        "sequential, SafeBox (corner_passes 1), truthful"
    )


@pytest.mark.parametrize("price", [1000.0, -1000.0, np.nan, np.inf])
def test_an_interface_price_is_below_the_value_of_lost_load(price, two_bus):
    with pytest.raises(hm.DataError) as caught:
        coordinate(hm.Fragmented(price), two_bus)
    assert caught.value.faults[0].where == "interface_price"


def congested():
    """A deficit of 0.5 MW behind a branch of 0.2 MVA, a local bid at 90 behind it, the TBM at 60 before it."""
    index = pd.date_range("2026-01-01", periods=1, freq="h")
    table = pd.DataFrame(
        {"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01], "s_max": [np.inf, 0.2]}, index=["r", "e"]
    )
    columns = ["feeder", "bsp", "bus", "direction", "price", "volume"]
    return hm.balancing_market(
        {"f": feeder_from_table(table, name="f", periods=index)},
        bids=pd.DataFrame([("f", "A", "e", "up", 90.0, 1.0)], columns=columns),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [0.5]}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(200.0, 1000.0),
    )


def test_the_tso_alone_may_be_cheaper_and_breaks_the_grid():
    # the polygon of 12 sides lets 0.2 cos 15° = 0.193185 MW through: the rest costs 90
    through = 0.2 * np.cos(np.pi / 12)
    common, alone = coordinate(hm.Common(), congested()), coordinate(hm.TsoOnly(), congested())
    assert system_cost(common) == pytest.approx(60 * through + 90 * (0.5 - through))
    assert common.flat.overload.max().item() == pytest.approx(0.0, abs=1e-9)
    # all of it at 60, of which the branch carries 0.2: 0.3 MVA too much, and its losses on top
    assert system_cost(alone) == pytest.approx(30.0)
    assert alone.flat.overload.max().item() == pytest.approx(0.3, abs=5e-3)
    # behind the branch the price is that of the local bid; the difference is the DSO's congestion rent
    paid = common.settlement.data.payment.sum("period")
    assert float(paid.sel(item="local imbalance", account="imbalance payers f")) == pytest.approx(-45.0)
    assert float(paid.sel(account="congestion and losses f").sum()) == pytest.approx(30 * through)


SAFE = (
    hm.LocalOnly(), hm.Fragmented(), hm.Fragmented(30.0), hm.Sequential(), hm.Sequential(hm.SafeBox(undo=True)),
    hm.Sequential(hm.OfferCurve()), hm.Sequential(hm.OfferCurve(undo=False)), hm.Sequential(hm.Corrective()),
)  # fmt: skip


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000))
def test_the_common_market_costs_least_of_all_that_satisfy_the_grid(seed):
    market = market_with_a_clearing(seed, count=2)
    least = system_cost(coordinate(hm.Common(), market))
    for scheme in SAFE:
        found = coordinate(scheme, market)
        assert system_cost(found) >= least - 1e-6 * max(1.0, abs(least)), scheme.name
        assert found.settlement.imbalance_of_money < 1e-6, scheme.name


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_offer_curves_that_may_undo_cost_as_little_as_the_common_market(seed):
    market = market_with_a_clearing(seed, count=2)
    # the exchange is left to the TSO
    tbm = market.tbm.assign(tbm_limit=xr.full_like(market.tbm.tbm_limit, np.inf))
    market = replace(market, tbm=tbm)
    curve, common = coordinate(hm.Sequential(hm.OfferCurve()), market), coordinate(hm.Common(), market)
    # the curve leaves what is not served within a feeder as it is in stage 1
    lost = ("unserved", "spilled", "reactive_shortage", "reactive_surplus")
    assume(not any((abs(found.flat[name].fillna(0.0)) > 1e-7).any() for found in (curve, common) for name in lost))
    assert system_cost(curve) == pytest.approx(system_cost(common), rel=1e-6, abs=1e-5)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_a_fixed_interface_stays_at_its_schedule(seed):
    market = market_with_a_clearing(seed, count=2, periods=2, hours=0.5)
    found = coordinate(hm.LocalOnly(), market)
    np.testing.assert_allclose(found.flat.interface_exchange, 0.0, atol=1e-9)
    # the TSO has its own imbalance and nothing else
    own = market.transmission.imbalance.sum("bus")
    sign = found.grid_bids.sign.values[:, None]
    grid = market.transmission.grid.data.p_scheduled.sum("bus")
    balance = (
        (sign * found.flat.grid_activation.values).sum(axis=0)
        + grid
        + (found.flat.grid_unserved - found.flat.grid_spilled).sum("grid_bus").values
    )
    np.testing.assert_allclose(balance, own, atol=1e-7)


@pytest.mark.parametrize("scheme", every_scheme(), ids=lambda scheme: scheme.name)
def test_money_sums_to_zero_with_losses(scheme):
    market = random_market(5, count=2, periods=2, transmission=True)
    found = coordinate(scheme, market, grid=hm.LinDistFlow())
    assert found.settlement.imbalance_of_money < 1e-6
    operators = found.settlement.data.payment.sum(["item", "period"])
    kinds = operators.account_kind.values
    # what an operator collects above what it pays is on an account of its own
    for kind in ("DSO", "TSO"):
        np.testing.assert_allclose(operators.values[kinds == kind], 0.0, atol=1e-6)


def test_a_state_without_a_power_flow_is_told():
    index = pd.date_range("2026-01-01", periods=1, freq="h")
    table = pd.DataFrame({"parent": ["", "r"], "r": [0, 0.05], "x": [0, 0.05]}, index=["r", "e"])
    columns = ["feeder", "bsp", "bus", "direction", "price", "volume"]
    market = hm.balancing_market(
        {"f": feeder_from_table(table, name="f", periods=index)},
        bids=pd.DataFrame([("f", "A", "e", "up", 90.0, 1.0)], columns=columns),
        # far more than the branch can carry at any voltage
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [50.0]}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(200.0, 1000.0),
    )
    with pytest.raises(hm.SolveError, match="TSO only"):
        coordinate(hm.TsoOnly(), market, grid=hm.LinDistFlow())


@pytest.mark.parametrize("scheme", [hm.Fragmented(), hm.Fragmented(45.0), hm.Fragmented(10.0), hm.LocalOnly()])
def test_dual_imbalance_prices_refer_to_the_tbm_whatever_the_interface_costs(scheme, two_bus):
    """(35): deficits of 0.5 MW in the feeder and 1 MW in the transmission grid pay at least the TBM's 60 EUR/MWh."""
    rules = replace(two_bus.rules, imbalance_pricing=hm.ImbalancePricing.DUAL)
    periods = two_bus.periods
    offer = {"feeder": "transmission", "bsp": ["G"], "bus": "transmission", "direction": "up"}
    side = hm.Transmission(
        bids=hm.bids(pd.DataFrame({**offer, "price": 40.0, "volume": 9.0}), periods),
        imbalance=xr.DataArray(
            np.ones((1, len(periods))), dims=("bus", "period"), coords={"bus": ["transmission"], "period": periods}
        ),
    )
    found = coordinate(scheme, replace(two_bus, rules=rules, transmission=side))
    paid = -found.settlement.data["payment"].sum(["item", "period"])
    # the TSO's price is 40: its deficit pays 60
    assert paid.sel(account="imbalance payers transmission").item() == pytest.approx(60.0)
    nodal = found.flat.nodal_price.max().item()
    lost = float((found.flat.unserved * found.flat.nodal_price).sum())
    feeder = two_bus.feeder_names[0]
    assert paid.sel(account=f"imbalance payers {feeder}").item() == pytest.approx(0.5 * max(nodal, 60.0) - lost)
