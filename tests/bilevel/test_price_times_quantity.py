"""A leader that sells volumes of its own at the price of the balance: two ways against a grid over its decision."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.optimize import linprog

import hiermarket.bilevel as bl
from hiermarket.errors import ModelError

UNIT = pd.Index(["cheap", "dear", "lack"], name="unit")
COST, MOST = np.array([10.0, 30.0, 90.0]), np.array([5.0, 4.0, 20.0])


def market(need):
    """A leader sells x to a market of three units, paid the price of the balance; its own unit costs 4 + 0.5 x.

    x is the leader's variable in the balance itself.
    """
    model = linopy.Model()
    x = model.add_variables(0, 8, name="x")
    g = model.add_variables(0, xr.DataArray(MOST, [UNIT]), name="g")
    balance = model.add_constraints(g.sum() + x == need, name="balance")
    cost = (xr.DataArray(COST, [UNIT]) * g).sum()
    mpec = bl.kkt(model, bl.Follower(variables=[g], constraints=[balance], cost=cost))
    return mpec, x


def profit(x, need):
    """The leader's best profit at x: at a step of the merit order the price may be that of either side."""
    values = []
    for side in (-1e-5, 1e-5):
        answer = linprog(COST, A_eq=np.ones((1, 3)), b_eq=[need - x - side], bounds=[(0, most) for most in MOST])
        if answer.status == 0:
            values.append(answer.eqlin.marginals[0] * x - 4 * x - 0.25 * x * x)
    return max(values, default=-np.inf)


def test_what_the_others_are_paid_stays_a_product():
    mpec, _ = market(10)
    with pytest.raises(ModelError) as refused:
        bl.dual_times_primal(mpec, "balance", mpec.variables["g"])
    assert "leader's variable" in refused.value.what
    assert refused.value.where == "balance"


@pytest.mark.parametrize("need", [6.0, 10.0, 12.5])
def test_the_linear_value_finds_what_a_grid_search_finds(need):
    mpec, x = market(need)
    revenue = bl.dual_times_primal(mpec, "balance", x)
    solution = bl.solve(mpec.maximise(revenue - 4 * x - 0.25 * x * x))
    solution.certificate.require()
    assert solution.objective == pytest.approx(max(profit(value, need) for value in np.linspace(0, 8, 161)), rel=1e-4)
    product = float(solution.duals["balance"] * solution["x"])
    value = float(solution["x"])
    assert solution.objective == pytest.approx(product - 4 * value - 0.25 * value**2, rel=1e-6)


@pytest.mark.parametrize("need", [6.0, 10.0, 12.5])
def test_sos1_finds_what_a_grid_search_finds(need):
    pytest.importorskip("pyscipopt")
    mpec, x = market(need)
    mpec = mpec.maximise(mpec.dual["balance"] * x - 4 * x - 0.25 * x * x)
    solution = bl.solve(mpec, bl.SOS1())
    solution.certificate.require()
    # the ends of the merit order lie on this grid
    grid = np.linspace(0, 8, 161)
    best = max(profit(value, need) for value in grid)
    assert solution.objective == pytest.approx(best, rel=1e-4)
    assert solution.objective == pytest.approx(profit(float(solution["x"]), need), rel=1e-4)
