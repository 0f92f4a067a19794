"""The TSO's side of a market: cut with its feeders, put together again."""

import dataclasses

import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError, ModelError
from hiermarket.market.tso_side import join_sides
from hiermarket.stages.tso_model import offers_of_grid
from tests.random_markets import random_market


@pytest.fixture(scope="module")
def market():
    return random_market(3, count=4, periods=3, transmission=True)


def same(side, other):
    xr.testing.assert_identical(side.tbm, other.tbm)
    xr.testing.assert_identical(side.duration, other.duration)
    assert side.rules == other.rules
    assert dict(side.transmission.interface) == dict(other.transmission.interface)
    assert side.transmission.grid is other.transmission.grid
    assert side.transmission.bids is other.transmission.bids


def test_a_market_of_some_feeders_keeps_the_transmission_grid(market):
    part = market.of_feeders(["f2", "f0"])
    assert list(part.transmission.interface) == ["f2", "f0"]
    assert part.transmission.grid is market.transmission.grid
    assert list(part.tso_side.feeder_names) == ["f2", "f0"]


def test_parts_join_to_the_whole(market):
    whole = market.tso_side
    parts = [market.of_feeders(names).tso_side for names in (["f0", "f1"], ["f2"], ["f3"])]
    same(join_sides(parts), whole)
    assert join_sides([whole]) is whole
    assert list(whole.periods) == list(market.periods)
    assert list(whole.feeder_names) == list(market.feeder_names)


def test_without_a_grid():
    market = random_market(3, count=2)
    parts = [market.of_feeders([name]).tso_side for name in market.feeder_names]
    assert join_sides(parts).transmission.interface is None
    with pytest.raises(ModelError) as error:
        offers_of_grid(market.tso_side)
    assert error.value.where == "transmission.bids"


def test_some_periods(market):
    side = market.tso_side.of_periods(slice(1, 3))
    assert list(side.periods) == list(market.periods[1:])
    for array in (side.tbm.tbm_price, side.transmission.grid.data, side.transmission.bids.data,
                  side.transmission.imbalance):  # fmt: skip
        assert list(array.period.values) == list(market.periods[1:].values)


def test_parts_of_different_markets_are_refused(market):
    side = market.tso_side
    with pytest.raises(DataError) as error:
        join_sides([side, market.of_feeders(["f1"]).tso_side])
    assert [fault.where for fault in error.value.faults] == ["feeders"]
    later = side.duration.assign_coords(period=side.periods + pd.Timedelta(days=1))
    other = dataclasses.replace(random_market(3, count=5).of_feeders(["f4"]).tso_side, duration=later)
    with pytest.raises(DataError) as error:
        join_sides([side, other])
    assert [fault.where for fault in error.value.faults] == ["periods"]
