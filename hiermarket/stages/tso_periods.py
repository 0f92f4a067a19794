"""The TSO's clearing of some periods: an LP of the bids near the margin, which the prices of all others prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BUS, PERIOD
from hiermarket.solving.blocks import Work, components, solve_blocks
from hiermarket.solving.lexicographic import ZERO
from hiermarket.solving.program import program_of, write_back
from hiermarket.solving.solver import Outcome, SolverOptions
from hiermarket.stages.tso_model import (
    OF_BLOCKS,
    OF_GRID_BIDS,
    Blocks,
    tie_costs,
    tso_model,
)
from hiermarket.stages.tso_prices import price_by_rule
from hiermarket.stages.tso_screening import clear_grid_by_merit_order
from hiermarket.stages.tso_sources import Sources, blocks_of, grouped, nearest, places, sources_of

if TYPE_CHECKING:
    import xarray as xr

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.stages.interface import InterfaceOffers
    from hiermarket.stages.tso_sources import Bools

#: Bids of a bus on each side of its price that an LP decides; with four times as many or fewer, all of them.
NEAREST = 64

#: Groups of bids at a bus from which the first prices are guessed.
GROUPS = 48

#: Public name → variable of the grid.
OF_GRID = {
    "grid_unserved": "Bus-unserved",
    "grid_spilled": "Bus-spilled",
    "grid_activation": OF_GRID_BIDS,
    "line_flow": "Line-flow",
}


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
    work : Work
        What that took.
    """

    values: dict[str, Floats]
    blocks: Floats
    code: Ints
    work: Work


def clear_periods(
    side: TsoSide, need: xr.DataArray, offers: InterfaceOffers, solver: SolverOptions | None = None
) -> tuple[dict[str, Floats], Work]:
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
    work : Work
        LPs solved, periods decided by merit order, time inside the solver.

    Notes
    -----
    Where no line counts, the merit order is the optimum; elsewhere an LP is solved. Of many
    bids the prices decide almost all: what is cheaper than the price of its bus is taken
    whole, what is dearer is left. The LP holds those next to the price, others are fixed;
    where its prices say otherwise of one of these, it joins, and the LP is solved again. At
    the end every reduced cost has its sign: the optimum of the whole. What is fixed has a
    reduced cost that is not zero, so that ties are among bids of the LP only.
    """
    sources, everything = sources_of(side, offers), np.arange(len(side.periods))
    screened, options = clear_grid_by_merit_order(side, need, sources), solver or SolverOptions()
    decided = screened.decided & options.screening
    found: dict[str, Floats] = {**screened.values, "grid_status": np.zeros(len(everything), dtype=np.int8)}
    moved, rest = screened.taken, np.flatnonzero(~decided)
    work = Work(screened=int(decided.sum()))
    if len(rest):
        part = sources.of_periods(rest)
        taken, values, done = _by_lp(side.of_periods(rest), need.isel({PERIOD: rest}), part, options)
        moved[:, rest] = taken
        for name, array in values.items():
            found[name][..., rest] = array
        work += done
    # a bid and its undo are one change
    change = np.zeros((sources.count, len(everything)))
    np.add.at(change, sources.bid, np.where(sources.rank < sources.count, 1.0, -1.0)[:, None] * moved)
    values = {"change": change, **found}
    for name, array in values.items():
        if name != "grid_status":
            array[..., found["grid_status"] != 0] = np.nan
    return values, work


def _by_lp(
    side: TsoSide, need: xr.DataArray, sources: Sources, solver: SolverOptions
) -> tuple[Floats, dict[str, Floats], Work]:
    """Return what is activated of the sources, the values of the grid, and what that took."""
    everything, place = np.arange(len(side.periods)), places(sources)
    price, free, work = _margin(side, need, sources, place, solver)
    found: dict[str, Floats] = {}
    moved, todo = np.zeros(sources.volume.shape), everything
    while len(todo):
        some, open_ = sources.of_periods(todo), free[:, todo]
        # the others are taken whole where that gains, and left where it does not
        fixed = np.where(~open_ & (some.gain(price[:, todo]) > 0), some.volume, 0.0)
        supplied = some.at_bus(some.sign[:, None] * some.factor * fixed)
        blocks, slots = blocks_of(some, open_)
        solved = _solve(side.of_periods(todo), need.isel({PERIOD: todo}) - supplied, blocks, 2 * sources.count, solver)
        work += solved.work
        at = np.nonzero(slots >= 0)
        fixed[slots[at], at[2]] = solved.blocks[at]
        moved[:, todo] = fixed
        for name, array in {**solved.values, "grid_status": solved.code}.items():
            whole = found.setdefault(name, np.zeros((*array.shape[:-1], len(everything)), dtype=array.dtype))
            whole[..., todo] = array
        price[:, todo] = np.nan_to_num(solved.values["grid_price"])
        wrong = _wrong(some, open_, fixed, price[:, todo], float(side.duration.min()))
        wrong[:, solved.code != 0] = False
        again = wrong.any(axis=0)
        todo, wrong, some = todo[again], wrong[:, again], some.of_periods(np.flatnonzero(again))
        free[:, todo] |= wrong | nearest(some, place[:, todo], price[:, todo], NEAREST)
    found["grid_price"] = price_by_rule(side, sources, moved, found)
    return moved, found, work


def _wrong(sources: Sources, free: Bools, fixed: Floats, price: Floats, duration: float) -> Bools:
    """Return which fixed sources the prices do not prove to be fixed at the right side."""
    # reduced costs [EUR/MW] that the tie rule takes for zero are no proof
    least = max(1e-6, 2 * ZERO / duration)
    gain = sources.gain(price)
    proved = np.where(fixed > 0, gain > least, gain < -least)
    return ~free & (sources.volume > 0) & ~proved


def _margin(
    side: TsoSide, need: xr.DataArray, sources: Sources, place: Ints, solver: SolverOptions
) -> tuple[Floats, Bools, Work]:
    """Guess the prices (bus, period), and which sources are next to them; say what that took.

    Groups of neighbours are cleared, then finer groups of those around the prices, until
    few enough are left.
    """
    price, free, work, most = np.zeros(need.shape), sources.volume > 0, Work(), sources.most
    while solver.screening and most > 4 * NEAREST:
        fixed = np.where(~free & (sources.gain(price) > 0), sources.volume, 0.0)
        # as if whatever takes supply did so from the beginning
        taken = np.where(free & (sources.sign[:, None] < 0) & np.isfinite(sources.value), sources.volume, fixed)
        supplied = sources.at_bus(sources.sign[:, None] * sources.factor * taken)
        solved = _solve(side, need - supplied, grouped(sources, place, free, GROUPS), None, solver)
        work += solved.work
        price = np.nan_to_num(solved.values["grid_price"])
        # two groups on each side, unless that is too fine; fewer each time
        most = min(max(2 * NEAREST, 4 * -(-most // GROUPS)), most - 1)
        free = nearest(sources, place, price, most // 2)
    return price, free, work


def _solve(
    side: TsoSide, need: xr.DataArray, blocks: Blocks, first_rank: int | None, solver: SolverOptions | None
) -> _Solved:
    """Solve the model; ties are decided where the rank of the first bid of the grid is given."""
    import linopy

    with linopy.options as options:
        options.set_value(semantics="v1")
        model = tso_model(side, need.transpose(BUS, PERIOD), blocks)
        program = program_of(model)
        of_column = components(program)
        then = () if first_rank is None else tie_costs(model, program.columns, blocks, first_rank)
        answers = solve_blocks(program, solver, block_of_column=of_column, then=then)
        write_back(model, program, answers.x, answers.dual, float(np.nansum(answers.objective)))
        solved = {name: model.variables[name].solution.transpose(..., PERIOD).values for name in model.variables}
        price = model.constraints["Bus-nodal_balance"].dual.transpose(BUS, PERIOD).values / side.duration.values
    # every island of the grid is a block of its own: a period has a clearing when all have
    label = model.variables["Bus-unserved"].labels.transpose(BUS, PERIOD).values
    codes = np.array([list(Outcome).index(outcome) for outcome in answers.outcome], dtype=np.int8)
    worst = codes[of_column[np.searchsorted(program.columns, label)]].max(axis=0)
    values = {public: solved[name] for public, name in OF_GRID.items() if name in solved}
    at = solved.get(OF_BLOCKS, np.zeros(blocks.volume.shape))
    return _Solved({"grid_price": price, **values}, at, worst, answers.work)
