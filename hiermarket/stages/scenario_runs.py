"""The results of a market in all its scenarios, every array with the leading dimension `scenario`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, meant, some_labels
from hiermarket.labels import SCENARIO
from hiermarket.schema import Labelled, freeze
from hiermarket.stages.accounts import ACCOUNT, ITEM, accounts_of, in_order
from hiermarket.stages.common_box import forward_common, one_by_one
from hiermarket.stages.coordination import common_stages, local_stages
from hiermarket.stages.forwarding_methods import CommonBox, Unfiltered
from hiermarket.stages.settlement import Settlement

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.scenarios import ScenarioMarket
    from hiermarket.stages.coordination import Chain, Options

#: Coordinates of labels that every scenario has alike.
_LABELS = ("bid_", "bus_", "grid_bid_", "account_")


@dataclass(frozen=True, slots=True)
class ScenarioChain:
    """The results of every stage of one run in every scenario.

    Attributes
    ----------
    market : ScenarioMarket
        As it was given.
    chains : mapping scenario → Chain
        The run of each scenario.
    clearing, forwarded, cleared, disaggregation, baseline : Labelled
        The stages' arrays with the leading dimension ``scenario``.
    settlement : Settlement
        Accounts of all scenarios; an account that a scenario does not have is 0 there.
    options : Options
        How they were computed.
    """

    market: ScenarioMarket
    chains: Mapping[str, Chain]
    clearing: Labelled
    forwarded: Labelled
    cleared: Labelled
    disaggregation: Labelled
    settlement: Settlement
    baseline: Labelled
    options: Options

    @property
    def probability(self) -> xr.DataArray:
        """Probabilities (scenario)."""
        return self.market.probability

    def of(self, scenario: str) -> Chain:
        """Return the run of one scenario.

        Raises
        ------
        DataError
            When there is no such scenario.
        """
        if scenario not in self.chains:
            known = list(self.chains)
            remedy = meant(scenario, known, otherwise="Correct the label.")
            raise DataError([Fault(SCENARIO, repr(scenario), f"one of {some_labels(known)}", remedy)])
        return self.chains[scenario]


def run_scenarios(
    market: ScenarioMarket, options: Options, run: Callable[[str, BalancingMarket], Chain]
) -> ScenarioChain:
    """Run every stage in every scenario.

    Parameters
    ----------
    market : ScenarioMarket
        The scenarios.
    options : Options
        How `run` computes.
    run : callable
        Runs the market of one scenario; not used with `CommonBox`, whose stage 2 needs all of them.

    Returns
    -------
    ScenarioChain
        All results.
    """
    if isinstance(options.forwarding, CommonBox):
        chains = _with_common_box(market, options, options.forwarding)
    else:
        chains = {name: run(name, market.of(name)) for name in market.scenarios}

    def stacked(stage: str) -> Labelled:
        return Labelled(stack({name: getattr(chain, stage).flat for name, chain in chains.items()}))

    return ScenarioChain(
        market=market,
        chains=MappingProxyType(chains),
        clearing=stacked("clearing"),
        forwarded=stacked("forwarded"),
        cleared=stacked("cleared"),
        disaggregation=stacked("disaggregation"),
        settlement=Settlement(_accounts({name: chain.settlement.data for name, chain in chains.items()})),
        baseline=stacked("baseline"),
        options=options,
    )


def _with_common_box(market: ScenarioMarket, options: Options, method: CommonBox) -> dict[str, Chain]:
    """Run every stage, with one box of volumes for all scenarios."""
    if options.exchange_prices is not None:
        remedy = "Leave the iteration out, or forward in each scenario: SafeBox, OfferCurve."
        raise DataError([Fault("options.exchange_prices", "FixedPoint", "None with CommonBox", remedy)])
    first = replace(options, forwarding=Unfiltered(undo=method.undo))
    local = {name: local_stages(one, first) for name, one in one_by_one(market).items()}
    bid = replace(market, markets={name: stages.market for name, stages in local.items()})
    clearings = {name: stages.clearing for name, stages in local.items()}
    found = forward_common(bid, clearings, method=method, solver=options.solver)
    return {name: common_stages(replace(local[name], forwarded=found[name]), options) for name in local}


def stack(parts: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Put the same arrays of several scenarios along a leading dimension.

    Parameters
    ----------
    parts : mapping scenario → Dataset
        With the same labels; steps of offer curves may differ in number: NaN where a
        scenario has fewer.
    """
    index = pd.Index(list(parts), name=SCENARIO)
    datasets = _same_order(list(parts.values()))
    # every array differs by scenario, also where its values happen not to
    whole = xr.concat(
        datasets,
        dim=index,
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="override",
    )
    for name, array in datasets[0].data_vars.items():
        whole[name].attrs = array.attrs
    return freeze(whole)


def _same_order(parts: list[xr.Dataset]) -> list[xr.Dataset]:
    """Return the parts with the coordinates of labels taken from the first one."""
    first = parts[0]
    labels = {name: coord for name, coord in first.coords.items() if str(name).startswith(_LABELS)}
    return [part if part is first or not _fit(part, labels) else part.assign_coords(labels) for part in parts]


def _fit(part: xr.Dataset, labels: Mapping[object, xr.DataArray]) -> bool:
    return all(part.sizes.get(dim) == size for coord in labels.values() for dim, size in coord.sizes.items())


def _accounts(parts: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Stack settlements: every account and item in the order of a settlement, 0 where a scenario has none."""
    payments = [part["payment"] for part in parts.values()]
    accounts = in_order([account for payment in payments for account in accounts_of(payment)])
    items = list(dict.fromkeys(str(item) for payment in payments for item in payment[ITEM].values))
    names = [account.name for account in accounts]
    whole = {}
    for scenario, part in parts.items():
        bare = part.drop_vars([name for name in part.coords if name not in part.dims])
        payment = bare["payment"].reindex({ACCOUNT: names, ITEM: items}, fill_value=0.0)
        whole[scenario] = bare.drop_dims([ACCOUNT, ITEM]).assign(payment=payment)
    stacked = stack(whole)
    kinds = {
        "account_kind": (ACCOUNT, [account.kind.value for account in accounts]),
        "account_feeder": (ACCOUNT, [account.feeder for account in accounts]),
    }
    return freeze(stacked.assign_coords(kinds))
