"""The clearings of all scenarios as one linear program, with what is decided before in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import block_array, csr_array

from hiermarket.labels import FEEDER, PERIOD, SCENARIO
from hiermarket.solving.blocks import BlockSolver
from hiermarket.stages.risk import CVaR

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from hiermarket.market.scenarios import ScenarioMarket
    from hiermarket.network.losses import LossTerms
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.clearing_program import ClearingProgram
    from hiermarket.stages.risk import Risk


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """An optimum of the extensive form.

    Attributes
    ----------
    x, dual : arrays
        Values of the clearing's columns and multipliers of its rows, of all scenarios.
    cost : array (scenario,)
        c_s of each scenario [EUR].
    value : float
        What was minimised [EUR].
    """

    x: Floats
    dual: Floats
    cost: Floats
    value: float


@dataclass(slots=True, eq=False)
class ExtensiveForm:
    """The program (49)–(51) of all scenarios.

    Parameters
    ----------
    built : ClearingProgram
        The clearing of the folded market.
    market : ScenarioMarket
        Probabilities and labels.
    slow : int array (slow bid, folded period)
        Columns of what is decided before.
    risk : Risk
        What is minimised.
    options : SolverOptions
        Tolerances and limits.
    """

    built: ClearingProgram
    market: ScenarioMarket
    slow: Ints
    risk: Risk
    options: SolverOptions
    periods: pd.DatetimeIndex = field(init=False)
    feeders: pd.Index = field(init=False)
    _of_column: Ints = field(init=False)
    _solvers: dict[bool, BlockSolver] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        first = self.market.of(self.market.scenarios[0])
        self.periods, self.feeders = first.periods, first.feeder_names
        count = len(self.periods) * len(self.market.scenarios)
        self._of_column = (self.built.case % count) // len(self.periods)

    def solve(
        self, losses: LossTerms, imports: xr.DataArray, *, apart: bool = False, held: Floats | None = None
    ) -> Solved:
        """Solve the program at some losses.

        Parameters
        ----------
        losses : LossTerms
            Of the folded market.
        imports : DataArray (feeder, period)
            P^sched of the folded market [MW].
        apart : bool
            Whether everything is decided after the scenario is known.
        held : array (slow bid, period), optional
            What is decided before, at these values or the largest that every scenario has [MW].
        """
        known, weight = self.built.at(losses, imports), self.market.probability.values
        column = np.arange(known.shape[1]) if apart else self._shared()
        first = column == np.arange(known.shape[1])
        lower, upper = np.full(known.shape[1], -np.inf), np.full(known.shape[1], np.inf)
        np.maximum.at(lower, column, known.lower)
        np.minimum.at(upper, column, known.upper)
        if held is not None:
            own = self.slow[:, : len(self.periods)]
            lower[own] = upper[own] = np.clip(held, lower[own], upper[own])
        # a column that stands for another one has no part in anything
        lower[~first] = upper[~first] = 0.0
        ranks = [_sums(rank, column, len(column)) for rank in self.built.ranks]
        # (50)  a_s = a for the bids that are decided before: one column for all scenarios        [MW]
        matrix = csr_array((known.matrix.data, column[known.matrix.indices], known.matrix.indptr), known.shape)
        # (49)  min Σ p c + κ [ η + 1/(1 − α) Σ p z ]                                             [EUR]
        cost = _sums(known.cost * weight[self._of_column], column, len(column))
        program = replace(known, matrix=matrix, cost=cost, lower=lower, upper=upper)
        if isinstance(self.risk, CVaR) and self.risk.weight:
            program = self._with_risk(program, known.cost, column, self.risk)
            ranks = [np.concatenate([rank, np.zeros(len(weight) + 1)]) for rank in ranks]
        if apart not in self._solvers:
            self._solvers[apart] = BlockSolver(program, self.options)
        answers = self._solvers[apart].solve(program, then=ranks)
        answers.require("The two-stage clearing", lambda block: self._name(answers.block_of_column, block))
        x = answers.x[column]
        by_scenario = _sums(known.cost * x, self._of_column, len(weight))
        return Solved(x, answers.dual[: len(known.rows)], by_scenario, float(answers.objective.sum()))

    def _shared(self) -> Ints:
        """Return for every column the one that stands for it: of the first scenario, for what is decided before."""
        column = np.arange(self.built.program.shape[1])
        own = self.slow[:, : len(self.periods)]
        column[self.slow] = np.tile(own, len(self.market.scenarios))
        return column

    def _with_risk(self, program: Program, cost: Floats, column: Ints, risk: CVaR) -> Program:
        """Add η, z_s ≥ 0 and the rows of (51)."""
        weight, (rows, columns) = self.market.probability.values, program.shape
        count = len(weight)
        costs = csr_array((cost, (self._of_column, column)), shape=(count, columns))
        costs.eliminate_zeros()
        # (51)  c_s − η − z_s ≤ 0                                                                 [EUR]
        matrix = block_array(
            [
                [program.matrix, csr_array((rows, 1)), csr_array((rows, count))],
                [costs, csr_array(-np.ones((count, 1))), csr_array(-np.eye(count))],
            ]
        )
        return replace(
            program,
            cost=np.concatenate([program.cost, [risk.weight], risk.weight / (1 - risk.alpha) * weight]),
            matrix=csr_array(matrix),
            row_lower=np.concatenate([program.row_lower, np.full(count, -np.inf)]),
            row_upper=np.concatenate([program.row_upper, np.zeros(count)]),
            lower=np.concatenate([program.lower, [-np.inf], np.zeros(count)]),
            upper=np.concatenate([program.upper, np.full(count + 1, np.inf)]),
            integer=np.concatenate([program.integer, np.zeros(count + 1, dtype=bool)]),
            columns=np.arange(columns + count + 1),
            rows=np.arange(rows + count),
        )

    def _name(self, block_of_column: Ints, block: int) -> str:
        """Name a block by its first column."""
        case = int(self.built.case[np.flatnonzero(block_of_column[: len(self.built.case)] == block)[0]])
        periods = len(self.periods)
        feeder, fold = divmod(case, periods * len(self.market.scenarios))
        scenario, period = divmod(fold, periods)
        names = self.market.scenarios[scenario], self.feeders[feeder], self.periods[period]
        return ", ".join(f"{dim}={name}" for dim, name in zip((SCENARIO, FEEDER, PERIOD), names, strict=True))


def _sums(values: Floats, at: Ints, size: int) -> Floats:
    """Add values up where they belong."""
    total = np.zeros(size)
    np.add.at(total, at, values)
    return total
