"""The whole chain in one call is its stages one after the other."""

import numpy as np
import pytest
import xarray as xr

from hiermarket.errors import DataError, InfeasibleError, MarketWarning
from hiermarket.network.losses import LinDistFlow
from hiermarket.results.results import result_tree
from hiermarket.stages.capability import forward
from hiermarket.stages.coordination import STAGES, AllStrategic, AsBid, OneLeader, Options, Truthful, run_chain
from hiermarket.stages.decides import PricesAndVolumes
from hiermarket.stages.diagonalisation import GaussSeidel
from hiermarket.stages.forwarding_methods import SafeBox
from hiermarket.stages.price_iteration import FixedPoint
from hiermarket.stages.tso_clearing import clear_tso
from hiermarket.study.batches import require_separable
from tests.stages.conftest import LOSSLESS
from tests.stages.test_dso_clearing import NO_VOLTAGE, with_an_impossible_feeder


def test_stages_are_told_in_order(m33_case):
    told = []
    run_chain(m33_case, Options(grid=LOSSLESS), progress=told.append)
    assert tuple(told) == STAGES


def test_truthful_and_as_bid(m33_case):
    data = m33_case.bids.data
    dear = m33_case.with_bids(data.assign(price=data.price + 5.0))
    truthful = run_chain(dear, Options(behaviour=Truthful(), grid=LOSSLESS))
    assert truthful.market.bids.data.price.equals(data.cost)
    assert truthful.clearing.flat.clearing_cost.item() == pytest.approx(21.0625)
    as_bid = run_chain(dear, Options(behaviour=AsBid(), grid=LOSSLESS))
    # every activated MW costs 5 EUR more
    assert as_bid.clearing.flat.clearing_cost.item() == pytest.approx(21.0625 + 5 * 0.55725)
    assert not as_bid.bidding


def test_one_leader(m33_case):
    # C alone sets the price and raises it from 50 to the TBM's 60: all others gain too
    chain = run_chain(m33_case, Options(behaviour=OneLeader("C"), grid=LOSSLESS))
    # less the tick that wins the tie with the TBM
    tick = 0.0101
    np.testing.assert_allclose(chain.clearing.flat.nodal_price, 60.0, atol=tick)
    profit = chain.settlement.data.profit.isel(period=0)
    # A .15·30 + .10·26, B .10·20 + .15·18, C .05725·10
    assert profit.values.tolist() == pytest.approx([7.1, 4.7, 0.5725], abs=0.25 * tick)
    assert len(chain.bidding) == 1


def test_all_strategic(m33_case):
    # one round is too few to see that nobody gains: C has moved in it
    method = GaussSeidel(most_rounds=1, tolerance=0.05)
    options = Options(behaviour=AllStrategic(method), grid=LOSSLESS)
    chain = run_chain(m33_case, options)
    # C's move to 60 is the equilibrium already, and the regrets at its offers show it
    assert chain.equilibrium.is_equilibrium
    np.testing.assert_allclose(chain.clearing.flat.nodal_price, 60.0, atol=1e-6)
    profit = chain.settlement.data.profit.isel(period=0)
    assert profit.values.tolist() == pytest.approx([7.1, 4.7, 0.5725], abs=1e-6)
    tree = result_tree(chain)
    assert tree["equilibrium"].attrs["is_equilibrium"] == 1
    assert tree["equilibrium"].offer_price.sel(bsp="C", direction="up").max().item() == pytest.approx(60.0)
    with pytest.raises(DataError, match="without a client"):
        require_separable(options)


def test_offers_that_are_no_equilibrium_are_told(m33_case):
    # one round is too few: C answers first, while A still asks for 59
    options = Options(behaviour=AllStrategic(GaussSeidel(most_rounds=1, order=("C", "B", "A"))), grid=LOSSLESS)
    dear = m33_case.with_bids(
        m33_case.bids.data.assign(price=m33_case.bids.data.cost.where(~m33_case.bids.of("A"), 59.0))
    )
    with pytest.warns(MarketWarning, match="no verified equilibrium"):
        chain = run_chain(dear, options)
    assert not chain.equilibrium.is_equilibrium


def test_a_failed_feeder_is_named():
    market = with_an_impossible_feeder(NO_VOLTAGE, ["a", "x"])
    with pytest.raises(InfeasibleError) as error:
        run_chain(market, Options(grid=LOSSLESS))
    assert error.value.where == "feeder=x, period=2026-01-01 00:00:00"


def test_defaults():
    assert Options() == Options(Truthful(), SafeBox(), LinDistFlow(), None)


def test_the_chain_is_its_stages(m33_case, m33_chain, m33_lossless):
    xr.testing.assert_identical(m33_chain.clearing.flat, m33_lossless.flat)
    forwarded = forward(m33_case, m33_lossless, method=SafeBox(undo=True))
    xr.testing.assert_allclose(m33_chain.forwarded.flat, forwarded.flat)
    xr.testing.assert_allclose(m33_chain.cleared.flat, clear_tso(m33_case, m33_lossless, forwarded).flat)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("behaviour", Truthful), ("behaviour", "C"), ("behaviour", OneLeader),
        ("exchange_prices", FixedPoint), ("grid", LinDistFlow),
    ],
)  # fmt: skip
def test_a_class_or_a_string_is_no_option(name, given):
    """`behaviour=Truthful`, the class, once ran as bid."""
    with pytest.raises(DataError) as caught:
        Options(**{name: given})
    assert [fault.where for fault in caught.value.faults] == [f"options.{name}"]


def test_a_class_is_not_what_a_leader_decides(m33_case):
    options = Options(behaviour=OneLeader("C", PricesAndVolumes), grid=LOSSLESS)
    with pytest.raises(DataError) as caught:
        run_chain(m33_case, options)
    assert [fault.where for fault in caught.value.faults] == ["decides"]
