"""A TSO that sets the price of the interface: no other price is better, by clearing after clearing."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.errors import DataError
from hiermarket.stages.interface import interface_offers
from hiermarket.stages.interface_pricing import price_interface
from hiermarket.stages.tso_clearing import clear_offers
from tests.random_markets import random_market

LOSSLESS = hm.LinDistFlow(loss_passes=0)
TICK = 0.01


def without_limits(market):
    tbm = market.tbm.assign(tbm_limit=xr.full_like(market.tbm.tbm_limit, np.inf))
    return dataclasses.replace(market, tbm=tbm)


def at_price(market, price):
    """The market with one price of the interface in every period."""
    return market.with_exchange_price(xr.full_like(market.tbm.tbm_price, float(price)))


def exchange_of(clearing):
    volume = clearing.flat.tbm_volume
    return (volume.sel(direction="up") - volume.sel(direction="down")).transpose("feeder", "period").values


def tso_cost(market, clearing):
    """What a clearing of the DSOs costs the TSO: its bids and lost load, less what it is paid; by period."""
    cleared = clear_offers(market.tso_side, interface_offers(clearing)).require()
    own, hours = cleared.grid_bids, market.duration.values
    bought = (own.sign.values[:, None] * own.data.price.values * cleared.flat.grid_activation.values).sum(axis=0)
    lost = (cleared.flat.grid_unserved + cleared.flat.grid_spilled).sum("grid_bus").values
    paid = (market.exchange_price.sel(direction="up").transpose("feeder", "period").values * exchange_of(clearing)).sum(
        axis=0
    )
    return hours * (bought + market.rules.value_of_lost_load * lost - paid)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_price_is_better(seed):
    market = without_limits(random_market(seed, count=2, periods=1, hours=0.5, transmission=True))
    found = price_interface(market, grid=LOSSLESS, tick=TICK)
    for price in (0.0, 18.0, 37.0, 59.0, 84.0, market.rules.price_cap):
        other = at_price(market, price)
        assert tso_cost(other, hm.clear_dso(other, grid=LOSSLESS).require()).sum() >= found.tso_cost - 1e-5
    announced = tso_cost(found.market, found.clearing).sum()
    assert announced >= found.tso_cost - 1e-5
    expected = found.flat.interface_exchange.transpose("feeder", "period").values
    # where the DSOs answer as expected, it is the optimum but for the tick
    assert exchange_of(found.clearing) == pytest.approx(expected, abs=1e-5)
    assert announced <= found.tso_cost + TICK * 0.5 * np.abs(expected).sum() + 1e-5
    price = found.flat.interface_price.values
    assert found.paid == pytest.approx(0.5 * float((price * expected).sum()))


def test_periods_are_apart():
    market = without_limits(random_market(3, periods=2, transmission=True))
    both = price_interface(market, grid=LOSSLESS)
    alone = [price_interface(market.of_periods(np.array([t])), grid=LOSSLESS) for t in (0, 1)]
    assert both.tso_cost == pytest.approx(sum(one.tso_cost for one in alone))
    assert both.dso_cost == pytest.approx(sum(one.dso_cost for one in alone))


def test_with_losses():
    market = without_limits(random_market(5, transmission=True))
    found = price_interface(market)
    assert found.certificate.ok
    flat = found.clearing.flat
    lost = sum(flat[n].sum() for n in ("unserved", "spilled", "reactive_shortage", "reactive_surplus"))
    # losses are those of another state, and a tick lies between
    cost = float(flat.clearing_cost.sum() + market.rules.value_of_lost_load * lost)
    assert cost == pytest.approx(found.dso_cost, rel=1e-2)


def test_one_bus_with_the_tbm_as_its_provider():
    # the feeder lacks .5 MW, A has .2 at 30; the TSO buys at 60, and sells at the cap of 100 as long as lost load is
    # dearer: .3 MW for 30 EUR that cost 18, and .5 MW would be taken below 30 only
    found = price_interface(hm.load_case("two_bus"), grid=LOSSLESS)
    assert found.flat.interface_price.item() == pytest.approx(100.0)
    assert found.flat.interface_exchange.item() == pytest.approx(0.3)
    assert found.tso_cost == pytest.approx(0.3 * (60 - 100))
    assert found.paid == pytest.approx(30.0)
    assert found.dso_cost == pytest.approx(30.0 + 0.2 * 30)


def test_limits_are_refused():
    market = hm.load_case("two_bus")
    limited = dataclasses.replace(market, tbm=market.tbm.assign(tbm_limit=market.tbm.tbm_limit.clip(max=1.0)))
    with pytest.raises(DataError) as error:
        price_interface(limited)
    (fault,) = error.value.faults
    assert fault.where == "tbm_limit"
