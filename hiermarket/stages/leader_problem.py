"""The strategic BSP's problem (10) as one labelled model, with the grid only where it can count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket import bilevel
from hiermarket.labels import BID, BUS, FEEDER, PERIOD
from hiermarket.market.rules import Pricing
from hiermarket.network.linear_flow import LinearGrid, eliminate
from hiermarket.network.losses import LossTerms
from hiermarket.schema import bare
from hiermarket.stages.ac_check import injections
from hiermarket.stages.clearing_model import RECOURSE, clearing_cost, clearing_model, public
from hiermarket.stages.decides import PricesAndVolumes
from hiermarket.stages.interface_balance import interface_need
from hiermarket.stages.leader_payment import Sold, linear_payment, total
from hiermarket.stages.paid_prices import worth
from hiermarket.stages.reactive_support import held_at_interface, support_of
from hiermarket.stages.resource_rows import own_states
from hiermarket.stages.resource_safety import feeders_of, held_by_resources
from hiermarket.stages.single_price import add_stack, limits_in_reach, stack_cost, unlimited
from hiermarket.stages.uniform_leader import multiples

if TYPE_CHECKING:
    import linopy

    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.solve import Solution
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.decides import Decides
    from hiermarket.stages.dso_clearing import DsoClearing


@dataclass(frozen=True, slots=True, eq=False)
class Leader:
    """Who leads: its bids, and what it decides about them.

    Parameters
    ----------
    own : bool DataArray (bid)
        The leader's bids.
    decides : PricesOnly or PricesAndVolumes
        Prices of its offers, or their volumes too.
    """

    own: xr.DataArray
    decides: Decides


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
            return self._with_offers(values)
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
        on_bid = {"activation": bare(answer["Bid-activation"]), "offer": _offer(answer, "Bid", self.limited)}
        found = {name: array.reindex({BUS: buses, **everywhere}) for name, array in on_bus.items()}
        found |= {name: array.reindex({BID: bids, **everywhere}) for name, array in on_bid.items()}
        # a feeder and period is in one of both parts
        for name, array in found.items():
            whole = array.transpose(BID if BID in array.dims else BUS, PERIOD)
            values[name] = whole.fillna(values[name]) if name in values else whole
        return self._with_offers(values)

    def _with_offers(self, values: xr.Dataset) -> xr.Dataset:
        """Fill in the offers where volumes are decided: with λ + τκ the same is an optimum with whole volumes.

        With uniform prices too: a bid that is accepted is then made whole up to there.
        """
        rules = self.market.rules
        most = worth(self.market, values).clip(rules.price_floor, rules.price_cap)
        # a solver keeps bounds up to its rounding
        chosen = values.offer.clip(rules.price_floor, rules.price_cap).fillna(most)
        if rules.pricing is Pricing.UNIFORM:
            chosen = most.where(values.activation > 0, chosen)
        return values.assign(offer=chosen)

    def _without_grid(self, answer: Solution) -> xr.Dataset:
        market, linear = self.market, self.grid
        buses, periods = market.feeders.data.indexes[BUS], market.periods
        activation = bare(answer["Stack-activation"]).transpose(BID, PERIOD)
        offer = _offer(answer, "Stack", market)
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


def _offer(answer: Solution, kind: str, market: BalancingMarket) -> xr.DataArray:
    """Return the offer prices of a part, (bid, period); NaN for rivals, and where volumes are decided."""
    index = {BID: market.bids.data.indexes[BID], PERIOD: market.periods}
    name = f"{kind}-offer_price"
    if name not in answer.variables:
        return xr.DataArray(np.nan, coords=index, dims=(BID, PERIOD))
    return bare(answer[name]).reindex(index).transpose(BID, PERIOD)


def leader_problem(
    market: BalancingMarket, leader: Leader, losses: LossTerms, truthful: DsoClearing, *, screening: bool
) -> LeaderProblem:
    """Build (10) with the DSO's clearing of all feeders and periods as the follower.

    Parameters
    ----------
    market : BalancingMarket
        Bids (the rivals' prices), prices, rules.
    leader : Leader
        Its bids, and what it decides.
    losses : LossTerms
        Linearised squared currents.
    truthful : DsoClearing
        Scheduled import and rating polygon.
    screening : bool
        Whether to leave the grid out where it cannot count.
    """
    import linopy

    own, held = leader.own, held_by_resources(market)
    whole = market if bool(held.any()) else market.without_resource_limits()
    grid = eliminate(market.feeders, losses)
    imports = truthful.scheduled_import
    with np.errstate(all="ignore"):  # beyond the collapse nothing is finite, and nothing unlimited
        need = interface_need(market, grid, imports, held_at_interface(market.feeders, losses))
        free = unlimited(market, grid, losses, need, sides=truthful.grid.sides)
    # what resources hold together is one problem over all periods
    free = free & ~free.copy(data=feeders_of(market, held))
    # a uniform price is linear only without the grid
    is_uniform = market.rules.pricing is Pricing.UNIFORM
    free = free if is_uniform else free & screening
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
    add = _add_volumes if isinstance(leader.decides, PricesAndVolumes) else _add_prices
    led = [add(model, part) for part in parts if bool(part.own.any())]
    rows = [model.constraints[name] for name in model.constraints]
    cost = total([part.cost for part in parts]) + total([offers.paid_by_follower for offers in led])
    mpec = bilevel.kkt(model, bilevel.Follower(variables=followers, constraints=rows, cost=cost))
    multiple = None
    if is_uniform:
        with np.errstate(all="ignore"):
            limits = limits_in_reach(market, losses, grid, sides=truthful.grid.sides)
        multiple = multiples(market, own, grid, free, limits)
    paid = linear_payment(mpec, [offers.sold for offers in led], total(states) if states else None, multiple)
    # (10)  max  payment − Σ_own Δ σ c a                                                  [EUR]
    return LeaderProblem(market, mpec.maximise(paid - total([offers.cost for offers in led])), free, limited, grid)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the clearing: its kind, its market, its cost without the leader's bids, those bids, where they are."""

    kind: str
    market: BalancingMarket
    cost: linopy.LinearExpression
    own: xr.DataArray
    mask: xr.DataArray | None

    @property
    def mine(self) -> pd.Index:
        """The labels of the leader's bids."""
        labels: pd.Index = pd.Index(self.own.indexes[BID][self.own.values], name=BID)
        return labels

    @property
    def scale(self) -> xr.DataArray:
        """Δ σ of the leader's bids [h]."""
        return (bare(self.market.duration) * bare(self.market.bids.sign)).sel({BID: self.mine})

    def activation(self, model: linopy.Model) -> linopy.Variable:
        """Return the activation of the leader's bids."""
        a: linopy.Variable = model.variables[f"{self.kind}-activation"].sel({BID: self.mine})
        return a


@dataclass(frozen=True, slots=True)
class _Offers:
    """What the leader's bids bring into a part: their cost at the offer prices, their true cost, and themselves."""

    paid_by_follower: linopy.LinearExpression | linopy.QuadraticExpression
    cost: linopy.LinearExpression
    sold: Sold


def _add_prices(model: linopy.Model, part: _Part) -> _Offers:
    """Add the leader's offer prices to a part."""
    mine, a, rules = part.mine, part.activation(model), part.market.rules
    offer = model.add_variables(
        lower=rules.price_floor, upper=rules.price_cap, coords=[mine, part.market.periods],
        mask=None if part.mask is None else part.mask.sel({BID: mine}), name=f"{part.kind}-offer_price",
    )  # fmt: skip
    return _offers(part, a, (part.scale * offer * a).sum())


def _add_volumes(model: linopy.Model, part: _Part) -> _Offers:
    """Add the leader's offer volumes to a part.

    Their prices are those at which they are accepted whenever any price would be: with another price
    and a volume that is taken in part, the follower's decision and duals are also those of this
    price and the part that is taken.
    """
    mine, a, rules = part.mine, part.activation(model), part.market.rules
    most, sign = (bare(array).sel({BID: mine}) for array in (part.market.bids.data.volume, part.market.bids.sign))
    there = most > 0 if part.mask is None else (most > 0) & part.mask.sel({BID: mine})
    v = model.add_variables(lower=0, upper=most, mask=there, name=f"{part.kind}-offer_volume")
    # (25)  a ≤ v,  0 ≤ v ≤ ā                                                     every own bid   [MW]
    model.add_constraints(a - v <= 0, mask=there, name=f"{part.kind}-offered")
    lowest = sign.copy(data=np.where(sign.values > 0, rules.price_floor, rules.price_cap))
    return _offers(part, a, (part.scale * lowest * a).sum())


def _offers(
    part: _Part, a: linopy.Variable, paid_by_follower: linopy.LinearExpression | linopy.QuadraticExpression
) -> _Offers:
    own_cost = (part.scale * bare(part.market.bids.data.cost).sel({BID: part.mine})) * a
    return _Offers(paid_by_follower, own_cost.sum(), Sold(part.kind, part.market, a))


def _terms_of(losses: LossTerms, market: BalancingMarket) -> LossTerms:
    """Return the loss terms of some feeders and periods."""
    at = {BUS: market.feeders.branches, PERIOD: market.periods}
    return losses.sel(at)
