"""What a leader is paid by the rule of the market: in numbers, and as a linear expression of its problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import xarray as xr

from hiermarket import bilevel
from hiermarket.labels import BID, FEEDER
from hiermarket.market.rules import Pricing
from hiermarket.schema import bare
from hiermarket.stages.clearing_model import BALANCES
from hiermarket.stages.dso_clearing import per_feeder
from hiermarket.stages.paid_prices import earned

if TYPE_CHECKING:
    from collections.abc import Sequence

    import linopy

    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.market.balancing_market import BalancingMarket


def profit_of(market: BalancingMarket, own: xr.DataArray, values: xr.Dataset) -> xr.DataArray:
    """Return payment, by the rule of the market, less own cost of some bids, (feeder, period) [EUR].

    Parameters
    ----------
    market : BalancingMarket
        Bids, at the prices that are offered, and rules.
    own : bool DataArray (bid)
        Whose profit.
    values : Dataset
        ``activation (bid, period)``, ``nodal_price, reactive_price (bus, period)``: expected or cleared.
    """
    spent = bare(market.bids.sign) * bare(market.bids.data.cost) * bare(values.activation)
    # (10)  Δ Σ_own (payment − σ c a)                                                     [EUR]
    return per_feeder(bare(own) * (earned(market, values) - spent), market) * bare(market.duration)


@dataclass(frozen=True, slots=True)
class Sold:
    """The leader's bids in a part of its problem.

    Attributes
    ----------
    kind : str
        Head of the part's names.
    market : BalancingMarket
        The part's feeders and periods.
    activation : linopy.Variable (bid, period)
        Of the leader's bids.
    """

    kind: str
    market: BalancingMarket
    activation: linopy.Variable


def linear_payment(
    mpec: Mpec, sold: Sequence[Sold], states: linopy.LinearExpression | None, multiple: xr.DataArray | None
) -> linopy.LinearExpression:
    """Return what the leader is paid [EUR], exactly linear at every point with the follower's optimality conditions.

    Parameters
    ----------
    mpec : Mpec
        Its problem.
    sold : sequence of Sold
        Its bids.
    states : linopy expression or None
        The states of its storages.
    multiple : DataArray (feeder, period) or None
        Of `multiples`, with uniform prices.
    """
    pricing = sold[0].market.rules.pricing
    if multiple is not None:
        return _uniform(mpec, sold, multiple)
    balances = [name for name in (*BALANCES, "Stack-balance") if name in mpec.dual]
    every = total([(1 * part.activation).sum() for part in sold])
    # (11)  Σ_own Δ σ (λ + τκ) a, exactly linear
    nodal = bilevel.dual_times_primal(mpec, dual=balances, primal=every, states=states)
    if pricing is Pricing.NODAL:
        return cast("linopy.LinearExpression", nodal)
    for part in sold:
        name = f"{part.kind}-activation"
        if name in mpec.upper:
            bids = {BID: part.activation.indexes[BID]}
            # (26)  Σ_own Δ σ π a = (11) − Σ_own ā μ⁺
            nodal = nodal - (bare(part.market.bids.data.volume).sel(bids) * mpec.upper[name].sel(bids)).sum()
    return cast("linopy.LinearExpression", nodal)


def _uniform(mpec: Mpec, sold: Sequence[Sold], multiple: xr.DataArray) -> linopy.LinearExpression:
    terms = []
    for part in sold:
        if part.kind != "Stack":
            continue  # the leader offers nothing there
        data, bids = part.market.bids.data, part.activation.indexes[BID]
        owner = xr.DataArray(data.bid_feeder.sel({BID: bids}).values, dims=BID, coords={BID: bids})
        of_bid = multiple.sel({FEEDER: owner}).drop_vars(FEEDER)
        for value in np.unique(of_bid.values):
            group = part.activation.where(of_bid == value)
            if bool((group.labels >= 0).any()):
                # (27)  Σ_own Δ payment = k (11)                      every feeder and period, one k of all own bids
                terms.append(value * bilevel.dual_times_primal(mpec, "Stack-balance", (1 * group).sum()))
    return total(terms)


def total(terms: Sequence[linopy.LinearExpression | linopy.QuadraticExpression]) -> linopy.LinearExpression:
    """Return the sum of expressions, at least one."""
    whole = terms[0]
    for term in terms[1:]:
        whole = whole + term
    return cast("linopy.LinearExpression", whole)
