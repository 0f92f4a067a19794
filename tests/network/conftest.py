"""PyPSA networks for the tests of the grid, loaded once; each test gets what it may change as a copy."""

import warnings

import pytest

from hiermarket.network.feeders import combine
from hiermarket.network.from_pypsa import feeder_from_pypsa, load_network


@pytest.fixture(scope="session")
def shipped():
    return {name: load_network(name) for name in ("ieee33", "ieee69", "ieee14")}


@pytest.fixture(scope="session")
def ieee(shipped):
    return {name: feeder_from_pypsa(shipped[name], name=name) for name in ("ieee33", "ieee69")}


@pytest.fixture(scope="session")
def solved(shipped):
    """The shipped networks after PyPSA's own power flow."""
    networks = {name: network.copy() for name, network in shipped.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for network in networks.values():
            network.pf(x_tol=1e-9)
    return networks


@pytest.fixture(scope="session")
def ieee33(ieee):
    return combine({"ieee33": ieee["ieee33"]})
