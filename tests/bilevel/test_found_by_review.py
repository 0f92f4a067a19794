"""Problems at which an independent calculation once found a wrong answer told as right, or a false error."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.errors import ModelError, NumericalError, UnboundedError


def two_prices(size):
    """A trap: with bounds that are declared too small the binary z cannot be 1, which costs 1e4."""
    rng = np.random.default_rng(0)
    model, i = linopy.Model(), pd.RangeIndex(size, name="i")
    x = model.add_variables(0, 1, coords=[i], name="x")
    d, t = model.add_variables(0, 1, name="d"), model.add_variables(0, 9000, name="t")
    z, u = model.add_variables(binary=True, name="z"), model.add_variables(0, 1, name="u")
    model.add_constraints(t - 9000 * z >= 0, name="tz")
    p, q = model.add_variables(0, np.inf, name="p"), model.add_variables(0, 1, name="q")
    a = model.add_variables(0, 1, coords=[i], name="a")
    rows = [
        model.add_constraints(p + q - d >= 0, name="balance"),
        model.add_constraints(p - 3 * u <= 0, name="most"),
        model.add_constraints(a + x <= 1, name="up"),
        model.add_constraints(a - x <= 0, name="low"),
    ]
    weight = rng.integers(20, 60, size).astype(float)
    weighted = (xr.DataArray(weight, [i]) * x).sum()
    model.add_constraints(weighted + d <= weight.sum() / 2 + 0.87, name="link")
    follower = bl.Follower([p, q, a], rows, cost=10 * p + t * p + 1 * q - a.sum())
    return bl.kkt(model, follower).maximise(weighted - 200 * a.sum() + 1e4 * z - 0.01 * t)


def test_declared_bounds_that_are_too_small_are_never_certified():
    # from any point with z = 0: d = p = q = u = 0, t = 9000, z = 1 gains 1e4 − 90
    with pytest.raises(NumericalError):
        bl.solve(two_prices(12), bl.BigM(dual=50, primal=50))
    unproved = bl.solve(two_prices(3), bl.BigM(dual=50, primal=50, proof=bl.Branching(node_limit=1)))
    assert not unproved.certificate.ok
    assert bl.solve(two_prices(3)).objective == pytest.approx(9964.0)


@pytest.mark.parametrize("built", [0, 1])
def test_multipliers_of_bounds_stay_what_they_are_beside_products(built):
    model = linopy.Model()
    b = model.add_variables(binary=True, name="b")
    model.add_constraints(1 * b == built, name="fix")
    a = model.add_variables(0, 4, name="a")
    limit = model.add_constraints(1 * a <= 10, name="limit")
    mpec = bl.kkt(model, bl.Follower([a], [limit], cost=-3 * a, products={"limit": 1 * b * a}))
    for chosen in (mpec.minimise(1 * mpec.upper["a"]), mpec.maximise(1 * mpec.upper["a"])):
        assert bl.solve(chosen).objective == pytest.approx(3.0)


def test_a_small_concave_direction_beside_a_large_convex_one_is_refused():
    model = linopy.Model()
    x, a = model.add_variables(0, 1, name="x"), model.add_variables(-10, 10, name="a")
    z, w = model.add_variables(0, 1e4, name="z"), model.add_variables(0, 1e4, name="w")
    cost = 1e5 * a * a - 2e5 * x * a + 1e-5 * z * w - 0.06 * z - 0.05 * w + 1e-7 * a * z
    with pytest.raises(ModelError, match="not convex"):
        bl.kkt(model, bl.Follower([a, z, w], [], cost=cost))


def test_an_unbounded_problem_is_not_called_infeasible():
    j, i = pd.RangeIndex(3, name="j"), pd.RangeIndex(2, name="i")
    model = linopy.Model()
    x0 = model.add_variables(-np.inf, 4, name="x0")
    x1 = model.add_variables(-3, np.inf, name="x1")
    x2 = model.add_variables(-1, -1, name="x2")
    a = model.add_variables(xr.DataArray([-np.inf, 0, 1.0], [j]), xr.DataArray([3, 3, 1.0], [j]), name="a")
    own = xr.DataArray([[-0.3, 0, -0.2], [-0.001, -0.1, -0.002]], [i, j])
    of = [xr.DataArray(values, [i]) for values in ([0, 0.2], [-10.0, 0], [0, -0.1])]
    left = (own * a).sum("j") + of[0] * x0 + of[1] * x1 + of[2] * x2
    row = model.add_constraints(left <= xr.DataArray([50, -0.1], [i]), name="row")
    one = [a.isel(j=k, drop=True) for k in range(3)]
    cost = -3 * one[0] + 200 * one[1] + 3 * one[2] - 0.02 * (one[0] * x1) - 0.01 * (one[2] * x0)
    mpec = bl.kkt(model, bl.Follower([a], [row], cost=cost - 0.02 * (one[2] * x2), sense="max"))
    v, y = mpec.variables, [mpec.dual["row"].isel(i=k, drop=True) for k in range(2)]
    b = [v["a"].isel(j=k, drop=True) for k in range(3)]
    mpec.model.add_constraints(-v["x0"] - v["x1"] + b[0] + y[0] >= 7, name="L0")
    mpec.model.add_constraints(2 * v["x0"] + 2 * v["x1"] - v["x2"] + b[1] - b[2] + y[0] - y[1] <= 8, name="L1")
    assert bl.solve(mpec.minimise(0 * v["x0"])).certificate.ok
    with pytest.raises(UnboundedError):
        bl.solve(mpec.minimise(3 * v["x0"] + 2 * v["x1"] + 3 * v["x2"] - b[0] + 3 * b[1] - 3 * b[2]))


@pytest.mark.parametrize("lost", [100.0, 1e4, 1e5])
def test_a_price_difference_is_no_tie_however_large_the_value_of_lost_load(lost):
    model = linopy.Model()
    first, second = model.add_variables(0, 10, name="first"), model.add_variables(0, 10, name="second")
    unserved = model.add_variables(0, name="unserved")
    need = model.add_constraints(first + second + unserved == 7, name="need")
    cost = 40 * first + 40.0005 * second + lost * unserved
    mpec = bl.kkt(model, bl.Follower([first, second, unserved], [need], cost=cost))
    certificate = bl.solve(mpec.maximise(1 * first)).certificate
    assert certificate.unique
    assert certificate.pessimistic.value == pytest.approx(7.0)


def test_a_row_without_a_finite_side_asks_for_nothing():
    model, i = linopy.Model(), pd.RangeIndex(2, name="i")
    x = model.add_variables(0, 2, name="x")
    a = model.add_variables(0, 10, coords=[i], name="a")
    row = model.add_constraints(a - x <= xr.DataArray([1.0, np.inf], [i]), name="row")
    mpec = bl.kkt(model, bl.Follower([a], [row], cost=a.sum(), sense="max"))
    solution = bl.solve(mpec.maximise(a.sum()))
    assert solution.objective == pytest.approx(13.0)
    assert solution.duals["row"].values.tolist() == [1.0, 0.0]
    solution.certificate.require()


def test_products_that_are_all_zero_are_none():
    model = linopy.Model()
    b, a = model.add_variables(binary=True, name="b"), model.add_variables(0, 4, name="a")
    need = model.add_constraints(1 * a >= 2, name="need")
    mpec = bl.kkt(model, bl.Follower([a], [need], cost=1 * a, products={"need": 0 * (b * a)}))
    assert bl.solve(mpec.minimise(1 * a)).objective == pytest.approx(2.0)


def small():
    model = linopy.Model()
    x, y = model.add_variables(0, 10, name="x"), model.add_variables(0, 5, name="y")
    row = model.add_constraints(y + x >= 3, name="row")
    return model, x, bl.kkt(model, bl.Follower([y], [row], cost=7 * y))


def test_a_variable_that_came_after_kkt_is_not_taken_for_a_dual():
    model, x, mpec = small()
    chosen = mpec.maximise(0 * mpec.dual["row"] + x)
    late = model.add_variables(0, 1, name="late")
    for build in (lambda: mpec.maximise(0 * mpec.dual["row"] + late), lambda: bl.solve(chosen)):
        with pytest.raises(ModelError, match="after kkt") as raised:
            build()
        assert raised.value.where == "late"


def test_terms_of_model_and_copy_mix_in_any_order():
    _, x, mpec = small()
    values = [bl.solve(mpec.maximise(e)).objective for e in (mpec.dual["row"] - 3 * x, -3 * x + mpec.dual["row"])]
    assert values == pytest.approx([7.0, 7.0], rel=1e-12)


@pytest.mark.parametrize("way", [bl.BigM, "bigM", 3])
def test_a_reformulation_is_an_object(way):
    with pytest.raises(ModelError, match="is an object"):
        bl.solve(small()[2], way)


def test_what_writes_no_pairs_cannot_be_written_as_a_model():
    with pytest.raises(ModelError, match="writes no pairs"):
        bl.reformulated(small()[2], bl.Auto())


def test_names_that_do_not_exist_are_named():
    model, x, mpec = small()
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, dual="balance", primal=model.variables["y"])
    assert raised.value.where == "balance"
    assert "row" in raised.value.remedy
    with pytest.raises(KeyError, match="stationarity"):
        bl.solve(mpec.minimise(1 * x)).certificate["gap"]
    with pytest.raises(ModelError, match="no expression"):
        mpec.maximise("y")
