"""Clearings that no limit of the grid touches: the merit order, and the state that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.network.limits import smallest_slack
from hiermarket.network.linear_flow import eliminate
from hiermarket.schema import bare, positions
from hiermarket.stages.ac_check import injections
from hiermarket.stages.interface_balance import bid_factors, interface_need
from hiermarket.stages.merit_order import LEAST_FACTOR, NO_VOLUME, Offers, merit_order, price_of
from hiermarket.stages.reactive_support import held_at_interface, support_of
from hiermarket.stages.resource_check import kept_by_all, whole_feeders

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LinDistFlow, LossTerms
    from hiermarket.stages.merit_order import Bools, Floats


@dataclass(frozen=True, slots=True, eq=False)
class FeederStacks:
    """The stacks of every feeder and period, and how bids lie in them; made by `feeder_stacks`.

    A case is a feeder and a period, feeder by feeder; the offers are the bids of the feeder
    in their order, then the TBM up and down.

    Attributes
    ----------
    offers : Offers
        Arrays (case, offer).
    feeder, slot : int arrays (bid)
        Feeder and offer of each bid.
    factor : array (2, bus, period)
        MW at the interface per MW and per Mvar injected: nodal prices are λ_root times these.
    sound : bool array (case,)
        Whether every bid helps at the interface (its factor is not small or negative).
    """

    offers: Offers
    feeder: np.ndarray
    slot: np.ndarray
    factor: Floats
    sound: Bools


def _spread(per_bid: Floats, stacks_shape: tuple[int, int], feeder: np.ndarray, slot: np.ndarray) -> Floats:
    """Lay (bid, period) out as (case, offer); 0 where a feeder has fewer bids, and for the TBM."""
    feeders, slots = stacks_shape
    laid = np.zeros((feeders, slots, per_bid.shape[1]))
    laid[feeder, slot] = per_bid
    return laid.transpose(0, 2, 1).reshape(-1, slots)


def feeder_stacks(market: BalancingMarket, factor: Floats) -> FeederStacks:
    """Put the bids of every feeder and the TBM in stacks, by cost per MW at the interface.

    Parameters
    ----------
    market : BalancingMarket
        Bids, TBM prices and limits.
    factor : array (2, bus, period)
        Of `LinearGrid.factors`.
    """
    data, tbm = market.bids.data, market.tbm
    feeder = positions(market.feeder_names, data.bid_feeder.values)
    slot = np.zeros(len(feeder), dtype=np.int64)
    counts = np.bincount(feeder, minlength=len(market.feeder_names))
    by_feeder = np.argsort(feeder, kind="stable")
    slot[by_feeder] = np.arange(len(feeder)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(market.feeder_names), int(counts.max(initial=0)) + 2)
    price, volume = (bare(data[name]).transpose(BID, PERIOD).values for name in ("price", "volume"))
    reached = bid_factors(market, factor).values
    small = ~(reached > LEAST_FACTOR) & (volume > 0)
    reached = np.where(small, 1.0, reached)
    sign = bare(market.bids.sign).values[:, None] * np.ones_like(price)
    laid = {
        name: _spread(values, shape, feeder, slot)
        for name, values in (
            ("cost", price / reached), ("volume", volume * reached), ("factor", reached), ("up", sign),
            ("bad", small.astype(float)),
        )
    }  # fmt: skip
    limit = tbm.tbm_limit.sel({FEEDER: market.feeder_names}).transpose(DIRECTION, FEEDER, PERIOD)
    for column, direction in enumerate(DIRECTIONS):
        laid["cost"][:, column - 2] = market.exchange_price.sel({DIRECTION: direction}).values.ravel()
        laid["volume"][:, column - 2] = limit.sel({DIRECTION: direction}).values.ravel()
        laid["factor"][:, column - 2] = 1.0
        laid["up"][:, column - 2] = 1.0 - 2.0 * column
    # minimum TBM volume before the order of the bids: the TBM has the last ranks
    rank = np.arange(float(shape[1]))
    offers = Offers(laid["cost"], laid["volume"], laid["factor"], laid["up"] > 0, rank)
    return FeederStacks(offers, feeder, slot, factor, np.asarray(laid["bad"].sum(axis=1) == 0))


@dataclass(frozen=True, slots=True, eq=False)
class ScreenedFeeders:
    """Clearings by merit order.

    Attributes
    ----------
    values : Dataset
        ``activation`` (bid), ``tbm_volume`` (feeder, direction), ``nodal_price, reactive_price,
        voltage, p_flow, q_flow`` (bus), ``reactive_support`` (resource), by period: the optimum
        where `decided`.
    decided : DataArray (feeder, period)
        Whether the merit order is the optimum of (8), by the tie rule, with these prices.
    stacks : FeederStacks
        The stacks.
    """

    values: xr.Dataset
    decided: xr.DataArray
    stacks: FeederStacks


def clear_feeders_by_merit_order(
    market: BalancingMarket, losses: LossTerms, scheduled_import: xr.DataArray, grid: LinDistFlow
) -> ScreenedFeeders:
    """Clear every feeder and period as if its grid had no limits, and find where it has none that count.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, TBM.
    losses : LossTerms
        Linearised squared currents of the pass.
    scheduled_import : DataArray (feeder, period)
        P^sched [MW].
    grid : LinDistFlow
        Sides of the rating polygon.

    Notes
    -----
    (19)–(21) of docs/model.md. Without (4) and (5), and with no recourse, the state drops out of
    (8) and one balance is left for each feeder and period. Its optimum is one of (8) where
    the state that it leaves keeps every limit and no recourse is worth its price anywhere: a
    relaxation whose optimum is feasible. The same holds for what resources allow over all periods.
    Reactive support (45) has no value without limits, and is 0 by the tie rule.
    """
    with np.errstate(all="ignore"):  # beyond the collapse of a grid nothing is finite, and nothing decided
        return _stacked(market, losses, scheduled_import, grid)


def _stacked(
    market: BalancingMarket, losses: LossTerms, scheduled_import: xr.DataArray, grid: LinDistFlow
) -> ScreenedFeeders:
    buses, periods, names = market.feeders.data.indexes[BUS], market.periods, market.feeder_names
    linear = eliminate(market.feeders, losses)
    stacks = feeder_stacks(market, linear.factors())
    volume = bare(market.bids.data.volume)
    need = interface_need(market, linear, scheduled_import, held_at_interface(market.feeders, losses)).values
    finite = np.isfinite(need).ravel()
    stack = merit_order(np.nan_to_num(need, nan=0.0, posinf=0.0, neginf=0.0).ravel(), stacks.offers)
    shape = (len(names), len(periods), -1)
    taken = stack.taken.reshape(shape).transpose(0, 2, 1)
    at_bid = (stacks.feeder, stacks.slot)
    factor = stacks.offers.factor.reshape(shape).transpose(0, 2, 1)[at_bid]
    most = volume.transpose(BID, PERIOD).values
    # a bid taken whole is taken exactly
    whole = taken[at_bid] >= most * factor
    activation = xr.DataArray(
        np.where(whole, most, taken[at_bid] / factor),
        coords={BID: volume.indexes[BID], PERIOD: periods}, dims=(BID, PERIOD),
    )  # fmt: skip
    state = linear.state(*(a.transpose(BUS, PERIOD).values for a in injections(market, activation)))
    kept = smallest_slack(market.feeders, losses, state, sides=grid.sides) >= 0
    root_price, stacked = stack.price.reshape(shape[:2]), stack.decided & stacks.sound
    # (20)  λ_n = φ_n,1 λ_root,  κ_n = φ_n,2 λ_root                            [EUR/MWh]
    prices = root_price[linear.feeder] * stacks.factor
    affordable = is_affordable(prices, linear.roots, market.rules.value_of_lost_load)
    decided = (stacked & finite).reshape(shape[:2]) & kept & affordable & kept_by_all(market, activation)
    decided = whole_feeders(market, decided)
    for flow in (state.p, state.q):
        flow[linear.roots] = np.nan
    on_bus = {
        "nodal_price": prices[0], "reactive_price": prices[1],
        "voltage": np.sqrt(np.maximum(state.w, 0.0)), "p_flow": state.p, "q_flow": state.q,
    }  # fmt: skip
    values = xr.Dataset(
        {name: ((BUS, PERIOD), array) for name, array in on_bus.items()}, coords={BUS: buses, PERIOD: periods}
    )
    both = xr.DataArray(
        taken[:, -2:], dims=(FEEDER, DIRECTION, PERIOD),
        coords={FEEDER: names, DIRECTION: list(DIRECTIONS), PERIOD: periods},
    )  # fmt: skip
    of_case = xr.DataArray(decided, dims=(FEEDER, PERIOD), coords={FEEDER: names, PERIOD: periods})
    # where no limit counts, support is worth nothing, and the least of it is none
    values = values.assign(support_of({}, market))
    return ScreenedFeeders(values.assign(activation=activation, tbm_volume=both), of_case, stacks)


def is_affordable(prices: Floats, roots: np.ndarray, lost_load: float) -> Bools:
    """Return (feeder, period): whether no recourse, s± at λ_n or z± at κ_n, is worth the value of lost load.

    Parameters
    ----------
    prices : array (2, bus, period)
        λ_n and κ_n [EUR/MWh].
    roots : int array (feeder,)
        Position of each feeder's root; its buses follow.
    lost_load : float
        VOLL [EUR/MWh].
    """
    dearest = np.maximum.reduceat(np.abs(prices).max(axis=0), roots, axis=0)
    return np.asarray(dearest <= lost_load)


def root_prices(stacks: FeederStacks, activation: xr.DataArray, tbm_volume: xr.DataArray) -> Floats:
    """Return the price at every interface from what is activated, (feeder, period), by the rule of `price_of`.

    NaN where a bid that does not help at the interface has a volume: it stands in no stack.

    Parameters
    ----------
    stacks : FeederStacks
        The stacks of the same pass.
    activation : DataArray (bid, period)
        MW, at an optimum that no limit of the grid has a part in.
    tbm_volume : DataArray (feeder, direction, period)
        MW.
    """
    feeders = len(tbm_volume[FEEDER])
    shape = (feeders, stacks.offers.cost.shape[1])
    values = np.nan_to_num(activation.transpose(BID, PERIOD).values)
    taken = _spread(values, shape, stacks.feeder, stacks.slot) * stacks.offers.factor
    both = np.nan_to_num(tbm_volume.transpose(FEEDER, PERIOD, DIRECTION).values).reshape(-1, 2)
    taken[:, -2:] = both
    volume = stacks.offers.volume
    # rounding of the solver is no volume
    taken = np.where(np.abs(volume - taken) <= NO_VOLUME, volume, taken)
    prices: Floats = np.where(stacks.sound, price_of(taken, stacks.offers), np.nan).reshape(feeders, -1)
    return prices
