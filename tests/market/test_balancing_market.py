"""What the parts of a market must have in common, fault by fault, and the warning of bids that cross."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError, MarketWarning
from hiermarket.market.balancing_market import Transmission
from hiermarket.market.bids import bids
from hiermarket.market.imbalance import tbm_of
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeders import combine
from hiermarket.network.grid import TransmissionGrid
from tests.market.conftest import PERIODS


def faults_of(make, **changed):
    with pytest.raises(DataError) as error:
        make(**changed)
    return {fault.where.split(" at ")[0]: fault for fault in error.value.faults}


def grid_of(p=((1.0, 1.0), (-1.0, -1.0)), periods=PERIODS):
    return TransmissionGrid(
        xr.Dataset(
            {
                "bus0": ("line", ["T1"]), "bus1": ("line", ["T2"]), "susceptance": ("line", [1000.0]),
                "s_max": ("line", [10.0]), "p_scheduled": (("bus", "period"), np.array(p)),
                "duration": ("period", np.ones(len(periods))),
            },
            coords={"bus": ["T1", "T2"], "line": ["T1-T2"], "period": periods},
        )
    )  # fmt: skip


def grid_bids(periods=PERIODS, **changed):
    row = {"feeder": "transmission", "bsp": "T", "bus": "T1", "direction": "up", "price": 50.0, "volume": 5.0}
    return bids(pd.DataFrame([row | changed]), periods)


def own(values, buses=("T1",), periods=PERIODS):
    return xr.DataArray(values, dims=("bus", "period"), coords={"bus": list(buses), "period": periods})


def test_a_sound_market(market_of):
    market = market_of()
    assert market.periods.equals(PERIODS)
    assert market.duration.values.tolist() == [1.0, 1.0]
    assert list(market.feeder_names) == ["n", "s"]
    assert market.imbalance.sel(bus="n/2").values.tolist() == [0.5, 0.5]


def test_read_only(market_of, parts):
    side = Transmission(imbalance=own([[1.0, 2.0]], ["transmission"]))
    market = market_of(transmission=side)
    arrays = [market.imbalance, market.tbm.tbm_price, market.tbm.tbm_limit, market.transmission.imbalance]
    arrays += [market.bids.data.price, market.feeders.data.r, market.feeders.data.p_scheduled]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array.values[...] = 0.0
    side.imbalance.values[:] = 7.0  # the user's own array stays the user's
    assert market.transmission.imbalance.values.tolist() == [[1.0, 2.0]]


def test_same_bids_at_other_prices(market_of):
    market = market_of()
    dearer = market.with_bids(market.bids.data.assign(price=market.bids.data.price + 1))
    assert dearer.bids.data.price.values[0].tolist() == [31.0, 31.0]
    assert market.bids.data.price.values[0].tolist() == [30.0, 30.0]


def test_truthful(market_of, parts):
    market = market_of(bids=parts["bids"].assign(cost=[10.0, 30.0, 20.0]))
    assert market.truthful().bids.data.price.values[:, 0].tolist() == [10.0, 30.0, 20.0]


def test_pickles(market_of):
    market = market_of()
    again = pickle.loads(pickle.dumps(market))
    xr.testing.assert_identical(again.bids.data, market.bids.data)
    xr.testing.assert_identical(again.imbalance, market.imbalance)


# rules


@pytest.mark.parametrize("rules", [MarketRules(100.0, 1000.0, 100.0), MarketRules(np.nan, 1000.0)])
def test_floor_below_cap(market_of, rules):
    assert "rules.price_floor, price_cap" in faults_of(market_of, rules=rules)


@pytest.mark.parametrize("voll", [100.0, 50.0, np.inf, np.nan])
def test_lost_load_dearer_than_the_cap(market_of, voll):
    fault = faults_of(market_of, rules=MarketRules(100.0, voll))["rules.value_of_lost_load"]
    assert fault.found == str(voll)
    assert "100.0 EUR/MWh" in fault.expected


def test_lost_load_dearer_than_the_tbm_and_every_cost(market_of, parts):
    assert "1500.0" in faults_of(market_of, tbm_prices={"up": 1500.0, "down": 0.0})["rules.value_of_lost_load"].expected
    costly = parts["bids"].assign(cost=[1200.0, 1.0, 1.0])
    assert "1200.0" in faults_of(market_of, bids=costly)["rules.value_of_lost_load"].expected
    side = Transmission(grid=grid_of(), interface={"n": "T1", "s": "T2"}, bids=grid_bids(price=1300.0))
    assert "1300.0" in faults_of(market_of, transmission=side)["rules.value_of_lost_load"].expected


def test_spilling_dearer_than_any_negative_price(market_of):
    # at −1500 EUR/MWh a surplus would be spilled at 1000 instead of being taken
    fault = faults_of(market_of, tbm_prices={"up": 60.0, "down": -1500.0})["rules.value_of_lost_load"]
    assert "1500.0" in fault.expected
    fault = faults_of(market_of, rules=MarketRules(100.0, 1000.0, -1000.0))["rules.value_of_lost_load"]
    assert "1000.0" in fault.expected


def test_prices_within_the_rules(market_of, parts):
    fault = faults_of(market_of, bids=parts["bids"].assign(price=[101.0, 25.0, -1.0]))["bids.price"]
    assert fault.found == "101.0, 101.0, -1.0, -1.0"
    assert fault.expected == "within [0.0, 100.0] EUR/MWh"
    negative = market_of(bids=parts["bids"].assign(price=[30.0, -5.0, 40.0]), rules=MarketRules(100.0, 1000.0, -10.0))
    assert negative.bids.data.price.values.min() == -5.0


# the TBM


def test_tbm_prices(market_of):
    index = pd.Series([60.0], index=PERIODS[:1])
    assert faults_of(market_of, tbm_prices={"up": index, "down": 20.0})["tbm_price"].found == "nan"
    fault = faults_of(market_of, tbm_prices={"up": [60.0, 10.0], "down": 20.0})["tbm_price"]
    assert (fault.found, fault.expected) == ("10.0", "up ≥ down")


@pytest.mark.parametrize("limit", [-0.1, np.nan])
def test_tbm_limits(market_of, feeders, limit):
    tbm = tbm_of({"up": 60.0, "down": 20.0}, combine(feeders), limit)
    assert faults_of(market_of, tbm_prices=tbm)["tbm_limit"].expected == "≥ 0 MW"


def test_tbm_labels(market_of, feeders):
    tbm = tbm_of({"up": 60.0, "down": 20.0}, combine(feeders))
    assert faults_of(market_of, tbm_prices=tbm.isel(feeder=[0]))["tbm_limit.feeder"].found == "n"
    found = faults_of(market_of, tbm_prices=tbm.isel(period=[0]))
    assert {"tbm_price.period", "tbm_limit.period"} <= set(found)
    assert faults_of(market_of, tbm_prices=tbm.drop_vars("tbm_limit"))["tbm_limit"].found == "no such array"
    found = faults_of(market_of, tbm_prices=tbm.assign(tbm_price=tbm.tbm_price.isel(period=0, drop=True)))
    assert found["tbm_price"].found == "dims ('direction',)"
    unlabelled = tbm.drop_vars("direction")
    assert faults_of(market_of, tbm_prices=unlabelled)["tbm_price.direction"].found == "no labels"


# bids and imbalance


def test_bids_at_buses_of_the_market(market_of, parts):
    fault = faults_of(market_of, bids=parts["bids"].assign(bus=["1", "9", "2"]))["bids.bus"]
    assert fault.found == "n/9, s/2"


def test_bids_of_other_periods(market_of, parts):
    other = bids(parts["bids"], PERIODS[:1])
    assert faults_of(market_of, bids=other)["bids.period"].found == "1 periods from 2026-01-01 00:00:00"


def test_imbalance_that_is_infinite(market_of, parts):
    broken = parts["imbalance"].assign(imbalance=np.inf)
    assert faults_of(market_of, imbalance=broken)["imbalance"].found == "inf, inf"


def test_imbalance_that_was_not_read(market_of):
    market = market_of()

    def make(imbalance):
        kind = type(market)
        return kind(market.feeders, market.bids, imbalance, market.tbm, market.rules, market.transmission)

    assert faults_of(lambda: make(market.imbalance.isel(period=0)))["imbalance"].found == "dims ('bus',)"
    assert faults_of(lambda: make(market.imbalance.isel(period=[0])))["imbalance.period"]
    assert faults_of(lambda: make(market.imbalance.isel(bus=[0, 1])))["imbalance.bus"].found == "n/2, s/1, s/r"
    assert faults_of(lambda: make(market.imbalance[::-1]))["imbalance.bus"].found == "another order"
    xr.testing.assert_equal(make(market.imbalance.transpose()).imbalance, market.imbalance)


# the transmission side


def test_one_bus_has_one_name(market_of):
    side = Transmission(bids=grid_bids(), imbalance=own([[1.0, 1.0]]))
    fault = faults_of(market_of, transmission=side)["transmission"]
    assert (fault.found, fault.expected) == ("T1, T1", "the one bus 'transmission'")


def test_a_grid_needs_bids_and_interfaces(market_of):
    found = faults_of(market_of, transmission=Transmission(grid=grid_of(), interface={"n": "T1", "west": "T2"}))
    assert found["transmission.bids"].found == "none"
    assert found["transmission.interface"].found == "west"  # the last of the two faults there
    side = Transmission(grid=grid_of(), bids=grid_bids())
    assert faults_of(market_of, transmission=side)["transmission.interface"].found == "no n, s"


def test_several_faults_of_the_transmission_side_together(market_of):
    side = Transmission(
        grid=grid_of(((1.0, 1.0), (-1.0, -0.5))),
        interface={"n": "T1", "s": "T9"},
        bids=grid_bids(PERIODS[:1], bus="T8"),
        imbalance=own([[np.nan]], ["T7"], PERIODS[:1]),
    )
    found = faults_of(market_of, transmission=side)
    assert found["transmission"].found == "T7, T8, T9"
    assert found["grid.p_scheduled"].found == "0.5"
    assert found["transmission.imbalance"].found == "nan"
    assert {"transmission.imbalance.period", "transmission.bids.period"} <= set(found)


def test_a_grid_of_other_periods(market_of):
    side = Transmission(
        grid=grid_of(((1.0,), (-1.0,)), PERIODS[:1]), interface={"n": "T1", "s": "T2"}, bids=grid_bids()
    )
    assert "transmission.grid.period" in faults_of(market_of, transmission=side)


def test_an_imbalance_without_periods(market_of):
    side = Transmission(imbalance=own([[1.0, 1.0]], ["transmission"]).isel(period=0))
    assert faults_of(market_of, transmission=side)["transmission.imbalance"].found == "dims ('bus',)"


def test_faults_of_all_parts_together(market_of, parts):
    found = faults_of(
        market_of, bids=parts["bids"].assign(bus="9", price=500.0), tbm_prices={"up": 1.0, "down": 20.0},
        rules=MarketRules(100.0, 10.0), transmission=Transmission(grid=grid_of()),
    )  # fmt: skip
    assert set(found) == {
        "rules.value_of_lost_load", "tbm_price", "bids.price", "bids.bus", "transmission.bids",
        "transmission.interface",
    }  # fmt: skip


# bids that trade without any imbalance


def crossing(market_of, parts, **columns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        market_of(bids=parts["bids"].assign(**columns))
    return [str(w.message) for w in caught if issubclass(w.category, MarketWarning)]


def test_an_up_bid_below_a_down_bid_of_its_feeder(market_of, parts):
    (message,) = crossing(market_of, parts, price=[24.0, 25.0, 40.0])
    assert "n/A/1/0/up, n/B/2/0/down" in message
    assert "s/A" not in message


def test_below_a_down_bid_of_another_feeder_is_no_trade(market_of, parts):
    assert crossing(market_of, parts, price=[30.0, 25.0, 24.0]) == []


def test_equal_prices_do_not_cross(market_of, parts):
    assert crossing(market_of, parts, price=[25.0, 25.0, 40.0]) == []


def test_nothing_crosses_without_volume(market_of, parts):
    assert crossing(market_of, parts, price=[24.0, 25.0, 40.0], volume=[0.2, 0.0, 0.1]) == []


def test_crossing_the_tbm(market_of, parts):
    (message,) = crossing(market_of, parts, price=[30.0, 61.0, 19.0], bsp=["A", "B", "C"], volume=[0.0, 0.1, 0.1])
    assert "n/B/2/0/down, s/C/1/0/up" in message


def test_with_bids_does_not_warn_again(market_of):
    market = market_of()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        market.with_bids(market.bids.data.assign(price=0 * market.bids.data.price + 10.0))


def test_no_bids_at_all(market_of, parts):
    assert market_of(bids=parts["bids"].iloc[:0]).bids.bsps == []
