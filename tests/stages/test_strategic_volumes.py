"""A leader that decides volumes too: hand calculations, and a search over what it sells as the oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import hiermarket as hm
from hiermarket.stages.leader_payment import profit_of
from tests.resource_markets import bid
from tests.resource_markets import market as resource_market
from tests.stages.conftest import LOSSLESS
from tests.stages.test_bidding import BINDING, CHAIN, OFFERS, market_of

TWO = {"bus": ["1", "2"], "parent": ["", "1"], "r": [0, 1e-6], "x": [0, 1e-6]}
BOTH = hm.PricesAndVolumes()


def up(bsp, cost, volume, bus="2"):
    return {"bsp": bsp, "bus": bus, "direction": "up", "price": cost, "volume": volume}


def capped(*bids, need=5.0, **options):
    return market_of(TWO, bids, {"2": need}, cap=50.0, tbm=(60.0, 5.0), **options)


def test_below_a_cap_only_withheld_volume_lifts_the_price():
    # Cap 50, TBM 60; L has 4 MW at 10, R 2 MW at 20, 5 MW are needed. Offers alone: below 20 L sells 4 MW at
    # R's 20, 4 (20 − 10) = 40; at the cap it sells what R leaves, 3 (50 − 10) = 120. With volumes: whatever
    # it offers above 3 MW leaves R or L at the margin, at most at 50; up to 3 MW the TBM sets the price,
    # v (60 − 10), best at v → 3: 150.
    market = capped(up("L", 10.0, 4.0), up("R", 20.0, 2.0))
    prices = hm.bid_strategically(market, "L", grid=LOSSLESS)
    volumes = hm.bid_strategically(market, "L", decides=BOTH, grid=LOSSLESS)
    assert prices.objective == pytest.approx(120.0, abs=1e-6)
    assert prices.flat.offer_volume.values.ravel().tolist() == [4.0, 2.0]
    assert volumes.objective == pytest.approx(150.0, abs=1e-6)
    assert volumes.certificate.ok
    assert volumes.revenue_gap < 1e-6
    # a shade of 1e-4 below 3 MW, so that the TBM serves something and its price is that of the clearing
    assert volumes.offer_volume.sel(bsp="L").item() == pytest.approx(3.0 * (1 - 1e-4), abs=1e-9)
    assert float(volumes.clearing.nodal_price.max()) == pytest.approx(60.0, abs=1e-9)
    assert best_of_search(10.0, 4.0, (20.0, 2.0), tbm=60.0, cap=50.0, need=5.0) == pytest.approx(150.0, abs=0.1)


def best_of_search(cost, capability, rival, *, tbm, cap, need):
    """The best profit over a lattice of prices and volumes, by a linear program of three sellers each."""
    best = 0.0
    for price in np.append(np.arange(cost, cap, 4.99), cap):
        for volume in np.linspace(0.0, capability, 401):
            found = linprog(
                [price, rival[0], tbm], A_eq=[[1, 1, 1]], b_eq=[need], bounds=[(0, volume), (0, rival[1]), (0, None)]
            )
            paid = found.eqlin.marginals[0]
            best = max(best, (paid - cost) * found.x[0])
    return best


def test_whole_volumes_are_offered_where_a_price_does_as_well():
    # The same with a cap of 100: at 60 less a tick L sells 3 MW of its 4, as much as if it withheld 1 MW
    market = market_of(TWO, [up("L", 10.0, 4.0), up("R", 20.0, 2.0)], {"2": 5.0}, tbm=(60.0, 5.0))
    led = hm.bid_strategically(market, "L", decides=BOTH, grid=LOSSLESS)
    assert led.objective == pytest.approx(150.0, abs=1e-6)
    assert led.offer_volume.sel(bsp="L").item() == 4.0
    assert led.offer_price.sel(bsp="L").item() == pytest.approx(59.99)


#: Two branches of .1/MVA in a row: w_3 = 1 − .2 (P_2 + P_3), and v_min² = .88 means P_2 + P_3 ≤ .6 MW.
WEAK = {
    "bus": ["1", "2", "3"],
    "parent": ["", "1", "2"],
    "r": [0.0, 0.1, 0.1],
    "x": [0.0, 0.1, 0.1],
    "v_min": [0.5, 0.5, np.sqrt(0.88)],
}


def test_a_voltage_limit_is_worth_more_where_less_is_offered_against_it():
    # .5 MW are needed at bus 3, so that P_3 = .5 − l, P_2 = P_3 − r with l of L at bus 3 (cost 10) and r of R
    # at bus 2 (70): 2 l + r ≥ .4 MW. The TBM sells at 40, the cap is 80.
    # Prices: L relieves 2 per MW and saves the TBM's 40, R 1: L at 80 costs (80 − 40)/2 = 20 for what R does
    # for 30. So L sells .2 MW at the cap: .2 (80 − 10) = 14. Volumes: with l < .2 R is at the margin, the limit
    # is worth 70 − 40 = 30 per MW of it, and L is paid 40 + 2 · 30 = 100: .2 (100 − 10) = 18.
    market = market_of(WEAK, [up("L", 10.0, 0.4, "3"), up("R", 70.0, 0.5)], {"3": 0.5}, cap=80.0, tbm=(40.0, 5.0))
    prices = hm.bid_strategically(market, "L", grid=LOSSLESS)
    volumes = hm.bid_strategically(market, "L", decides=BOTH, grid=LOSSLESS)
    assert prices.objective == pytest.approx(14.0, abs=1e-6)
    assert volumes.objective == pytest.approx(18.0, abs=1e-6)
    assert volumes.certificate.ok
    assert volumes.revenue_gap < 1e-6
    assert volumes.offer_volume.sel(bsp="L", bus="3").item() == pytest.approx(0.2, abs=1e-4)
    assert float(volumes.clearing.nodal_price.sel(bus="3").item()) == pytest.approx(100.0, abs=1e-6)


def sold_of(market, bsp, steps):
    """The best profit of a BSP over a lattice of what it sells, at prices at which all of it is taken.

    A period for every point of the lattice: the clearing of all of them is one call.
    """
    data = market.bids.data
    own = np.flatnonzero(market.bids.of(bsp).values)
    lattice = np.stack(
        np.meshgrid(*[np.linspace(0.0, float(data.volume[bid, 0]), steps) for bid in own], indexing="ij")
    ).reshape(len(own), -1)
    rows = []
    for number in range(data.sizes["bid"]):
        mine = number in own
        sign = 1.0 if data.bid_direction.values[number] == "up" else -1.0
        least = market.rules.price_floor if sign > 0 else market.rules.price_cap
        volumes = lattice[list(own).index(number)] if mine else np.full(lattice.shape[1], float(data.volume[number, 0]))
        rows += [
            {"bsp": str(data.bid_bsp.values[number]), "bus": str(data.bid_bus.values[number]), "block": number,
             "direction": str(data.bid_direction.values[number]), "period": t, "volume": volume,
             "price": least if mine else float(data.price[number, 0]), "cost": float(data.cost[number, 0]),
             "reactive_ratio": float(data.reactive_ratio[number, 0])}
            for t, volume in zip(pd.date_range("2026-01-01", periods=lattice.shape[1], freq="h"), volumes, strict=True)
        ]  # fmt: skip
    return rows, lattice


@pytest.mark.filterwarnings("ignore:Up bids below")
@pytest.mark.parametrize(
    ("limit", "bsp", "steps", "need"),
    [
        ("line", "L", 301, 0.4),
        ("voltage", "L", 301, 0.4),
        ("neither", "L", 301, 0.4),
        pytest.param("line", "R", 21, 0.4, marks=pytest.mark.nightly),
        pytest.param("voltage", "R", 21, 0.5, marks=pytest.mark.nightly),
    ],
)
def test_no_volume_of_a_search_earns_more(limit, bsp, steps, need):
    """What a BSP sells decides prices: all points of a lattice of it, cleared, are below the optimum, and near it."""
    table = {**CHAIN, **BINDING[limit]}
    imbalance = {"2": 0.2, "3": need, "4": 0.1}
    market = market_of(table, OFFERS, imbalance, cap=85.0, tbm=(90.0, 20.0))
    led = hm.bid_strategically(market, bsp, decides=BOTH, grid=LOSSLESS)
    assert led.certificate.ok
    assert led.revenue_gap < 1e-6
    rows, lattice = sold_of(market, bsp, steps)
    many = market_of(table, rows, imbalance, periods=lattice.shape[1], cap=85.0, tbm=(90.0, 20.0))
    found = hm.clear_dso(many, grid=LOSSLESS).require().flat
    data = many.bids.data
    total, dearest = 0.0, 0.0
    for number in np.flatnonzero(many.bids.of(bsp).values):
        at = {"bus": str(data.bid_node.values[number])}
        paid = found.nodal_price.sel(at) + data.reactive_ratio[number] * found.reactive_price.sel(at).fillna(0.0)
        sign = 1.0 if data.bid_direction.values[number] == "up" else -1.0
        dearest = max(dearest, float(np.abs(paid).max()))
        total = total + sign * (paid.values - data.cost[number].values) * found.activation[number].values
    best = int(np.argmax(total))
    assert led.objective >= total[best] - 1e-6
    # the optimum is at a corner: the lattice comes as near as one step of every bid, at what a MW is paid there
    step = sum(volumes.max() for volumes in lattice) / (steps - 1)
    assert led.objective <= total[best] + dearest * step + 1e-6
    # offers are cleared as expected, but for shades and ticks
    own = market.bids.of(bsp)
    assert float(profit_of(led.market, own, led.clearing.flat).sum()) == pytest.approx(led.objective, rel=5e-3)


def test_the_grid_is_left_out_where_it_cannot_count_with_volumes_too():
    market = capped(up("L", 10.0, 3.0), up("L", 30.0, 1.0, "1"), up("R", 20.0, 2.0))
    one = hm.bid_strategically(market, "L", decides=BOTH, grid=LOSSLESS)
    other = hm.bid_strategically(market, "L", decides=BOTH, grid=LOSSLESS, solver=hm.SolverOptions(screening=False))
    assert one.flat.screened.all()
    assert not other.flat.screened.any()
    assert one.objective == pytest.approx(150.0, abs=1e-6)
    assert other.objective == pytest.approx(150.0, abs=1e-6)


def test_what_is_withheld_is_not_forwarded():
    market = capped(up("L", 10.0, 4.0), up("R", 20.0, 2.0))
    behaviour = hm.OneLeader("L", hm.PricesAndVolumes())
    chain = hm.run(market, hm.Options(behaviour=behaviour, forwarding=hm.Unfiltered(), grid=LOSSLESS))
    # 1 MW is withheld: 2.9997 MW are offered, all of it is taken, and nothing of it is left for the TSO
    assert chain.bidding[0].offer_volume.sel(bsp="L").item() == pytest.approx(2.9997)
    np.testing.assert_allclose(chain.forwarded.flat.forwarded, 0.0, atol=1e-9)
    assert float(chain.settlement.data.profit.sel(bsp="L").sum()) == pytest.approx(150.0, abs=0.02)


def test_two_that_withhold_share_the_price_of_the_tbm():
    # A and B have 4 MW at 10 each, 5 MW are needed, the cap is 50, the TBM sells at 60: with volumes whose sum is
    # 5 MW (less a shade) both are paid 60. Who offers more is paid at most the cap, who offers less sells less.
    market = capped(up("A", 10.0, 4.0), up("B", 10.0, 4.0))
    found = hm.find_equilibrium(market, decides=BOTH, grid=LOSSLESS)
    assert found.is_equilibrium, found.reason
    assert float(found.offer_volume.sum()) == pytest.approx(5.0, abs=1e-2)
    assert float(found.clearing.nodal_price.max()) == pytest.approx(60.0, abs=1e-6)
    # together (60 − 10) · 5 = 250; with prices only one of them asks for the cap and sells 1 MW
    assert float(found.cleared_profit.sum()) == pytest.approx(250.0, abs=0.5)
    assert all(certificate.ok for certificate in found.certificates.values())
    # no volume of a search gains more than ε against the other's: it sells what the other leaves, at 60, or all at 50
    for one, other in (("A", "B"), ("B", "A")):
        left = 5.0 - float(found.offer_volume.sel(bsp=other).item())
        assert left * 50.0 <= float(found.cleared_profit.sel(bsp=one)) + 0.05


def test_volumes_of_bids_that_a_resource_holds_together_are_refused():
    # 1 MWh held gives .5 MWh in the two hours together; safe volumes are independent again
    battery = {"resource": ["R"], "energy_start": 1.0, "energy_max": 9.0, "charging": 0.8, "discharging": 0.5}
    case = resource_market([0.5, 0.5], [bid("up", 0.5, 30.0, "R"), bid("up", 0.5, 40.0, bsp="B")], battery)
    with pytest.raises(hm.ModelError) as caught:
        hm.bid_strategically(case, "A", decides=BOTH, grid=LOSSLESS)
    assert caught.value.where == "f/A/e/0/up"
    # who owns none of these bids may decide its volumes beside them
    assert hm.bid_strategically(case, "B", decides=BOTH, grid=LOSSLESS).certificate.ok
    assert hm.bid_strategically(hm.safe_volumes(case), "A", decides=BOTH, grid=LOSSLESS).certificate.ok


def test_a_shade_is_a_part():
    with pytest.raises(hm.DataError) as caught:
        hm.PricesAndVolumes(shade=1.0)
    assert caught.value.faults[0].where == "decides.PricesAndVolumes.shade"
