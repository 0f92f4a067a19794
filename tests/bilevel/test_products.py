"""Products of a leader's integer with a follower's variable in the follower's rows, against every integer by itself."""

import itertools

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.optimize import linprog

import hiermarket.bilevel as bl
from hiermarket.errors import ModelError

HOUR, LINE = pd.Index([1, 2], name="hour"), pd.Index(["a", "b"], name="line")
NEED = np.array([6.0, 9.0])


def optimistic(leader, cost, A_ub, b_ub, A_eq, b_eq, bounds):
    """The leader's least of leader·a over the follower's optimal a: the optimal cost as a further row."""
    kept = {"A_eq": A_eq, "b_eq": b_eq, "bounds": bounds}
    best = linprog(cost, A_ub=A_ub, b_ub=b_ub, **kept)
    if best.status == 2:
        return np.inf
    assert best.status == 0
    least = linprog(leader, A_ub=np.vstack([A_ub, cost]), b_ub=[*b_ub, best.fun + 1e-9], **kept)
    return least.fun


def switched_lines(kinds, low=0.0):
    """Two lines at 1 and 2 bring built × on into each hour's need; what lacks costs 10, and on is 6 a line in all."""
    model = linopy.Model()
    built = model.add_variables(**kinds, coords=[LINE], name="built")
    on = model.add_variables(low, 4, coords=[LINE, HOUR], name="on")
    rest = model.add_variables(0, 40, coords=[HOUR], name="rest")
    need = model.add_constraints(rest >= xr.DataArray(NEED, coords=[HOUR]), name="need")
    limit = model.add_constraints(on.sum("hour") <= 6, name="limit")
    price = xr.DataArray([1.0, 2.0], coords=[LINE])
    cost = (price * on).sum() + 10 * rest.sum()
    follower = bl.Follower([on, rest], [need, limit], cost, products={"need": (built * on).sum("line")})
    return model, follower, built, on, rest


def by_enumeration(choices, low, weights):
    """Least of Σ weights·built + Σ rest + ½ Σ on over all integers, with the follower's best answer."""
    found = {}
    for built in itertools.product(choices, repeat=2):
        # in order: line a in both hours, line b in both, the rest in both
        cost = np.array([1, 1, 2, 2, 10, 10.0])
        rows = -np.array([[built[0], 0, built[1], 0, 1, 0], [0, built[0], 0, built[1], 0, 1.0]])
        limit = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0.0]])
        value = optimistic(
            np.array([0.5, 0.5, 0.5, 0.5, 1, 1]),
            cost,
            np.vstack([rows, limit]),
            [*(-NEED), 6, 6],
            None,
            None,
            [(low, 4)] * 4 + [(0, 40)] * 2,
        )
        found[built] = value + weights @ np.array(built)
    best = min(found, key=found.get)
    return best, found[best]


@pytest.mark.parametrize(
    ("kinds", "choices", "low"),
    [
        ({"binary": True}, (0, 1), 0.0),
        ({"lower": 0, "upper": 3, "integer": True}, range(4), 0.0),
        ({"lower": -2, "upper": 2, "integer": True}, range(-2, 3), -1.0),
        ({"lower": 1, "upper": 2, "integer": True}, (1, 2), -2.0),
        ({"lower": 0, "upper": 5, "integer": True}, range(6), 0.0),
    ],
    ids=["binary", "integer", "negative", "two values", "six values"],
)
@pytest.mark.parametrize("weights", [(1.0, 0.5), (4.0, 2.5)])
def test_against_every_integer(kinds, choices, low, weights):
    model, follower, built, on, rest = switched_lines(kinds, low)
    mpec = bl.kkt(model, follower)
    weight = xr.DataArray([*weights], coords=[LINE])
    solution = bl.solve(mpec.minimise((weight * built).sum() + rest.sum() + 0.5 * on.sum()))
    best, value = by_enumeration(choices, low, np.array(weights))
    solution.certificate.require()
    assert solution.objective == pytest.approx(value, abs=1e-6)
    if low == 0.0:
        assert solution["built"].values == pytest.approx(best)


def test_the_model_itself_is_left_as_it_is():
    model, follower, *_ = switched_lines({"binary": True})
    before = str(model)
    bl.kkt(model, follower)
    assert str(model) == before
    assert "product-need" not in model.variables


def test_the_answer_holds_in_the_row_with_its_product():
    model, follower, built, _, rest = switched_lines({"lower": 0, "upper": 3, "integer": True})
    solution = bl.solve(bl.kkt(model, follower).minimise(rest.sum() + built.sum()))
    served = (solution["built"] * solution["on"]).sum("line") + solution["rest"]
    assert (served.values >= NEED - 1e-7).all()


def test_the_leader_reads_the_dual_of_a_row_with_products():
    """built·flow + rest ≥ 6, flow ≤ 4 at 1, rest at 10: the price is 10 unbuilt, 10 for built = 1, 0.5 for built = 2.

    With built = 1 the flow of 4 leaves 2 to the rest; with built = 2 a flow of 3 at 1 serves 6: price 1/2.
    """
    for weight, price, built in ((1.0, 0.5, 2), (20.0, 10.0, 0)):
        model = linopy.Model()
        n = model.add_variables(0, 2, integer=True, name="n")
        flow, rest = model.add_variables(0, 4, name="flow"), model.add_variables(0, 30, name="rest")
        need = model.add_constraints(1 * rest >= 6, name="need")
        follower = bl.Follower([flow, rest], [need], flow + 10 * rest, products={"need": n * flow})
        mpec = bl.kkt(model, follower)
        solution = bl.solve(mpec.minimise(mpec.dual["need"] + weight * n))
        solution.certificate.require()
        assert float(solution.duals["need"]) == pytest.approx(price)
        assert float(solution["n"]) == pytest.approx(built)


def test_masked_rows_and_further_coordinates():
    """The second hour has no row: only the first asks for the line."""
    model = linopy.Model()
    built = model.add_variables(binary=True, coords=[HOUR], name="built")
    flow = model.add_variables(0, 5, coords=[HOUR], name="flow")
    rest = model.add_variables(0, 9, coords=[HOUR], name="rest")
    there = xr.DataArray([True, False], coords=[HOUR])
    need = model.add_constraints(1 * rest >= 4, name="need", mask=there)
    follower = bl.Follower([flow, rest], [need], flow.sum() + 10 * rest.sum(), products={"need": built * flow})
    mpec = bl.kkt(model, follower)
    solution = bl.solve(mpec.minimise(rest.sum() + 0.1 * built.sum()))
    solution.certificate.require()
    assert solution["built"].values == pytest.approx([1.0, 0.0])
    assert solution["flow"].values == pytest.approx([4.0, 0.0])
    assert np.isnan(solution.duals["need"].values[1])


def small(*, leader=None, low=0.0, high=4.0):
    model = linopy.Model()
    z = model.add_variables(**(leader or {"binary": True}), name="z")
    a = model.add_variables(low, high, coords=[HOUR], name="a")
    row = model.add_constraints(1 * a >= 1, name="row")
    return model, z, a, row


@pytest.mark.parametrize(
    ("parts", "what", "where"),
    [
        ({"leader": {"lower": 0, "upper": 1}}, "leader's integer", "z × a[hour=1]"),
        ({"leader": {"lower": 0, "integer": True}}, "Integers in products need finite bounds", "z"),
        ({"high": np.inf}, "Followers' variables in products need finite bounds", "a[hour=1]"),
        ({"low": -np.inf}, "Followers' variables in products need finite bounds", "a[hour=2]"),
    ],
    ids=["continuous leader", "endless integer", "no upper bound", "no lower bound"],
)
def test_products_that_cannot_be_linearised(parts, what, where):
    model, z, a, row = small(**parts)
    with pytest.raises(ModelError) as refused:
        bl.kkt(model, bl.Follower([a], [row], a.sum(), products={"row": z * a}))
    assert what in refused.value.what
    assert where in refused.value.where


def test_two_variables_of_the_follower_are_no_product():
    model, _, a, row = small()
    with pytest.raises(ModelError) as refused:
        bl.kkt(model, bl.Follower([a], [row], a.sum(), products={"row": a * a}))
    assert "a[hour=1] × a[hour=1]" in refused.value.where


def test_products_of_other_dimensions():
    model, z, a, row = small()
    with pytest.raises(ModelError) as refused:
        bl.kkt(model, bl.Follower([a], [row], a.sum(), products={"row": (z * a).sum()}))
    assert "row" in refused.value.where


def test_products_of_unknown_rows_and_other_models():
    _, z, a, row = small()
    _, other_z, other_a, _ = small()
    with pytest.raises(ModelError) as refused:
        bl.Follower([a], [row], a.sum(), products={"raw": z * a})
    assert refused.value.where == "raw"
    assert "row" in refused.value.remedy
    with pytest.raises(ModelError) as refused:
        bl.Follower([a], [row], a.sum(), products={"row": other_z * other_a})
    assert refused.value.where == "row"
