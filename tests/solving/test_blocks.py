"""Programs read out of linopy, split into blocks, and put together again."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import InfeasibleError
from hiermarket.solving.blocks import components, solve_blocks, split
from hiermarket.solving.program import program_of, write_back

HOUR = pd.Index([1, 2, 3], name="hour")


def model_of(need=(4.0, 5.0, 6.0), *, sparse=False, scaling=1.0):
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = linopy.Model(sparse=sparse)
        p = model.add_variables(lower=0, upper=6, coords=[HOUR], scaling=scaling, name="p")
        q = model.add_variables(lower=0, upper=6, coords=[HOUR], name="q")
        rhs = xr.DataArray(list(need), coords=[HOUR])
        model.add_constraints(p + q >= rhs, scaling=scaling, name="need")
        model.add_objective((2 * p + 3 * q).sum())
        return model


@pytest.mark.parametrize("sparse", [False, True])
def test_each_hour_is_a_block_and_the_whole_is_their_sum(sparse):
    program = program_of(model_of(sparse=sparse))
    assert components(program).tolist() == [0, 1, 2, 0, 1, 2]
    answers = solve_blocks(program)
    assert answers.optimal
    assert answers.objective == pytest.approx([8.0, 10.0, 12.0])
    assert answers.dual == pytest.approx([2.0, 2.0, 2.0])
    assert len({block.structure for block in split(program)}) == 1


def test_one_infeasible_block_sinks_only_itself():
    answers = solve_blocks(program_of(model_of(need=(4.0, 50.0, 6.0))))
    assert not answers.optimal
    assert answers.objective[[0, 2]] == pytest.approx([8.0, 12.0])
    assert np.isnan(answers.x[[1, 4]]).all()
    with pytest.raises(InfeasibleError) as raised:
        answers.require("The clearing", lambda block: f"hour={HOUR[block]}")
    assert raised.value.where == "hour=2"


def test_scaling_factors_can_be_undone():
    plain, scaled = program_of(model_of()), program_of(model_of(scaling=10.0), scaled=False)
    assert scaled.matrix.toarray() == pytest.approx(plain.matrix.toarray())
    assert scaled.row_lower == pytest.approx(plain.row_lower)
    assert scaled.upper == pytest.approx(plain.upper)
    assert scaled.cost == pytest.approx(plain.cost)
    assert program_of(model_of(scaling=10.0)).upper[0] == pytest.approx(60.0)


@pytest.mark.parametrize("scaling", [1.0, 10.0])
def test_what_is_written_back_is_found_by_label(scaling):
    model = model_of(scaling=scaling)
    program = program_of(model)
    answers = solve_blocks(program)
    write_back(model, program, answers.x, answers.dual, float(answers.objective.sum()))
    assert model.variables["p"].solution.sel(hour=2) == pytest.approx(5.0)
    assert model.constraints["need"].dual.sel(hour=3) == pytest.approx(2.0)


def test_quadratic_terms_join_blocks():
    model = model_of()
    with linopy.options as options:
        options.set_value(semantics="v1")
        p = model.variables["p"]
        joined = p.sel(hour=1, drop=True) * p.sel(hour=2, drop=True)
        model.add_objective((2 * p).sum() + (p * p).sum() + joined, overwrite=True)
        assert components(program_of(model)).tolist() == [0, 0, 1, 0, 0, 1]
