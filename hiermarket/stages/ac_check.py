"""The state of the grid by AC power flow, beside that of the linear model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.network.power_flow import power_flow, violations
from hiermarket.schema import bare
from hiermarket.stages.clearing_model import at_bus_values

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket


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
        ``unserved, spilled, reactive_shortage, reactive_surplus (bus, period)``.

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
    return p, q


def ac_state(market: BalancingMarket, p: xr.DataArray, q: xr.DataArray) -> xr.Dataset:
    """Solve the AC power flow and name what it breaks.

    Returns
    -------
    Dataset
        ``v, p_flow, q_flow, p_interface, loss, converged`` of the power flow, and
        ``undervoltage, overvoltage (bus, period)`` [p.u.], ``overload (bus, period)``
        [MVA], all ≥ 0; NaN where it did not converge.
    """
    state = power_flow(market.feeders, p, q)
    return state.merge(violations(market.feeders, state))


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
