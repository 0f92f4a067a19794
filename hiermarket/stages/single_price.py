"""Where no limit of the grid can count, whatever anybody bids: the clearing is one balance at the interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.network.limits import limit_rows, sites, smallest_slack
from hiermarket.schema import bare, direction_sign, positions
from hiermarket.stages.interface_balance import bid_factors, start
from hiermarket.stages.largest_box import Volumes, counting_rows
from hiermarket.stages.merit_order import LEAST_FACTOR

if TYPE_CHECKING:
    import linopy
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.linear_flow import LinearGrid
    from hiermarket.network.losses import LossTerms
    from hiermarket.stages.largest_box import CountingRows

    Floats = NDArray[np.float64]

#: What must be left of every limit, whatever anybody bids, for the grid to be left out
#: [p.u.², MVA, MW]: at a limit that is just reached prices would not be unique.
CLEARANCE = 1e-6


def unlimited(
    market: BalancingMarket, grid: LinearGrid, losses: LossTerms, need: xr.DataArray, *, sides: int
) -> xr.DataArray:
    """Return (feeder, period): where every activation of the offered volumes is safe, and the TBM can do the rest.

    The box of all offered volumes passes the rule of (13), so that no limit has a price whatever
    anybody bids. The TBM is never exhausted, so that π^T_down ≤ λ ≤ π^T_up at the interface, and
    no recourse is worth the value of lost load.

    Parameters
    ----------
    market : BalancingMarket
        Offered volumes, TBM, value of lost load.
    grid : LinearGrid
        Of the losses.
    losses : LossTerms
        Linearised squared currents.
    need : DataArray (feeder, period)
        Of `interface_need`.
    sides : int
        Sides of the rating polygon.
    """
    data, tbm, lacking = market.bids.data, market.tbm, need.values
    slack = smallest_slack(market.feeders, losses, grid.state(*start(market)), sides=sides)
    volume = bare(data.volume).transpose(BID, PERIOD)
    high, low = _offered(market)
    broken = _in_reach(market, losses, grid, sides=sides).cases(lacking.shape)
    factor = grid.factors()
    reached = bid_factors(market, factor).values
    owner = positions(market.feeder_names, data.bid_feeder.values)
    sound = np.ones(lacking.shape, dtype=bool)
    np.logical_and.at(sound, owner, (reached > LEAST_FACTOR) | (volume.values == 0))
    most, least = np.zeros(lacking.shape), np.zeros(lacking.shape)
    np.add.at(most, owner, high * reached)
    np.add.at(least, owner, low * reached)
    up, down = (
        tbm.tbm_limit.sel({FEEDER: market.feeder_names, DIRECTION: d.value}).transpose(FEEDER, PERIOD).values
        for d in Direction
    )
    enough = (lacking + least + CLEARANCE < up) & (most - lacking + CLEARANCE < down)
    highest = abs(market.exchange_price).max(DIRECTION).values
    largest = np.maximum.reduceat(np.abs(factor).max(axis=0), grid.roots, axis=0)
    affordable = highest * largest < market.rules.value_of_lost_load
    return need.copy(data=(slack > CLEARANCE) & ~broken & sound & enough & affordable & np.isfinite(lacking))


def _offered(market: BalancingMarket) -> tuple[Floats, Floats]:
    """Return the most and the least that every bid can inject, (bid, period) [MW]."""
    volume = bare(market.bids.data.volume).transpose(BID, PERIOD)
    high, low = (a.values for a in Volumes(volume, xr.zeros_like(volume)).extremes(bare(market.bids.sign)))
    return high, low


def _in_reach(market: BalancingMarket, losses: LossTerms, grid: LinearGrid, *, sides: int) -> CountingRows:
    """Return the limits that some activation of the offered volumes comes to."""
    who = sites(market.feeders, market.bids.node, bare(market.bids.data.reactive_ratio))
    state = grid.state(*start(market))
    limits = limit_rows(market.feeders, losses, state, who, np.zeros_like(who.ratio), sides=sides)
    return counting_rows(limits, who, grid.feeder, _offered(market), None, least=-CLEARANCE)


def limits_in_reach(market: BalancingMarket, losses: LossTerms, grid: LinearGrid, *, sides: int) -> list[str]:
    """Name what may keep the grid in the clearing: limits that offered volumes can reach, or else TBM and resources.

    See `unlimited` for the parameters.
    """
    rows = _in_reach(market, losses, grid, sides=sides)
    buses = market.feeders.data.indexes[BUS]
    named = [f"{str(kind).replace('_', ' ')} at {buses[bus]}" for kind, bus in zip(rows.kind, rows.bus, strict=True)]
    return list(dict.fromkeys(named)) or ["the TBM's limit, the value of lost load or a resource"]


def add_stack(
    model: linopy.Model, market: BalancingMarket, grid: LinearGrid, need: xr.DataArray, where: xr.DataArray
) -> None:
    """Add the clearing without limits: one balance for each feeder and period.

    Parameters
    ----------
    model : linopy.Model
        To extend by ``Stack-activation (bid, period)``, ``Stack-tbm (feeder, direction, period)``
        [MW] and the row ``Stack-balance (feeder, period)``.
    market : BalancingMarket
        Bids, TBM.
    grid : LinearGrid
        Of the losses.
    need : DataArray (feeder, period)
        Of `interface_need`.
    where : bool DataArray (feeder, period)
        Of `unlimited`.
    """
    data = market.bids.data
    index = data.indexes[BID]
    owner = xr.DataArray(data.bid_feeder.values, dims=BID, coords={BID: index})
    present = where.sel({FEEDER: owner}).drop_vars(FEEDER)
    # (6)  0 ≤ a ≤ ā,  0 ≤ g ≤ Ḡ                                                            [MW]
    a = model.add_variables(lower=0, upper=bare(data.volume), mask=present, name="Stack-activation")
    g = model.add_variables(
        lower=0, upper=bare(market.tbm.tbm_limit).sel({FEEDER: where.indexes[FEEDER]}), name="Stack-tbm",
        mask=where.broadcast_like(market.tbm.tbm_limit),
    )  # fmt: skip
    reached = bare(market.bids.sign) * bid_factors(market, grid.factors())
    by_feeder = pd.Series(data.bid_feeder.values, index=index, name="of")
    names = where.indexes[FEEDER]
    local = (reached * a).groupby(by_feeder).sum().rename(of=FEEDER).reindex({FEEDER: names}).fillna(0)
    up, down = ((1 * g).sel({DIRECTION: d.value}, drop=True) for d in Direction)
    # (21)  g_up − g_down + Σ σ (φ_1 + τ φ_2) a = W      ∀ feeders and periods without a limit that counts    [MW]
    model.add_constraints(up - down + local == need, name="Stack-balance", mask=where)


def stack_cost(model: linopy.Model, market: BalancingMarket, own: xr.DataArray) -> linopy.LinearExpression:
    """Return (8) of the stack without the leader's bids; nothing is lost there [EUR].

    Parameters
    ----------
    model : linopy.Model
        Of `add_stack`.
    market : BalancingMarket
        Prices.
    own : bool DataArray (bid)
        The leader's bids.
    """
    a, g = model.variables["Stack-activation"], model.variables["Stack-tbm"]
    duration, sign = bare(market.duration), bare(market.bids.sign)
    price = bare(market.bids.data.price).where(~own, 0.0)
    of_tbm = duration * direction_sign() * market.exchange_price
    return ((duration * sign * price) * a).sum() + (of_tbm * g).sum()
