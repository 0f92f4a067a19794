"""Problems without an answer: which error, which labels it names, and what a limit leaves behind."""

import linopy
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.errors import (
    CertificateError,
    FollowerInfeasibleError,
    InfeasibleError,
    LimitReachedError,
    UnboundedError,
)
from hiermarket.solving.solver import SolverOptions

HOUR = pd.Index([1, 2], name="hour")
WAYS = [bl.Auto(), bl.Branching(), bl.BigM(dual=1e3, primal=1e3)]
by_way = pytest.mark.parametrize("way", WAYS, ids=["auto", "branching", "big-m"])


@by_way
def test_a_follower_without_a_feasible_decision(way):
    """At most 4 of 6 can be brought in the second hour, whatever the leader adds."""
    model = linopy.Model()
    x = model.add_variables(0, 1, coords=[HOUR], name="x")
    p = model.add_variables(0, 3, coords=[HOUR], name="p")
    need = model.add_constraints(p + x >= xr.DataArray([2.0, 6.0], coords=[HOUR]), name="need")
    mpec = bl.kkt(model, bl.Follower([p], [need], p.sum()))
    with pytest.raises(FollowerInfeasibleError) as told:
        bl.solve(mpec.minimise(x.sum()), way)
    assert told.value.where == "hour=2"
    assert "need[hour=2]" in told.value.status
    assert "need[hour=1]" not in told.value.status
    assert "recourse" in told.value.remedy


@by_way
def test_leader_rows_that_contradict(way):
    model = linopy.Model()
    x, p = model.add_variables(0, 9, name="x"), model.add_variables(0, 3, name="p")
    need = model.add_constraints(p + x >= 2, name="need")
    model.add_constraints(1 * x <= 4, name="budget")
    model.add_constraints(x + p >= 8, name="promise")
    mpec = bl.kkt(model, bl.Follower([p], [need], 1 * p))
    with pytest.raises(InfeasibleError) as told:
        bl.solve(mpec.minimise(1 * x), way)
    assert not isinstance(told.value, FollowerInfeasibleError)
    assert "leader's rows" in told.value.status
    assert "budget" in told.value.status or "promise" in told.value.status


@by_way
def test_a_follower_whose_cost_falls_without_end(way):
    model = linopy.Model()
    x, p, q = (model.add_variables(0, most, name=name) for name, most in (("x", 5), ("p", float("inf")), ("q", 4)))
    need = model.add_constraints(p - q + x >= 1, name="need")
    mpec = bl.kkt(model, bl.Follower([p, q], [need], -2 * p + q))
    with pytest.raises(FollowerInfeasibleError) as told:
        bl.solve(mpec.minimise(1 * x), way)
    assert "without end" in told.value.status
    assert "stationarity-p" in told.value.status
    assert "Bound" in told.value.remedy


@by_way
def test_no_optimal_answer_satisfies_the_leader(way):
    """The follower keeps y as large as it may, 3; the leader's row asks for 2 at most."""
    model = linopy.Model()
    x, y = model.add_variables(0, 1, name="x"), model.add_variables(0, 9, name="y")
    most = model.add_constraints(y - x <= 3, name="most")
    model.add_constraints(1 * y <= 2, name="wish")
    mpec = bl.kkt(model, bl.Follower([y], [most], -1 * y))
    with pytest.raises(InfeasibleError) as told:
        bl.solve(mpec.minimise(1 * x), way)
    assert not isinstance(told.value, FollowerInfeasibleError)
    assert "no optimal answer" in told.value.status
    assert "wish" in told.value.status


@pytest.mark.parametrize("way", WAYS[:2], ids=["auto", "branching"])
def test_an_unbounded_leader(way):
    model = linopy.Model()
    x, y = model.add_variables(0, name="x"), model.add_variables(0, name="y")
    least = model.add_constraints(y - x >= 0, name="least")
    mpec = bl.kkt(model, bl.Follower([y], [least], 1 * y))
    with pytest.raises(UnboundedError) as told:
        bl.solve(mpec.maximise(y + x), way)
    assert "x" in told.value.where
    assert "Bound" in told.value.remedy


def of_two_hours(*, second):
    """A leader without bound in the first hour; in the second a follower with `second` to serve by 3 at most."""
    model = linopy.Model()
    x = model.add_variables(0, coords=[HOUR], name="x")
    p = model.add_variables(0, xr.DataArray([float("inf"), 3.0], coords=[HOUR]), coords=[HOUR], name="p")
    need = model.add_constraints(p - xr.DataArray([1.0, 0.0], coords=[HOUR]) * x >= [0, second], name="need")
    model.add_constraints(x.sel(hour=2) <= 1, name="cap")
    return bl.kkt(model, bl.Follower([p], [need], p.sum())).maximise(x.sum())


def test_an_infeasible_part_beside_an_unbounded_one():
    """What is infeasible in one part is infeasible as a whole, whatever the others are."""
    with pytest.raises(UnboundedError) as told:
        bl.solve(of_two_hours(second=2))
    assert told.value.where == "hour=1"
    with pytest.raises(FollowerInfeasibleError) as told:
        bl.solve(of_two_hours(second=5))
    assert told.value.where == "hour=2"
    assert "need[hour=2]" in told.value.status


@pytest.fixture(scope="module")
def knapsack():
    """A leader who pays for capacity of thirty units; enough pairs that a few nodes do not decide it."""
    with linopy.options as options:
        options.set_value(semantics="v1")
        unit = pd.RangeIndex(30, name="unit")
        number = xr.DataArray(range(30), coords=[unit])
        model = linopy.Model()
        tax = model.add_variables(0, 9, coords=[unit], name="tax")
        p = model.add_variables(0, 3 + number % 5, coords=[unit], name="p")
        need = model.add_constraints(p.sum() >= 60, name="need")
        budget = model.add_constraints(((1 + number % 3) * p).sum() <= 120, name="budget")
        cost = ((10 + 7 * number % 13) * p).sum() + (tax * p).sum()
        mpec = bl.kkt(model, bl.Follower([p], [need, budget], cost))
        return mpec.minimise((((number * 5) % 11 - 5) * p).sum() + (0.3 * tax).sum())


def test_a_node_limit_carries_the_incumbent(knapsack):
    with pytest.raises(LimitReachedError) as stopped:
        bl.solve(knapsack, bl.Branching(node_limit=4))
    incumbent = stopped.value.incumbent
    assert isinstance(incumbent, bl.Solution)
    assert incumbent.status == "limit reached"
    assert incumbent["p"].sum() >= 60 - 1e-6
    certificate = incumbent.certificate
    assert not certificate.ok
    # nothing is wrong with the point itself
    assert certificate["complementarity"].ok
    assert certificate["follower's regret"].ok
    with pytest.raises(CertificateError) as refused:
        certificate.require()
    assert refused.value.failures
    assert "incumbent" in stopped.value.remedy


def test_the_incumbent_is_no_better_than_the_optimum(knapsack):
    with pytest.raises(LimitReachedError) as stopped:
        bl.solve(knapsack, bl.Branching(node_limit=4))
    optimum = bl.solve(knapsack)
    optimum.certificate.require()
    assert stopped.value.incumbent.objective >= optimum.objective - 1e-6


def test_a_time_limit_without_a_point(knapsack):
    with pytest.raises(LimitReachedError) as stopped:
        bl.solve(knapsack, bl.BigM(dual=1e3), options=SolverOptions(time_limit=1e-6))
    assert stopped.value.incumbent is None or not stopped.value.incumbent.certificate.ok
