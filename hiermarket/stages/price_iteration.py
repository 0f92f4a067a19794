"""The TBM price that a DSO counts on in stage 1, and the one that the TSO's clearing pays: their gap, and no gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import DIRECTION, DIRECTIONS, FEEDER, PERIOD, Direction
from hiermarket.nomenclature import describe
from hiermarket.schema import Labelled, bare, freeze, labels_where, raise_together
from hiermarket.stages.resource_safety import is_convex

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.program import Floats
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing

    #: Clears both markets for given exchange prices.
    ClearBoth = Callable[[BalancingMarket], tuple[DsoClearing, TsoClearing]]

ROUND = "round"
#: A volume below this is no trade [MW]: a thousand times the solver's feasibility tolerance.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """The DSOs count on the prices that the TSO's clearing then pays.

    Parameters
    ----------
    tolerance : float
        Largest gap between both prices that counts as none [EUR/MWh]; bids are rounded to
        about as much.
    rounds : int
        How often both markets are cleared at most.
    step : float
        Share of the gap by which a price moves in the first round; each feeder and period
        halves its own whenever its gap changes sign, and first tries the price that was just
        reached, less half the tolerance.
    """

    tolerance: float = 0.01
    rounds: int = 40
    step: float = 1.0

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.tolerance < np.inf:
            remedy = "Give what counts as no gap, for example 0.01."
            faults.append(Fault("tolerance", str(self.tolerance), "> 0 EUR/MWh", remedy))
        if self.rounds < 1:
            faults.append(Fault("rounds", str(self.rounds), "1 or more", "Raise it."))
        if not 0 < self.step <= 1:
            faults.append(Fault("step", str(self.step), "within (0, 1]", "Give 1 for the whole gap."))
        raise_together(faults)


@dataclass(frozen=True, slots=True, repr=False)
class PriceIteration(Labelled):
    """What came of the search for exchange prices that the TSO's clearing pays; made by `consistent_prices`.

    Arrays: ``exchange_price`` (feeder, direction), ``price_gap`` (feeder), each by period, of the
    best round of every period; ``largest_gap (round)`` [EUR/MWh].

    Attributes
    ----------
    consistent : bool
        Whether no gap is above the tolerance.
    reason : str
        How the search ended.
    """

    consistent: bool
    reason: str


def price_gap(market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing) -> xr.DataArray:
    """Return the TSO's price at every interface less the one that the DSO counted on.

    Parameters
    ----------
    market : BalancingMarket
        The exchange prices.
    clearing : DsoClearing
        What the DSOs take from the TBM and deliver to it.
    cleared : TsoClearing
        The price λ^T at the interfaces.

    Returns
    -------
    DataArray (feeder, period)
        EUR/MWh. Where the DSO takes energy the price that counts is the one up, where it
        delivers the one down. Where it does neither, the nearest price of those between
        both.

    Notes
    -----
    Equation (28) of docs/model.md.
    """
    return _seen(market, clearing, cleared)[0]


def _seen(
    market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return `price_gap`, the price that it is the gap to, and whether a trade or a single price tests it.

    A trade does where the DSO's clearing is convex: its exchange is then the best at λ^T in both directions. With
    minimum volumes, or storages that do not charge and discharge at once, only a single price does.
    """
    at = {FEEDER: market.feeder_names}
    price = bare(cleared.flat["interface_price"]).sel(at)
    volume = bare(clearing.flat["tbm_volume"]).sel(at)
    up, down = (market.exchange_price.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    takes, delivers = (volume.sel({DIRECTION: d.value}, drop=True) > NEGLIGIBLE for d in Direction)
    # (28)  λ^T − π^E_up where g_up > 0,  λ^T − π^E_down where g_down > 0,  else to the nearest of [π^E_down, π^E_up]
    between = price.clip(min=down, max=up)
    counted = up.where(takes, down.where(delivers, between)).transpose(FEEDER, PERIOD)
    gap = (price - counted).transpose(FEEDER, PERIOD).rename("price_gap")
    confirmed = (takes | delivers) & is_convex(market)
    return gap, counted, (confirmed | (up == down)).transpose(FEEDER, PERIOD)


def consistent_prices(market: BalancingMarket, method: FixedPoint, clear: ClearBoth) -> PriceIteration:
    """Search exchange prices that the TSO's clearing pays.

    Parameters
    ----------
    market : BalancingMarket
        The prices to begin with.
    method : FixedPoint
        Tolerance, rounds, step.
    clear : callable
        Runs the stages up to the TSO's clearing, in the market that it is given.

    Returns
    -------
    PriceIteration
        The prices, and whether they are consistent.

    Notes
    -----
    (29) of docs/model.md. Prices that a trade confirms stay as they are where the DSO's clearing is convex; everywhere
    else it counts on one price for both directions, within floor and cap. The TSO's price is a step function of
    what the DSOs take, so that there may be no such price: at a kink it jumps from one side of it to the
    other. The gap then stays, and the result says so.
    """
    prices = market.exchange_price.sel({DIRECTION: list(DIRECTIONS)}).transpose(DIRECTION, FEEDER, PERIOD)
    values, shape = prices.values.copy(), prices.shape[1:]
    best, best_gap = values.copy(), np.full(shape, np.inf)
    step, before = np.full(shape, method.step), np.zeros(shape)
    apart = market.resources is None or not market.resources.couples.any()
    open_periods, largest = np.arange(shape[1]), list[float]()
    while open_periods.size and len(largest) < method.rounds:
        priced = market.with_exchange_price(prices.copy(data=values))
        # where no resource couples periods, every one is a problem of its own
        part = priced.of_periods(open_periods) if apart else priced
        found = _seen(part, *clear(part))
        gap, counted, tested = (array.isel({PERIOD: slice(None) if apart else open_periods}).values for array in found)
        some = np.s_[:, open_periods]
        far = np.where(tested, np.abs(gap), np.inf).max(axis=0)
        largest.append(float(np.abs(gap).max()))
        # the feeders of a period meet in the TSO's market: its best round is one for all of them
        better = far < np.abs(best_gap[some]).max(axis=0)
        best[:, :, open_periods[better]] = values[:, :, open_periods[better]]
        best_gap[:, open_periods[better]] = gap[:, better]
        open_ = (np.abs(gap) > method.tolerance) | ~tested
        turned = gap * before[some] < 0
        # the TSO's price jumps between the last two: first try just on that side of it from which it was reached
        first = turned & (step[some] == method.step)
        step[some] = np.where(turned, step[some] / 2, step[some])
        move = np.where(first, -np.sign(before[some]) * method.tolerance / 2, step[some] * gap)
        before[some] = np.where(np.abs(gap) > method.tolerance, gap, before[some])
        # (29)  π^E ← π^E + θ (λ^T − π^E), in both directions, within floor and cap        [EUR/MWh]
        moved = np.clip(counted + move, market.rules.price_floor, market.rules.price_cap)
        values[:, :, open_periods] = np.where(open_, moved, values[:, :, open_periods])
        moving = (open_ & ((np.abs(moved - counted) > method.tolerance / 4) | ~tested)).any(axis=0)
        open_periods = open_periods[moving] if apart or not moving.any() else open_periods
    return _told(market, prices.copy(data=best), best_gap, np.array(largest), method)


def _told(
    market: BalancingMarket, prices: xr.DataArray, gap: Floats, largest: Floats, method: FixedPoint
) -> PriceIteration:
    """Return the best prices with what is left between them and those of the TSO."""
    left = np.abs(gap) > method.tolerance
    coords = {FEEDER: market.feeder_names, PERIOD: market.periods}
    gaps = xr.DataArray(gap, coords=coords, dims=list(coords))
    rounds = "1 round" if len(largest) == 1 else f"{len(largest)} rounds"
    if not left.any():
        reason = f"consistent after {rounds}: no gap above {method.tolerance:g} EUR/MWh"
    else:
        where = some_labels(labels_where(gaps.copy(data=left)))
        why = "where the TSO's price jumps" if len(largest) < method.rounds else "the last round"
        most = np.abs(gap).max()
        what = f"a gap of {most:.2f} EUR/MWh is left ({why})" if np.isfinite(most) else "no trade has tested the prices"
        reason = f"after {rounds} {what}: {where}"
    index = pd.RangeIndex(1, len(largest) + 1, name=ROUND)
    flat = xr.Dataset(
        {
            "exchange_price": prices.transpose(FEEDER, DIRECTION, PERIOD),
            "price_gap": gaps,
            "largest_gap": xr.DataArray(largest, coords={ROUND: index}, dims=ROUND),
        }
    )
    return PriceIteration(flat=freeze(describe(flat)), consistent=not left.any(), reason=reason)
