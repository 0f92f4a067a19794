"""What DSOs bring to the TSO: the same whether collected at once or in parts."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.capability import forward
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import SafeBox
from hiermarket.stages.interface import exchange_offers, interface_offers, join_offers
from tests.parts import of_feeders, random_split
from tests.random_markets import random_market


@pytest.fixture(scope="module")
def six():
    market = random_market(51, count=6, periods=2, hours=0.25, transmission=True)
    clearing = clear_dso(market, grid=LinDistFlow(0))
    return market, clearing, forward(market, clearing, method=SafeBox(undo=True))


def test_what_is_forwarded_and_what_is_taken(six):
    market, clearing, forwarded = six
    offers = interface_offers(clearing, forwarded)
    for name in ("forwarded", "forwarded_undo", "forward_price", "interface_factor"):
        np.testing.assert_array_equal(offers.flat[name], forwarded.flat[name])
    tbm = clearing.flat.tbm_volume
    np.testing.assert_array_equal(offers.exchange, tbm.sel(direction="up") - tbm.sel(direction="down"))
    np.testing.assert_array_equal(offers.sign, market.bids.sign)
    # no grid: a few arrays of bids
    assert "bus" not in offers.flat.dims
    assert len(pickle.dumps(offers)) < 20_000


def test_nothing_is_forwarded_by_default(six):
    offers = interface_offers(six[1])
    assert not offers.flat.forwarded.any()
    assert not offers.flat.forwarded_undo.any()
    assert (offers.flat.interface_factor == 1).all()
    np.testing.assert_array_equal(offers.flat.forward_price, six[1].flat.price)


def test_parts_join_to_the_whole(six):
    market, clearing, forwarded = six
    whole = interface_offers(clearing, forwarded)
    names = list(market.feeder_names)
    for batches in ([names], [[name] for name in names], random_split(names, np.random.default_rng(1))):
        parts = [interface_offers(of_feeders(clearing, some), of_feeders(forwarded, some)) for some in batches]
        joined = join_offers(parts).flat
        xr.testing.assert_identical(joined.sel(bid=whole.flat.bid, feeder=names), whole.flat)
        assert list(joined.feeder.values) == [name for some in batches for name in some]


def test_an_exchange_without_bids():
    index = pd.date_range("2026-01-01", periods=2)
    exchange = xr.DataArray(
        [[0.5, np.nan], [-0.2, 0.0]], dims=("feeder", "period"), coords={"feeder": ["a", "b"], "period": index}
    )
    offers = exchange_offers(exchange)
    assert offers.exchange.values.tolist() == [[0.5, 0.0], [-0.2, 0.0]]
    assert offers.flat.sizes["bid"] == 0
    assert (offers.flat.tbm_volume.fillna(0.0) >= 0).all()
    both = join_offers([exchange_offers(exchange.sel(feeder=[name])) for name in ("a", "b")])
    np.testing.assert_array_equal(both.exchange, offers.exchange)


def test_read_only(six):
    offers = interface_offers(six[1], six[2])
    for part in (offers, join_offers([interface_offers(of_feeders(six[1], [name])) for name in ("f0", "f1")])):
        for name in part.flat:
            with pytest.raises(ValueError, match="read-only"):
                part.flat[name].values[...] = 0
