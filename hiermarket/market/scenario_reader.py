"""From inputs that carry scenarios to a market for each of them; what does not differ is read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from hiermarket.errors import Fault
from hiermarket.labels import PERIOD
from hiermarket.market.balancing_market import BalancingMarket, Transmission
from hiermarket.market.bids import Bids
from hiermarket.market.bids import bids as read_bids
from hiermarket.market.imbalance import imbalance_of, tbm_of
from hiermarket.market.resources import Resources
from hiermarket.market.resources import resources as read_resources
from hiermarket.market.scenario_inputs import at_scenario, common_scenarios, read_table, scenarios_in, side_at
from hiermarket.market.scenarios import ScenarioMarket, probabilities_of
from hiermarket.network.feeder import Feeder
from hiermarket.network.feeders import Feeders, combine
from hiermarket.network.from_pypsa import feeder_from_pypsa
from hiermarket.network.stochastic import network_at, network_scenarios
from hiermarket.schema import raise_together

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BidSource, PriceSource
    from hiermarket.market.imbalance import Table
    from hiermarket.market.rules import MarketRules
    from hiermarket.market.scenarios import Probabilities
    from hiermarket.network.from_pypsa import PypsaNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What `balancing_market` is given; see there."""

    feeders: Mapping[str, PypsaNetwork | Feeder]
    bids: BidSource
    imbalance: Table
    tbm_prices: PriceSource
    transmission: Transmission | Mapping[str, Transmission] | None
    resources: Resources | pd.DataFrame | str | None = None

    def scenarios(self) -> dict[str, list[str]]:
        """Return the scenarios that each input carries."""
        side = self.transmission
        carried = {f"feeder {name}": list(network_scenarios(part)) for name, part in self.feeders.items()}
        carried |= {
            name: scenarios_in(getattr(self, name)) for name in ("bids", "imbalance", "tbm_prices", "resources")
        }
        if not isinstance(side, Mapping):
            return {**carried, "transmission": scenarios_in(side)}
        of_sides = {f"transmission of {name}": scenarios_in(one) for name, one in side.items()}
        return {**carried, "transmission": [str(name) for name in side], **of_sides}


def read_scenarios(
    given: Inputs, rules: MarketRules, probabilities: Probabilities | None = None
) -> ScenarioMarket | None:
    """Read the markets of all scenarios, or nothing where no input carries any.

    Parameters
    ----------
    given : Inputs
        What the market is made of.
    rules : MarketRules
        The same in all scenarios.
    probabilities : mapping, Series or DataArray, optional
        By scenario; those of a stochastic network, or equal ones, by default.

    Raises
    ------
    DataError
        With inputs whose scenarios differ, and probabilities without scenarios.
    """
    table = read_table(given.resources)
    inputs = replace(given, bids=read_table(given.bids), imbalance=read_table(given.imbalance), resources=table)
    carried = inputs.scenarios()
    scenarios = common_scenarios(carried)
    if not scenarios:
        if probabilities is not None:
            remedy = "Give an input a dimension or column 'scenario', or leave the probabilities out."
            raise_together([Fault("probabilities", "no input with scenarios", "scenarios", remedy)])
        return None
    reader = _Reader(inputs, rules, carried)
    markets = {name: reader.market(name) for name in scenarios}
    chosen = probabilities if probabilities is not None else _of_networks(inputs)
    return ScenarioMarket(markets, probabilities_of(chosen, scenarios))


def _of_networks(inputs: Inputs) -> dict[str, float] | None:
    """Return the probabilities of the stochastic networks; nothing where there is none.

    Raises
    ------
    DataError
        When two networks contradict each other.
    """
    some = {name: found for name, part in inputs.feeders.items() if (found := network_scenarios(part))}
    if not some:
        return None
    first, weights = next(iter(some.items()))
    apart = [name for name, other in some.items() if other != weights]
    if apart:
        expected = f"those of feeder {first}"
        remedy = "Give probabilities to balancing_market."
        raise_together([Fault("probabilities", f"other ones in feeder {apart[0]}", expected, remedy)])
    return weights


class _Reader:
    """Reads the parts of markets; those without scenarios once."""

    def __init__(self, inputs: Inputs, rules: MarketRules, carried: Mapping[str, list[str]]) -> None:
        self._inputs, self._rules, self._carried = inputs, rules, carried
        self._kept: dict[str, object] = {}

    def market(self, scenario: str) -> BalancingMarket:
        """Return the market of one scenario."""
        feeders = self._feeders(scenario)
        inputs = self._inputs
        prices = at_scenario(inputs.tbm_prices, scenario)
        return BalancingMarket(
            feeders=feeders,
            bids=self._bids(scenario, feeders),
            imbalance=imbalance_of(at_scenario(inputs.imbalance, scenario), feeders),
            tbm=prices if isinstance(prices, xr.Dataset) else tbm_of(prices, feeders),
            rules=self._rules,
            transmission=side_at(inputs.transmission, scenario) or Transmission(),
            resources=self._resources(scenario, feeders),
        )

    def _feeders(self, scenario: str) -> Feeders:
        kept = self._kept.get("feeders")
        if isinstance(kept, Feeders):
            return kept
        parts = {name: network_at(part, scenario) for name, part in self._inputs.feeders.items()}
        read = {
            name: part if isinstance(part, Feeder) else feeder_from_pypsa(part, name=name)
            for name, part in parts.items()
        }
        found = combine(read)
        if not any(self._carried[f"feeder {name}"] for name in parts):
            self._kept["feeders"] = found
        return found

    def _resources(self, scenario: str, feeders: Feeders) -> Resources | None:
        source = at_scenario(self._inputs.resources, scenario)
        return None if source is None else read_resources(source, pd.DatetimeIndex(feeders.data.indexes[PERIOD]))

    def _bids(self, scenario: str, feeders: Feeders) -> Bids:
        kept = self._kept.get("bids")
        if isinstance(kept, Bids):
            return kept
        source = at_scenario(self._inputs.bids, scenario)
        found = read_bids(source, pd.DatetimeIndex(feeders.data.indexes[PERIOD]))
        if not self._carried["bids"]:
            self._kept["bids"] = found
        return found
