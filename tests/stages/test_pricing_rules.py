"""What bids and imbalance are paid under every rule: by hand, and money that sums to zero whatever binds."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.rules import ImbalancePricing, MarketRules, Pricing
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow
from hiermarket.schema import bare
from hiermarket.stages.ac_check import injections
from hiermarket.stages.capability import forward
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import OfferCurve, SafeBox
from hiermarket.stages.settlement import join_settlements, settle, settle_feeders, settle_grid
from hiermarket.stages.tso_clearing import clear_tso
from tests.parts import of_feeders
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)
RULES = list(itertools.product(Pricing, ImbalancePricing))


def with_rules(market, pricing, imbalance_pricing=ImbalancePricing.SINGLE):
    rules = dataclasses.replace(market.rules, pricing=pricing, imbalance_pricing=imbalance_pricing)
    return dataclasses.replace(market, rules=rules)


def stages(market, grid=LOSSLESS, method=None):
    clearing = clear_dso(market, grid=grid)
    forwarded = forward(market, clearing, method=method or SafeBox(undo=True, corner_passes=0))
    cleared = clear_tso(market, clearing, forwarded)
    return clearing, cleared, disaggregate(market, clearing, forwarded, cleared)


def settled(market, grid=LOSSLESS, method=None):
    return settle(market, *stages(market, grid, method))


def line_limited(surplus=0.0):
    """A root and a bus behind a line of 0.1 MW (12 sides); deficit 0.5 MW there, A 0.6 MW up at 80 (cost 70), TBM 60.

    0.1 MW come over the line, A gives 0.4 MW and sets 80 at the bus; the root's price is 60.
    """
    table = pd.DataFrame(
        {"parent": ["", "r"], "r": [0.0, 1e-3], "x": [0.0, 1e-3], "s_max": [np.inf, 0.1 / np.cos(np.pi / 12)]},
        index=["r", "e"],
    )
    offer = {"feeder": "f", "bsp": "A", "bus": "e", "direction": "up", "price": 80.0, "volume": 0.6, "cost": 70.0}
    deficits = {"feeder": "f", "bus": ["e", "r"], "imbalance": [0.5, -surplus]}
    return balancing_market(
        {"f": feeder_from_table(table, name="f")}, bids=pd.DataFrame([offer]), imbalance=pd.DataFrame(deficits),
        tbm_prices={"up": 60.0, "down": 20.0}, rules=MarketRules(200.0, 1000.0),
    )  # fmt: skip


# by hand


@pytest.mark.parametrize(
    ("pricing", "bsp", "payers", "limits", "rule"),
    [
        # payers .5·80 = 40, A .4·80 = 32, TBM .1·60 = 6: the line earns .1·(80 − 60) = 2
        (Pricing.NODAL, 32.0, -40.0, 2.0, 0.0),
        # payers .5·60 = 30, A .4·60 = 24 and .4·(80 − 60) = 8 uplift, TBM 6: 30 − 24 − 6 = 0 are left for the 8
        (Pricing.UNIFORM, 32.0, -30.0, 0.0, -8.0),
        # payers .5·60 = 30, A .4·80 = 32, TBM 6: 30 − 32 − 6 = −8 is what the rule lacks
        (Pricing.PAY_AS_BID, 32.0, -30.0, 0.0, -8.0),
    ],
)
def test_a_line_limit_by_hand(pricing, bsp, payers, limits, rule):
    settlement = settled(with_rules(line_limited(), pricing))
    account = settlement.balance
    assert account.sel(account="BSP A").item() == pytest.approx(bsp)
    assert account.sel(account="imbalance payers f").item() == pytest.approx(payers)
    assert account.sel(account="TBM").item() == pytest.approx(6.0)
    assert account.sel(account="congestion and losses f").item() == pytest.approx(limits, abs=1e-12)
    if pricing is not Pricing.NODAL:
        assert account.sel(account="residual of the pricing rule").item() == pytest.approx(rule)
    assert settlement.data.profit.item() == pytest.approx(4.0)
    assert settlement.imbalance_of_money < 1e-12


def test_rent_is_named_by_what_it_is_for():
    payment = settled(line_limited()).data.payment.sel(account="congestion and losses f").sum("period")
    assert payment.sel(item="congestion and voltage").item() == pytest.approx(2.0)
    assert payment.sel(item="losses").item() == pytest.approx(0.0, abs=1e-12)


def test_dual_imbalance_prices_by_hand():
    """A surplus of 0.2 at the root, where the price is 60: single pays it 12, dual min(60, 20)·0.2 = 4.

    The deficit pays 80 at its bus, above the TBM's 60, with both. The 8 that are kept belong to nobody.
    """
    single, dual = (settled(with_rules(line_limited(0.05), Pricing.NODAL, way)) for way in ImbalancePricing)
    payers = "imbalance payers f"
    assert single.balance.sel(account=payers).item() == pytest.approx(-40.0 + 0.05 * 60.0)
    assert dual.balance.sel(account=payers).item() == pytest.approx(-40.0 + 0.05 * 20.0)
    assert dual.balance.sel(account="surplus of dual imbalance prices").item() == pytest.approx(0.05 * 40.0)
    assert "surplus of dual imbalance prices" not in single.balance.account.values


# money


@pytest.fixture(scope="module", params=["lossless boxes", "lossy curves"])
def run(request):
    market = random_market(61, count=8, periods=2, hours=0.25, transmission=True)
    boxes = request.param == "lossless boxes"
    return market, stages(market, *((LOSSLESS, SafeBox(undo=True)) if boxes else (LinDistFlow(1), OfferCurve())))


@pytest.mark.parametrize(("pricing", "imbalance_pricing"), RULES)
def test_every_item_sums_to_zero_and_operators_keep_nothing(run, pricing, imbalance_pricing):
    market, (clearing, cleared, _) = run
    ruled = with_rules(market, pricing, imbalance_pricing)
    forwarded = forward(ruled, clearing, method=SafeBox(undo=True, corner_passes=0))
    cleared = clear_tso(ruled, clearing, forwarded)
    final = disaggregate(ruled, clearing, forwarded, cleared)
    whole = settle(ruled, clearing, cleared, final)
    scale = float(abs(whole.data.payment).max())
    assert whole.imbalance_of_money < 1e-12 * scale
    operators = whole.data.account_kind.isin(["DSO", "TSO"])
    assert float(abs(whole.balance.where(operators, 0.0)).max()) < 1e-10 * scale
    # batches add up
    halves = [list(market.feeder_names[:3]), list(market.feeder_names[3:])]
    parts = [
        settle_feeders(ruled.of_feeders(names), *(of(names) for of in cut(clearing, cleared, final)))
        for names in halves
    ]
    joined = join_settlements([*parts, settle_grid(ruled.tso_side, cleared)])
    same = joined.data.sel(account=whole.data.account, bsp=whole.data.bsp)
    xr.testing.assert_allclose(same, whole.data, atol=1e-11 * scale)


def cut(clearing, cleared, final):
    return (lambda n: of_feeders(clearing, n)), cleared.of_feeders, (lambda n: of_feeders(final, n))


@pytest.mark.parametrize("pricing", [Pricing.UNIFORM, Pricing.PAY_AS_BID])
def test_no_accepted_bid_is_paid_less_than_its_price(run, pricing):
    market, _ = run
    ruled = with_rules(market, pricing)
    payment = settled(ruled).data.payment
    _, cleared, final = stages(ruled)
    bids, grid = market.bids, cleared.grid_bids
    for bsp in bids.bsps:
        mine = bids.of(bsp).values
        asked = (bids.sign * bids.data.price * final.flat.final_activation.fillna(0.0)).values[mine].sum() * 0.25
        received = float(payment.sel(account=f"BSP {bsp}").sum())
        assert received >= asked - 1e-9
        if pricing is Pricing.PAY_AS_BID:
            assert received == pytest.approx(asked)
    if pricing is Pricing.PAY_AS_BID:
        asked = 0.25 * (grid.sign.values[:, None] * grid.data.price.values * cleared.flat.grid_activation.values).sum()
        providers = payment.account_kind == "transmission provider"
        assert float(payment.where(providers, 0.0).sum()) == pytest.approx(asked)


# losses and limits apart


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_losses_by_differences_of_the_linear_grid(seed):
    """(31) with φ found by injecting one kW at every bus, beside the item that the settlement names."""
    market = random_market(seed, count=6, sizes=(3, 6))
    clearing, cleared, final = stages(market, LinDistFlow(1))
    if clearing.flat.status.any():
        return
    settlement = settle(market, clearing, cleared, final)
    flat, d, t = clearing.flat, market.feeders.data, market.periods[0]
    p, q = injections(market, flat.activation, clearing.recourse.fillna(0.0))
    base = linear_flow(market.feeders, clearing.losses, p, q).p_interface
    p_0, q_0 = (bare(d[name]) for name in ("p_scheduled", "q_scheduled"))
    x, y = p_0 - p, q_0 - q
    for feeder in market.feeder_names:
        buses = d.bus.values[d.bus_feeder.values == feeder]
        root = market.feeders.roots.loc[feeder]
        worth = 0.0
        for b in buses:
            step = xr.where(p.bus == b, 1e-3, 0.0)
            by_p = linear_flow(market.feeders, clearing.losses, p + step, q).p_interface
            by_q = linear_flow(market.feeders, clearing.losses, p, q + step).p_interface
            phi = [float((base - moved).sel(feeder=feeder, period=t)) / 1e-3 for moved in (by_p, by_q)]
            worth += phi[0] * float(x.sel(bus=b, period=t)) + phi[1] * float(y.sel(bus=b, period=t))
        g = flat.tbm_volume.sel(feeder=feeder, period=t)
        net = float(g.sel(direction="up") - g.sel(direction="down"))
        expected = float(flat.nodal_price.sel(bus=root, period=t)) * (worth - net)
        named = settlement.data.payment.sel(account=f"congestion and losses {feeder}", item="losses").item()
        assert named == pytest.approx(expected, abs=1e-5 * (1 + abs(expected)))


def test_where_no_limit_counts_there_is_no_rent_of_limits():
    market = random_market(5, count=10)
    clearing, cleared, final = stages(market, LinDistFlow(1))
    payment = settle(market, clearing, cleared, final).data.payment.sel(item="congestion and voltage").sum("period")
    unlimited = [
        name for name in market.feeder_names
        if clearing.flat.screened.sel(feeder=name).all() and not at_limit(market, clearing, name)
    ]  # fmt: skip
    assert len(unlimited) >= 2
    for name in unlimited:
        assert payment.sel(account=f"congestion and losses {name}").item() == pytest.approx(0.0, abs=1e-9)


def at_limit(market, clearing, name):
    """Whether the feeder takes all that the TBM may give it, or nothing, so that its price is not the TBM's."""
    volume, limit = (array.sel(feeder=name) for array in (clearing.flat.tbm_volume, market.tbm.tbm_limit))
    return bool((volume > limit - 1e-9).any())


# one price for the transmission grid


def test_the_uniform_price_is_the_nodal_one_where_no_line_counts():
    market = random_market(8, count=3, periods=2, transmission=True)
    grid = market.transmission.grid
    free = dataclasses.replace(grid, data=grid.data.assign(s_max=xr.full_like(grid.data.s_max, np.inf)))
    market = dataclasses.replace(market, transmission=dataclasses.replace(market.transmission, grid=free))
    _, cleared, _ = stages(market)
    np.testing.assert_allclose(
        cleared.flat.grid_price, cleared.flat.uniform_price.broadcast_like(cleared.flat.grid_price)
    )


def test_the_uniform_price_is_between_the_nodal_ones(run):
    flat = run[1][1].flat
    assert (flat.uniform_price <= flat.grid_price.max("grid_bus") + 1e-9).all()
    assert (flat.uniform_price >= flat.grid_price.min("grid_bus") - 1e-9).all()
