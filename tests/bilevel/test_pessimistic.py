"""The leader's worst value where followers are indifferent, by hand and against the follower's optimal vertices."""

import itertools
from math import inf

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl


def pessimistic(mpec):
    solution = bl.solve(mpec)
    solution.certificate.require()
    return solution.objective, solution.certificate.pessimistic


def equal_offers():
    """4 MW at an offer that meets the rival's 20, and 3 MW wanted: all of it is ours, or nothing."""
    model = linopy.Model()
    offer = model.add_variables(0, 20, name="offer")
    ours, rival = model.add_variables(0, 4, name="ours"), model.add_variables(0, 9, name="rival")
    need = model.add_constraints(ours + rival == 3, name="need")
    mpec = bl.kkt(model, bl.Follower([ours, rival], [need], offer * ours + 20 * rival))
    return mpec, bl.dual_times_primal(mpec, "need", ours) - 5 * ours


def test_equal_offers():
    mpec, profit = equal_offers()
    value, worst = pessimistic(mpec.maximise(profit))
    assert value == pytest.approx(45.0)
    assert worst.value == pytest.approx(0.0)
    assert worst.note == ""


def test_a_leader_who_minimises():
    mpec, profit = equal_offers()
    value, worst = pessimistic(mpec.minimise(-profit))
    assert (value, worst.value) == pytest.approx((-45.0, 0.0))


def test_a_follower_that_is_not_indifferent():
    mpec, _ = equal_offers()
    value, worst = pessimistic(mpec.minimise(mpec.variables["offer"] + mpec.variables["ours"] * 1))
    # offer 0 is 3 MW of ours; above 20 there is none: the least is at the tie or at zero
    assert worst.value >= value - 1e-7


def test_duals_that_are_not_unique():
    """4 MW wanted, exactly what the unit at 10 has: the price is anything from 10 to 30."""
    model = linopy.Model()
    g, h = model.add_variables(0, 4, name="g"), model.add_variables(0, 9, name="h")
    need = model.add_constraints(g + h == 4, name="need")
    mpec = bl.kkt(model, bl.Follower([g, h], [need], 10 * g + 30 * h))
    value, worst = pessimistic(mpec.maximise(1 * mpec.dual["need"]))
    assert (value, worst.value) == pytest.approx((30.0, 10.0))
    value, worst = pessimistic(mpec.minimise(1 * mpec.dual["need"]))
    assert (value, worst.value) == pytest.approx((10.0, 30.0))


def test_a_price_without_end():
    """Nothing else could serve: the price has no upper end, and a leader who pays it no worst case."""
    model = linopy.Model()
    g = model.add_variables(0, 4, name="g")
    need = model.add_constraints(1 * g >= 4, name="need")
    mpec = bl.kkt(model, bl.Follower([g], [need], 10 * g))
    value, worst = pessimistic(mpec.minimise(1 * mpec.dual["need"]))
    assert (value, worst.value) == pytest.approx((10.0, inf))
    assert pessimistic(mpec.maximise(-1 * mpec.dual["need"]))[1].value == -inf


def test_a_quadratic_cost_with_a_flat_direction():
    """(a + b − x)² does not tell a from b: with x = 3 any a from 0 to 2 and b = 3 − a."""
    model = linopy.Model()
    x = model.add_variables(3, 3, name="x")
    a, b = model.add_variables(0, 2, name="a"), model.add_variables(0, 5, name="b")
    row = model.add_constraints(a + b <= 6, name="row")
    cost = a * a + 2 * (a * b) + b * b - 2 * (x * a) - 2 * (x * b)
    mpec = bl.kkt(model, bl.Follower([a, b], [row], cost))
    value, worst = pessimistic(mpec.maximise(2 * a + b))
    assert (value, worst.value) == pytest.approx((5.0, 3.0), abs=1e-5)


def test_followers_that_answer_one_another():
    model = linopy.Model()
    x = model.add_variables(0, 2, name="x")
    a, b = model.add_variables(0, 5, name="a"), model.add_variables(0, 5, name="b")
    first = model.add_constraints(a + b >= 1, name="first")
    second = model.add_constraints(b - a + x >= 0, name="second")
    mpec = bl.kkt(model, [bl.Follower([a], [first], 1 * a), bl.Follower([b], [second], 1 * b)])
    _, worst = pessimistic(mpec.minimise(a + b))
    assert worst.value is None
    assert "answer one another" in worst.note


def test_a_quadratic_leader():
    model = linopy.Model()
    x, a = model.add_variables(0, 2, name="x"), model.add_variables(0, 5, name="a")
    row = model.add_constraints(a + x >= 1, name="row")
    solution = bl.solve(bl.kkt(model, bl.Follower([a], [row], 1 * a)).minimise(x * x + a))
    assert solution.certificate.pessimistic.value is None
    assert "linear" in str(solution.certificate)


def test_leader_rows_on_the_answer_are_not_asked_for():
    """The leader's row ours ≥ 1 holds for the optimum; the worst answer may break it, which the note says."""
    model = linopy.Model()
    ours, rival = model.add_variables(0, 4, name="ours"), model.add_variables(0, 9, name="rival")
    need = model.add_constraints(ours + rival == 3, name="need")
    model.add_constraints(1 * ours >= 1, name="wish")
    mpec = bl.kkt(model, bl.Follower([ours, rival], [need], 20 * ours + 20 * rival))
    value, worst = pessimistic(mpec.maximise(1 * ours))
    assert (value, worst.value) == pytest.approx((3.0, 0.0))
    assert "not asked for" in worst.note


def vertices(A, b, upper):
    """All vertices of A a = b, 0 ≤ a ≤ upper: a basis of m columns, the others at a bound."""
    m, n = A.shape
    for basis in itertools.combinations(range(n), m):
        inside = A[:, basis]
        if abs(np.linalg.det(inside)) < 1e-9:
            continue
        others = [j for j in range(n) if j not in basis]
        for at in itertools.product((0, 1), repeat=len(others)):
            a = np.zeros(n)
            a[others] = np.array(at) * upper[others]
            a[list(basis)] = np.linalg.solve(inside, b - A[:, others] @ a[others])
            if (a >= -1e-9).all() and (a <= upper + 1e-9).all():
                yield a


@pytest.mark.parametrize("seed", range(12))
def test_against_the_optimal_vertices(seed):
    """Costs of 1 and 2 only make ties; the leader decides nothing, so that both values are the follower's face."""
    rng = np.random.default_rng(seed)
    n, m = 5, 2
    A = np.hstack([np.eye(m), rng.integers(0, 3, (m, n - m))])
    upper = rng.integers(1, 4, n).astype(float)
    b = A @ (upper * rng.choice([0.0, 0.5, 1.0], n))
    cost = A.T @ rng.integers(0, 3, m) + (rng.random(n) < 0.3)
    weight = rng.integers(-4, 5, n).astype(float)
    found = np.array([*vertices(A, b, upper)])
    values = found @ cost
    optimal = found[values <= values.min() + 1e-9] @ weight

    unit, row = pd.RangeIndex(n, name="unit"), pd.RangeIndex(m, name="row")
    model = linopy.Model()
    a = model.add_variables(0, xr.DataArray(upper, [unit]), name="a")
    rows = (xr.DataArray(A, [row, unit]) * a).sum("unit") == xr.DataArray(b, [row])
    follower = bl.Follower([a], [model.add_constraints(rows, name="rows")], (xr.DataArray(cost, [unit]) * a).sum())
    value, worst = pessimistic(bl.kkt(model, follower).minimise((xr.DataArray(weight, [unit]) * a).sum()))
    assert (value, worst.value) == pytest.approx((optimal.min(), optimal.max()), abs=1e-6)
