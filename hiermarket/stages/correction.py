"""(17): the DSO repairs what the TSO has cleared beyond its grid's limits, and the TSO buys the rest elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from hiermarket.errors import ModelError
from hiermarket.labels import BID, FEEDER, PERIOD
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, freeze
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.curve_program import curve_program, room_to_move
from hiermarket.stages.forwarding_methods import OfferCurve
from hiermarket.stages.interface import interface_offers
from hiermarket.stages.largest_box import Volumes
from hiermarket.stages.paid_prices import uniform_price
from hiermarket.stages.resource_safety import uncoupled
from hiermarket.stages.tso_clearing import clear_needs
from hiermarket.stages.tso_model import GRID_BUS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.curve_program import Room
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing

    Floats = NDArray[np.float64]

#: By how much a limit may be exceeded before anything is repaired: ten times the LP's tolerance [p.u.², MVA].
EXCESS = 1e-6

#: What the TSO's second clearing decides anew; what a feeder is paid is the price of the first.
BOUGHT: Final = frozenset(
    (
        "grid_price",
        "grid_activation",
        "grid_unserved",
        "grid_spilled",
        "grid_status",
        "line_flow",
    )
)


def correct(
    market: BalancingMarket,
    clearing: DsoClearing,
    forwarded: Forwarded,
    cleared: TsoClearing,
    *,
    solver: SolverOptions | None = None,
) -> TsoClearing:
    """Repair the feeders whose limits the TSO's clearing exceeds, and clear the TSO's own bids once more.

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        What was cleared in stage 1.
    forwarded : Forwarded
        Everything that was left: of `Corrective` or `Unfiltered`.
    cleared : TsoClearing
        The transmission market that took what it liked of it.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    TsoClearing
        With the changes after the repair, ``repaired (feeder, period)``, and the bids of the
        transmission grid that balance them, at the prices of the second clearing in the periods
        in which a feeder was repaired. Interfaces keep the price of the first clearing: nobody
        who was accepted there is paid less for a repair elsewhere.

    Raises
    ------
    ModelError
        When offer curves were forwarded: what the TSO takes of them the grid carries.
    SolveError
        When the repair has no optimum (no change is always feasible), or the TSO's second
        clearing has none.

    Notes
    -----
    (17) of docs/model.md. The repair delivers what was cleared, as much of it as the grid
    carries, at the least cost of the feeder's own bids; all of them may move, up and down. A
    feeder within its limits is left as it was cleared.
    """
    if isinstance(forwarded.method, OfferCurve):
        remedy = "Leave the repair out: disaggregate turns the steps into activations that the grid carries."
        raise ModelError("Steps of a curve are no bids to repair", where="forwarded.method", remedy=remedy)
    market, options = uncoupled(market, "The corrective scheme"), solver or SolverOptions()
    left = (bare(forwarded.flat[name]).transpose(BID, PERIOD) for name in ("remaining", "remaining_undo"))
    most = Volumes(*left)
    room = room_to_move(market, clearing, most, options)
    sign = bare(market.bids.sign).values[:, None]
    change = bare(cleared.flat["change"]).transpose(BID, PERIOD)
    moved = sign * np.nan_to_num(change.values)
    repaired = _exceeded(room, moved)
    coords = {FEEDER: market.feeder_names, PERIOD: market.periods}
    of_feeders = xr.DataArray(repaired, dims=(FEEDER, PERIOD), coords=coords)
    if not repaired.any():
        return replace(cleared, flat=freeze(describe(cleared.flat.assign(repaired=of_feeders))))
    moved = _repair(market, room, moved, repaired, options)
    delivered = _delivered(room, moved)
    # what the feeders deliver is no choice any more
    again = clear_needs(market.tso_side, interface_offers(clearing).exchange - delivered, solver=options)
    here = of_feeders.any(FEEDER)
    flat = cleared.flat.assign(
        {name: again.flat[name].where(here, cleared.flat[name]) for name in BOUGHT & set(again.flat)}
    )
    mean = uniform_price(*(flat[name].transpose(GRID_BUS, PERIOD).values for name in ("grid_price", "need")))
    flat = flat.assign(
        uniform_price=(PERIOD, mean),
        grid_status=flat["grid_status"].astype(cleared.flat["grid_status"].dtype),
        change=change.copy(data=sign * moved).where(change.notnull()),
        cleared_delivery=of_feeders.copy(data=delivered),
        repaired=of_feeders,
    )
    return replace(cleared, flat=freeze(describe(flat)), work=cleared.work + again.work)


def _exceeded(room: Room, moved: Floats) -> NDArray[np.bool_]:
    """Return (feeder, period): whether injections (bid, period) exceed a limit."""
    rows = room.rows
    row, bid = rows.entries(room.feeder)
    taken = np.zeros(len(rows.room))
    # Σ_i c_i x_i − h                                                               [p.u.², MVA]
    np.add.at(taken, row, (rows.up - rows.down)[row, room.who.rank[bid]] * moved[bid, rows.period[row]])
    found = np.zeros(room.limited.shape, dtype=bool)
    over = taken - rows.room > EXCESS
    found[rows.feeder[over], rows.period[over]] = True
    return found


def _delivered(room: Room, moved: Floats) -> Floats:
    """Return Σ φ x of every feeder, (feeder, period) [MW]."""
    total = np.zeros(room.limited.shape)
    np.add.at(total, room.feeder, room.factor * moved)
    return total


def _repair(
    market: BalancingMarket, room: Room, moved: Floats, repaired: NDArray[np.bool_], options: SolverOptions
) -> Floats:
    """Return the injections (bid, period) after the repair."""
    curve = curve_program(market, room, options)
    wanted = repaired.ravel()[curve.case]
    asked = _delivered(room, moved).ravel()[curve.case]
    lowest, highest = (curve.solve(wanted, price=price, bids=False).x[curve.y] for price in (-1.0, 1.0))
    # (17)  min Σ π (U − D)   s.t.  y as near to what was cleared as the grid carries
    nearest = np.clip(asked, np.minimum(np.nan_to_num(lowest), 0.0), np.maximum(np.nan_to_num(highest), 0.0))
    answers = curve.at(wanted, nearest, ties=True)
    return np.where(repaired[room.feeder], curve.injected(answers.x), moved)
