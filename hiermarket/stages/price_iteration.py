"""The TBM price that a DSO counts on in stage 1, and the one that the TSO's clearing pays: their gap, and no gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import DIRECTION, DIRECTIONS, FEEDER, PERIOD, Direction
from hiermarket.nomenclature import describe
from hiermarket.schema import Labelled, bare, freeze, labels_where, raise_together
from hiermarket.stages.resource_safety import is_convex

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    return _seen(market, clearing, cleared).gap


class _Seen(NamedTuple):
    """What a round shows, (feeder, period): `price_gap`, the price that it is the gap to, whether that is tested.

    A trade tests it where the DSO's clearing is convex: its exchange is then the best at λ^T in both directions. With
    minimum volumes, or storages that do not charge and discharge at once, only a single price does.
    """

    gap: xr.DataArray
    counted: xr.DataArray
    tested: xr.DataArray


def _seen(market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing) -> _Seen:
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
    return _Seen(gap, counted, (confirmed | (up == down)).transpose(FEEDER, PERIOD))


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
    best, best_gap, steps = values.copy(), np.full(shape, np.inf), _Steps.first(shape, method)
    # where no resource couples periods, every one is a problem of its own, and needs no round of the others
    apart = market.resources is None or not market.resources.couples.any()
    still, largest = np.arange(shape[1]), list[float]()
    while still.size and len(largest) < method.rounds:
        priced = market.with_exchange_price(prices.copy(data=values))
        part = priced.of_periods(still) if apart else priced
        gap, counted, tested = (array.values for array in _seen(part, *clear(part)))
        largest.append(float(np.abs(gap).max()))
        # the feeders of a period meet in the TSO's market: its best round is one for all of them
        far, known = np.where(tested, np.abs(gap), np.inf).max(axis=0), np.abs(best_gap[:, still]).max(axis=0)
        better = still[far < known if apart else np.full(len(still), far.max() < known.max())]
        best[:, :, better], best_gap[:, better] = values[:, :, better], gap[:, np.isin(still, better)]
        moves = (np.abs(gap) > method.tolerance) | ~tested
        # (29)  π^E ← π^E + θ (λ^T − π^E), in both directions, within floor and cap        [EUR/MWh]
        moved = np.clip(counted + steps.of(gap, still), market.rules.price_floor, market.rules.price_cap)
        values[:, :, still] = np.where(moves, moved, values[:, :, still])
        on = (moves & ((np.abs(moved - counted) > method.tolerance / 4) | ~tested)).any(axis=0)
        still = still[on] if apart or not on.any() else still
    return _told(market, prices.copy(data=best), best_gap, np.array(largest), method)


@dataclass(frozen=True, slots=True)
class _Steps:
    """θ of every feeder and period, and its last gap that was none to accept, (feeder, period)."""

    method: FixedPoint
    share: Floats
    before: Floats

    @classmethod
    def first(cls, shape: tuple[int, ...], method: FixedPoint) -> _Steps:
        return cls(method, np.full(shape, method.step), np.zeros(shape))

    def of(self, gap: Floats, periods: NDArray[np.intp]) -> Floats:
        """Return by how much prices move in some periods, θ halved where the gap has turned [EUR/MWh]."""
        some, tolerance = np.s_[:, periods], self.method.tolerance
        share, before = self.share[some], self.before[some]
        turned = gap * before < 0
        # the TSO's price jumps between the last two: first try just on that side of it from which it was reached
        first = turned & (share == self.method.step)
        share = np.where(turned, share / 2, share)
        self.share[some], self.before[some] = share, np.where(np.abs(gap) > tolerance, gap, before)
        return np.where(first, -np.sign(before) * tolerance / 2, share * gap)


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
