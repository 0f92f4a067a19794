"""(14): the offer curve of every feeder, by merit order where no limit counts, by parametric LPs elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.schema import bare
from hiermarket.solving.blocks import Work
from hiermarket.stages.corners import Corner, Reach, broken
from hiermarket.stages.curve_program import CurveProgram, Room, curve_program, room_to_move
from hiermarket.stages.largest_box import Volumes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.dso_clearing import DsoClearing

    Floats = NDArray[np.float64]

#: The dimension of the steps of a curve.
STEP = "step"

#: A move of the interface that is none [MW]: the LP's own tolerance.
NARROW = 1e-7

#: By how much a chord must be above the curve for another corner, relative to the cost at its ends.
GAIN = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class OfferCurves:
    """The curves of all feeders and periods.

    Attributes
    ----------
    price, volume : DataArray (feeder, step, direction, period)
        EUR/MWh and MW at the interface: up is more delivered, prices rise; down is less,
        prices fall. NaN and 0 beyond the last step.
    reach : Reach
        What the two ends use of every bid, and what they break in AC.
    """

    price: xr.DataArray
    volume: xr.DataArray
    reach: Reach


def offer_curves(market: BalancingMarket, clearing: DsoClearing, most: Volumes, options: SolverOptions) -> OfferCurves:
    """Find what it costs to move every interface, and how far it goes.

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        What was cleared.
    most : Volumes
        What is left of every bid [MW].
    options : SolverOptions
        Tolerances and limits.

    Raises
    ------
    SolveError
        When an LP has no optimum (no move is always feasible, so this tells of numerical
        trouble).

    Notes
    -----
    Equation (14) of docs/model.md. Between two known corners of the curve the LP is solved at
    the price of their chord: it finds a corner below the chord, or proves that there is none.
    Every corner and every edge costs one LP, and all are found.
    """
    room = room_to_move(market, clearing, most, options)
    steps = [_stacked(room)]
    high, low = room.up.copy(), room.down.copy()
    work = Work(screened=int((~room.limited).sum()))
    if room.limited.any():
        curves, ends, of_lps = _parametric(curve_program(market, room, options), len(market.periods))
        steps.append(curves)
        work += of_lps
        here = room.limited[room.feeder]
        high, low = np.where(here, ends[0], high), np.where(here, ends[1], low)
    price, volume = _arrays(_joined(steps), market)
    up = bare(market.bids.sign).values[:, None] > 0
    like = bare(clearing.flat["price"]).transpose(BID, PERIOD)
    reached = Volumes(like.copy(data=np.where(up, high, low)), like.copy(data=np.where(up, low, high)))
    corners = [Corner(market, clearing, like.copy(data=extra)) for extra in (high, -low)]
    reach = Reach(reached, like.copy(data=room.factor), room.limited, broken(corners), work)
    return OfferCurves(price, volume, reach)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Steps of curves, one a row: whose, when, which way (position in `DIRECTIONS`), which, how much at what price."""

    feeder: NDArray[np.int64]
    period: NDArray[np.int64]
    way: NDArray[np.int64]
    number: NDArray[np.int64]
    volume: Floats
    price: Floats


def _joined(parts: list[_Steps]) -> _Steps:
    names = ("feeder", "period", "way", "number", "volume", "price")
    return _Steps(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _arrays(steps: _Steps, market: BalancingMarket) -> tuple[xr.DataArray, xr.DataArray]:
    """Put steps under their labels."""
    count = int(steps.number.max(initial=-1)) + 1
    names, periods = market.feeder_names, market.periods
    shape = (len(names), count, len(DIRECTIONS), len(periods))
    coords = {FEEDER: names, STEP: np.arange(count), DIRECTION: list(DIRECTIONS), PERIOD: periods}
    at = (steps.feeder, steps.number, steps.way, steps.period)
    price, volume = np.full(shape, np.nan), np.zeros(shape)
    price[at], volume[at] = steps.price, steps.volume
    labelled = [xr.DataArray(values, coords=coords, dims=tuple(coords)) for values in (price, volume)]
    return labelled[0], labelled[1]


def merit_order_of_moves(room: Room, way: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Sort the moves of one direction: by feeder, by what they cost at the interface, in the order of the bids.

    Parameters
    ----------
    room : Room
        The moves.
    way : int
        0 for more delivery, the cheapest first; 1 for less, the dearest first.

    Returns
    -------
    order : int array (period, bid)
        Bids in their order.
    size, price : arrays (period, bid)
        MW at the interface and EUR/MWh there, in the same order.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        price = (room.price / room.factor).T
    size = (room.factor * (room.up, room.down)[way]).T
    moving = (size > 0) & ~room.limited[room.feeder].T
    size = np.where(moving, size, 0.0)
    rank = np.where(moving, price if way == 0 else -price, np.inf)
    feeder = np.broadcast_to(room.feeder, rank.shape)
    order = np.lexsort((rank, feeder), axis=-1)
    return order, np.take_along_axis(size, order, axis=-1), np.take_along_axis(price, order, axis=-1)


def _stacked(room: Room) -> _Steps:
    """Return the steps where no limit counts: every move at its price per MW at the interface."""
    parts = []
    first = np.searchsorted(np.sort(room.feeder), room.feeder)
    for way in range(len(DIRECTIONS)):
        order, size, price = merit_order_of_moves(room, way)
        t, place = np.nonzero(size > 0)
        bid = order[t, place]
        # bids are sorted by feeder: a feeder's first place is the number of bids before it
        parts.append(
            _Steps(room.feeder[bid], t, np.full(len(t), way), place - first[bid], size[t, place], price[t, place])
        )
    return _joined(parts)


def _parametric(curve: CurveProgram, periods: int) -> tuple[_Steps, tuple[Floats, Floats], Work]:
    """Return the steps by parametric LPs, what both ends use of every bid (bid, period), and the work."""
    count = len(curve.case)
    every, nothing = np.ones(count, dtype=bool), np.zeros(count)
    # how far the interface moves, and what the ends and the middle cost
    furthest = [curve.solve(every, price=price, bids=False) for price in (1.0, -1.0)]
    highest, lowest = np.maximum(furthest[0].x[curve.y], 0.0), np.minimum(furthest[1].x[curve.y], 0.0)
    ends = [curve.at(every, y) for y in (highest, lowest)]
    highest, lowest = np.maximum(ends[0].x[curve.y], 0.0), np.minimum(ends[1].x[curve.y], 0.0)
    high, low = (np.maximum(sign * curve.injected(end.x), 0.0) for sign, end in zip((1.0, -1.0), ends, strict=True))
    middle = curve.at(every, nothing)
    work = sum((answers.work for answers in (*furthest, *ends, middle)), start=Work())
    corners = zip(lowest, ends[1].objective, middle.objective, highest, ends[0].objective, strict=True)
    waiting = [[(lo, v_lo, 0.0, v_0), (0.0, v_0, hi, v_hi)] for lo, v_lo, v_0, hi, v_hi in corners]
    edges: list[tuple[int, float, float, float]] = []
    while True:
        for stack in waiting:
            while stack and stack[-1][2] - stack[-1][0] <= NARROW:
                stack.pop()
        wanted = np.array([bool(stack) for stack in waiting])
        if not wanted.any():
            break
        chord, left, right = np.zeros(count), np.zeros(count), np.zeros(count)
        for k in np.flatnonzero(wanted):
            y_0, v_0, y_1, v_1 = waiting[k][-1]
            chord[k], left[k], right[k] = (v_1 - v_0) / (y_1 - y_0), y_0, y_1
        answers = curve.solve(wanted, price=chord, between=(left, right))
        work += answers.work
        for k in np.flatnonzero(wanted):
            y_0, v_0, y_1, v_1 = waiting[k].pop()
            y, least = float(answers.x[curve.y[k]]), float(answers.objective[k])
            gain = v_0 - chord[k] * y_0 - least
            if gain > GAIN * max(1.0, abs(v_0), abs(v_1)) and y - y_0 > NARROW and y_1 - y > NARROW:
                v = least + chord[k] * y
                waiting[k] += [(y_0, v_0, y, v), (y, v, y_1, v_1)]
            else:
                edges.append((int(k), y_0, y_1, float(chord[k])))
    return _edges(edges, curve, periods), (high, low), work


def _edges(edges: list[tuple[int, float, float, float]], curve: CurveProgram, periods: int) -> _Steps:
    """Return the edges of all curves as steps, outward from no move."""
    parts = []
    for way in range(len(DIRECTIONS)):
        mine = sorted((e for e in edges if (e[1] >= 0) == (way == 0)), key=lambda e: (e[0], abs(e[1] + e[2])))
        block = np.array([e[0] for e in mine], dtype=np.int64)
        case = curve.case[block]
        number = np.arange(len(mine)) - np.searchsorted(block, block)
        left, right, price = (np.array([e[k] for e in mine], dtype=float) for k in (1, 2, 3))
        way_of = np.full(len(mine), way)
        parts.append(_Steps(case // periods, case % periods, way_of, number, right - left, price))
    return _joined(parts)
