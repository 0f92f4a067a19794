"""HiGHS behind its door: outcomes that can be believed, hot starts, quadratic problems."""

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array

from hiermarket.errors import InfeasibleError, ModelError, UnboundedError
from hiermarket.solving.program import Program
from hiermarket.solving.solver import Outcome, Session, SolverOptions

INF = np.inf


def program(cost, rows, low, high, lower, upper, *, quadratic=None, integer=None, minimise=True):
    count = len(cost)
    return Program(
        cost=np.array(cost, dtype=float),
        quadratic=None if quadratic is None else csc_array(np.array(quadratic, dtype=float)),
        matrix=csr_array(np.array(rows, dtype=float).reshape(len(low), count)),
        row_lower=np.array(low, dtype=float),
        row_upper=np.array(high, dtype=float),
        lower=np.array(lower, dtype=float),
        upper=np.array(upper, dtype=float),
        integer=np.zeros(count, dtype=bool) if integer is None else np.array(integer),
        columns=np.arange(count),
        rows=np.arange(len(low)),
        minimise=minimise,
    )


def test_an_unbounded_problem_is_not_called_infeasible():
    """Presolve of HiGHS 1.15 calls this one infeasible; it is unbounded along columns 4 and 6."""
    rows = [
        [2, -2, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, -1, 0],
        [0, 0, 0, 0, 1, 1, 0, 1],
    ]
    problem = program(
        [2, -3, -3, 1, 1, 1, 0, 0],
        rows,
        [6, -INF, 1, 3],
        [INF, 5, 1, 3],
        [-3, -3, -2, -INF, -INF, 0, 0, 0],
        [4, 4, INF, 3, 0, INF, INF, INF],
    )
    answer = Session(problem).solve()
    assert answer.outcome is Outcome.UNBOUNDED
    with pytest.raises(UnboundedError) as raised:
        answer.require("The problem", "here")
    assert raised.value.where == "here"


def test_an_infeasible_problem_is_named():
    problem = program([1], [[1]], [5], [INF], [0], [3])
    with pytest.raises(InfeasibleError) as raised:
        Session(problem).solve().require("The problem", "bus=7")
    assert (raised.value.what, raised.value.where) == ("The problem", "bus=7")


@pytest.mark.parametrize("minimise", [True, False])
def test_duals_are_derivatives_in_the_programs_own_sense(minimise):
    sign = 1.0 if minimise else -1.0
    problem = program([sign * 2, sign * 5], [[1, 1]], [3], [INF], [0, 0], [2, 9], minimise=minimise)
    answer = Session(problem).solve()
    assert answer.objective == pytest.approx(sign * 9)
    assert answer.dual == pytest.approx([sign * 5])
    assert answer.reduced_cost == pytest.approx([sign * -3, 0])


def test_hot_starts_give_what_cold_starts_give():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 4, (6, 9))
    session = Session(program(np.ones(9), rows, np.full(6, 5), np.full(6, INF), np.zeros(9), np.full(9, 4)))
    for _ in range(20):
        cost, lower = rng.uniform(-1, 3, 9), rng.uniform(0, 1, 9)
        session.change_cost(np.arange(9), cost)
        session.change_bounds(np.arange(9), lower, np.full(9, 4.0))
        session.change_row_bounds(np.arange(6), np.full(6, rng.uniform(1, 9)), np.full(6, INF))
        hot = session.solve()
        assert hot.optimal
        low = session._highs.getLp().row_lower_
        cold = Session(program(cost, rows, low, np.full(6, INF), lower, np.full(9, 4))).solve()
        assert hot.objective == pytest.approx(cold.objective, abs=1e-9)


def test_the_time_limit_is_that_of_one_solve():
    """HiGHS adds up the time of all runs of an instance; a session is not stopped by its own age."""
    problem = program([-1, -1], [[1, 2]], [-INF], [4], [0, 0], [9, 9])
    session = Session(problem, SolverOptions(time_limit=0.05))
    for step in range(400):
        session.change_cost(np.arange(2), np.array([-1.0, -1.0 - step]))
        assert session.solve().optimal


def test_quadratic_optima_are_not_moved():
    """min (x − 8/3)² − …: regularisation of 1e-7 would show in the seventh digit."""
    problem = program([-16 / 3, 0], [[1, 1]], [5], [5], [-INF, -INF], [INF, INF], quadratic=[[2, 0], [0, 0]])
    answer = Session(problem).solve()
    assert answer.x == pytest.approx([8 / 3, 7 / 3], abs=1e-8)


def test_an_unbounded_quadratic_problem_has_no_optimum():
    problem = program([0, -3], [[1, 0]], [-INF], [4], [-INF, -INF], [INF, INF], quadratic=[[2, 0], [0, 0]])
    assert not Session(problem).solve().optimal


def test_integers_with_a_quadratic_objective_are_refused():
    problem = program([1], [[1]], [0], [3], [0], [3], quadratic=[[1]], integer=[True])
    with pytest.raises(ModelError) as raised:
        Session(problem)
    assert raised.value.where == "1 integer columns"


def test_an_option_that_the_solver_ignores_is_told():
    with pytest.raises(ModelError) as raised:
        Session(program([1], [[1]], [0], [3], [0], [3]), SolverOptions(feasibility=1e-12))
    assert raised.value.where == "SolverOptions"
