"""The LP behind a feeder's offer curve: changes of the bids, limits that count, and the interface."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import csr_array

from hiermarket.labels import BID, BUS, FEEDER, PERIOD
from hiermarket.network.limits import limit_rows, sites
from hiermarket.network.linear_flow import eliminate
from hiermarket.schema import bare, positions
from hiermarket.solving.blocks import BlockAnswers, BlockSolver
from hiermarket.solving.program import program_of
from hiermarket.solving.sparse_rows import labelled
from hiermarket.stages.ac_check import injections
from hiermarket.stages.interface_balance import bid_factors
from hiermarket.stages.largest_box import ROUNDING, CountingRows, Volumes, counting_rows
from hiermarket.stages.merit_order import LEAST_FACTOR

if TYPE_CHECKING:
    import linopy
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.limits import Sites
    from hiermarket.solving.program import Program
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.dso_clearing import DsoClearing

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


#: Room around a given y [MW], a tenth of the LP's tolerance: an end of the curve can be infeasible by rounding.
SLACK = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """How far the bids of all feeders can move from what was cleared; made by `room_to_move`.

    Attributes
    ----------
    up, down : arrays (bid, period)
        The most of U and D: more injection, less injection [MW].
    price : array (bid, period)
        Price of the bid [EUR/MWh]: what a MWh more costs, what a MWh less saves.
    factor : array (bid, period)
        φ_1 + τ φ_2, MW at the interface per MW injected.
    feeder : int array (bid,)
        Number of the bid's feeder.
    rows : CountingRows
        The limits that some of these moves break.
    who : Sites
        Of the rows.
    limited : bool array (feeder, period)
        Where the limits count, or a bid is worth next to nothing at the interface: an LP
        decides there, a stack elsewhere.
    """

    up: Floats
    down: Floats
    price: Floats
    factor: Floats
    feeder: Ints
    rows: CountingRows
    who: Sites
    limited: NDArray[np.bool_]


def room_to_move(market: BalancingMarket, clearing: DsoClearing, most: Volumes, options: SolverOptions) -> Room:
    """Find how far bids can move, and which limits of the grid count for it.

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        What was cleared; the losses are those of its last pass.
    most : Volumes
        What is left of every bid [MW].
    options : SolverOptions
        Whether to leave LPs out.

    Notes
    -----
    The limits are those of the clearing itself: (4) and (5) with its loss terms, the recourse
    held at its values.
    """
    losses, data = clearing.losses, market.bids.data
    grid = eliminate(market.feeders, losses)
    recourse = clearing.beyond_bids.fillna(0.0)
    p, q = injections(market, bare(clearing.flat.activation).fillna(0.0), recourse)
    state = grid.state(*(a.transpose(BUS, PERIOD).values for a in (p, q)))
    who = sites(market.feeders, market.bids.node, bare(data.reactive_ratio))
    limits = limit_rows(market.feeders, losses, state, who, np.zeros_like(who.ratio), sides=clearing.grid.sides)
    up, down = (a.transpose(BID, PERIOD).values for a in most.extremes(bare(market.bids.sign)))
    least = ROUNDING if options.screening else -np.inf
    rows = counting_rows(limits, who, grid.feeder, (up, down), None, least=least)
    factor = bid_factors(market, grid.factors()).values
    owner = np.asarray(positions(market.feeder_names, data.bid_feeder.values), dtype=np.int64)
    limited = rows.cases((len(market.feeder_names), len(market.periods)))
    np.logical_or.at(limited, owner, (factor <= LEAST_FACTOR) & (up + down > 0))
    price = bare(clearing.flat.price).transpose(BID, PERIOD).values
    return Room(up, down, price, factor, owner, rows, who, limited)


@dataclass(frozen=True, slots=True, eq=False)
class CurveProgram:
    """The LPs of all limited feeders and periods; made by `curve_program`.

    Attributes
    ----------
    program : Program
        Columns U, D ≥ 0 of bids and y of feeders and periods; the rows of the limits and of y.
        The cost is that of the bids, per hour.
    solver : BlockSolver
        With one block a case.
    case : int array (k,)
        Feeder and period of each block, as a position in a raveled (feeder, period) array.
    y : int array (k,)
        The column of y of each block.
    up, down : int arrays (bid, period)
        Columns of U and D; −1 where there is none.
    limit : int array (row,)
        The program's row of every limit that counts.
    ranks : list of (n,) arrays
        Further costs that decide ties: least gross change, then the order of the bids.
    names : list of str
        Feeder and period of each block, for messages.
    """

    program: Program
    solver: BlockSolver
    case: Ints
    y: Ints
    up: Ints
    down: Ints
    limit: Ints
    ranks: list[Floats]
    names: list[str]

    def solve(
        self,
        wanted: NDArray[np.bool_],
        *,
        price: Floats | float = 0.0,
        between: tuple[Floats | float, Floats | float] = (-np.inf, np.inf),
        bids: bool = True,
        ties: bool = False,
    ) -> BlockAnswers:
        """Minimise the cost of the bids less `price` · y, block by block.

        Parameters
        ----------
        wanted : bool array (k,)
            Which blocks.
        price : array (k,)
            [EUR/MWh].
        between : two arrays (k,)
            Bounds of y [MW].
        bids : bool
            Whether bids cost anything.
        ties : bool
            Whether to decide ties.

        Raises
        ------
        SolveError
            Where a block has no optimum.
        """
        known = self.program
        cost = known.cost.copy() if bids else np.zeros_like(known.cost)
        lower, upper = known.lower.copy(), known.upper.copy()
        cost[self.y] = -np.asarray(price)
        lower[self.y], upper[self.y] = between
        program = replace(known, cost=cost, lower=lower, upper=upper)
        answers = self.solver.solve(program, wanted=wanted, then=self.ranks if ties else ())
        return answers.require("The offer curve", self.names.__getitem__)

    def at(self, wanted: NDArray[np.bool_], y: Floats, *, ties: bool = False) -> BlockAnswers:
        """Minimise the cost of the bids at a given delivery y (k,) [MW]; see `solve`."""
        return self.solve(wanted, between=(y - SLACK, y + SLACK), ties=ties)

    def injected(self, x: Floats) -> Floats:
        """Return U − D of every bid, (bid, period) [MW]: 0 where nothing can move, NaN where it was not solved."""
        more, less = (np.where(at >= 0, x[at], 0.0) for at in (self.up, self.down))
        return more - less


def curve_program(market: BalancingMarket, room: Room, options: SolverOptions) -> CurveProgram:
    """Build the LPs of all limited feeders and periods.

    Parameters
    ----------
    market : BalancingMarket
        The labels.
    room : Room
        Moves, limits, prices.
    options : SolverOptions
        Tolerances and limits.
    """
    import linopy

    periods, names, bids = market.periods, market.feeder_names, market.bids.data.indexes[BID]
    here = room.limited[room.feeder]

    def of_bids(values: NDArray[np.generic]) -> xr.DataArray:
        return xr.DataArray(values, dims=(BID, PERIOD), coords={BID: bids, PERIOD: periods})

    with linopy.options as settings:
        settings.set_value(semantics="v1")
        model = linopy.Model(sparse=True)
        # 0 ≤ U ≤ r_up,  0 ≤ D ≤ r_down                                                       [MW]
        up, down = (
            model.add_variables(lower=0, upper=of_bids(most), mask=of_bids(here & (most > 0)), name=f"Bid-{name}")
            for name, most in (("more", room.up), ("less", room.down))
        )
        cases = xr.DataArray(room.limited, dims=(FEEDER, PERIOD), coords={FEEDER: names, PERIOD: periods})
        y = model.add_variables(coords=[names, periods], mask=cases, name="Interface-delivery")
        if len(room.rows.room):
            taken, h = _taken(room, {"more": up, "less": down}, model)
            # (14)  Σ_i c_i (U_i − D_i) ≤ h                          ∀ limits that count    [p.u.², MVA]
            model.add_constraints(taken <= h, name="Limit")
        of = pd.Series(names[room.feeder].to_numpy(), index=bids, name="of")
        # a move that there is not is absent: summed first, nothing is left out with it
        gained, lost = (
            (of_bids(room.factor) * move).groupby(of).sum().rename(of=FEEDER).reindex({FEEDER: names}).fillna(0)
            for move in (up, down)
        )
        # (14)  Σ_i φ_i (U_i − D_i) = y                              ∀ feeders, periods            [MW]
        model.add_constraints(gained - lost - y == 0, name="Interface-balance", mask=cases)
        # (14)  min Σ π (U − D)                                                          [EUR/h]
        model.add_objective((of_bids(room.price) * up).sum() - (of_bids(room.price) * down).sum())
        program = program_of(model)
    case = np.flatnonzero(room.limited.ravel())
    number = np.full(room.limited.shape, -1)
    number.ravel()[case] = np.arange(len(case))
    at_up, at_down, at_y = (_columns(program, variable) for variable in (up, down, y))
    block, gross, order = (np.zeros(len(program.columns)) for _ in range(3))
    place = np.sqrt(1.0 + np.arange(len(bids)))[:, None] * np.ones(len(periods))
    for columns in (at_up, at_down):
        there = columns >= 0
        block[columns[there]] = number[room.feeder][there]
        gross[columns[there]], order[columns[there]] = 1.0, place[there]
    of_case = at_y.ravel()[case]
    block[of_case] = np.arange(len(case))
    limit = np.zeros(0, dtype=np.int64)
    if "Limit" in model.constraints:
        limit = np.searchsorted(program.rows, model.constraints["Limit"].labels.values)
    solver = BlockSolver(program, options, block.astype(np.int64))
    called = [f"{FEEDER}={names[k // len(periods)]}, {PERIOD}={periods[k % len(periods)]}" for k in case.tolist()]
    return CurveProgram(program, solver, case, of_case, at_up, at_down, limit, [gross, order], called)


def _columns(program: Program, variable: linopy.Variable) -> Ints:
    """Return the column of every label, in the order of the variable's first dimension and periods; −1 for none."""
    labels = variable.labels.transpose(..., PERIOD).values
    return np.where(labels >= 0, np.searchsorted(program.columns, labels), -1)


def _taken(
    room: Room, variables: dict[str, linopy.Variable], model: linopy.Model
) -> tuple[linopy.LinearExpression, xr.DataArray]:
    """Return what the moves take of every limit, and what there is."""
    rows = room.rows
    row, bid = rows.entries(room.feeder)
    # the coefficients of (13) are c⁺ and c⁻
    c = (rows.up - rows.down)[row, room.who.rank[bid]]
    parts = []
    for sign, variable in zip((1.0, -1.0), variables.values(), strict=True):
        column = variable.labels.transpose(BID, PERIOD).values[bid, rows.period[row]]
        held = (column >= 0) & (c != 0)
        parts.append((sign * c[held], row[held], column[held]))
    data, r, at = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    matrix = csr_array((data, (r, at)), shape=(len(rows.room), int(at.max(initial=0)) + 1))
    where = xr.DataArray(np.arange(len(rows.room)), dims="limit", coords={"limit": np.arange(len(rows.room))})
    return labelled(model, matrix, np.zeros(len(rows.room)), where), where.copy(data=rows.room)
