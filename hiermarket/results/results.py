"""The results of a run as one labelled tree: a group for every stage, units on every array."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.nomenclature import describe
from hiermarket.results.indicators import indicators
from hiermarket.results.risk import risk
from hiermarket.schema import join_flat, unstack
from hiermarket.stages.equilibrium import Equilibrium
from hiermarket.stages.price_iteration import price_gap
from hiermarket.stages.scenario_runs import ScenarioChain, stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.rules import MarketRules
    from hiermarket.stages.bidding import StrategicBidding
    from hiermarket.stages.coordination import Chain
    from hiermarket.stages.price_iteration import PriceIteration

#: Libraries whose versions a result names.
LIBRARIES = ("hiermarket", "linopy", "xarray", "highspy", "pypsa", "numpy", "pandas")


def result_tree(chain: Chain | ScenarioChain) -> xr.DataTree:
    """Put the results of a run into one labelled tree.

    Parameters
    ----------
    chain : Chain or ScenarioChain
        The results of all stages.

    Returns
    -------
    DataTree
        Of a run in scenarios every array has the leading dimension ``scenario``, and a group
        ``risk`` is added. Groups ``input, bidding`` (where somebody leads), ``equilibrium``
        (where all do), ``exchange_prices`` (where they were iterated), ``clearing, forwarded, tso,
        disaggregation, settlement, baseline, indicators``. Dimensions and units as in the
        nomenclature; options, rules and versions are attributes of the root.
    """
    if isinstance(chain, ScenarioChain):
        return _scenario_tree(chain)
    groups = {
        "input": describe(unstack(flat_inputs(chain.market))),
        "clearing": chain.clearing.data,
        "forwarded": chain.forwarded.data,
        "tso": describe(chain.cleared.data.assign(price_gap=price_gap(chain.market, chain.clearing, chain.cleared))),
        "disaggregation": chain.disaggregation.data,
        "settlement": chain.settlement.data,
        "baseline": chain.baseline.data,
        "indicators": indicators(chain),
    }
    if chain.price_iteration is not None:
        prices = chain.price_iteration
        groups["exchange_prices"] = prices.data.assign_attrs(_says(prices))
    if chain.bidding:
        flat = flat_bidding(chain.bidding)
        groups["bidding"] = unstack(flat).assign_attrs(flat.attrs)
    if chain.equilibrium is not None:
        groups["equilibrium"] = chain.equilibrium.data.assign_attrs(_says(chain.equilibrium))
    return _tree(groups, chain.options, chain.market.rules)


def _scenario_tree(chain: ScenarioChain) -> xr.DataTree:
    """Put the results of all scenarios into one tree."""
    inputs = stack({name: flat_inputs(one.market) for name, one in chain.chains.items()})
    gaps = {
        name: price_gap(one.market, one.clearing, one.cleared).to_dataset(name="price_gap")
        for name, one in chain.chains.items()
    }
    groups = {
        "input": describe(unstack(inputs)).assign(probability=chain.probability),
        "clearing": chain.clearing.data,
        "forwarded": chain.forwarded.data,
        "tso": chain.cleared.data.assign(stack(gaps)),
        "disaggregation": chain.disaggregation.data,
        "settlement": chain.settlement.data,
        "baseline": chain.baseline.data,
        "indicators": indicators(chain),
        "risk": risk(chain),
    }
    if any(one.bidding for one in chain.chains.values()):
        led = {name: flat_bidding(one.bidding) for name, one in chain.chains.items()}
        groups["bidding"] = unstack(stack(led)).assign_attrs(_of_all({name: flat.attrs for name, flat in led.items()}))
    for group, part in (("equilibrium", "equilibrium"), ("exchange_prices", "price_iteration")):
        found = {name: getattr(one, part) for name, one in chain.chains.items()}
        if all(one is not None for one in found.values()):
            told = _of_all({name: _says(one) for name, one in found.items()})
            groups[group] = unstack(stack({name: one.flat for name, one in found.items()})).assign_attrs(told)
    first = next(iter(chain.chains.values()))
    return _tree({name: describe(group) for name, group in groups.items()}, chain.options, first.market.rules)


def _says(found: PriceIteration | Equilibrium) -> dict[str, int | float | str]:
    """Return what a search for exchange prices, or for an equilibrium, says of itself."""
    if isinstance(found, Equilibrium):
        return {
            "is_equilibrium": int(found.is_equilibrium), "reason": found.reason, "rounds": found.rounds,
            "price_of_anarchy": found.price_of_anarchy, "payment_ratio": found.payment_ratio,
        }  # fmt: skip
    return {"consistent": int(found.consistent), "reason": found.reason}


def _of_all(attributes: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Return what a Dataset of each scenario says of itself, by scenario."""
    return {"by_scenario": json.dumps(attributes, sort_keys=True, default=float)}


def _tree(groups: dict[str, xr.Dataset], options: object, rules: MarketRules) -> xr.DataTree:
    buses = groups["input"].indexes["bus"]
    # the same buses in every group: arithmetic between groups would drop the others
    same = {name: group.reindex(bus=buses) if "bus" in group.dims else group for name, group in groups.items()}
    tree = xr.DataTree.from_dict({name: storable(group) for name, group in same.items()})
    tree.attrs = {
        "title": "Hierarchical TSO-DSO balancing market",
        "options": json.dumps(options_of(options), sort_keys=True),
        "rules": json.dumps(dataclasses.asdict(rules), sort_keys=True),
        "versions": json.dumps({name: version(name) for name in LIBRARIES}, sort_keys=True),
    }
    return tree


def options_of(value: object) -> object:
    """Return options as plain values, with the name of every kind of option."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: options_of(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return value


def storable(dataset: xr.Dataset) -> xr.Dataset:
    """Return a Dataset that netCDF gives back as it was: plain strings, flags as small integers."""
    stored = dataset.copy()
    for name, array in stored.variables.items():
        if array.dtype == bool:
            stored[name] = (
                stored[name].astype("int8").assign_attrs(array.attrs, flag_values=[0, 1], flag_meanings="no yes")
            )
        elif array.dtype == object:
            # a feeder without such a bus has no name there, not one that reads "nan"
            stored[name] = stored[name].where(stored[name].notnull(), "").astype(str)
    return stored


def flat_inputs(market: BalancingMarket) -> xr.Dataset:
    """Return bids, imbalance, schedule, limits and prices of the TBM over flat labels."""
    feeders = market.feeders.data
    labels = feeders[["bus_feeder", "bus_name"]].coords
    flat = market.bids.data.assign(market.tbm).assign(_schedule(market))
    flat = flat.assign(imbalance=market.imbalance, duration=feeders["duration"])
    return describe(flat.drop_vars("bid_node").assign_coords(labels))


def _schedule(market: BalancingMarket) -> dict[str, xr.DataArray]:
    names = ("p_scheduled", "q_scheduled", "parent", "v_min", "v_max", "s_max")
    return {name: market.feeders.data[name] for name in names}


def flat_bidding(parts: tuple[StrategicBidding, ...]) -> xr.Dataset:
    """Put the leader's results together, over flat labels; of each check of the certificates, the worst."""
    checks: dict[str, float] = {}
    for part in parts:
        for check in part.certificate.checks:
            checks[check.name] = max(checks.get(check.name, 0.0), check.value)
    meaning = {"units": "1", "long_name": "Largest residual of the check"}
    values = join_flat([part.flat for part in parts]).assign(
        residual=xr.DataArray(list(checks.values()), coords={"check": list(checks)}, dims="check", attrs=meaning)
    )
    values.attrs = {
        "leader": parts[0].bsp,
        "objective_EUR": sum(part.objective for part in parts),
        "revenue_gap_EUR": max(part.revenue_gap for part in parts),
        "certificate": "\n".join(str(part.certificate) for part in parts),
        "certificate_holds": int(all(part.certificate.ok for part in parts)),
    }
    return values
