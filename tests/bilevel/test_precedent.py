"""Parts of one structure are lined up, and each starts from what its neighbour ended with."""

from dataclasses import replace

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.precedent import Precedent, in_order
from hiermarket.bilevel.problem import problem_of
from hiermarket.bilevel.sides import Side
from hiermarket.errors import InfeasibleError
from hiermarket.solving.solver import SolverOptions

COST = xr.DataArray([0.0, 20.0, 30.0, 50.0], coords=[pd.Index(["ours", "first", "second", "dear"], name="unit")])
SIZE = xr.DataArray([4.0, 6.0, 5.0, 10.0], coords=[COST.indexes["unit"]])


def market(loads):
    """One seller at cost 10 with an offer up to 200 against three rivals, an hour a part."""
    load = xr.DataArray(loads, coords=[pd.RangeIndex(len(loads), name="hour")])
    model = linopy.Model()
    offer = model.add_variables(0, 200, coords=[load.indexes["hour"]], name="offer")
    p = model.add_variables(0, SIZE, coords=[COST.indexes["unit"], load.indexes["hour"]], name="p")
    balance = model.add_constraints(p.sum("unit") == load, name="balance")
    ours = p.sel(unit="ours", drop=True)
    mpec = bl.kkt(model, bl.Follower([p], [balance], cost=(COST * p).sum() + (offer * ours).sum()))
    own = mpec.variables["p"].sel(unit="ours")
    return mpec.maximise(bl.dual_times_primal(mpec, dual="balance", primal=own) - 10 * own.sum())


def profit(load):
    """The seller's best: at a rival's cost, or at the cap where nobody else can serve."""
    sizes, costs = SIZE.values[1:], COST.values[1:]
    best = 0.0
    for price in (*costs, 200.0):
        volume = min(4.0, load - sizes[costs < price].sum())
        if volume >= 0 and load - volume <= sizes[costs <= price].sum():
            best = max(best, volume * (price - 10))
    return best


LOADS = [9.0, 22.0, 3.0, 14.0, 9.5, 24.5, 12.0, 3.5, 14.5, 22.5]


def test_neighbours_are_alike():
    """Hours come in the order of their loads, up or down."""
    parts = problem_of(market(LOADS)).parts
    order = [LOADS[part.number] for part, _ in in_order(parts)]
    assert order in (sorted(LOADS), sorted(LOADS, reverse=True))
    assert len({structure for _, structure in in_order(parts)}) == 1


def test_every_part_is_answered_and_proved():
    solution = bl.solve(market(LOADS))
    assert solution.objective == pytest.approx(sum(map(profit, LOADS)), rel=1e-9)
    solution.certificate.require()


@pytest.mark.parametrize("load", LOADS)
def test_a_precedent_changes_no_answer(load):
    """Whatever a neighbour teaches: the same optimum, proved as well."""
    part, other = problem_of(market([load, 17.0])).parts
    options = SolverOptions()
    alone = Branching().solve(part, options)
    count = len(part.pairs)
    # leaves by branching on one pair after the other: silent, or tight and the rest open
    leaves = [np.full(count, Side.OPEN)]
    for pair in range(count):
        last = leaves.pop()
        for side in (Side.SLACK_ZERO, Side.MULTIPLIER_ZERO):
            leaf = last.copy()
            leaf[pair] = side
            leaves.append(leaf)
    for sides in (np.full(count, Side.SLACK_ZERO), np.full(count, Side.MULTIPLIER_ZERO)):
        for taught in ((), tuple(leaves)):
            taught_by = Branching().solve(other, options)
            x, session = taught_by.x, taught_by.session
            precedent = Precedent(x, sides, taught, session)
            found = Branching().solve(replace(part, precedent=precedent), options)
            assert found.objective == pytest.approx(alone.objective, rel=1e-9)
            assert found.bound == pytest.approx(alone.objective, rel=1e-6)


def test_the_first_infeasible_part_is_reported():
    """Loads of 30 and of 40 cannot be served by 25: hour 1 comes before hour 3."""
    with pytest.raises(InfeasibleError) as raised:
        bl.solve(market([9.0, 40.0, 12.0, 30.0]))
    assert "hour=1" in raised.value.where
