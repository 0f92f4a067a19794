"""The market of the strategic case, its optimum by enumeration, and what a way to solve it returns.

N units serve a fixed demand in each of T hours on one bus. The first fifth of the units
belongs to a seller who chooses their offers; the others offer their cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

#: Largest offer [EUR/MWh]; above every cost, so it is the largest price too.
CAP = 200.0
#: What one solve of a competitor may take [s].
TIME_LIMIT = 90.0
#: Relative gap asked of every MILP; the answers are compared at `AGREEMENT`.
GAP = 1e-7
AGREEMENT = 1e-6


@dataclass(frozen=True, slots=True)
class Market:
    """Costs and capacities of the units, the demand of the hours, and how many units are the seller's."""

    cost: xr.DataArray
    capacity: xr.DataArray
    demand: xr.DataArray
    own_count: int

    @property
    def own(self) -> pd.Index[str]:
        units: pd.Index[str] = self.cost.indexes["unit"]
        return units[: self.own_count]

    @property
    def rivals(self) -> pd.Index[str]:
        units: pd.Index[str] = self.cost.indexes["unit"]
        return units[self.own_count :]


@dataclass(frozen=True, slots=True)
class Solved:
    """The seller's profit, and whether it is proved."""

    objective: float
    bound: float = float("nan")
    proved: bool = True
    binaries: int | None = None
    nodes: int | None = None

    @property
    def note(self) -> str:
        """What the seconds do not say."""
        if self.proved:
            return ""
        limit = f"limit of {TIME_LIMIT:.0f} s came first (a full solve takes longer than shown)"
        if not np.isfinite(self.objective):
            return f"{limit}; no incumbent, bound {self.bound:.9g}"
        gap = (self.bound - self.objective) / abs(self.objective) if self.objective else float("inf")
        return f"{limit}; incumbent {self.objective:.9g}, gap {gap:.3%}"


def market(units: int, hours: int) -> Market:
    """Draw a market."""
    random = np.random.default_rng(5)
    unit = pd.Index([f"unit {i}" for i in range(units)], name="unit")
    hour = pd.RangeIndex(hours, name="hour")
    cost = xr.DataArray(random.uniform(10, 60, units).round(2), coords=[unit])
    capacity = xr.DataArray(random.uniform(5, 20, units).round(1), coords=[unit])
    share = xr.DataArray(random.uniform(0.4, 0.9, hours), coords=[hour])
    return Market(cost, capacity, share * float(capacity.sum()), max(1, units // 5))


def best_profit(given: Market) -> float:
    """Return the seller's optimum, hour by hour, without any optimisation.

    The price that suits the seller is a rival's cost or the cap. At a price, rivals who
    are dearer stand still, cheaper ones run, and of those in between any volume is
    optimal: what is left for the seller is an interval, and its profit is concave on it.
    """
    own_cost, own_size = given.cost.sel(unit=given.own).values, given.capacity.sel(unit=given.own).values
    cost, size = given.cost.sel(unit=given.rivals).values, given.capacity.sel(unit=given.rivals).values
    merit = np.argsort(own_cost)
    steps = np.concatenate([[0.0], np.cumsum(own_size[merit])])
    spent = np.concatenate([[0.0], np.cumsum((own_cost * own_size)[merit])])
    best = np.zeros(len(given.demand))
    for price in (*np.unique(cost), CAP):
        least = given.demand.values - size[cost <= price].sum()
        most = np.minimum(given.demand.values - size[cost < price].sum(), steps[-1])
        wanted = steps[np.searchsorted(own_cost[merit], price)]  # own units that earn at this price
        volume = np.clip(wanted, np.maximum(least, 0.0), most)
        profit = price * volume - np.interp(volume, steps, spent)
        best = np.where((most >= least) & (most >= 0), np.maximum(best, profit), best)
    return float(best.sum())
