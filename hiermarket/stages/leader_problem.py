"""The strategic BSP's problem (10) as one labelled model, with the grid only where it can count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket import bilevel
from hiermarket.labels import BID, BUS, FEEDER, PERIOD
from hiermarket.network.linear_flow import LinearGrid, eliminate
from hiermarket.network.losses import LossTerms
from hiermarket.schema import bare
from hiermarket.stages.ac_check import injections
from hiermarket.stages.clearing_model import BALANCES, RECOURSE, clearing_cost, clearing_model, public
from hiermarket.stages.interface_balance import interface_need
from hiermarket.stages.reactive_support import held_at_interface, support_of
from hiermarket.stages.resource_rows import own_states
from hiermarket.stages.resource_safety import feeders_of, held_by_resources
from hiermarket.stages.single_price import add_stack, stack_cost, unlimited

if TYPE_CHECKING:
    from collections.abc import Sequence

    import linopy

    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.solve import Solution
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.dso_clearing import DsoClearing


@dataclass(frozen=True, slots=True, eq=False)
class LeaderProblem:
    """The leader's problem; made by `leader_problem`.

    Attributes
    ----------
    market : BalancingMarket
        The market.
    mpec : Mpec
        With the leader's objective (10).
    unlimited : DataArray (feeder, period)
        Where no offer of anybody can bring the grid to a limit: the clearing there is one
        balance at the interface.
    limited : BalancingMarket or None
        The feeders and periods with their grid.
    grid : LinearGrid
        Of the losses' linearisation.
    """

    market: BalancingMarket
    mpec: Mpec
    unlimited: xr.DataArray
    limited: BalancingMarket | None
    grid: LinearGrid

    def read(self, answer: Solution) -> xr.Dataset:
        """Return what the leader expects, by flat labels.

        Returns
        -------
        Dataset
            ``activation, offer`` (bid), ``nodal_price, reactive_price, v, p_flow, q_flow`` and
            the recourse (bus), ``reactive_support`` (resource), each by period.
        """
        # where no limit can count there is no support
        return self._by_bid_and_bus(answer).assign(support_of(answer.variables, self.market))

    def _by_bid_and_bus(self, answer: Solution) -> xr.Dataset:
        market = self.market
        bids, buses = market.bids.data.indexes[BID], market.feeders.data.indexes[BUS]
        everywhere = {PERIOD: market.periods}
        values = xr.Dataset()
        if bool(self.unlimited.any()):
            values = self._without_grid(answer)
        if self.limited is None:
            return values
        duration, some = bare(self.limited.duration), self.limited.feeders.data.indexes[BUS]
        inner, outer = (bare(answer.duals[name]) for name in ("Bus-nodal_balance", "Interface-balance"))
        reactive = bare(answer.duals["Bus-reactive_balance"])
        on_bus = {
            "nodal_price": xr.concat([outer, inner], dim=BUS).sel({BUS: some}) / duration,
            "reactive_price": reactive.reindex({BUS: some}).fillna(0.0) / duration,
            "v": bare(answer["Bus-v_sq"] ** 0.5),
            "p_flow": bare(answer["Line-p"]).reindex({BUS: some}),
            "q_flow": bare(answer["Line-q"]).reindex({BUS: some}),
            **{public(name): bare(answer[name]).reindex({BUS: some}) for name in RECOURSE},
        }
        on_bid = {"activation": bare(answer["Bid-activation"]), "offer": bare(answer["Bid-offer_price"])}
        found = {name: array.reindex({BUS: buses, **everywhere}) for name, array in on_bus.items()}
        found |= {name: array.reindex({BID: bids, **everywhere}) for name, array in on_bid.items()}
        # a feeder and period is in one of both parts
        for name, array in found.items():
            whole = array.transpose(BID if BID in array.dims else BUS, PERIOD)
            values[name] = whole.fillna(values[name]) if name in values else whole
        return values

    def _without_grid(self, answer: Solution) -> xr.Dataset:
        market, linear = self.market, self.grid
        bids, buses, periods = market.bids.data.indexes[BID], market.feeders.data.indexes[BUS], market.periods
        activation = bare(answer["Stack-activation"]).transpose(BID, PERIOD)
        offer = bare(answer["Stack-offer_price"]).reindex({BID: bids}).transpose(BID, PERIOD)
        root = (bare(answer.duals["Stack-balance"]) / bare(market.duration)).transpose(FEEDER, PERIOD).values
        state = linear.state(*(a.transpose(BUS, PERIOD).values for a in injections(market, activation.fillna(0.0))))
        price = root[linear.feeder] * linear.factors()
        nowhere = ~self.unlimited.values[linear.feeder]
        on_bus = {
            "nodal_price": price[0], "reactive_price": price[1],
            "v": np.sqrt(np.maximum(state.w, 0.0)), "p_flow": state.p, "q_flow": state.q,
            **{public(name): np.zeros_like(state.w) for name in RECOURSE},
        }  # fmt: skip
        found = {name: ((BUS, PERIOD), np.where(nowhere, np.nan, values)) for name, values in on_bus.items()}
        return xr.Dataset(found, coords={BUS: buses, PERIOD: periods}).assign(activation=activation, offer=offer)


def leader_problem(
    market: BalancingMarket, own: xr.DataArray, losses: LossTerms, truthful: DsoClearing, *, screening: bool
) -> LeaderProblem:
    """Build (10) with the DSO's clearing of all feeders and periods as the follower.

    Parameters
    ----------
    market : BalancingMarket
        Bids (the rivals' prices), prices, rules.
    own : bool DataArray (bid)
        The leader's bids.
    losses : LossTerms
        Linearised squared currents.
    truthful : DsoClearing
        Scheduled import and rating polygon.
    screening : bool
        Whether to leave the grid out where it cannot count.
    """
    import linopy

    held = held_by_resources(market)
    whole = market if bool(held.any()) else market.without_resource_limits()
    grid = eliminate(market.feeders, losses)
    imports = truthful.scheduled_import
    with np.errstate(all="ignore"):  # beyond the collapse nothing is finite, and nothing unlimited
        need = interface_need(market, grid, imports, held_at_interface(market.feeders, losses))
        free = unlimited(market, grid, losses, need, sides=truthful.grid.sides) & screening
    # what resources hold together is one problem over all periods
    free = free & ~free.copy(data=feeders_of(market, held))
    model, limited, parts, states = linopy.Model(sparse=True), None, [], []
    if not bool(free.all()):
        # feeders × periods: also what is unlimited, where its feeder and its period have others that are not
        names, periods = (~free).any(PERIOD), (~free).any(FEEDER)
        free = free & ~(names & periods)
        limited = whole.of_feeders(list(names.indexes[FEEDER][names.values])).of_periods(np.flatnonzero(periods))
        at = {FEEDER: limited.feeder_names, PERIOD: limited.periods}
        model = clearing_model(limited, _terms_of(losses, limited), imports.sel(at), truthful.grid)
        mine = own.sel({BID: limited.bids.data.indexes[BID]})
        # (8)  the leader's bids at its offer price, all others at their own
        cost = clearing_cost(model, limited, bare(limited.bids.data.price).where(~mine, 0.0))
        parts.append(_Part("Bid", limited, cost, mine, None))
        states = [model.variables[name].sel(at).sum() for name, at in own_states(limited, mine).items()]
    if bool(free.any()):
        add_stack(model, market, grid, need, free)
        owner = xr.DataArray(market.bids.data.bid_feeder.values, dims=BID, coords={BID: own.indexes[BID]})
        mask = free.sel({FEEDER: owner}).drop_vars(FEEDER)
        parts.append(_Part("Stack", market, stack_cost(model, market, own), own & mask.any(PERIOD), mask))
    followers = [model.variables[name] for name in model.variables]
    rows = [model.constraints[name] for name in model.constraints]
    led = [_add_offers(model, part) for part in parts if bool(part.own.any())]
    cost = _sum([part.cost for part in parts]) + _sum([offers.paid_by_follower for offers in led])
    mpec = bilevel.kkt(model, bilevel.Follower(variables=followers, constraints=rows, cost=cost))
    balances = [name for name in (*BALANCES, "Stack-balance") if name in mpec.dual]
    # (11)  Σ_own Δ σ (λ + τκ) a, exactly linear
    paid = bilevel.dual_times_primal(
        mpec, dual=balances, primal=_sum([offers.sold for offers in led]),
        states=_sum(states) if states else None,
    )  # fmt: skip
    # (10)  max  payment − Σ_own Δ σ c a                                                  [EUR]
    return LeaderProblem(market, mpec.maximise(paid - _sum([offers.cost for offers in led])), free, limited, grid)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the clearing: its kind, its market, its cost without the leader's bids, those bids, where they are."""

    kind: str
    market: BalancingMarket
    cost: linopy.LinearExpression
    own: xr.DataArray
    mask: xr.DataArray | None


@dataclass(frozen=True, slots=True)
class _Offers:
    """What the leader's bids bring into a part: their cost at the offer prices, their true cost, their volume."""

    paid_by_follower: linopy.LinearExpression
    cost: linopy.LinearExpression
    sold: linopy.LinearExpression


def _add_offers(model: linopy.Model, part: _Part) -> _Offers:
    """Add the leader's offer prices to a part."""
    market, rules = part.market, part.market.rules
    mine = pd.Index(part.own.indexes[BID][part.own.values], name=BID)
    offer = model.add_variables(
        lower=rules.price_floor, upper=rules.price_cap, coords=[mine, market.periods],
        mask=None if part.mask is None else part.mask.sel({BID: mine}), name=f"{part.kind}-offer_price",
    )  # fmt: skip
    a = model.variables[f"{part.kind}-activation"].sel({BID: mine})
    scale = (bare(market.duration) * bare(market.bids.sign)).sel({BID: mine})
    own_cost = (scale * bare(market.bids.data.cost).sel({BID: mine})) * a
    return _Offers((scale * offer * a).sum(), own_cost.sum(), a.sum())


def _terms_of(losses: LossTerms, market: BalancingMarket) -> LossTerms:
    """Return the loss terms of some feeders and periods."""
    at = {BUS: market.feeders.branches, PERIOD: market.periods}
    return losses.sel(at)


def _sum(terms: Sequence[linopy.LinearExpression]) -> linopy.LinearExpression:
    whole = terms[0]
    for term in terms[1:]:
        whole = whole + term
    return whole
