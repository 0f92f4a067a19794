"""Reactive power that resources give or take by themselves, without activation, to keep the grid's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import ModelError
from hiermarket.labels import BUS, PERIOD, RESOURCE
from hiermarket.network.linear_flow import eliminate
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    from collections.abc import Mapping

    import linopy

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LossTerms
    from hiermarket.solving.program import Floats

#: What resources inject and absorb, in variables, and the sign of it in the reactive balance.
SUPPORT = {"Resource-reactive_injected": 1.0, "Resource-reactive_absorbed": -1.0}


def supporters(market: BalancingMarket) -> pd.Series:
    """Return the bus of every resource with reactive support: Series resource → flat bus label, named "at".

    A resource at a root is not among them: reactive power is free there.
    """
    table = market.resources
    if table is None:
        return pd.Series([], index=pd.Index([], dtype=object), dtype=object, name="at")
    node = pd.Series(table.nodes_of(market.bids), index=table.labels, name="at")
    return node[table.has_support & ~node.isin(market.feeders.roots).to_numpy()]


def add_support(model: linopy.Model, market: BalancingMarket) -> linopy.LinearExpression | None:
    """Add the reactive support of the market's resources, and return what it injects (bus, period) [Mvar].

    Parameters
    ----------
    model : linopy.Model
        To extend by the variables of `SUPPORT` (resource, period) [Mvar].
    market : BalancingMarket
        Resources.

    Returns
    -------
    expression or None
        None without any support.
    """
    at, table = supporters(market), market.resources
    if table is None or at.empty:
        return None
    data = bare(table.data.q_max).sel({RESOURCE: at.index}), bare(table.data.q_min).sel({RESOURCE: at.index})
    # (45)  q̲ ≤ q ≤ q̄,  q = q⁺ − q⁻                                               ∀ r, t   [Mvar]
    limits = dict(zip(SUPPORT, (data[0], -data[1]), strict=True))
    for name, most in limits.items():
        model.add_variables(lower=0, upper=most.transpose(RESOURCE, PERIOD), name=name)
    buses = market.feeders.data.indexes[BUS]
    found: linopy.LinearExpression = _net(model).groupby(at).sum().rename(at=BUS).reindex({BUS: buses}).fillna(0)
    return found


def moved_at_interface(model: linopy.Model, market: BalancingMarket, losses: LossTerms) -> linopy.LinearExpression:
    """Return what the support, beyond that of the losses' state, would save at the roots, (bus, period) [MW].

    Parameters
    ----------
    model : linopy.Model
        With the variables of `add_support`.
    market : BalancingMarket
        Resources.
    losses : LossTerms
        Linearised squared currents, and the support of their state.
    """
    at, roots = supporters(market), market.feeders.roots
    factor = xr.DataArray(
        factors_of(market.feeders, losses, at),
        dims=(RESOURCE, PERIOD),
        coords={RESOURCE: at.index.to_numpy(), PERIOD: market.periods},
    )
    root = pd.Series(roots.loc[market.feeders.feeder_of.loc[at.to_numpy()]].to_numpy(), index=at.index, name="at")
    # (45)  Σ φ_2 (q − q°)                                                         ∀ roots, t   [MW]
    moved = (factor * _net(model)).groupby(root).sum().rename(at=BUS).reindex({BUS: roots.to_numpy()}).fillna(0)
    held = xr.DataArray(
        held_at_interface(market.feeders, losses),
        dims=(BUS, PERIOD),
        coords={BUS: roots.to_numpy(), PERIOD: market.periods},
    )
    return moved - held


def _net(model: linopy.Model) -> linopy.LinearExpression:
    injected, absorbed = (1 * model.variables[name] for name in SUPPORT)
    return injected - absorbed


def factors_of(feeders: Feeders, losses: LossTerms, at: pd.Series) -> Floats:
    """Return φ_2 of resources, MW at the interface per Mvar injected, (resource, period).

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Linearised squared currents.
    at : Series
        Of `supporters`.
    """
    factor = np.nan_to_num(eliminate(feeders, losses).factors()[1], posinf=0.0, neginf=0.0)
    found: Floats = factor[positions(feeders.data.indexes[BUS], at.to_numpy())]
    return found


def held_at_interface(feeders: Feeders, losses: LossTerms) -> Floats:
    """Return Σ φ_2 q° of every feeder, (feeder, period) [MW]: 0 where the losses' state holds no support.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Linearised squared currents, and the support of their state.
    """
    total = np.zeros((len(feeders.roots), feeders.data.sizes[PERIOD]))
    if losses.support is None:
        return total
    held = bare(losses.support).sel({BUS: feeders.branches}).transpose(BUS, PERIOD).values
    branches = pd.Series(feeders.branches, index=feeders.branches)
    owner = positions(feeders.roots.index, feeders.feeder_of.loc[feeders.branches].to_numpy())
    np.add.at(total, owner, factors_of(feeders, losses, branches) * held)
    return total


def support_of(solved: Mapping[str, xr.DataArray], market: BalancingMarket) -> dict[str, xr.DataArray]:
    """Return ``reactive_support (resource, period)`` [Mvar] of a solved clearing; nothing without resources.

    Parameters
    ----------
    solved : mapping variable → values
        Of a model with `add_support`; without its variables there is no support.
    market : BalancingMarket
        Resources.
    """
    if market.resources is None:
        return {}
    table, found = market.resources.data, bare(xr.zeros_like(market.resources.data.q_max))
    for name, sign in SUPPORT.items():
        if name in solved:
            labels = {RESOURCE: table.indexes[RESOURCE], PERIOD: market.periods}
            found = found + sign * bare(solved[name]).reindex(labels, fill_value=0.0)
    return {"reactive_support": found.transpose(RESOURCE, PERIOD)}


def support_at_buses(market: BalancingMarket, values: xr.Dataset | None) -> xr.DataArray | None:
    """Return what resources inject at each bus by their reactive support, (bus, period) [Mvar].

    Parameters
    ----------
    market : BalancingMarket
        Resources.
    values : Dataset, optional
        ``reactive_support (resource, period)``, where there is any.

    Returns
    -------
    DataArray or None
        None without any support.

    Raises
    ------
    ModelError
        When the market has lost the resources that give it.
    """
    if values is None or "reactive_support" not in values:
        return None
    support, table = bare(values["reactive_support"]).fillna(0.0), market.resources
    if table is None:
        if not bool(support.any()):
            return None
        raise ModelError(
            "The clearing has reactive support of resources that the market does not have",
            where="market.resources",
            remedy="Take the market that was cleared.",
        )
    if not table.has_support.any():
        return None
    buses = market.feeders.data.indexes[BUS]
    total = np.zeros((len(buses), len(market.periods)))
    given = support.sel({RESOURCE: table.labels, PERIOD: market.periods}).transpose(RESOURCE, PERIOD).values
    np.add.at(total, positions(buses, table.nodes_of(market.bids)), given)
    return xr.DataArray(total, dims=(BUS, PERIOD), coords={BUS: buses, PERIOD: market.periods})


def support_ties(model: linopy.Model) -> dict[str, dict[str, xr.DataArray]]:
    """Return the last ranks of the tie rule: least support, then the order of the resources.

    Parameters
    ----------
    model : linopy.Model
        With the variables of `add_support`, or without.
    """
    if not all(name in model.variables for name in SUPPORT):
        return {}
    ones = {name: xr.ones_like(model.variables[name].labels, dtype=float) for name in SUPPORT}
    # earlier ones weigh less: of equal volumes the earlier one is taken
    order = {
        name: one * xr.DataArray(np.sqrt(1.0 + np.arange(one.sizes[RESOURCE])), dims=RESOURCE)
        for name, one in ones.items()
    }
    return {"reactive support": ones, "order of resources": order}
