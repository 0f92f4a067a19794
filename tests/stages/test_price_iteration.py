"""The price that the DSO counts on and the one that the TSO's clearing pays: by hand, and as one market."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.errors import DataError, MarketWarning
from hiermarket.market.balancing_market import Transmission, balancing_market
from hiermarket.market.bids import Bids, bids
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.common_clearing import clear_common
from hiermarket.stages.coordination import AsBid, Options, run_chain
from hiermarket.stages.forwarding_methods import CommonBox, OfferCurve, SafeBox
from hiermarket.stages.price_iteration import FixedPoint, price_gap
from tests.random_markets import random_market
from tests.stages.test_common_identity import feeders_lose, final_cost, with_tbm_prices

LOSSLESS = LinDistFlow(loss_passes=0)


def one_feeder(deficit, local, grid, up=60.0):
    """A feeder without limits, its deficit [MW] and bids up; bids up of the transmission grid, one bus."""
    table = pd.DataFrame({"parent": ["", "r"], "r": [0.0, 1e-3], "x": [0.0, 1e-3], "s_max": np.inf}, index=["r", "e"])
    feeder = feeder_from_table(table, name="f")
    own = [
        {"feeder": "f", "bsp": "A", "bus": "e", "direction": "up", "block": k, "price": p, "volume": v, "cost": p}
        for k, (p, v) in enumerate(local)
    ]
    others = [
        {"feeder": "transmission", "bsp": "G", "bus": "transmission", "direction": "up", "block": k, "price": p,
         "volume": v, "cost": p}
        for k, (p, v) in enumerate(grid)
    ]  # fmt: skip
    lacking = pd.DataFrame([{"feeder": "f", "bus": "e", "imbalance": deficit}])
    return balancing_market(
        {"f": feeder}, bids=pd.DataFrame(own), imbalance=lacking,
        tbm_prices={"up": up, "down": 20.0}, rules=MarketRules(200.0, 1000.0),
        transmission=Transmission(bids=bids(pd.DataFrame(others), pd.DatetimeIndex(feeder.data.period.values))),
    )  # fmt: skip


def options(**more):
    return Options(behaviour=AsBid(), forwarding=OfferCurve(undo=False), grid=LOSSLESS, **more)


def test_gap_and_fixed_point_by_hand():
    """Need 4 MW, A 5 MW at 70, G 3 MW at 40 and 10 MW at 90; the DSO counts on 60.

    It takes 4 MW, the TSO calls G for 3 and A for 1 MW: 70, a gap of 10. At 70 the DSO calls A itself, the
    TSO needs nothing and its price is that of its cheapest offer, 40. Just below 70 the price is 70.
    """
    market = one_feeder(4.0, [(70.0, 5.0)], [(40.0, 3.0), (90.0, 10.0)])
    first = run_chain(market, options())
    assert first.price_iteration is None
    assert price_gap(market, first.clearing, first.cleared).item() == pytest.approx(10.0)
    chain = run_chain(market, options(exchange_prices=FixedPoint()))
    found = chain.price_iteration
    assert found.consistent
    np.testing.assert_allclose(found.flat.largest_gap.values, [10.0, 30.0, 0.005])
    np.testing.assert_allclose(found.exchange_price.sel(direction=["up", "down"]).values.ravel(), 69.995)
    assert chain.cleared.flat.interface_price.item() == pytest.approx(70.0)
    assert chain.clearing.flat.tbm_volume.sel(direction="up").item() == pytest.approx(4.0)
    # the DSO pays the TSO what the TSO pays, to half the tolerance: 4 MW at 69.995
    energy = chain.settlement.data.payment.sel(item="energy from the TBM", account="TSO")
    assert energy.item() == pytest.approx(4 * 69.995)
    assert chain.market.tbm.tbm_price.sel(direction="up").item() == 60.0


def test_a_price_that_a_trade_confirms_stays():
    """G alone sets 60, where the DSO takes: the price down is not tested, and stays."""
    market = one_feeder(4.0, [(70.0, 5.0)], [(60.0, 10.0)])
    found = run_chain(market, options(exchange_prices=FixedPoint())).price_iteration
    assert found.consistent
    assert found.flat.sizes["round"] == 1
    np.testing.assert_allclose(found.exchange_price.sel(direction="down").values, 20.0)


def test_what_no_trade_tests_is_not_called_consistent():
    """A at 50 covers the need at assumed 60; the TSO's price without a need is 40: the DSO would have taken at it."""
    market = one_feeder(4.0, [(50.0, 4.0)], [(40.0, 10.0)])
    chain = run_chain(market, options(exchange_prices=FixedPoint()))
    assert chain.price_iteration.consistent
    assert chain.price_iteration.flat.sizes["round"] == 2
    assert chain.clearing.flat.tbm_volume.sel(direction="up").item() == pytest.approx(4.0)
    assert chain.cleared.flat.interface_price.item() == pytest.approx(40.0)


def test_a_trade_does_not_confirm_a_price_for_whole_bids():
    """A sells 5 MW at 40 or nothing, 1 MW lacks, G sells at 60 and buys at 20.

    Counting on 60 and 20 the DSO takes 1 MW from the TSO (60 against 5 · 40 − 4 · 20 = 120), and the TSO's price is 60.
    At 60 in both directions it would rather have A and deliver 4 MW (5 · 40 − 4 · 60 = −40): 60 is no consistent
    price. A is taken above 200 / 5 = 40 alone, where G then sets 20, and not below, where G sets 60: there is none.
    """
    market = one_feeder(1.0, [(40.0, 5.0)], [(60.0, 10.0)])
    data = market.bids.data
    whole = dataclasses.replace(
        market,
        bids=Bids(data.assign(minimum=data.volume)),
        transmission=dataclasses.replace(market.transmission, bids=both_ways(market)),
    )
    box = dataclasses.replace(options(exchange_prices=FixedPoint()), forwarding=SafeBox())
    with pytest.warns(MarketWarning, match="No consistent exchange prices"):
        chain = run_chain(whole, box)
    assert not chain.price_iteration.consistent
    # without the minimum A delivers what G does not sell below 60
    assert run_chain(dataclasses.replace(whole, bids=market.bids), box).price_iteration.consistent


def both_ways(market):
    """G sells 10 MW at 60, and buys 10 MW at 20."""
    rows = [
        {"feeder": "transmission", "bsp": "G", "bus": "transmission", "direction": way, "price": p, "volume": 10.0}
        for way, p in (("up", 60.0), ("down", 20.0))
    ]
    return bids(pd.DataFrame(rows), market.periods)


def test_scarcity_has_no_consistent_price():
    """3 MW are offered where 4 MW lack: the TSO's price is the value of lost load, and no bid may cost as much."""
    market = one_feeder(4.0, [(70.0, 1.0)], [(40.0, 2.0)])
    with pytest.warns(MarketWarning, match="No consistent exchange prices: after 2 rounds a gap of 800.00"):
        chain = run_chain(market, options(exchange_prices=FixedPoint()))
    assert not chain.price_iteration.consistent
    assert "where the TSO's price jumps" in chain.price_iteration.reason


@pytest.mark.parametrize("seed", [1, 6])
def test_consistent_prices_make_the_hierarchy_one_market(seed):
    """At prices that are paid both clearings together cost what one market over all grids costs.

    Each of them is the best at those prices, so that no exchange could be better: whatever the DSO forwards.
    Tolerance: that of the prices, times the MW that are traded at kinks.
    """
    market = with_tbm_prices(random_market(seed, count=2, periods=2, transmission=True), 60.0, 20.0)
    chain = run_chain(market, options(exchange_prices=FixedPoint()))
    common = clear_common(market, grid=LOSSLESS, losses=chain.clearing.losses)
    served = ~(feeders_lose(chain.clearing.flat) | feeders_lose(common.flat)).values
    good = served & (abs(chain.price_iteration.flat.price_gap).max("feeder").values <= 0.01)
    assert good.any()
    apart = final_cost(market, chain.cleared, chain.disaggregation)
    np.testing.assert_allclose(apart[good], common.flat.common_cost.values[good], atol=2e-3)


def test_it_is_stored_and_labelled(tmp_path):
    market = one_feeder(4.0, [(70.0, 5.0)], [(40.0, 3.0), (90.0, 10.0)])
    chain = run_chain(market, options(exchange_prices=FixedPoint()))
    hm.write_results(hm.result_tree(chain), tmp_path / "run.nc")
    tree = hm.read_results(tmp_path / "run.nc")
    assert tree["exchange_prices"].attrs["consistent"] == 1
    xr.testing.assert_allclose(
        tree["exchange_prices"]["exchange_price"].load(),
        tree["input"]["exchange_price"].load().rename("exchange_price"),
    )
    assert abs(tree["tso"]["price_gap"]).max() <= 0.01


def test_refusals():
    for wrong in ({"tolerance": 0.0}, {"rounds": 0}, {"step": 1.5}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            FixedPoint(**wrong)
    market = hm.load_case("two_bus")
    up, down = 30.0, 40.0
    crossed = xr.DataArray([up, down], coords={"direction": ["up", "down"]}, dims="direction")
    with pytest.raises(DataError, match="exchange_price"):
        market.with_exchange_price(crossed)
    iterated = Options(exchange_prices=FixedPoint())
    with pytest.raises(DataError, match="exchange_prices"):
        hm.run(hm.Study(hm.ReplicatedCase("two_bus", copies=2), "nowhere", options=iterated))
    assert dataclasses.replace(iterated, forwarding=CommonBox()).exchange_prices == FixedPoint()
