"""The DSOs' clearing (8) and the TSO's (18) as one program: their rows, coupled at the interfaces."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.sparse import block_array, csr_array

from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.schema import bare, positions
from hiermarket.solving.blocks import BlockSolver, Work
from hiermarket.solving.program import Program, program_of, write_back
from hiermarket.solving.solver import Outcome
from hiermarket.stages.clearing_program import ClearingProgram, read_clearing
from hiermarket.stages.tso_model import (
    GRID_BID,
    grid_buses,
    interface_buses,
    needs,
    no_blocks,
    offers_of_grid,
    tie_costs,
    tso_model,
)

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.network.losses import LinDistFlow, LossTerms
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.solving.solver import SolverOptions

#: The rank of `clearing_model.tie_costs` that has no meaning here: what is exchanged costs nothing in itself.
TBM_RANK = 0


@dataclass(slots=True, eq=False)
class CommonProgram:
    """The program (53)–(55) of all feeders and the transmission grid; made by `read_common`.

    Attributes
    ----------
    clearing : ClearingProgram
        Rows (1)–(7) of the feeders, refilled for every loss pass.
    grid_model : linopy.Model
        Rows of (18), without bids of the DSOs.
    grid_program : Program
        Its arrays.
    up, down : int array (feeder, period)
        Columns of the interface variables; ``up`` is the exchange, of either sign.
    link : sparse array
        Entries of the exchange in the transmission balances.
    ranks : list of arrays
        The tie rule's costs by column of the whole.
    period : int array
        Period of every column of the whole.
    options : SolverOptions
        Tolerances and limits.
    """

    clearing: ClearingProgram
    grid_model: linopy.Model
    grid_program: Program
    up: Ints
    down: Ints
    link: csr_array
    ranks: list[Floats]
    period: Ints
    options: SolverOptions
    _blocks: BlockSolver | None = field(init=False, default=None)

    def solve(self, losses: LossTerms, scheduled_import: xr.DataArray) -> tuple[np.ndarray, Work]:
        """Solve one pass; the solution is read by `solution`, `dual`, and those of the grid.

        Parameters
        ----------
        losses : LossTerms
            Linearised squared currents.
        scheduled_import : DataArray (feeder, period)
            P^sched [MW].

        Returns
        -------
        code : int array (period,)
            Number of the worst outcome.
        work : Work
            What that took.
        """
        feeders, grid = self._free(self.clearing.at(losses, scheduled_import)), self.grid_program
        # (54), (55): rows (1)–(7) of every feeder and those of (18), which hold the exchange too
        apart = csr_array((len(feeders.rows), len(grid.columns)))
        matrix = csr_array(block_array([[feeders.matrix, apart], [self.link, grid.matrix]]))
        joined = Program(
            cost=np.concatenate([feeders.cost, grid.cost]),
            quadratic=None,
            matrix=matrix,
            row_lower=np.concatenate([feeders.row_lower, grid.row_lower]),
            row_upper=np.concatenate([feeders.row_upper, grid.row_upper]),
            lower=np.concatenate([feeders.lower, grid.lower]),
            upper=np.concatenate([feeders.upper, grid.upper]),
            integer=np.concatenate([feeders.integer, grid.integer]),
            columns=np.arange(matrix.shape[1]),
            rows=np.arange(matrix.shape[0]),
        )
        if self._blocks is None:
            self._blocks = BlockSolver(joined, self.options)
        answers = self._blocks.solve(joined, then=self.ranks)
        rows, columns = len(feeders.rows), len(feeders.columns)
        total = float(np.nansum(answers.objective))
        write_back(self.clearing.model, feeders, answers.x[:columns], answers.dual[:rows], total)
        write_back(self.grid_model, grid, answers.x[columns:], answers.dual[rows:], total)
        codes = np.array([list(Outcome).index(outcome) for outcome in answers.outcome], dtype=np.int8)
        worst = np.zeros(int(self.period.max()) + 1, dtype=np.int8)
        np.maximum.at(worst, self.period, codes[answers.block_of_column])
        return worst, answers.work

    def _free(self, program: Program) -> Program:
        """Let the exchange of every feeder take either sign, without a price and a limit of its own."""
        cost, lower, upper = program.cost.copy(), program.lower.copy(), program.upper.copy()
        cost[self.up] = cost[self.down] = 0.0
        lower[self.up], upper[self.up] = -np.inf, np.inf
        lower[self.down] = upper[self.down] = 0.0
        return replace(program, cost=cost, lower=lower, upper=upper)

    def solution(self) -> dict[str, xr.DataArray]:
        """Return the values of the feeders' variables by name."""
        return _solution(self.clearing.model)

    def grid_solution(self) -> dict[str, xr.DataArray]:
        """Return the values of the transmission grid's variables by name."""
        return _solution(self.grid_model)

    def dual(self, name: str) -> xr.DataArray:
        """Return the multipliers of rows of the feeders [EUR per MW of the whole period]."""
        return bare(self.clearing.model.constraints[name].dual)

    def grid_dual(self, name: str) -> xr.DataArray:
        """Return the multipliers of rows of the transmission grid [EUR per MW of the whole period]."""
        return bare(self.grid_model.constraints[name].dual)


def _solution(model: linopy.Model) -> dict[str, xr.DataArray]:
    return {name: bare(model.variables[name].solution) for name in model.variables}


def read_common(market: BalancingMarket, side: TsoSide, grid: LinDistFlow, solver: SolverOptions) -> CommonProgram:
    """Build both models once and couple them.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids and imbalance of the feeders.
    side : TsoSide
        The transmission side, with bids.
    grid : LinDistFlow
        Sides of the rating polygon.
    solver : SolverOptions
        Tolerances and limits.
    """
    import linopy

    clearing = read_clearing(market, grid)
    buses, periods = grid_buses(side), side.periods
    blocks = no_blocks(side)
    idle = xr.DataArray(0.0, coords={FEEDER: market.feeder_names, PERIOD: periods}, dims=(FEEDER, PERIOD))
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = tso_model(side, needs(side, idle).transpose(BUS, PERIOD), blocks)
        program = program_of(model)
        # local bids come before those of the grid
        ties = tie_costs(model, program.columns, blocks, market.bids.data.sizes[BID])
        labels = clearing.model.variables["Interface-tbm"].labels.transpose(DIRECTION, FEEDER, PERIOD)
        balance = model.constraints["Bus-nodal_balance"].labels.transpose(BUS, PERIOD).values
    up, down = (np.searchsorted(clearing.program.columns, labels.sel({DIRECTION: d.value}).values) for d in Direction)
    hung = positions(buses, interface_buses(side).loc[labels.indexes[FEEDER]].to_numpy())
    rows = np.searchsorted(program.rows, balance)[hung]
    # (55)  … − Σ_{feeders at the bus} e                                                    [MW]
    link = csr_array(
        (np.full(up.size, -1.0), (rows.ravel(), up.ravel())),
        shape=(len(program.rows), len(clearing.program.columns)),
    )
    local = [rank for place, rank in enumerate(clearing.ranks) if place != TBM_RANK]
    # the ranks of the reactive support come last, and have no part in the transmission grid
    none = np.zeros(len(program.columns))
    ranks = [np.concatenate(both) for both in zip_longest(local, ties, fillvalue=none)]
    return CommonProgram(
        clearing=clearing,
        grid_model=model,
        grid_program=program,
        up=up,
        down=down,
        link=link,
        ranks=ranks,
        period=np.concatenate([clearing.case % len(periods), _periods(model, program.columns)]),
        options=solver,
    )


def _periods(model: linopy.Model, columns: Ints) -> Ints:
    """Return the period of every column of the transmission grid's model, by position."""
    found = np.zeros(len(columns), dtype=np.int64)
    for name in model.variables:
        labels = model.variables[name].labels.transpose(..., PERIOD).values
        found[np.searchsorted(columns, labels)] = np.arange(labels.shape[-1])
    return found


def grid_bid_cost(side: TsoSide, activation: xr.DataArray) -> xr.DataArray:
    """Return Σ σ π y of the transmission bids, (period) [EUR/h].

    Parameters
    ----------
    side : TsoSide
        With bids.
    activation : DataArray (grid_bid, period)
        MW ≥ 0.
    """
    offers = offers_of_grid(side)
    sign, price = (bare(array).rename({BID: GRID_BID}) for array in (offers.sign, offers.data["price"]))
    return (sign * price * activation).sum(GRID_BID)
