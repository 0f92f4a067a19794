"""Cases and runs that many tests of the stages look at, loaded and cleared once."""

import numpy as np
import pytest

from hiermarket.market.balancing_market import BalancingMarket
from hiermarket.market.cases import load_case
from hiermarket.network.feeder import Feeder
from hiermarket.network.feeders import combine
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.coordination import Options, run_chain
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import SafeBox
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


@pytest.fixture(scope="session")
def m33_case():
    return load_case("m33")


@pytest.fixture(scope="session")
def m33_lossless(m33_case):
    """The micro-case truthfully cleared without losses."""
    return clear_dso(m33_case, grid=LOSSLESS)


@pytest.fixture(scope="session")
def m33_chain(m33_case):
    """The whole chain without losses, undo forwarded too."""
    return run_chain(m33_case, Options(forwarding=SafeBox(undo=True), grid=LOSSLESS))


@pytest.fixture(scope="session")
def m33_lossy(m33_case):
    """The whole chain with the default grid."""
    return run_chain(m33_case, Options(forwarding=SafeBox(undo=True)))


@pytest.fixture(scope="session")
def day_chain():
    """The shipped day with transmission grid and own imbalance."""
    return run_chain(load_case("ieee33"), Options(forwarding=SafeBox(undo=True)))


@pytest.fixture(scope="session")
def trio():
    """Three feeders of unlike topology, each alone too: {name: (market, clearing)}; "" is all together."""
    market = random_market(3, count=3, sizes=(2, 7), periods=2)
    parts = {"": market} | {name: only(market, name) for name in market.feeder_names}
    return {name: (part, clear_dso(part, grid=LinDistFlow(1))) for name, part in parts.items()}


def only(market, name):
    """The same market with one of its feeders."""
    data = market.feeders.data
    buses = data.bus.values[data.bus_feeder.values == name]
    one = data.sel(bus=buses, feeder=name)
    parent = [str(above).partition("/")[2] for above in one.parent.values]
    arrays = one.drop_vars(["bus_feeder", "bus_name", "feeder", "depth", "root"]).assign_coords(
        bus=one.bus_name.values.astype(object)
    )
    arrays = arrays.assign(parent=("bus", np.array(parent, dtype=object)))
    feeder = Feeder(arrays.assign_attrs(name=name, root=str(data.root.sel(feeder=name).item()).partition("/")[2]))
    kept = market.bids.data.isel(bid=market.bids.data.bid_feeder.values == name)
    return BalancingMarket(
        feeders=combine({name: feeder}),
        bids=type(market.bids)(kept),
        imbalance=market.imbalance.sel(bus=buses),
        tbm=market.tbm.sel(feeder=[name]),
        rules=market.rules,
        transmission=market.transmission,
    )
