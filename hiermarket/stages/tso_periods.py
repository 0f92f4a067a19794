"""The TSO's clearing of some periods: an LP of the bids near the margin, which the prices of all others prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, PERIOD
from hiermarket.schema import bare
from hiermarket.solving.blocks import components, solve_blocks
from hiermarket.solving.lexicographic import ZERO
from hiermarket.solving.program import program_of, write_back
from hiermarket.solving.solver import Outcome
from hiermarket.stages.tso_model import (
    GRID_BID,
    OF_BLOCKS,
    OF_GRID_BIDS,
    SLOT,
    Blocks,
    tie_costs,
    tso_model,
)
from hiermarket.stages.tso_prices import price_by_rule
from hiermarket.stages.tso_sources import Sources, blocks_of, grouped, nearest, sources_of

if TYPE_CHECKING:
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.interface import InterfaceOffers
    from hiermarket.stages.tso_sources import Bools

#: Bids of a bus on each side of its price that an LP decides; with four times as many or fewer, all of them.
NEAREST = 64

#: Groups of bids at a bus from which the first prices are guessed.
GROUPS = 48

#: Public name → variable of the grid.
OF_GRID = {"grid_unserved": "Bus-unserved", "grid_spilled": "Bus-spilled", "line_flow": "Line-flow"}


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """What the LPs of some periods say; arrays with the period last.

    Attributes
    ----------
    values : mapping name → array
        ``grid_price, grid_activation`` and those of `OF_GRID`.
    blocks : array (bus, slot, period)
        Activation of the blocks [MW].
    code : int array (period,)
        Number of the worst outcome.
    solves : int
        How many LPs there were.
    """

    values: dict[str, Floats]
    blocks: Floats
    code: Ints
    solves: int


def clear_periods(
    side: TsoSide, need: xr.DataArray, offers: InterfaceOffers, solver: SolverOptions | None = None
) -> tuple[dict[str, Floats], int]:
    """Clear some periods.

    Parameters
    ----------
    side : TsoSide
        The TSO's side in these periods, with bids.
    need : DataArray (bus, period)
        W [MW].
    offers : InterfaceOffers
        What the DSOs bring in these periods.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    values : mapping name → array
        ``change`` (bid), ``grid_activation`` (grid_bid), ``grid_price, grid_unserved,
        grid_spilled`` (bus), ``line_flow`` (line), each by period, NaN without an optimum;
        ``grid_status`` (period).
    solves : int
        How many LPs were solved.

    Notes
    -----
    Of many bids the prices decide almost all: what is cheaper than the price of its bus is
    taken whole, what is dearer is left. The LP holds those next to the price, others are
    fixed; where its prices say otherwise of one of these, it joins, and the LP is solved
    again. At the end every reduced cost has its sign: the optimum of the whole. What is
    fixed has a reduced cost that is not zero, so that ties are among bids of the LP only.
    """
    sources, count = sources_of(side, offers), offers.flat.sizes[BID]
    everything = np.arange(len(side.periods))
    price, free, solves = _margin(side, need, sources, solver)
    found: dict[str, Floats] = {}
    moved, todo = np.zeros(sources.volume.shape), everything
    while len(todo):
        some, open_ = sources.of_periods(todo), free[:, todo]
        # the others are taken whole where that gains, and left where it does not
        fixed = np.where(~open_ & (some.gain(price[:, todo]) > 0), some.volume, 0.0)
        supplied = some.at_bus(some.sign[:, None] * some.factor * fixed)
        blocks, place = blocks_of(some, open_)
        solved = _solve(side, need, todo, supplied, blocks, count, solver)
        solves += solved.solves
        here, slot = place[place >= 0], np.nonzero(place >= 0)
        fixed[here, slot[2]] = solved.blocks[slot]
        moved[:, todo] = fixed
        for name, array in {**solved.values, "grid_status": solved.code}.items():
            whole = found.setdefault(name, np.zeros((*array.shape[:-1], len(everything)), dtype=array.dtype))
            whole[..., todo] = array
        price[:, todo] = np.nan_to_num(solved.values["grid_price"])
        wrong = _wrong(some, open_, fixed, price[:, todo], float(bare(side.duration).min()))
        wrong[:, solved.code != 0] = False
        again = wrong.any(axis=0)
        todo, wrong, some = todo[again], wrong[:, again], some.of_periods(np.flatnonzero(again))
        free[:, todo] |= wrong | nearest(some, price[:, todo], NEAREST)
    found["grid_price"] = price_by_rule(side, sources, moved, found)
    # a bid and its undo are one change
    change = np.zeros((count, len(everything)))
    np.add.at(change, sources.bid, np.where(sources.rank < count, 1.0, -1.0)[:, None] * moved)
    values = {"change": change, **found}
    for name, array in values.items():
        if name != "grid_status":
            array[..., found["grid_status"] != 0] = np.nan
    return values, solves


def _wrong(sources: Sources, free: Bools, fixed: Floats, price: Floats, duration: float) -> Bools:
    """Return which fixed sources the prices do not prove to be fixed at the right side."""
    # reduced costs [EUR/MW] that the tie rule takes for zero are no proof
    least = max(1e-6, 2 * ZERO / duration)
    gain = sources.gain(price)
    proved = np.where(fixed > 0, gain > least, gain < -least)
    return ~free & (sources.volume > 0) & ~proved


def _margin(
    side: TsoSide, need: xr.DataArray, sources: Sources, solver: SolverOptions | None
) -> tuple[Floats, Bools, int]:
    """Guess the prices (bus, period), and which sources are next to them; count the LPs that took.

    Groups of neighbours are cleared, then finer groups of those around the prices, until
    few enough are left.
    """
    price, free, solves = np.zeros(need.shape), sources.volume > 0, 0
    every, most = np.arange(len(side.periods)), sources.most
    while most > 4 * NEAREST:
        fixed = np.where(~free & (sources.gain(price) > 0), sources.volume, 0.0)
        # as if whatever takes supply did so from the beginning
        taken = np.where(free & (sources.sign[:, None] < 0) & np.isfinite(sources.value), sources.volume, fixed)
        supplied = sources.at_bus(sources.sign[:, None] * sources.factor * taken)
        solved = _solve(side, need, every, supplied, grouped(sources, free, GROUPS), None, solver)
        solves += solved.solves
        price = np.nan_to_num(solved.values["grid_price"])
        # two groups on each side, unless that is too fine
        most = min(most - 1, max(2 * NEAREST, 4 * -(-most // GROUPS)))
        free = nearest(sources, price, -(-most // 2))
    return price, free, solves


def _solve(
    side: TsoSide,
    need: xr.DataArray,
    periods: Ints,
    supplied: Floats,
    blocks: Blocks,
    ties_from: int | None,
    solver: SolverOptions | None,
) -> _Solved:
    """Solve the model of some periods; ties are decided where a rank to begin with is given."""
    import linopy

    some = side.of_periods(periods)
    rest = need.isel({PERIOD: periods}).transpose(BUS, PERIOD)
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = tso_model(some, rest - supplied, blocks)
        program = program_of(model)
        of_column = components(program)
        then = () if ties_from is None else tie_costs(model, program.columns, blocks, 2 * ties_from)
        answers = solve_blocks(program, solver, block_of_column=of_column, then=then)
        write_back(model, program, answers.x, answers.dual, float(np.nansum(answers.objective)))
        solved = {name: model.variables[name].solution for name in model.variables}
        price = model.constraints["Bus-nodal_balance"].dual.transpose(BUS, PERIOD).values / some.duration.values
    # every island of the grid is a block of its own: a period has a clearing when all have
    label = model.variables["Bus-unserved"].labels.transpose(BUS, PERIOD).values
    codes = np.array([list(Outcome).index(outcome) for outcome in answers.outcome], dtype=np.int8)
    worst = codes[of_column[np.searchsorted(program.columns, label)]].max(axis=0)
    values = {
        "grid_price": price,
        "grid_activation": solved[OF_GRID_BIDS].transpose(GRID_BID, PERIOD).values,
        **{public: solved[name].transpose(..., PERIOD).values for public, name in OF_GRID.items() if name in solved},
    }
    at = solved[OF_BLOCKS].transpose(BUS, SLOT, PERIOD).values if OF_BLOCKS in solved else np.zeros(blocks.volume.shape)
    return _Solved(values, at, worst, answers.solves)
