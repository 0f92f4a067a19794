"""A leader that is paid as bid, or at a uniform price: hand calculations, searches over offers, the settlement."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.stages.accounts import ACCOUNT, ITEM, Item, bsp_account
from hiermarket.stages.leader_payment import profit_of
from tests.resource_markets import bid
from tests.resource_markets import market as resource_market
from tests.stages.conftest import LOSSLESS
from tests.stages.test_bidding import BINDING, CHAIN, OFFERS, market_of
from tests.stages.test_strategic_volumes import TWO, WEAK, up

AS_BID, UNIFORM = hm.Pricing.PAY_AS_BID, hm.Pricing.UNIFORM


def ruled(market, pricing):
    return dataclasses.replace(market, rules=dataclasses.replace(market.rules, pricing=pricing))


def led(market, bsp="L", *, grid=LOSSLESS, **options):
    found = hm.bid_strategically(market, bsp, grid=grid, **options)
    assert found.certificate.ok
    assert found.revenue_gap < 1e-6
    return found


def test_paid_as_bid_a_leader_asks_for_what_the_market_bears():
    # L has 4 MW at 10, R 2 MW at 20, 5 MW are needed, the TBM sells at 60. Just below R, 4 (20 − 10) = 40; just
    # below the TBM, what R leaves: 3 (60 − 10) = 150, the same as at nodal prices. R is paid 20, not 60.
    market = ruled(market_of(TWO, [up("L", 10.0, 4.0), up("R", 20.0, 2.0)], {"2": 5.0}, tbm=(60.0, 5.0)), AS_BID)
    found = led(market)
    assert found.objective == pytest.approx(150.0, abs=1e-6)
    assert found.flat.offer_price.values[:, 0].tolist() == pytest.approx([59.99, 20.0])
    assert found.flat.expected_profit.item() == pytest.approx(150.0, abs=1e-6)


@pytest.mark.parametrize(("pricing", "profit"), [(hm.Pricing.NODAL, 100.0), (AS_BID, 80.0)])
@pytest.mark.filterwarnings("ignore:The leader is paid more than the price cap")
def test_paid_as_bid_nobody_gets_more_than_the_cap(pricing, profit):
    # L has 2 MW at 10, and with R's 2 MW not all of 5 MW is there: the TBM sets 60, above the cap of 50.
    # Nodal: 2 (60 − 10) = 100. As bid: 2 (50 − 10) = 80; that 10 EUR/MWh are out of reach is the multiplier μ⁺.
    bids = [up("L", 10.0, 2.0), up("R", 20.0, 2.0)]
    market = ruled(market_of(TWO, bids, {"2": 5.0}, cap=50.0, tbm=(60.0, 5.0)), pricing)
    for solver in (None, hm.SolverOptions(screening=False)):
        assert led(market, solver=solver).objective == pytest.approx(profit, abs=1e-6)


@pytest.mark.parametrize(("pricing", "profit"), [(hm.Pricing.NODAL, 9.0), (AS_BID, 7.0)])
@pytest.mark.filterwarnings("ignore:The leader is paid more than the price cap")
def test_a_voltage_limit_is_not_paid_for_above_the_cap(pricing, profit):
    # as in test_strategic_volumes, but L has .1 MW: it is taken whole, R relieves the rest, λ_3 = 100, the cap is 80.
    # Nodal: .1 (100 − 10) = 9; as bid .1 (80 − 10) = 7
    bids = [up("L", 10.0, 0.1, "3"), up("R", 70.0, 0.5)]
    market = ruled(market_of(WEAK, bids, {"3": 0.5}, cap=80.0, tbm=(40.0, 5.0)), pricing)
    assert led(market).objective == pytest.approx(profit, abs=1e-6)


def priced(market, bsp, steps):
    """The rows of a market with a period for every point of a lattice of one BSP's prices, floor to cap."""
    data, rules = market.bids.data, market.rules
    own = np.flatnonzero(market.bids.of(bsp).values)
    axes = [np.linspace(rules.price_floor, rules.price_cap, steps)] * len(own)
    lattice = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(len(own), -1)
    periods = pd.date_range("2026-01-01", periods=lattice.shape[1], freq="h")
    return [
        {"bsp": str(one.bid_bsp.item()), "bus": str(one.bid_bus.item()), "block": number, "period": t,
         "direction": str(one.bid_direction.item()), "volume": float(one.volume[0]), "cost": float(one.cost[0]),
         "price": lattice[list(own).index(number), k] if number in own else float(one.price[0]),
         "reactive_ratio": float(one.reactive_ratio[0])}
        for number, one in ((n, data.isel(bid=n)) for n in range(data.sizes["bid"]))
        for k, t in enumerate(periods)
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Up bids below")
@pytest.mark.parametrize(
    ("limit", "bsp", "steps"),
    [
        ("line", "L", 201),
        ("voltage", "L", 201),
        pytest.param("line", "R", 26, marks=pytest.mark.nightly),
        pytest.param("voltage", "S", 26, marks=pytest.mark.nightly),
    ],
)
def test_no_offer_paid_as_bid_earns_more(limit, bsp, steps):
    """All points of a lattice of prices, cleared and paid as bid, are below the optimum, and the best is near it."""
    table, imbalance = {**CHAIN, **BINDING[limit]}, {"2": 0.2, "3": 0.4, "4": 0.1}
    market = ruled(market_of(table, OFFERS, imbalance), AS_BID)
    found = led(market, bsp)
    rows = priced(market, bsp, steps)
    many = market_of(table, rows, imbalance, periods=len(rows) // market.bids.data.sizes["bid"])
    activation = hm.clear_dso(many, grid=LOSSLESS).require().flat.activation
    data, own = many.bids.data, many.bids.of(bsp)
    profit = (many.bids.sign * (data.price - data.cost) * activation).where(own, 0.0).sum("bid")
    best = float(profit.max())
    assert found.objective >= best - 1e-6
    # one step of the lattice below the best price of a bid sells at least as much of it
    volume = float(market.bids.data.volume.where(market.bids.of(bsp), 0.0).sum())
    assert found.objective <= best + volume * 100.0 / (steps - 1) + 1e-6
    cleared = profit_of(found.market, market.bids.of(bsp), found.clearing.flat)
    assert float(cleared.sum()) == pytest.approx(found.objective, abs=0.05)


def account_of(chain, bsp):
    """What a BSP gains in the distribution market, from the accounts: payments and uplift, less true cost."""
    payment = chain.settlement.data.payment.sel({ACCOUNT: bsp_account(bsp)})
    items = [item for item in (Item.ACTIVATION, Item.UPLIFT) if item in payment[ITEM].values]
    data, market = chain.market.bids.data, chain.market
    spent = (market.bids.sign * data.cost * chain.clearing.flat.activation * market.duration).where(market.bids.of(bsp))
    return float(payment.sel({ITEM: items}).sum()) - float(spent.sum())


#: A loaded feeder with losses, whose limits are out of reach: a MW at its end is worth more than one at the root.
LOADED = {
    "bus": ["1", "2", "3"],
    "parent": ["", "1", "2"],
    "r": [0.0, 0.004, 0.004],
    "x": [0.0, 0.004, 0.004],
    "p_scheduled": [0.0, -1.0, -1.0],
    "q_scheduled": [0.0, -0.4, -0.4],
    "v_min": 0.5,
    "v_max": 1.5,
}
#: The same feeding into the grid: a MW at its end is worth less.
FEEDING = {**LOADED, "p_scheduled": [0.0, 1.5, 1.5], "q_scheduled": [0.0, 0.4, 0.4]}

RIVALS = [
    {"bsp": "R", "bus": "2", "direction": "up", "price": 45.0, "volume": 0.2, "reactive_ratio": 0.0},
    {"bsp": "R", "bus": "2", "direction": "down", "price": 25.0, "volume": 0.2, "reactive_ratio": 0.0},
]
OURS = {
    "up": {"bsp": "L", "bus": "3", "direction": "up", "price": 35.0, "volume": 0.3, "reactive_ratio": 0.2},
    "down": {"bsp": "L", "bus": "3", "direction": "down", "price": 35.0, "volume": 0.3, "reactive_ratio": 0.2},
}


@pytest.mark.filterwarnings("ignore:Up bids below")
@pytest.mark.parametrize(("direction", "need"), [("up", 0.6), ("down", -0.4)])
@pytest.mark.parametrize("table", [LOADED, FEEDING], ids=["loaded", "feeding"])
@pytest.mark.parametrize("pricing", [hm.Pricing.NODAL, UNIFORM, AS_BID])
def test_the_settlement_pays_what_the_leader_expects(pricing, table, direction, need):
    """Under every rule, with losses, up and down; and no offer of a search, settled the same way, earns more."""
    grid, rows = hm.LinDistFlow(), [OURS[direction], *RIVALS]
    market = ruled(market_of(table, rows, {"3": need}, cap=100.0), pricing)
    found = led(market, grid=grid)
    options = hm.Options(behaviour=hm.AsBid(), forwarding=hm.Unfiltered(), grid=grid)
    settled = account_of(hm.run(found.market, options), "L")
    # five ticks of .01 on .3 MW, and losses linearised at a slightly different state
    assert settled == pytest.approx(found.objective, abs=0.02)
    assert float(found.expected_profit.sum()) == pytest.approx(found.objective, abs=1e-6)
    lattice = priced(market, "L", 101)
    many = ruled(market_of(table, lattice, {"3": need}, periods=101, cap=100.0), pricing)
    flat = hm.clear_dso(many, grid=grid).require().flat
    best = float(paid_by_hand(many, flat).max())
    assert best <= found.objective + 0.02
    assert best >= found.objective - 0.3 * 1.0 - 0.02


def paid_by_hand(market, flat):
    """The profit of the bid L at bus 3 by period: its price, or λ + τκ there, or λ of the root with what is short."""
    one = market.bids.data.isel(bid=0)
    sign = 1.0 if one.bid_direction.item() == "up" else -1.0
    at = {"bus": str(one.bid_node.item())}
    root = flat.nodal_price.sel(bus="f/1")
    price = {
        hm.Pricing.NODAL: flat.nodal_price.sel(at) + one.reactive_ratio * flat.reactive_price.sel(at),
        hm.Pricing.UNIFORM: np.maximum(root, one.price) if sign > 0 else np.minimum(root, one.price),
        hm.Pricing.PAY_AS_BID: one.price,
    }[market.rules.pricing]
    return sign * (price - one.cost) * flat.activation.isel(bid=0)


def test_a_uniform_price_without_losses_is_the_nodal_one():
    # 150 by hand as above; three bids at two buses are alike without losses; volumes below a cap, too
    bids = [up("L", 10.0, 3.0), up("L", 10.0, 1.0, "1"), up("R", 20.0, 2.0)]
    market = ruled(market_of(TWO, bids, {"2": 5.0}, tbm=(60.0, 5.0)), UNIFORM)
    assert led(market).objective == pytest.approx(150.0, abs=1e-6)
    capped = ruled(market_of(TWO, bids, {"2": 5.0}, cap=50.0, tbm=(60.0, 5.0)), UNIFORM)
    found = led(capped, decides=hm.PricesAndVolumes())
    assert found.objective == pytest.approx(150.0, abs=1e-6)
    assert float(found.flat.offer_volume.values[:2].sum()) == pytest.approx(3.0, abs=1e-3)


@pytest.mark.filterwarnings("ignore:Up bids below")
@pytest.mark.parametrize(
    ("table", "rows", "changes", "message"),
    [
        ({**CHAIN, **BINDING["line"]}, OFFERS, {}, "no limit can count; .* at f/3"),
        (LOADED, [OURS["up"], OURS["down"], *RIVALS], {}, "arrives at the interface alike"),
        (LOADED, [OURS["up"], *RIVALS], {"tbm": (60.0, -5.0)}, "may be negative"),
        (LOADED, [OURS["up"], *RIVALS], {"cap": 60.0}, "cut off the uplift"),
    ],
)
def test_a_uniform_price_that_is_not_linear_is_refused(table, rows, changes, message):
    market = ruled(market_of(table, rows, {"3": 0.4}, **changes), UNIFORM)
    with pytest.raises(hm.ModelError, match=message) as caught:
        hm.bid_strategically(market, "L", grid=hm.LinDistFlow(loss_passes=1))
    assert "bid=f/L/3/0/up" in caught.value.where


def test_paid_as_bid_volumes_and_resources_are_refused():
    market = ruled(market_of(TWO, [up("L", 30.0, 4.0)], {"2": 5.0}), AS_BID)
    with pytest.raises(hm.ModelError) as caught:
        hm.bid_strategically(market, "L", decides=hm.PricesAndVolumes())
    assert caught.value.where == "rules.pricing=pay-as-bid, decides=PricesAndVolumes"
    battery = {"resource": ["R"], "energy_start": 1.0, "energy_max": 9.0, "charging": 0.8, "discharging": 0.5}
    rows = [bid("up", 0.5, 30.0, "R"), bid("up", 0.5, 40.0, bsp="B")]
    case = ruled(resource_market([0.5, 0.5], rows, battery), AS_BID)
    with pytest.raises(hm.ModelError) as caught:
        hm.bid_strategically(case, "A", grid=LOSSLESS)
    assert caught.value.where == "f/A/e/0/up"


def duopoly(pricing, volume, *costs):
    bids = [up(name, cost, volume) for name, cost in zip("AB", costs, strict=True)]
    return ruled(market_of(TWO, bids, {"2": 0.5}), pricing)


@pytest.mark.parametrize("pricing", [UNIFORM, AS_BID])
def test_the_cheaper_of_two_sells_at_the_cost_of_the_other(pricing):
    # 1 MW each at 30 and at 40, .5 MW needed: A sells at 40, .5 (40 − 30) = 5; B at 40 earns nothing either way
    found = hm.find_equilibrium(duopoly(pricing, 1.0, 30.0, 40.0), grid=LOSSLESS)
    assert found.is_equilibrium, found.reason
    assert found.cleared_profit.values.tolist() == pytest.approx([5.0, 0.0], abs=0.03)
    assert all(certificate.ok for certificate in found.certificates.values())
    # the DSO pays .5 · 40 for what cost .5 · 30 at truthful offers: as bid at 30, uniformly at 30
    assert found.payment_ratio == pytest.approx(40.0 / 30.0, rel=2e-3)


def test_paid_as_bid_two_small_ones_chase_each_other():
    # .3 MW each at 30, .5 MW needed, TBM 60. At 60 both, A (first by its label) sells .3, B .2 MW; undercutting
    # sells .3 instead of .2, down to p with .3 (p − 30) = .2 (60 − 30), p = 50; below, .2 MW at 60 is better.
    # No pair of prices is at rest. At nodal prices one asks for 60, the other is taken whole below.
    method = hm.GaussSeidel(ticks=(1.0,))
    found = hm.find_equilibrium(duopoly(AS_BID, 0.3, 30.0, 30.0), grid=LOSSLESS, method=method)
    assert not found.is_equilibrium
    assert "offers came round in a cycle" in found.reason
    # whoever sells .2 MW could sell .3 just below the other, or ask for more: some gain is always left
    assert float(found.regret.max()) > 0.5
    nodal = hm.find_equilibrium(duopoly(hm.Pricing.NODAL, 0.3, 30.0, 30.0), grid=LOSSLESS)
    assert nodal.is_equilibrium
    assert sorted(nodal.cleared_profit.values.tolist()) == pytest.approx([0.2 * 30, 0.3 * 30], abs=1e-6)


@pytest.mark.parametrize(
    ("pricing", "decides"),
    [(hm.Pricing.NODAL, hm.PricesAndVolumes()), (UNIFORM, hm.PricesOnly()), (AS_BID, hm.PricesOnly())],
)
def test_a_period_in_which_a_bid_offers_nothing(pricing, decides):
    # hour 1: L sells what R leaves at the TBM's price, 3 (60 − 10) = 150; hour 2: L has nothing
    rows = [
        {**up("L", 10.0, volume), "period": t}
        for t, volume in zip(pd.date_range("2026-01-01", periods=2, freq="h"), (4.0, 0.0), strict=True)
    ]
    rows += [{**up("R", 20.0, 2.0), "period": row["period"]} for row in rows]
    market = ruled(market_of(TWO, rows, {"2": 5.0}, periods=2, tbm=(60.0, 5.0)), pricing)
    for solver in (None, hm.SolverOptions(screening=False)):
        found = led(market, decides=decides, solver=solver)
        assert found.flat.expected_profit.values.ravel().tolist() == pytest.approx([150.0, 0.0], abs=1e-6)
        assert found.flat.offer_volume.values[0].tolist() == [4.0, 0.0]
