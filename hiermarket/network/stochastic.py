"""Scenarios of a PyPSA network (`n.set_scenarios`): their labels, probabilities, and the network of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.network.feeder import Feeder

if TYPE_CHECKING:
    from hiermarket.network.from_pypsa import PypsaNetwork


def network_scenarios(network: PypsaNetwork | Feeder) -> dict[str, float]:
    """Return the scenarios of a stochastic network with their probabilities; none for any other.

    Parameters
    ----------
    network : pypsa.Network or Feeder
        Never changed.
    """
    if isinstance(network, Feeder) or not network.has_scenarios:
        return {}
    return {str(name): float(weight) for name, weight in network.scenario_weightings["weight"].items()}


def network_at(network: PypsaNetwork | Feeder, scenario: str) -> PypsaNetwork | Feeder:
    """Return the network of one scenario; a network without scenarios as it is."""
    known = {} if isinstance(network, Feeder) else network_scenarios(network)
    if isinstance(network, Feeder) or not known:
        return network
    return network.get_scenario(scenario)
