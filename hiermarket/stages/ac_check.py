"""The state of the grid by AC power flow, beside that of the linear model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, FEEDER, PERIOD, RESOURCE
from hiermarket.network.power_flow import power_flow, violations
from hiermarket.schema import bare, positions
from hiermarket.stages.clearing_model import at_bus_values
from hiermarket.stages.reactive_support import support_at_buses

if TYPE_CHECKING:
    from collections.abc import Callable

    from hiermarket.market.balancing_market import BalancingMarket

#: Below this voltage no grid has an operating point [p.u.].
LOWEST = 0.5


def injections(
    market: BalancingMarket, activation: xr.DataArray, recourse: xr.Dataset | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the net injections of every bus after the imbalance and the activation.

    Parameters
    ----------
    market : BalancingMarket
        Schedule, imbalance and bids.
    activation : DataArray (bid, period)
        MW ≥ 0.
    recourse : Dataset, optional
        ``unserved, spilled, reactive_shortage, reactive_surplus (bus, period)``, and
        ``reactive_support (resource, period)`` where there is any.

    Returns
    -------
    p, q : DataArray (bus, period)
        MW and Mvar, > 0 into the grid.
    """
    grid, bids = market.feeders.data, market.bids
    active = bare(bids.sign) * bare(activation)
    p = bare(grid.p_scheduled) - market.imbalance + at_bus_values(active, market)
    q = bare(grid.q_scheduled) + at_bus_values(active * bare(bids.data.reactive_ratio), market)
    if recourse is not None:
        p = p + bare(recourse.unserved) - bare(recourse.spilled)
        q = q + (bare(recourse.reactive_shortage) - bare(recourse.reactive_surplus)).fillna(0)
        support = support_at_buses(market, recourse)
        q = q if support is None else q + support
    return p, q


def ac_state(market: BalancingMarket, p: xr.DataArray, q: xr.DataArray) -> xr.Dataset:
    """Solve the AC power flow and name what it breaks.

    Parameters
    ----------
    market : BalancingMarket
        The grids.
    p, q : DataArray (bus, period)
        Net injections [MW, Mvar]; NaN in feeders and periods without a clearing.

    Returns
    -------
    Dataset
        ``v, p_flow, q_flow, p_interface, loss, converged`` of the power flow, and
        ``undervoltage, overvoltage (bus, period)`` [p.u.], ``overload (bus, period)``
        [MVA], all ≥ 0; NaN where it did not converge, or an injection is NaN.
    """
    known = p.notnull() & q.notnull()
    state = power_flow(market.feeders, p.fillna(0.0), q.fillna(0.0))
    state = state.merge(violations(market.feeders, state))
    return state if bool(known.all()) else without(state, failed_in(known, market), market)


def state_or_linear(ac: xr.Dataset, linear: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Return ``v, p_flow, q_flow`` of the AC state, of the linear one where there is none, of no flow without both.

    The linear one is asked for only where it is needed. Its voltages count as `LOWEST` at
    least: losses are linearised around them.
    """
    nothing = {"v": 1.0, "p_flow": 0.0, "q_flow": 0.0}
    if bool(ac["v"].notnull().all()):
        return xr.Dataset({name: bare(ac[name]).fillna(nothing[name]) for name in nothing})
    state = linear()
    linear_state = state.assign(v=state["v"].clip(min=LOWEST))
    return xr.Dataset({name: bare(ac[name]).fillna(bare(linear_state[name])).fillna(nothing[name]) for name in nothing})


def failed_in(known: xr.DataArray, market: BalancingMarket) -> xr.DataArray:
    """Return (feeder, period): whether anything of (bus, period) is not known."""
    names, owner = market.feeder_names, market.feeders.feeder_of
    place = positions(names, owner.loc[known[BUS].values].to_numpy())
    gone = np.zeros((len(names), known.sizes[PERIOD]), dtype=bool)
    np.logical_or.at(gone, place, ~known.transpose(BUS, PERIOD).values)
    return xr.DataArray(gone, dims=(FEEDER, PERIOD), coords={FEEDER: names, PERIOD: market.periods})


def without(values: xr.Dataset, failed: xr.DataArray, market: BalancingMarket) -> xr.Dataset:
    """Return values by bus, bid, resource or feeder with NaN (False for flags) in failed feeders and periods."""
    if not bool(failed.any()):
        return values
    at_bus = failed.sel({FEEDER: xr.DataArray(market.feeders.data["bus_feeder"].values, dims=BUS)}).drop_vars(FEEDER)
    at_bid = failed.sel({FEEDER: xr.DataArray(market.bids.data["bid_feeder"].values, dims=BID)}).drop_vars(FEEDER)
    masked = values.copy()
    for name, array in values.items():
        at = at_bus if BUS in array.dims else at_bid if BID in array.dims else failed
        if RESOURCE in array.dims and market.resources is not None:
            at = failed.sel({FEEDER: market.resources.feeder}).drop_vars(FEEDER)
        if PERIOD in array.dims and (at is not failed or FEEDER in array.dims):
            labels = {dim: array.indexes[dim] for dim in at.dims if dim in array.indexes}
            gone = at.assign_coords(labels)
            masked[name] = array.where(~gone, False if array.dtype == bool else np.nan)
    return masked


def checked(state: xr.Dataset, linear_interface: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the arrays of the AC check under their public names.

    Parameters
    ----------
    state : Dataset
        Of `ac_state`.
    linear_interface : DataArray (feeder, period)
        Interface flow of the linear model [MW].
    """
    return {
        "ac_voltage": bare(state.v),
        "undervoltage": bare(state.undervoltage),
        "overvoltage": bare(state.overvoltage),
        "overload": bare(state.overload),
        "ac_loss": bare(state.loss),
        "ac_mismatch": bare(state.p_interface - linear_interface),
        "ac_converged": bare(state.converged),
    }


def scheduled(market: BalancingMarket) -> xr.Dataset:
    """Return the AC state of the schedule, before any imbalance."""
    grid = market.feeders.data
    return power_flow(market.feeders, bare(grid.p_scheduled), bare(grid.q_scheduled))
