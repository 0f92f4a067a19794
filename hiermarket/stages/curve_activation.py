"""What the bids of a feeder do for a delivery at its interface: the offer curve (14), the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, FEEDER, PERIOD
from hiermarket.schema import bare
from hiermarket.solving.blocks import Work
from hiermarket.stages.curve_program import curve_program, room_to_move
from hiermarket.stages.largest_box import Volumes
from hiermarket.stages.offer_curve import NARROW, merit_order_of_moves

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.curve_program import CurveProgram, Room
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing

    Floats = NDArray[np.float64]


def curve_changes(
    market: BalancingMarket,
    clearing: DsoClearing,
    forwarded: Forwarded,
    cleared: TsoClearing,
    options: SolverOptions,
) -> tuple[xr.DataArray, xr.DataArray, Work]:
    """Find the cheapest changes of the bids that deliver what the TSO has cleared.

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        What was cleared.
    forwarded : Forwarded
        The curves.
    cleared : TsoClearing
        Deliveries and prices at the interfaces.
    options : SolverOptions
        Tolerances and limits.

    Returns
    -------
    change : DataArray (bid, period)
        MW, < 0 undoes.
    price : DataArray (bid, period)
        What one MWh of the bid is worth where the interface's price is λ^T [EUR/MWh]: λ^T φ less
        what the limits take.
    work : Work
        LPs solved, and cases without.

    Raises
    ------
    SolveError
        When an LP has no optimum.

    Notes
    -----
    Equation (14) of docs/model.md. Ties: least gross change, then the order of the bids. A
    delivery that the TSO has cleared is the best at its price, so that the multipliers of the
    feeder's LP at that price hold for the changes.
    """
    left = (bare(forwarded.flat[name]).transpose(BID, PERIOD) for name in ("remaining", "remaining_undo"))
    room = room_to_move(market, clearing, Volumes(*left), options)
    at = {FEEDER: market.feeder_names}
    delivery, price = (
        bare(cleared.flat[name]).sel(at).transpose(FEEDER, PERIOD).values
        for name in ("cleared_delivery", "interface_price")
    )
    delivery = np.nan_to_num(delivery)
    more, less = (_filled(room, np.maximum(sign * delivery, 0.0), way) for way, sign in ((0, 1.0), (1, -1.0)))
    injected = more - less
    worth = price[room.feeder] * room.factor
    wanted = (room.limited & (np.abs(delivery) > NARROW)).ravel()[np.flatnonzero(room.limited.ravel())]
    work = Work(screened=int((~room.limited).sum()))
    if wanted.any():
        curve = curve_program(market, room, options)
        of_case = np.nan_to_num(price).ravel()[curve.case], delivery.ravel()[curve.case]
        moved = curve.at(wanted, of_case[1], ties=True)
        valued = curve.solve(wanted, price=of_case[0])
        solved = np.zeros_like(room.limited)
        solved.ravel()[curve.case[wanted]] = True
        injected = np.where(solved[room.feeder], curve.injected(moved.x), injected)
        worth = worth + _taken_by_limits(room, curve, valued.dual)
        work += moved.work + valued.work
    sign = bare(market.bids.sign)
    like = bare(clearing.flat["price"]).transpose(BID, PERIOD)
    return (sign * like.copy(data=injected)).transpose(BID, PERIOD), like.copy(data=worth), work


def _filled(room: Room, wanted: Floats, way: int) -> Floats:
    """Take moves in the order of their price until the wanted delivery is there, (bid, period) [MW]."""
    order, size, _ = merit_order_of_moves(room, way)
    feeder = room.feeder[order[0]] if len(order) else room.feeder
    before = np.cumsum(size, axis=-1) - size
    # what the bids of earlier feeders hold does not count
    first = np.searchsorted(feeder, feeder)
    before = before - np.take_along_axis(before, np.broadcast_to(first, before.shape), axis=-1)
    taken = np.clip(wanted.T[:, feeder] - before, 0.0, size)
    at_interface = np.zeros_like(size)
    np.put_along_axis(at_interface, order, taken, axis=-1)
    filled: Floats = np.where(at_interface.T > 0, at_interface.T / np.where(room.factor > 0, room.factor, 1.0), 0.0)
    return filled


def _taken_by_limits(room: Room, curve: CurveProgram, dual: Floats) -> Floats:
    """Return Σ ς c over the limits, ς ≤ 0 the multipliers, for every bid and period [EUR/MWh]."""
    rows = room.rows
    row, bid = rows.entries(room.feeder)
    of_row = np.nan_to_num(dual[curve.limit])
    found = np.zeros_like(room.factor)
    np.add.at(found, (bid, rows.period[row]), of_row[row] * (rows.up - rows.down)[row, room.who.rank[bid]])
    return found
