"""Clearings with decisions that are whole or not at all: an LP where it is exact, else a MILP priced by an LP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, PERIOD
from hiermarket.solving.blocks import BlockSolver
from hiermarket.solving.solver import Outcome
from hiermarket.stages.resource_check import kept_by_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.blocks import BlockAnswers
    from hiermarket.solving.program import Floats, Program
    from hiermarket.stages.clearing_program import ClearingProgram

    Bools = NDArray[np.bool_]


def relaxed(program: Program) -> Program:
    """Return a program without integrality."""
    return replace(program, integer=np.zeros_like(program.integer))


def solve_whole(
    program: Program,
    blocks: BlockSolver,
    asked: Bools,
    then: Sequence[Floats],
    is_untrue: Callable[[Floats], Bools],
) -> BlockAnswers:
    """Solve the blocks of a program that are asked for, whatever is integer in them.

    Parameters
    ----------
    program : Program
        With integer columns, or without any.
    blocks : BlockSolver
        Of the relaxed program.
    asked : bool array (block,)
        Which blocks.
    then : sequence of (n,) arrays
        Further costs by column, in order of rank.
    is_untrue : callable
        Says of a point of the relaxed program at which columns it breaks what the integer
        columns stand for.

    Returns
    -------
    BlockAnswers
        A block whose LP keeps all conditions is answered by it: a relaxation whose optimum is
        feasible. For any other one, a MILP finds the decisions; with these fixed, the LP gives
        volumes by the tie rule, and prices.

    References
    ----------
    R. P. O'Neill, P. M. Sotkiewicz, B. F. Hobbs, M. H. Rothkopf, W. R. Stewart, "Efficient
    market-clearing prices in markets with nonconvexities", European Journal of Operational
    Research 164(1), 2005, doi 10.1016/j.ejor.2003.12.011.
    """
    plain = relaxed(program)
    answers = blocks.solve(plain, wanted=asked, then=then)
    if not program.integer.any():
        return answers
    optimal = np.array([outcome is Outcome.OPTIMAL for outcome in answers.outcome])
    wrong = np.zeros(blocks.count, dtype=bool)
    wrong[blocks.of_column[is_untrue(answers.x)]] = True
    again = asked & optimal & wrong
    if not again.any():
        return answers
    whole = BlockSolver(program, blocks.options, blocks.of_column).solve(wanted=again)
    found = again & np.array([outcome is Outcome.OPTIMAL for outcome in whole.outcome])
    decisions = np.where(program.integer & found[blocks.of_column], np.round(whole.x), np.nan)
    known = np.isfinite(decisions)
    fixed = replace(
        plain,
        lower=np.where(known, decisions, plain.lower),
        upper=np.where(known, decisions, plain.upper),
    )
    priced = blocks.solve(fixed, wanted=found, then=then)
    return _put(answers, whole, priced, again, found, program)


def untrue_clearing(market: BalancingMarket, built: ClearingProgram) -> Callable[[Floats], Bools]:
    """Return what tells at which columns of a clearing resources or minimum volumes are not kept."""
    labels = built.model.variables["Bid-activation"].labels.transpose(BID, PERIOD)
    at = np.searchsorted(built.program.columns, labels.values)

    def is_untrue(x: Floats) -> Bools:
        coords = {dim: labels.indexes[dim] for dim in labels.dims}
        kept = kept_by_all(market, xr.DataArray(x[at], coords=coords, dims=labels.dims))
        untrue: Bools = ~kept.ravel()[built.case]
        return untrue

    return is_untrue


def _put(
    first: BlockAnswers, whole: BlockAnswers, priced: BlockAnswers, again: Bools, found: Bools, program: Program
) -> BlockAnswers:
    """Put the answers of some blocks in the place of their first ones."""
    of_column = first.block_of_column
    column = again[of_column]
    # a row is where its first column is
    lengths = np.diff(program.matrix.indptr)
    row = np.zeros(len(lengths), dtype=bool)
    row[lengths > 0] = column[program.matrix.indices[program.matrix.indptr[:-1][lengths > 0]]]
    pick = {number: priced if found[number] else whole for number in np.flatnonzero(again)}
    outcome, status = list(first.outcome), list(first.status)
    for number, answer in pick.items():
        outcome[number], status[number] = answer.outcome[number], answer.status[number]
    return replace(
        first,
        x=np.where(column, priced.x, first.x),
        dual=np.where(row, priced.dual, first.dual),
        reduced_cost=np.where(column, priced.reduced_cost, first.reduced_cost),
        objective=np.where(again, priced.objective, first.objective),
        outcome=outcome,
        status=status,
        work=first.work + whole.work + priced.work,
        undecided=np.union1d(first.undecided, priced.undecided),
    )
