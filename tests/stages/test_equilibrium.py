"""Several strategic BSPs: worked numbers, a search over offers as the oracle, and endings that are no equilibrium."""

import dataclasses
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.stages.diagonalisation import Ending, walk
from tests.stages.conftest import LOSSLESS
from tests.stages.test_bidding import BINDING, CHAIN, OFFERS, market_of

TWO = {"bus": ["1", "2"], "parent": ["", "1"], "r": [0, 0.01], "x": [0, 0.01]}


def owners(*offers):
    """Up bids (bsp, cost, volume) at the second of two buses, need .5 MW, TBM 60."""
    rows = [{"bsp": b, "bus": "2", "direction": "up", "price": c, "volume": v} for b, c, v in offers]
    return market_of(TWO, rows, {"2": 0.5})


def test_the_micro_case_ends_at_the_price_of_the_tbm(m33_case):
    # Need .55725 MW. A .25 and B .25 MW are cheaper than C at 50: C serves the last .05725 MW, and
    # nobody but the TBM at 60 can replace it. At 60 it earns .05725 · 10 = .5725 instead of 0.
    # A and B are taken whole below: .15·30 + .10·26 = 7.1, .10·20 + .15·18 = 4.7; asking for more
    # than 60 loses to the TBM, withholding does not raise 60.
    found = hm.find_equilibrium(m33_case, grid=LOSSLESS)
    assert found.is_equilibrium
    np.testing.assert_allclose(found.clearing.flat.nodal_price, 60.0, atol=1e-6)
    np.testing.assert_allclose(found.clearing.flat.tbm_volume, 0.0, atol=1e-6)
    assert found.cleared_profit.values.tolist() == pytest.approx([7.1, 4.7, 0.5725], abs=1e-6)
    np.testing.assert_allclose(found.regret, 0.0, atol=1e-6)
    assert all(certificate.ok for certificate in found.certificates.values())
    # the saving is 0 %: .55725 · 60 = 33.435 is what the TBM alone costs, and 50 was the truthful price
    baseline = hm.tbm_alone(m33_case, grid=LOSSLESS)
    assert baseline.flat.baseline_cost.item() == pytest.approx(33.435, abs=1e-6)
    assert found.payment_ratio == pytest.approx(33.435 / (0.55725 * 50), abs=1e-6)
    # the same bids run: nothing is lost but money changes hands
    assert found.price_of_anarchy == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("method", [hm.GaussSeidel(), hm.Jacobi()])
def test_pivotal_alone_is_not_enough(method):
    # Without A's .4 MW only .3 of .5 MW are there: A is pivotal. Alone at the TBM's 60 it would sell
    # .2 MW: .2 (60 − 30) = 6. At 50, set by the owners of .1 MW, it sells .4 MW: .4 (50 − 30) = 8.
    found = hm.find_equilibrium(
        owners(("A", 30.0, 0.4), ("B1", 50.0, 0.1), ("B2", 50.0, 0.1), ("B3", 50.0, 0.1)), grid=LOSSLESS, method=method
    )
    assert found.is_equilibrium
    np.testing.assert_allclose(found.clearing.flat.nodal_price, 50.0, atol=1e-6)
    assert found.cleared_profit.values.tolist() == pytest.approx([8.0, 0.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("costs", [(30.0, 40.0), (40.0, 30.0)])
def test_the_cheaper_of_two_sells_at_the_cost_of_the_other(costs):
    # 1 MW each, need .5: Bertrand. The cheap one gets 40 where its label wins the tie, and
    # 40 less the last but one tick otherwise: .5 · .01 = .005 EUR below the optimum 5
    found = hm.find_equilibrium(owners(("A", costs[0], 1.0), ("B", costs[1], 1.0)), grid=LOSSLESS)
    assert found.is_equilibrium
    assert float(found.clearing.flat.nodal_price.max()) == pytest.approx(40.0, abs=0.0101)
    assert float(found.best_profit.max()) == pytest.approx(5.0, abs=1e-6)
    assert float(found.regret.max()) <= 0.0051


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (hm.GaussSeidel(most_rounds=1), "rounds were exhausted at (feeder=f, period=2026-01-01 00:00:00)"),
        # a tick of 1 EUR/MWh leaves .5 · 1 = .5 EUR
        (hm.GaussSeidel(ticks=(1.0,)), "B could gain 0.5 EUR, more than ε = 0.05 EUR, but no offer was found"),
    ],
)
def test_what_is_not_verified_is_not_called_an_equilibrium(method, reason):
    market = owners(("A", 40.0, 1.0), ("B", 30.0, 1.0))
    dear = market.with_bids(market.bids.data.assign(price=market.bids.data.price.copy(data=[[42.0], [42.0]])))
    found = hm.find_equilibrium(dear, grid=LOSSLESS, method=method)
    assert not found.is_equilibrium
    assert reason in found.reason
    assert float(found.regret.max()) > method.tolerance


def test_a_random_start_is_repeated_by_its_seed():
    market = owners(("A", 40.0, 1.0), ("B", 30.0, 1.0))
    method = hm.GaussSeidel(most_rounds=1, restarts=1, tolerance=1e-3)
    one, other = (hm.find_equilibrium(market, bsps=["B"], grid=LOSSLESS, method=method) for _ in range(2))
    assert one.starts == other.starts == 2
    np.testing.assert_array_equal(one.flat.offer_price, other.flat.offer_price)
    # who is not strategic keeps its price
    assert one.offer_price.sel(bsp="A").item() == 40.0


def earned(market, bsp, price):
    """Profit of a BSP with all its bids at one price, cleared by the DSO: Σ σ (λ + τ κ − c) a, bid by bid."""
    data = market.bids.data
    flat = hm.clear_dso(
        market.with_bids(data.assign(price=data.price.where(data.bid_bsp != bsp, price))), grid=LOSSLESS
    ).flat
    total = 0.0
    for bid in data.bid.values[data.bid_bsp.values == bsp]:
        at, one = {"bus": str(data.bid_node.sel(bid=bid).item())}, data.sel(bid=bid)
        paid = flat.nodal_price.sel(at).item() + one.reactive_ratio.item() * np.nan_to_num(
            flat.reactive_price.sel(at).item()
        )
        sign = 1.0 if one.bid_direction.item() == "up" else -1.0
        total += sign * (paid - one.cost.item()) * flat.activation.sel(bid=bid).item()
    return total


@pytest.mark.parametrize(
    ("limit", "bsps"), [("line", ["L", "R"]), pytest.param("voltage", ["L", "R", "S"], marks=pytest.mark.nightly)]
)
def test_no_offer_of_a_search_gains_more_than_epsilon(limit, bsps):
    market = market_of({**CHAIN, **BINDING[limit]}, OFFERS, {"2": 0.2, "3": 0.4, "4": 0.1})
    found = hm.find_equilibrium(market, bsps=bsps, grid=LOSSLESS)
    assert found.is_equilibrium
    data = found.market.bids.data
    prices = [20.0, 39.99, 59.99, 79.99, 100.0]
    for bsp in bsps:
        now = float(found.cleared_profit.sel(bsp=bsp))
        best = max(earned(found.market, bsp, price) for price in prices)
        assert best <= now + 0.05, bsp
        # the certified optimum is above whatever the search finds
        assert best <= float(found.best_profit.sel(bsp=bsp)) + 1e-6
    # (24) by hand: the true cost of what is activated, and the TBM at 60
    cost, flat = data.cost.values.ravel() * found.market.bids.sign.values, found.clearing.flat
    spent = float(cost @ flat.activation.values.ravel() + 60.0 * flat.tbm_volume.sel(direction="up").sum())
    before = found.truthful.flat
    spent_before = float(cost @ before.activation.values.ravel() + 60.0 * before.tbm_volume.sel(direction="up").sum())
    lost = float(found.clearing.recourse.fillna(0.0).to_dataarray().sum())
    if lost < 1e-9:
        assert found.price_of_anarchy == pytest.approx(spent / spent_before, rel=1e-6)


class Pennies:
    """Two players, offers 0 or 1: A wants to be equal, for 1 or 3 EUR; B to differ, for 2 EUR."""

    bsps = ("A", "B")
    owner = np.array([0, 0])
    own = MappingProxyType(
        {name: SimpleNamespace(values=np.array(mine)) for name, mine in (("A", [True, False]), ("B", [False, True]))}
    )
    market = SimpleNamespace(feeder_names=["f"], periods=pd.date_range("2026-01-01", periods=1))

    def cleared(self, offers):
        a, b = offers.ravel()
        return np.array([[[(3.0 if a else 1.0) * (a == b)]], [[2.0 * (a != b)]]])

    def answers(self, bsp, offers, ticks):
        return [self.best(bsp, offers)]

    def best(self, bsp, offers):
        at = self.bsps.index(bsp)
        return max(
            (np.where(self.own[bsp].values[:, None], offer, offers) for offer in (0.0, 1.0)),
            key=lambda tried: self.cleared(tried)[at].item(),
        )

    def optimum(self, bsp, offers):
        return self.cleared(self.best(bsp, offers))[self.bsps.index(bsp)]

    def regrets(self, offers):
        return np.array([self.optimum(bsp, offers) for bsp in self.bsps]) - self.cleared(offers)

    def same(self, one, other):
        return np.array([[np.allclose(one, other)]])


@pytest.mark.parametrize("method", [hm.GaussSeidel(), hm.Jacobi()])
def test_a_cycle_is_told_and_its_best_member_returned(method):
    # Rounds end at (0, 1), (1, 0), (0, 1), … with Gauss–Seidel, and also pass (1, 1) and (0, 0) with
    # Jacobi. At (1, 0) A could gain 1, at (0, 0) B 2, at (1, 1) B 2, at (0, 1) A 3.
    found = walk(Pennies(), np.array([[0.0], [0.0]]), method)
    assert list(Ending)[found.ending.item()] is Ending.CYCLE
    assert found.offers.ravel().tolist() == [1.0, 0.0]
    assert found.rounds < 10


def test_faults_are_named(m33_case):
    with pytest.raises(hm.DataError) as caught:
        hm.GaussSeidel(most_rounds=0, tolerance=0.0, damping=1.0, ticks=(), restarts=-1)
    places = [fault.where.partition(".")[2] for fault in caught.value.faults]
    assert places == [f"GaussSeidel.{n}" for n in ("most_rounds", "tolerance", "damping", "ticks", "restarts")]
    with pytest.raises(hm.DataError, match="each of A, B, C once"):
        hm.find_equilibrium(m33_case, method=hm.GaussSeidel(order=("A", "B")))
    with pytest.raises(hm.DataError, match="one of A, B, C"):
        hm.find_equilibrium(m33_case, bsps=["Z"])
    # limits of this grid are within reach, where a uniform price is not linear
    uniform = dataclasses.replace(m33_case, rules=dataclasses.replace(m33_case.rules, pricing=hm.Pricing.UNIFORM))
    with pytest.raises(hm.ModelError, match="no limit can count; low voltage at m33/"):
        hm.find_equilibrium(uniform)


@pytest.mark.parametrize("names", [[], ["A", "A"]])
def test_every_strategic_bsp_is_named_once(names):
    with pytest.raises(hm.DataError) as error:
        hm.find_equilibrium(hm.load_case("two_bus"), bsps=names, grid=LOSSLESS)
    assert [fault.where for fault in error.value.faults] == ["bsps"]
