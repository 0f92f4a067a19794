"""What can be wrong between resources, bids and grids, and with a schedule; every fault is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import PERIOD, RESOURCE
from hiermarket.market.resource_paths import broken_limits
from hiermarket.schema import bare, fault_where

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.resources import Resources

#: What each broken limit of `broken_limits` means for a schedule.
_EXPECTED = {
    "joint_limit": ("output", "p_min ≤ output ≤ p_max"),
    "ramp": ("ramp", "steps within ramp_up and ramp_down"),
    "energy": ("energy", "stored energy within its bounds and end level"),
}


def resource_faults(market: BalancingMarket) -> list[Fault]:
    """Return every fault between the resources and the rest of a market.

    Parameters
    ----------
    market : BalancingMarket
        As it is being made, its bids and feeders sound.
    """
    table = market.resources
    if table is None:
        return []
    if not table.data.indexes[PERIOD].equals(market.feeders.data.indexes[PERIOD]):
        remedy = "Read the resources with the market's periods."
        return [Fault("resources.period", "other periods", "the periods of the feeders", remedy)]
    faults = []
    strange = sorted(set(table.data.resource_feeder.values.tolist()) - set(market.feeder_names))
    if strange:
        faults.append(Fault("resources.feeder", some_labels(strange), "a feeder of the market", "Correct the name."))
    return faults + _bid_faults(market, table) + _schedule_faults(market, table)


def _bid_faults(market: BalancingMarket, table: Resources) -> list[Fault]:
    """Check that bids and resources name each other, and one owner and bus for each resource."""
    data, owner = market.bids.data, table.owner_of(market.bids)
    faults = []
    unknown = (owner < 0) & (data.bid_resource.values != "")
    if unknown.any():
        names = dict.fromkeys(
            f"{f}/{r}" for f, r in zip(data.bid_feeder.values[unknown], data.bid_resource.values[unknown], strict=True)
        )
        remedy = "Add a row (feeder and resource alone set no limit), or leave the name out of the bid."
        faults.append(Fault("bids.resource", some_labels(list(names)), "a resource of the table", remedy))
    idle = np.setdiff1d(np.arange(len(table.labels)), owner)
    if len(idle):
        found = f"no bid of {some_labels(list(table.labels[idle]))}"
        faults.append(Fault("resources", found, "a bid for each", "Name the resource in its bids, or drop the row."))
    held = owner >= 0
    for what, names, remedy in (
        ("bsp", data.bid_bsp.values, "Give each BSP a resource of its own."),
        ("bus", data.bid_bus.values, "Give each bus a resource of its own."),
    ):
        count = pd.Series(names[held]).groupby(owner[held]).nunique()
        several = list(table.labels[count.index[count > 1]])
        if several:
            faults.append(Fault(f"resources of more than one {what}", some_labels(several), f"one {what}", remedy))
    return faults


def _schedule_faults(market: BalancingMarket, table: Resources) -> list[Fault]:
    """Check that the schedule itself keeps all limits: doing nothing must be possible."""
    output = bare(table.data.output)
    faults = []
    for kind, broken in broken_limits(table, output, market.duration).items():
        if kind not in _EXPECTED:
            continue
        name, expected = _EXPECTED[kind]
        at = xr.DataArray(broken, dims=(RESOURCE, PERIOD), coords=output.coords)
        remedy = "Correct the schedule or the limits: without any activation they must hold."
        faults += fault_where(at, output, name=f"resources.{name}", expected=expected, remedy=remedy)
    return faults
