"""Cases and runs that many tests of the stages look at, loaded and cleared once."""

import pytest

from hiermarket.market.cases import load_case
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.capability import SafeBox
from hiermarket.stages.coordination import Options, run_chain
from hiermarket.stages.dso_clearing import clear_dso

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
