"""Runs whose results are looked at, computed once."""

import pytest

from hiermarket.market.cases import load_case
from hiermarket.network.losses import LinDistFlow
from hiermarket.results.results import result_tree
from hiermarket.stages.coordination import OneLeader, Options, run_chain
from hiermarket.stages.forwarding_methods import SafeBox
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


@pytest.fixture(scope="session")
def two_bus_run():
    return run_chain(load_case("two_bus"), Options(grid=LOSSLESS))


@pytest.fixture(scope="session")
def m33_run():
    return run_chain(load_case("m33"), Options(grid=LOSSLESS, forwarding=SafeBox(undo=True)))


@pytest.fixture(scope="session")
def random_run():
    """Three feeders of unlike buses under a mesh, two quarter-hours, own imbalance."""
    market = random_market(3, count=3, sizes=(2, 7), periods=2, hours=0.25, transmission=True)
    return run_chain(market, Options(grid=LinDistFlow(1), forwarding=SafeBox(undo=True, corner_passes=1)))


@pytest.fixture(scope="session")
def led_run():
    return run_chain(load_case("two_bus"), Options(behaviour=OneLeader("A"), grid=LOSSLESS))


@pytest.fixture(scope="session")
def random_tree(random_run):
    return result_tree(random_run)
