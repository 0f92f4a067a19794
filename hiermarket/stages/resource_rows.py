"""Rows of the DSO's clearing that hold the bids of one resource together, over its periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, DIRECTIONS, PERIOD, RESOURCE
from hiermarket.market.resource_paths import KEPT, drawn, energy_bounds, ramp_room, rebound_windows
from hiermarket.schema import bare

if TYPE_CHECKING:
    import linopy
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.resources import Resources

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

#: Whether a storage discharges, 0 or 1: only where it may do either, and its upper energy bounds can count.
MODE = "Resource-discharges"
#: What a storage charges, discharges and holds.
STORAGE = ("Resource-charging", "Resource-discharging", "Resource-energy_level")


def reachable_output(market: BalancingMarket, table: Resources) -> tuple[Floats, Floats]:
    """Return the least and the most output that the bids allow, (resource, period) [MW].

    Parameters
    ----------
    market : BalancingMarket
        The bids and their volumes.
    table : Resources
        Schedule and joint limits.
    """
    data, owner = market.bids.data, table.owner_of(market.bids)
    volume = data.volume.transpose(BID, PERIOD).values
    is_up = data.bid_direction.values == DIRECTIONS[0]
    ends = []
    for way, sign in ((~is_up, -1.0), (is_up, 1.0)):
        mine = way & (owner >= 0)
        end = table.data.output.values.copy()
        np.add.at(end, owner[mine], sign * volume[mine])
        ends.append(end)
    low, high = ends
    return np.maximum(low, table.data.p_min.values), np.minimum(high, table.data.p_max.values)


def needs_mode(market: BalancingMarket, table: Resources) -> Bools:
    """Return (resource, period): where a storage's rows are exact only with a binary.

    Charging and discharging at once loses energy, which an upper bound may wish for. It cannot
    where the output keeps its sign, without losses, and where everything down, from the start
    on, stays below the upper bounds.
    """
    low, high = reachable_output(market, table)
    data = table.data
    eta = data.charging.values[:, None], data.discharging.values[:, None]
    fullest = data.energy_start.values[:, None] - np.cumsum(market.duration.values * drawn(low, *eta), axis=1)
    with np.errstate(invalid="ignore"):
        bounded = (fullest > energy_bounds(table, market.duration)[1] + KEPT).any(axis=1)
    lossy = (data.charging * data.discharging).values < 1
    held = (bounded & lossy & table.is_storage)[:, None]
    return np.asarray(held & (low < 0) & (high > 0))


def add_resources(model: linopy.Model, market: BalancingMarket) -> None:
    """Add the rows of the market's resources, where there are any, to the DSO's clearing.

    Parameters
    ----------
    model : linopy.Model
        With ``Bid-activation``.
    market : BalancingMarket
        Bids and resources.
    """
    table = market.resources
    if table is None:
        return
    _add_joint_limits(model, market, table)
    if table.has_ramp.any():
        _add_ramps(model, market, table)
    if table.has_rebound.any():
        _add_rebound(model, market, table)
    if table.is_storage.any():
        _add_storage(model, market, table)


def _activated(model: linopy.Model, market: BalancingMarket, table: Resources, which: Bools) -> linopy.LinearExpression:
    """Return Σ σ a of some resources, (resource, period)."""
    owner = table.owner_of(market.bids)
    held = (owner >= 0) & which[owner]
    bids = market.bids.data.indexes[BID][held]
    a = model.variables["Bid-activation"].sel({BID: bids})
    names = pd.Series(table.labels[owner[held]], index=bids, name="of")
    total = (bare(market.bids.sign).sel({BID: bids}) * a).groupby(names).sum().rename(of=RESOURCE)
    found: linopy.LinearExpression = total.reindex({RESOURCE: table.labels[which]})
    return found


def _array(table: Resources, values: NDArray[np.float64] | Bools, which: Bools) -> xr.DataArray:
    """Label values (resource, period) of some resources."""
    index = {RESOURCE: table.labels[which], PERIOD: table.data.indexes[PERIOD]}
    return xr.DataArray(values[which], coords=index, dims=(RESOURCE, PERIOD))


def _add_joint_limits(model: linopy.Model, market: BalancingMarket, table: Resources) -> None:
    data = table.data
    least, most = reachable_output(market, table)
    for side, limit in (("lower", data.p_min.values), ("upper", data.p_max.values)):
        # where the bids cannot pass it, no row is needed
        counts = np.isfinite(limit) & ((least <= limit) if side == "lower" else (most >= limit))
        which = counts.any(axis=1)
        if not which.any():
            continue
        u, mask = _activated(model, market, table, which), _array(table, counts, which)
        room = _array(table, np.where(counts, limit - data.output.values, 0.0), which)
        # (39)  p_min ≤ P + Σ σ a ≤ p_max                                            ∀ r, t   [MW]
        row = u >= room if side == "lower" else u <= room
        model.add_constraints(row, mask=mask, name=f"Resource-joint_limit_{side}")


def _add_ramps(model: linopy.Model, market: BalancingMarket, table: Resources) -> None:
    which, rooms = table.has_ramp, ramp_room(table, market.duration)
    before = np.nan_to_num(table.data.output_before.values)[:, None]
    step = np.diff(table.data.output.values, axis=1, prepend=before)
    u = _activated(model, market, table, which)
    change = u - u.shift({PERIOD: 1}).fillna(0)
    for way, sign, room in zip(("up", "down"), (1.0, -1.0), rooms, strict=True):
        counts = np.isfinite(room)
        if not counts[which].any():
            continue
        free = _array(table, np.where(counts, room - sign * step, 0.0), which)
        # (40)  −R_down δ ≤ p_t − p_(t−1) ≤ R_up δ                                   ∀ r, t   [MW]
        model.add_constraints(sign * change <= free, mask=_array(table, counts, which), name=f"Resource-ramp_{way}")


def _add_rebound(model: linopy.Model, market: BalancingMarket, table: Resources) -> None:
    which, hours = table.has_rebound, bare(market.duration)
    u = hours * _activated(model, market, table, which)
    windows = rebound_windows(table)
    labels = pd.Index([f"{table.labels[number]} {name}" for number, name, _ in windows], name="window")
    periods = table.data.indexes[PERIOD]
    rows = [u.sel({RESOURCE: table.labels[number], PERIOD: periods[at]}, drop=True).sum() for number, _, at in windows]
    for label, row in zip(labels, rows, strict=True):
        # (41)  Σ_(t in window) Δ Σ σ a = 0                                          ∀ window   [MWh]
        model.add_constraints(row == 0, name=f"Resource-rebound {label}")


def _add_storage(model: linopy.Model, market: BalancingMarket, table: Resources) -> None:
    which = table.is_storage
    least, most = reachable_output(market, table)
    low, high = energy_bounds(table, market.duration)
    of = {RESOURCE: table.labels[which]}
    charge, discharge = np.maximum(-least, 0.0), np.maximum(most, 0.0)
    c = model.add_variables(lower=0, upper=_array(table, charge, which), name=STORAGE[0])
    d = model.add_variables(lower=0, upper=_array(table, discharge, which), name=STORAGE[1])
    e = model.add_variables(lower=_array(table, low, which), upper=_array(table, high, which), name=STORAGE[2])
    u, hours = _activated(model, market, table, which), bare(market.duration)
    eta_c, eta_d = (bare(table.data[name]).sel(of) for name in ("charging", "discharging"))
    first = np.zeros(low.shape)
    first[:, 0] = np.nan_to_num(table.data.energy_start.values)

    # (37)  d − c − Σ σ a = P                                                        ∀ storage, t   [MW]
    model.add_constraints(d - c - u == _array(table, table.data.output.values, which), name="Resource-output")

    # (42)  e_t − e_(t−1) − Δ (η_c c − d/η_d) = 0,  e_0 given                        ∀ storage, t   [MWh]
    moved = (hours * eta_c) * c - (hours / eta_d) * d
    before = (1 * e).shift({PERIOD: 1}).fillna(0)
    model.add_constraints(e - before - moved == _array(table, first, which), name="Resource-energy")

    modes = needs_mode(market, table)
    if modes.any():
        # (42)  d ≤ D b,  c ≤ C (1 − b),  b ∈ {0, 1}                                 ∀ storage, t with both signs   [MW]
        mask = _array(table, modes, which)
        b = model.add_variables(binary=True, coords=[table.labels[which], market.periods], mask=mask, name=MODE)
        on = (1 * b).fillna(0)
        most_c, most_d = _array(table, charge, which), _array(table, discharge, which)
        model.add_constraints(d - most_d * on <= 0, mask=mask, name="Resource-discharging_only")
        model.add_constraints(c + most_c * on <= most_c, mask=mask, name="Resource-charging_only")


def own_states(market: BalancingMarket, own: xr.DataArray) -> dict[str, dict[str, pd.Index]]:
    """Return the variables of a BSP's storages: name → their resources; empty where it has none.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    own : bool DataArray (bid)
        The BSP's bids.
    """
    table = market.resources
    if table is None:
        return {}
    mine = np.zeros(len(table.labels), dtype=bool)
    owner = table.owner_of(market.bids)
    mine[owner[own.values & (owner >= 0)]] = True
    mine &= table.is_storage
    return {name: {RESOURCE: table.labels[mine]} for name in STORAGE} if mine.any() else {}
