"""The DSO's clearing problem (8) as one labelled linopy model for all feeders and periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, DIRECTION, PERIOD, Direction
from hiermarket.market.bids import MINIMUM
from hiermarket.network.lindistflow import Injections, add_rows, add_state
from hiermarket.schema import bare, direction_sign, positions
from hiermarket.stages.reactive_support import add_support, moved_at_interface, support_ties
from hiermarket.stages.resource_rows import add_resources

if TYPE_CHECKING:
    import linopy
    import pandas as pd

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LinDistFlow, LossTerms

#: The recourse at every bus: what cannot be balanced, at the value of lost load.
RECOURSE = ("Bus-unserved", "Bus-spilled", "Bus-reactive_shortage", "Bus-reactive_surplus")

#: The balances whose duals are the prices of what a bid injects.
BALANCES = ("Bus-nodal_balance", "Bus-reactive_balance", "Interface-balance")


def public(variable: str) -> str:
    """Return the public name of a model's variable: ``Bus-unserved`` → ``unserved``."""
    return variable.partition("-")[2]


def at_bus(per_bid: linopy.LinearExpression, node: pd.Series, buses: pd.Index) -> linopy.LinearExpression:
    """Sum an expression over bids at each bus; 0 where there are none.

    Parameters
    ----------
    per_bid : expression (bid, ...)
    node : Series bid → flat bus label, named "at"
    buses : Index of the buses
    """
    return per_bid.groupby(node).sum().rename(at=BUS).reindex({BUS: buses}).fillna(0)


def at_bus_values(per_bid: xr.DataArray, market: BalancingMarket) -> xr.DataArray:
    """Sum values over bids at each bus; 0 where there are none."""
    buses = market.feeders.data.indexes[BUS]
    place = positions(buses, market.bids.node.to_numpy())
    total = np.zeros((len(buses), per_bid.sizes[PERIOD]))
    np.add.at(total, place, per_bid.transpose(BID, PERIOD).values)
    return xr.DataArray(total, dims=(BUS, PERIOD), coords={BUS: buses, PERIOD: per_bid.indexes[PERIOD]})


def no_activation(market: BalancingMarket) -> xr.DataArray:
    """Return 0 MW for every bid and period."""
    return bare(xr.zeros_like(market.bids.data["volume"]))


def add_recourse(model: linopy.Model, feeders: Feeders) -> None:
    """Add s± at every bus and z± at every bus but the roots, all ≥ 0 [MW, Mvar]."""
    buses, periods = feeders.data.indexes[BUS], feeders.data.indexes[PERIOD]
    for name in RECOURSE:
        where = buses if name in RECOURSE[:2] else feeders.branches
        model.add_variables(lower=0, coords=[where, periods], name=name)


def clearing_model(
    market: BalancingMarket, losses: LossTerms, scheduled_import: xr.DataArray, grid: LinDistFlow
) -> linopy.Model:
    """Build the variables and rows (1)–(7), (37)–(42), (45) of the DSO's clearing, without an objective.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, TBM limits.
    losses : LossTerms
        Linearised squared currents of this pass.
    scheduled_import : DataArray (feeder, period)
        P^sched, the interface flow of the scheduled state at the same pass [MW].
    grid : LinDistFlow
        Sides of the rating polygon.

    Returns
    -------
    linopy.Model
        Variables ``Bid-activation (bid, period)``, ``Interface-tbm (feeder, direction,
        period)``, the grid's state, the recourse of `RECOURSE`, rows (37)–(42) and the reactive
        support (45) of resources.
    """
    import linopy

    model = linopy.Model(sparse=True)
    feeders, data = market.feeders, market.bids.data
    buses = feeders.data.indexes[BUS]
    sign = bare(market.bids.sign)
    add_state(model, feeders)

    # (6)  0 ≤ a ≤ ā,  0 ≤ g ≤ Ḡ                                                            [MW]
    a = model.add_variables(lower=0, upper=bare(data.volume), name="Bid-activation")
    g = model.add_variables(lower=0, upper=bare(market.tbm.tbm_limit), name="Interface-tbm")
    if not market.bids.is_divisible:
        _add_minimum(model, market)
    add_recourse(model, feeders)
    unserved, spilled, shortage, surplus = (1 * model.variables[name] for name in RECOURSE)

    up, down = (
        (1 * g.sel({DIRECTION: d.value}, drop=True)).groupby(feeders.roots.rename("at")).sum().rename(at=BUS)
        for d in Direction
    )
    node = market.bids.node
    reactive = at_bus((sign * bare(data.reactive_ratio)) * a, node, buses)
    at_interface = (up - down).reindex({BUS: feeders.roots.to_numpy()})
    support = add_support(model, market)
    if support is not None:
        reactive = reactive + support
        # (45)  what it saves at the interface is that of the pass before             [MW]
        at_interface = at_interface - moved_at_interface(model, market, losses)
    injections = Injections(
        active=at_bus(sign * a, node, buses) + unserved - spilled,
        reactive=reactive + (shortage - surplus).reindex({BUS: buses}).fillna(0),
        at_interface=at_interface,
        active_demand=market.imbalance - bare(feeders.data.p_scheduled),
        reactive_demand=-bare(feeders.data.q_scheduled),
        scheduled_import=scheduled_import,
    )
    add_rows(model, feeders, losses, injections, sides=grid.sides)
    add_resources(model, market)
    return model


def _add_minimum(model: linopy.Model, market: BalancingMarket) -> None:
    """Add the decisions on bids that are taken with a minimum volume or not at all."""
    data = market.bids.data
    # only these bids have a decision, only where they have a minimum
    held = (data[MINIMUM] > 0).any(PERIOD).values
    at = {BID: data.indexes[BID][held]}
    least, most = (bare(data[name]).sel(at) for name in (MINIMUM, "volume"))
    mask = least > 0
    a = model.variables["Bid-activation"].sel(at)
    b = model.add_variables(binary=True, coords=[at[BID], market.periods], mask=mask, name="Bid-accepted")

    # (43)  a̲ b ≤ a ≤ ā b,  b ∈ {0, 1}                                          every bid with a minimum   [MW]
    model.add_constraints(a - least * b >= 0, mask=mask, name="Bid-at_least")
    model.add_constraints(a - most * b <= 0, mask=mask, name="Bid-at_most")


def clearing_cost(model: linopy.Model, market: BalancingMarket, price: xr.DataArray) -> linopy.LinearExpression:
    """Return the objective (8) at given prices.

    Parameters
    ----------
    model : linopy.Model
        Of `clearing_model`.
    market : BalancingMarket
        Prices of the TBM, value of lost load, durations.
    price : DataArray (bid, period)
        EUR/MWh; 0 for bids whose price is decided elsewhere.

    Returns
    -------
    expression
        EUR.
    """
    duration, sign = bare(market.duration), bare(market.bids.sign)
    a, g = model.variables["Bid-activation"], model.variables["Interface-tbm"]
    direction = direction_sign()
    lost = sum(model.variables[name].sum(BUS) for name in RECOURSE)

    # (8)  Σ_t Δ_t [ Σ σ π a + π^T_up g_up − π^T_down g_down + VOLL Σ (s⁺ + s⁻ + z⁺ + z⁻) ]      [EUR]
    return (
        ((duration * sign * bare(price)) * a).sum()
        + ((duration * direction * market.exchange_price) * g).sum()
        + (market.rules.value_of_lost_load * duration * lost).sum()
    )


def tie_costs(model: linopy.Model, market: BalancingMarket) -> dict[str, dict[str, xr.DataArray]]:
    """Return the further objectives that decide ties, in order of rank.

    Returns
    -------
    dict
        Name of the rank → variable → coefficients: minimum TBM volume, then minimum gross
        activation, then the order of the bids' labels, then the order of the buses where
        something is not served; then the least reactive support, in the order of the resources.
    """
    a, g = model.variables["Bid-activation"], model.variables["Interface-tbm"]
    # earlier ones weigh less: of equal volumes the earlier one is taken
    bids, buses = (
        xr.DataArray(np.sqrt(1.0 + np.arange(len(index))), coords={dim: index}, dims=dim)
        for dim, index in ((BID, a.indexes[BID]), (BUS, market.feeders.data.indexes[BUS]))
    )
    recourse = {name: model.variables[name] for name in RECOURSE}
    return {
        "TBM volume": {"Interface-tbm": xr.ones_like(g.labels, dtype=float)},
        "gross activation": {"Bid-activation": xr.ones_like(a.labels, dtype=float)},
        "order of bids": {"Bid-activation": bids * xr.ones_like(a.labels, dtype=float)},
        "order of buses": {name: buses * xr.ones_like(v.labels, dtype=float) for name, v in recourse.items()},
        **support_ties(model),
    }
