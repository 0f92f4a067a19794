"""The clearing's linopy model read once, refilled for every loss pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import coo_array, csr_array

from hiermarket.labels import BID, BUS, FEEDER, PERIOD, RESOURCE
from hiermarket.network.lindistflow import loss_coefficients
from hiermarket.network.losses import lossless
from hiermarket.schema import bare, positions
from hiermarket.solving.program import program_of
from hiermarket.stages.clearing_model import clearing_cost, clearing_model, tie_costs
from hiermarket.stages.reactive_support import SUPPORT, factors_of, held_at_interface, supporters

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LinDistFlow, LossTerms
    from hiermarket.solving.program import Floats, Ints, Program


@dataclass(frozen=True, slots=True, eq=False)
class SupportTerms:
    """What a loss pass changes where resources give reactive support: (45) in the balances at the interface.

    Attributes
    ----------
    feeders : Feeders
        The grids.
    at : Series
        Of `supporters`.
    entry : int array (2, resource, period)
        Where q⁺ and q⁻ stand in ``program.matrix.data`` in the rows of the interface.
    """

    feeders: Feeders
    at: pd.Series
    entry: Ints

    def fill(self, data: Floats, losses: LossTerms) -> Floats:
        """Put the coefficients of a pass in their places; return Σ φ_2 q° (feeder, period) [MW]."""
        factor = factors_of(self.feeders, losses, self.at)
        for place, sign in zip(self.entry, SUPPORT.values(), strict=True):
            data[place] = -sign * factor
        return held_at_interface(self.feeders, losses)


@dataclass(frozen=True, slots=True, eq=False)
class ClearingProgram:
    """The clearing (8) of every feeder and period as arrays, for any loss terms; made by `read_clearing`.

    Loss passes change nothing but the coefficients of P, Q and w_m in the rows that hold a
    squared current, those of `SupportTerms`, and right-hand sides. Everything else is built once.

    Attributes
    ----------
    model : linopy.Model
        Lossless, without scheduled imports: labels and structure.
    program : Program
        Its arrays; the entries that losses fill are there as zeros.
    ranks : list of (n,) arrays
        The tie rule's costs by column.
    row, branch, weight : arrays (term,)
        Row by position, branch and period by position in a raveled (branch, period) array,
        and coefficient of every squared current.
    entry : int array (3, term)
        Where the coefficients of P, Q and w_m of the term stand in ``program.matrix.data``.
    interface : int array (feeder, period)
        Rows of the balances at the interface.
    case : int array (n,)
        Feeder and period of every column, as a position in a raveled (feeder, period) array.
    support : SupportTerms or None
        Where resources give reactive support.
    """

    model: linopy.Model
    program: Program
    ranks: list[Floats]
    row: Ints
    branch: Ints
    weight: Floats
    entry: Ints
    interface: Ints
    case: Ints
    support: SupportTerms | None

    def at(self, losses: LossTerms, scheduled_import: xr.DataArray) -> Program:
        """Return the program of one pass.

        Parameters
        ----------
        losses : LossTerms
            Linearised squared currents.
        scheduled_import : DataArray (feeder, period)
            P^sched [MW].
        """
        known = self.program
        # l_n = l_0 + l_P P_n + l_Q Q_n + l_w w_m, wherever a row holds l_n
        terms = (losses.by_p, losses.by_q, losses.by_w)
        data = known.matrix.data.copy()
        for place, term in zip(self.entry, terms, strict=True):
            np.add.at(data, place, self.weight * _ravel(term)[self.branch])
        shift = np.zeros(len(known.rows))
        np.add.at(shift, self.row, -self.weight * _ravel(losses.constant)[self.branch])
        shift[self.interface] -= scheduled_import.transpose(FEEDER, PERIOD).values
        if self.support is not None:
            shift[self.interface] -= self.support.fill(data, losses)
        matrix = csr_array((data, known.matrix.indices, known.matrix.indptr), shape=known.matrix.shape)
        return replace(known, matrix=matrix, row_lower=known.row_lower + shift, row_upper=known.row_upper + shift)


def _ravel(term: xr.DataArray) -> Floats:
    return np.ascontiguousarray(term.transpose(BUS, PERIOD).values, dtype=float).ravel()


def read_clearing(market: BalancingMarket, grid: LinDistFlow) -> ClearingProgram:
    """Build the clearing of all feeders and periods of a market once.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, prices.
    grid : LinDistFlow
        Sides of the rating polygon.
    """
    import linopy

    with linopy.options as options:
        options.set_value(semantics="v1")
        nothing = xr.DataArray(0.0, coords={FEEDER: market.feeder_names, PERIOD: market.periods}, dims=(FEEDER, PERIOD))
        model = clearing_model(market, lossless(market.feeders), nothing, grid)
        model.add_objective(clearing_cost(model, market, market.bids.data.price))
        program = program_of(model)
        columns = _columns(model, market, program)
        row, branch, weight = _current_terms(model, market, program, grid)
        matrix = _with_places(program.matrix, row, columns[:, branch])
        roots = model.constraints["Interface-balance"].labels
        at_root = roots.sel({BUS: market.feeders.roots.to_numpy()}).transpose(BUS, PERIOD).values
        interface = np.searchsorted(program.rows, at_root)
        at, given, drawn = _support_places(model, market, program, interface)
        matrix = _with_places(matrix, given.ravel(), drawn.reshape(len(SUPPORT), -1))
        return ClearingProgram(
            model=model,
            program=replace(program, matrix=matrix),
            ranks=_ranks(model, market, program),
            row=row,
            branch=branch,
            weight=weight,
            entry=_entries(matrix, row, columns[:, branch]),
            interface=interface,
            case=_cases(model, market, program.columns),
            support=None if at.empty else SupportTerms(market.feeders, at, _entries(matrix, given, drawn)),
        )


def _columns(model: linopy.Model, market: BalancingMarket, program: Program) -> Ints:
    """Return the columns of P, Q and w_m of every branch and period, (3, branch·period)."""
    branches, parents = market.feeders.branches, market.feeders.parents
    above = pd.Index(parents.loc[branches].to_numpy())
    at: dict[str, pd.Index] = {"Line-p": branches, "Line-q": branches, "Bus-v_sq": above}
    labels = [model.variables[name].labels.transpose(BUS, PERIOD) for name in at]
    found = [
        label.values[positions(label.indexes[BUS], where)].ravel()
        for label, where in zip(labels, at.values(), strict=True)
    ]
    return np.searchsorted(program.columns, np.stack(found))


def _support_places(
    model: linopy.Model, market: BalancingMarket, program: Program, interface: Ints
) -> tuple[pd.Series, Ints, Ints]:
    """Return who gives support, its rows of the interface (resource, period), and its columns (2, resource, period)."""
    at, periods = supporters(market), len(market.periods)
    if at.empty:
        nowhere = np.zeros((0, periods), dtype=np.int64)
        return at, nowhere, np.zeros((len(SUPPORT), 0, periods), dtype=np.int64)
    labels = np.stack([model.variables[name].labels.transpose(RESOURCE, PERIOD).values for name in SUPPORT])
    owner = positions(market.feeder_names, market.feeders.feeder_of.loc[at.to_numpy()].to_numpy())
    return at, interface[owner], np.searchsorted(program.columns, labels)


def _cases(model: linopy.Model, market: BalancingMarket, columns: Ints) -> Ints:
    """Return the feeder and period of every column, as a position in a raveled (feeder, period) array."""
    names, bids = market.feeder_names, market.bids.data
    owner = {BUS: market.feeders.feeder_of, BID: pd.Series(bids.bid_feeder.values, index=bids.indexes[BID])}
    if market.resources is not None:
        owner[RESOURCE] = pd.Series(market.resources.data.resource_feeder.values, index=market.resources.labels)
    case = np.zeros(len(columns), dtype=np.int64)
    for name in model.variables:
        variable = model.variables[name]
        dim = next(d for d in (FEEDER, BUS, BID, RESOURCE) if d in variable.dims)
        labels = variable.labels.transpose(dim, ..., PERIOD)
        of = labels.indexes[dim]
        feeder = np.asarray(positions(names, of if dim == FEEDER else owner[dim].loc[of].to_numpy()))
        periods = len(market.periods)
        at = (feeder * periods).reshape(-1, *[1] * (labels.ndim - 1)) + np.arange(periods)
        there = labels.values >= 0
        case[np.searchsorted(columns, labels.values[there])] = np.broadcast_to(at, labels.shape)[there]
    return case


def _current_terms(
    model: linopy.Model, market: BalancingMarket, program: Program, grid: LinDistFlow
) -> tuple[Ints, Ints, Floats]:
    """Return row, branch and coefficient of every squared current in the rows (1)–(4)."""
    branches, count = market.feeders.branches, len(market.periods)
    rows, branch, weights = [], [], []
    for name, weight in loss_coefficients(market.feeders, sides=grid.sides).items():
        labels = model.constraints[name].labels
        place = positions(branches, weight.indexes[BUS])
        at = xr.DataArray(
            place[:, None] * count + np.arange(count), dims=(BUS, PERIOD),
            coords={BUS: weight.indexes[BUS], PERIOD: market.periods},
        )  # fmt: skip
        of, at, labels = xr.broadcast(bare(weight), at, labels.sel({BUS: weight.indexes[BUS]}))
        held = of.values.ravel() != 0
        rows.append(np.searchsorted(program.rows, labels.values.ravel()[held]))
        branch.append(at.values.ravel()[held])
        weights.append(of.values.ravel()[held])
    return np.concatenate(rows), np.concatenate(branch), np.concatenate(weights)


def _with_places(matrix: csr_array, row: Ints, columns: Ints) -> csr_array:
    """Return the matrix with an entry, 0 where there was none, at every place that losses fill."""
    old = coo_array(matrix)
    rows = np.concatenate([old.row, np.tile(row, len(columns))])
    every = np.concatenate([old.col, columns.ravel()])
    data = np.concatenate([old.data, np.zeros(columns.size)])
    filled = csr_array((data, (rows, every)), shape=matrix.shape)
    filled.sum_duplicates()
    return filled


def _entries(matrix: csr_array, row: Ints, columns: Ints) -> Ints:
    """Return where entries stand in the data of a matrix with sorted columns: (term,), (k, term) → (k, term)."""
    width = matrix.shape[1]
    every = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)).astype(np.int64) * width + matrix.indices
    return np.searchsorted(every, row.astype(np.int64) * width + columns)


def _ranks(model: linopy.Model, market: BalancingMarket, program: Program) -> list[Floats]:
    """Return the tie rule's costs by column."""
    ranks = []
    for weights in tie_costs(model, market).values():
        cost = np.zeros(len(program.columns))
        for name, weight in weights.items():
            labels = model.variables[name].labels
            at = np.searchsorted(program.columns, labels.values.ravel())
            cost[at] = weight.transpose(*labels.dims).values.ravel()
        ranks.append(cost)
    return ranks
