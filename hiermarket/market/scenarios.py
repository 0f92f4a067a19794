"""A market in several scenarios: what differs is kept for each, what does not is shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, meant, some_labels
from hiermarket.labels import BID, BUS, SCENARIO
from hiermarket.market.balancing_market import BalancingMarket
from hiermarket.schema import freeze_array, raise_together

if TYPE_CHECKING:
    from hiermarket.network.feeders import Feeders

#: By how much probabilities may miss a sum of 1: rounding.
ROUNDING = 1e-9

#: What of a grid may differ between scenarios.
SCHEDULE = ("p_scheduled", "q_scheduled", "v_root")

#: Probabilities as they are given.
Probabilities = Mapping[str, float] | pd.Series | xr.DataArray


@dataclass(frozen=True, slots=True)
class ScenarioMarket:
    """One market in several scenarios, of which one will come true.

    Parameters
    ----------
    markets : mapping scenario → BalancingMarket
        With the same grids, bids by label, and periods. Imbalance, schedules, the voltage of
        the roots, prices, volumes, limits and the TSO's side may differ.
    probability : DataArray (scenario)
        > 0, with sum 1.

    Raises
    ------
    DataError
        With every fault found.

    Notes
    -----
    Equation (46) of docs/model.md. `hiermarket.balancing_market` makes it where an input
    carries scenarios.
    """

    markets: Mapping[str, BalancingMarket]
    probability: xr.DataArray

    def __post_init__(self) -> None:
        raise_together(_probability_faults(list(self.markets), self.probability))
        raise_together(_market_faults(self.markets))
        ordered = self.probability.sel({SCENARIO: list(self.markets)}).astype(float).rename("probability")
        object.__setattr__(self, "markets", MappingProxyType(dict(self.markets)))
        object.__setattr__(self, "probability", freeze_array(ordered))

    def __reduce__(self) -> tuple[object, ...]:
        # a mapping proxy cannot travel to a worker
        return type(self), (dict(self.markets), self.probability)

    def __getattr__(self, name: str) -> object:
        # only for what a market has and its scenarios together do not
        remedy = "take the market of one, market.of(scenario), or run all of them, hm.run(market)"
        raise AttributeError(f"a market in scenarios has no {name!r}: {remedy}")

    @property
    def scenarios(self) -> list[str]:
        """The labels of the scenarios, in order."""
        return list(self.markets)

    def of(self, scenario: str) -> BalancingMarket:
        """Return the market of one scenario.

        Raises
        ------
        DataError
            When there is no such scenario.
        """
        if scenario not in self.markets:
            expected = f"one of {some_labels(self.scenarios)}"
            remedy = meant(scenario, self.scenarios, otherwise="Correct the label.")
            raise DataError([Fault(SCENARIO, repr(scenario), expected, remedy)])
        return self.markets[scenario]

    def mean(self) -> BalancingMarket:
        """Return the market of expected values: imbalance, schedule, prices, volumes and limits.

        Raises
        ------
        DataError
            When the grid or the bids of the TSO's side differ between scenarios in more than
            their values by label.
        """
        first = next(iter(self.markets.values()))
        bids = self._mean_dataset([market.bids.data for market in self.markets.values()])
        side = first.transmission
        own = [market.transmission.imbalance for market in self.markets.values()]
        known = [array for array in own if array is not None]
        if known and len(known) == len(own):
            side = replace(side, imbalance=self._mean(known))
        offers = [market.transmission.bids for market in self.markets.values()]
        given = [offer.data for offer in offers if offer is not None]
        if side.bids is not None and len(given) == len(offers):
            side = replace(side, bids=replace(side.bids, data=self._mean_dataset(given)))
        return replace(
            first,
            feeders=self._mean_feeders(),
            bids=replace(first.bids, data=bids),
            imbalance=self._mean([market.imbalance for market in self.markets.values()]),
            tbm=self._mean_dataset([market.tbm for market in self.markets.values()]),
            transmission=side,
        )

    def _mean(self, arrays: list[xr.DataArray]) -> xr.DataArray:
        weights = self.probability.values
        aligned = xr.align(*arrays, join="exact")
        total = sum(weight * array.values for weight, array in zip(weights, aligned, strict=True))
        return arrays[0].copy(data=np.asarray(total))

    def _mean_dataset(self, parts: list[xr.Dataset]) -> xr.Dataset:
        if all(part is parts[0] for part in parts):
            return parts[0]
        return parts[0].assign({name: self._mean([part[name] for part in parts]) for name in parts[0].data_vars})

    def _mean_feeders(self) -> Feeders:
        parts = [market.feeders for market in self.markets.values()]
        if all(part is parts[0] for part in parts):
            return parts[0]
        means = {name: self._mean([part.data[name] for part in parts]) for name in SCHEDULE}
        return replace(parts[0], data=parts[0].data.assign(means))


def probabilities_of(given: Probabilities | None, scenarios: list[str]) -> xr.DataArray:
    """Return the probabilities of scenarios; equal ones by default.

    Parameters
    ----------
    given : mapping, Series or DataArray (scenario), optional
        By scenario.
    scenarios : list of str
        The labels.

    Raises
    ------
    DataError
        When they are not labelled by scenario.
    """
    if given is None:
        return xr.DataArray(np.full(len(scenarios), 1.0 / len(scenarios)), dims=SCENARIO, coords={SCENARIO: scenarios})
    if isinstance(given, xr.DataArray):
        if given.dims != (SCENARIO,) or SCENARIO not in given.indexes:
            found, expected = f"dims {given.dims}", f"one labelled dimension {SCENARIO!r}"
            raise DataError([Fault("probabilities", found, expected, "Give a mapping scenario → probability.")])
        table = {str(name): float(value) for name, value in zip(given[SCENARIO].values, given.values, strict=True)}
    else:
        table = {str(name): float(value) for name, value in given.items()}
    return xr.DataArray(list(table.values()), dims=SCENARIO, coords={SCENARIO: list(table)})


def _probability_faults(scenarios: list[str], probability: xr.DataArray) -> list[Fault]:
    if not scenarios:
        return [Fault("scenarios", "none", "one or more", "Give a market for each.")]
    if probability.dims != (SCENARIO,) or SCENARIO not in probability.indexes:
        found, expected = f"dims {probability.dims}", f"one labelled dimension {SCENARIO!r}"
        return [Fault("probabilities", found, expected, "Make it with probabilities_of.")]
    labels = [str(name) for name in probability.indexes[SCENARIO]]
    faults = []
    strangers = [name for name in labels if name not in scenarios]
    if strangers:
        remedy = meant(strangers[0], scenarios, otherwise="Drop it.")
        faults.append(Fault("probabilities", some_labels(strangers), f"scenarios {some_labels(scenarios)}", remedy))
    missing = [name for name in scenarios if name not in labels]
    if missing:
        faults.append(Fault("probabilities", f"no {some_labels(missing)}", "one for every scenario", "Add it."))
    wrong = [f"{name}={value}" for name, value in zip(labels, probability.values, strict=True) if not 0 < value <= 1]
    if wrong:
        remedy = "Drop a scenario that cannot happen."
        faults.append(Fault("probabilities", some_labels(wrong), "numbers above 0, at most 1", remedy))
    total = float(probability.sum())
    if not faults and abs(total - 1.0) > ROUNDING:
        faults.append(Fault("probabilities", f"a sum of {total:.12g}", "a sum of 1", "Divide them by their sum."))
    return faults


def _market_faults(markets: Mapping[str, BalancingMarket]) -> list[Fault]:
    """Compare every market with the first one."""
    (name, first), *others = markets.items()
    faults: list[Fault] = []
    for scenario, market in others:
        where, expected = f"{SCENARIO}={scenario}", f"as in scenario {name}"
        if not market.periods.equals(first.periods):
            faults.append(Fault(f"{where}: periods", "other ones", expected, "Give the same periods."))
        if not market.feeders.data.indexes[BUS].equals(first.feeders.data.indexes[BUS]):
            faults.append(Fault(f"{where}: buses", "other ones", expected, "Give the same grids."))
            continue
        apart = list(market.bids.data.indexes[BID].symmetric_difference(first.bids.data.indexes[BID]))
        if apart:
            remedy = "Give every bid in every scenario, with volume 0 where it is not offered."
            faults.append(Fault(f"{where}: bids", f"missing or unknown: {some_labels(apart)}", expected, remedy))
        elif not market.bids.data.indexes[BID].equals(first.bids.data.indexes[BID]):
            faults.append(Fault(f"{where}: bids", "another order", expected, "List them in the same order."))
        names = [[] if one.resources is None else list(one.resources.labels) for one in (first, market)]
        if names[0] != names[1]:
            remedy = "Give the same resources in the same order; what differs is their values."
            faults.append(Fault(f"{where}: resources", "other ones", expected, remedy))
        if market.rules != first.rules:
            faults.append(Fault(f"{where}: rules", "other ones", expected, "Give one set of rules."))
        if market.feeders is not first.feeders:
            fixed = [key for key in map(str, first.feeders.data.variables) if key not in SCHEDULE]
            mine, theirs = (part.feeders.data[fixed] for part in (market, first))
            if not mine.equals(theirs):
                differ = [key for key in fixed if key not in mine or not mine[key].equals(theirs[key])]
                remedy = f"Only {', '.join(SCHEDULE)} may differ."
                faults.append(Fault(f"{where}: grids", f"other {some_labels(differ)}", expected, remedy))
    return faults
