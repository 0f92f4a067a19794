"""Value at the duals: equal to the sum of products wherever it is given, refused where it is not linear."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import hiermarket.bilevel as bl
from hiermarket.bilevel.expression import terms_of
from hiermarket.errors import ModelError, SolveError
from tests.bilevel.random_problems import one


def random_market(seed):
    """Own and other variables, rows of both kinds, rows of own variables with a leader's volume in them."""
    rng = np.random.default_rng(seed)
    n, r, k = rng.integers(2, 6), rng.integers(1, 5), 2
    A = rng.integers(-2, 3, (r, n)) * (rng.random((r, n)) < 0.6) * 1.0
    A[np.arange(r), rng.integers(0, n, r)] = 1.0
    own = rng.random(n) < 0.4
    own[0] = True
    model = linopy.Model()
    j, ks = pd.RangeIndex(n, name="j"), pd.RangeIndex(k, name="k")
    x = model.add_variables(lower=-2, upper=3, coords=[ks], name="x")
    lower = np.where(rng.random(n) < 0.9, rng.integers(-2, 1, n), -np.inf)
    upper = np.where(rng.random(n) < 0.8, rng.integers(0, 4, n), np.inf)
    a = model.add_variables(lower=xr.DataArray(lower, [j]), upper=xr.DataArray(upper, [j]), name="a")
    rows = []
    for i in range(r):
        left = 0 * x.sum()
        if rng.random() < 0.3:
            A[i, ~own], A[i, 0] = 0.0, 1.0
            left = (xr.DataArray(rng.integers(-1, 2, k) * 1.0, [ks]) * x).sum()
        left = left + (xr.DataArray(A[i], [j]) * a).sum()
        sign = rng.choice([">=", "<=", "="], p=[0.3, 0.4, 0.3])
        rows.append(model.add_constraints(left, str(sign), float(rng.integers(-3, 6)), name=f"row{i}"))
    cost = (xr.DataArray(rng.integers(1, 6, n) * 1.0, [j]) * a).sum()
    for position in np.flatnonzero(own):
        cost = cost + one(x, rng.integers(0, k)) * one(a, position)
    sense = "min"
    if rng.random() < 0.3:
        root = rng.integers(-1, 2, (n, n))
        for first, second in np.argwhere(root.T @ root):
            cost = cost + 0.5 * float((root.T @ root)[first, second]) * (one(a, first) * one(a, second))
    elif rng.random() < 0.5:
        sense = "max"
    mpec = bl.kkt(model, bl.Follower(variables=[a], constraints=rows, cost=cost, sense=sense))
    named = [i for i in range(r) if rng.random() < 0.7] or [0]
    weights = rng.integers(-3, 4, n) * 1.0
    objective = (xr.DataArray(weights, [j]) * mpec.variables["a"]).sum() + mpec.variables["x"].sum()
    return mpec.minimise(objective), A, own, named, float(rng.choice([1, 2, -1]))


def value_of(mpec, solution, expression):
    values = {}
    arrays = {**solution.variables, **solution.multipliers}
    arrays |= {f"dual-{name}": dual for name, dual in solution.duals.items()}
    for name, variable in mpec.variables.items():
        values |= dict(zip(variable.labels.values.ravel().tolist(), arrays[name].values.ravel(), strict=True))
    terms = terms_of(expression, "value")
    linear = sum(c * values[v] for v, c in zip(terms.labels, terms.coefficients, strict=True))
    curved = zip(terms.first, terms.second, terms.products, strict=True)
    return linear + sum(c * values[v] * values[w] for v, w, c in curved)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_the_value_is_the_sum_of_the_products(seed):
    try:
        mpec, A, own, named, weight = random_market(seed)
        primal = weight * mpec.variables["a"].isel(j=np.flatnonzero(own))
        value = bl.dual_times_primal(mpec, [f"row{i}" for i in named], primal)
        solution = bl.solve(mpec, bl.Branching())
    except (ModelError, SolveError):
        return
    a = solution["a"].values
    y = [float(solution.duals[f"row{i}"]) for i in range(len(A))]
    products = weight * sum(y[i] * A[i, position] * a[position] for i in named for position in np.flatnonzero(own))
    assert value_of(mpec, solution, value) == pytest.approx(products, abs=1e-7 * (1 + abs(products)))


UNIT = pd.Index(["ours", "rival"], name="unit")


@pytest.fixture
def market():
    model = linopy.Model()
    p = model.add_variables(lower=0, upper=9, coords=[UNIT], name="p")
    volume = model.add_variables(lower=0, upper=9, name="volume")
    model.add_variables(lower=0, upper=99, name="offer")
    model.add_constraints(p.sum() == 8, name="balance")
    model.add_constraints(1 * p.sel(unit="ours", drop=True) <= volume, name="capability")
    return model


def mpec_of(model, cost=None, rows=("balance", "capability")):
    p = model.variables["p"]
    offer = model.variables["offer"]
    cost = (xr.DataArray([0.0, 40.0], [UNIT]) * p).sum() + offer * p.sel(unit="ours") if cost is None else cost
    constraints = [model.constraints[row] for row in rows]
    return bl.kkt(model, bl.Follower(variables=[p], constraints=constraints, cost=cost))


def test_strategic_volumes_drop_out(market):
    """Rows of own variables only, with the leader's volume at the right: the value stays linear and exact."""
    mpec = mpec_of(market)
    ours = mpec.variables["p"].sel(unit="ours")
    value = bl.dual_times_primal(mpec, "balance", ours)
    solution = bl.solve(mpec.maximise(value - 10 * ours))
    price, volume = float(solution.duals["balance"]), float(solution["p"].sel(unit="ours"))
    assert solution.objective == pytest.approx((price - 10) * volume, abs=1e-7)
    # all 8 at the rival's 40: 8 (40 − 10)
    assert solution.objective == pytest.approx(8 * 30.0, abs=1e-6)


def test_rows_of_own_and_rival_volumes_that_are_not_named_are_refused(market):
    p = market.variables["p"]
    market.add_constraints(p.sum() <= 20, name="line")
    mpec = mpec_of(market, rows=("balance", "capability", "line"))
    ours = mpec.variables["p"].sel(unit="ours")
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "balance", ours)
    assert raised.value.where == "line"
    assert bl.dual_times_primal(mpec, ["balance", "line"], ours) is not None


def test_a_leaders_variable_in_a_row_that_stays_is_refused(market):
    p = market.variables["p"]
    market.add_constraints(1 * p.sel(unit="rival", drop=True) <= market.variables["volume"], name="led")
    mpec = mpec_of(market, rows=("balance", "capability", "led"))
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "balance", mpec.variables["p"].sel(unit="ours"))
    assert raised.value.where == "led"


def test_a_leaders_price_on_a_variable_that_is_not_own_is_refused(market):
    cost = market.variables["offer"] * market.variables["p"].sel(unit="rival")
    mpec = mpec_of(market, cost=cost)
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "balance", mpec.variables["p"].sel(unit="ours"))
    assert raised.value.where == "p[unit=rival]"


def test_variables_of_the_users_model_will_do(market):
    mpec = mpec_of(market)
    ours = {"unit": "ours"}
    by_copy = bl.dual_times_primal(mpec, "balance", mpec.variables["p"].sel(ours))
    by_origin = bl.dual_times_primal(mpec, "balance", market.variables["p"].sel(ours))
    assert mpec.terms(by_copy, "a").labels.tolist() == mpec.terms(by_origin, "b").labels.tolist()
    late = market.add_variables(name="late")
    with pytest.raises(ModelError, match="got after kkt"):
        mpec.maximise(market.variables["p"].sum() + late)


def test_further_refusals(market):
    mpec = mpec_of(market)
    p = mpec.variables["p"]
    other = linopy.Model()
    foreign = other.add_variables(name="p")
    with pytest.raises(ModelError, match="another model"):
        bl.dual_times_primal(mpec, "balance", foreign)
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "balance", xr.DataArray([1.0, 2.0], [UNIT]) * p)
    assert raised.value.where == "p[unit=rival]"
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "balance", p + 1.0)
    assert raised.value.where == "primal"
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "supply", p)
    assert "balance, capability" in raised.value.remedy
    with pytest.raises(ModelError) as raised:
        bl.dual_times_primal(mpec, "balance", mpec.variables["offer"])
    assert "offer" in raised.value.where
    assert "none of the named rows" in raised.value.what


def test_a_uniform_weight_multiplies_the_value(market):
    mpec = mpec_of(market)
    ours = mpec.variables["p"].sel(unit="ours")
    once, thrice = (terms_of(bl.dual_times_primal(mpec, "balance", w * ours), "") for w in (1.0, 3.0))
    assert thrice.coefficients == pytest.approx(3 * once.coefficients)
