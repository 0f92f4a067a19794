"""KKT systems: labels, masks, signs, and duals against other programs' duals."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.errors import ModelError

HOUR = pd.Index([1, 2], name="hour")
UNIT = pd.Index(["a", "b", "c"], name="unit")


def test_stationarity_rows_read_as_on_paper():
    model = linopy.Model()
    p = model.add_variables(lower=0, upper=5, coords=[UNIT], name="p")
    x = model.add_variables(lower=0, upper=9, name="x")
    need = model.add_constraints(p.sum() >= 4 + x, name="need")
    cost = (xr.DataArray([1.0, 2.0, 3.0], coords=[UNIT]) * p).sum() + 0.5 * (p * p).sum() + (x * p.sel(unit="a"))
    mpec = bl.kkt(model, bl.Follower(variables=[p], constraints=[need], cost=cost))
    text = str(mpec.constraints["stationarity-p"])
    assert text.splitlines()[2:] == [
        "[a]: +1 p[a] + 1 x - 1 dual-need - 1 lower-p[a] + 1 upper-p[a] = -1.0",
        "[b]: +1 p[b] - 1 dual-need - 1 lower-p[b] + 1 upper-p[b]       = -2.0",
        "[c]: +1 p[c] - 1 dual-need - 1 lower-p[c] + 1 upper-p[c]       = -3.0",
    ]


def test_a_maximising_follower_has_duals_in_its_own_sense():
    model = linopy.Model()
    p = model.add_variables(lower=0, name="p")
    limit = model.add_constraints(1 * p <= 4, name="limit")
    solution = bl.solve(bl.kkt(model, bl.Follower(variables=[p], constraints=[limit], cost=7 * p, sense="max")))
    assert float(solution.duals["limit"]) == pytest.approx(7.0)
    assert float(solution["p"]) == pytest.approx(4.0)


@pytest.mark.parametrize("sparse", [False, True])
def test_masks_mixed_signs_and_fixed_variables(sparse):
    """Three units; b is masked, c is fixed; the rows of hour 1 are =, those of hour 2 >=."""
    model = linopy.Model(sparse=sparse)
    mask = xr.DataArray([True, False, True], coords=[UNIT]).expand_dims(hour=HOUR)
    upper = xr.DataArray([9.0, 9.0, 1.0], coords=[UNIT]).expand_dims(hour=HOUR)
    lower = xr.DataArray([0.0, 0.0, 1.0], coords=[UNIT]).expand_dims(hour=HOUR)
    p = model.add_variables(lower=lower, upper=upper, mask=mask, name="p")
    sign = xr.DataArray(["=", ">="], coords=[HOUR])
    need = model.add_constraints(p.fillna(0).sum("unit"), sign, xr.DataArray([4.0, 0.5], coords=[HOUR]), name="need")
    cost = (xr.DataArray([3.0, 1.0, 8.0], coords=[UNIT]) * p).sum()
    mpec = bl.kkt(model, bl.Follower(variables=[p], constraints=[need], cost=cost))
    assert set(mpec.fixed) == {"p"}
    assert len(mpec.pairs) == 1 + 2 + 2  # the row of hour 2; both bounds of a in both hours
    solution = bl.solve(mpec)
    assert solution.duals["need"].values == pytest.approx([3.0, 0.0])
    assert solution["p"].sel(unit="a").values == pytest.approx([3.0, 0.0])
    assert np.isnan(solution["p"].sel(unit="b")).all()
    # the fixed unit's reduced cost is its own cost less the price
    assert solution.multipliers["fixed-p"].sel(unit="c").values == pytest.approx([5.0, 8.0])
    assert solution.certificate.ok


def test_scaling_factors_of_the_model_change_nothing():
    def solved(row, column):
        model = linopy.Model()
        p = model.add_variables(lower=0, upper=3, coords=[UNIT], scaling=column, name="p")
        need = model.add_constraints(p.sum() >= 7, scaling=row, name="need")
        cost = (xr.DataArray([1.0, 2.0, 3.0], coords=[UNIT]) * p).sum()
        return bl.solve(bl.kkt(model, bl.Follower(variables=[p], constraints=[need], cost=cost)))

    plain, scaled = solved(1, 1), solved(100, 0.01)
    assert float(plain.duals["need"]) == pytest.approx(3.0)
    assert float(scaled.duals["need"]) == pytest.approx(3.0)
    assert scaled["p"].values == pytest.approx(plain["p"].values)


def test_two_followers_and_a_leader_between_them():
    """Each follower covers what the leader leaves it; both prices are seen by the leader."""
    model = linopy.Model()
    x = model.add_variables(lower=0, upper=10, name="x")
    followers, rows = [], []
    for name, cost in (("north", 2.0), ("south", 5.0)):
        p = model.add_variables(lower=0, name=f"p_{name}")
        sign = 1 if name == "north" else -1
        row = model.add_constraints(p + sign * x >= (10.0 if name == "north" else 0.0), name=f"need_{name}")
        followers.append(bl.Follower(variables=[p], constraints=[row], cost=cost * p))
        rows.append(row)
    mpec = bl.kkt(model, followers)
    total = 2.0 * mpec.variables["p_north"] + 3.0 * mpec.variables["p_south"]
    solution = bl.solve(mpec.minimise(total))
    # moving one unit from north to south costs 3 and saves 2: nothing is moved
    assert solution.objective == pytest.approx(20.0)
    assert float(solution["x"]) == pytest.approx(0.0)
    assert "regret of follower 2" in {check.name for check in solution.certificate.checks}


def test_a_whole_pypsa_model_can_be_the_follower():
    pypsa = pytest.importorskip("pypsa")
    network = pypsa.Network()
    network.set_snapshots(pd.RangeIndex(3, name="snapshot"))
    for bus in ("north", "south"):
        network.add("Bus", bus)
    network.add("Line", "tie", bus0="north", bus1="south", x=0.1, r=0.01, s_nom=30)
    network.add("Generator", "wind", bus="north", p_nom=80, marginal_cost=1.0, p_max_pu=[1.0, 0.3, 0.6])
    network.add("Generator", "coal", bus="north", p_nom=50, marginal_cost=20.0)
    network.add("Generator", "gas", bus="south", p_nom=90, marginal_cost=45.5)
    network.add("Load", "city", bus="south", p_set=[50.0, 70.0, 20.0])
    network.add("Load", "town", bus="north", p_set=[10.0, 30.0, 40.0])
    model = network.optimize.create_model(include_objective_constant=False)
    follower = bl.Follower(variables=model.variables, constraints=model.constraints, cost=model.objective.expression)
    solution = bl.solve(bl.kkt(model, follower))
    assert solution.certificate.require()
    network.optimize(log_to_console=False, include_objective_constant=False)
    prices = solution.duals["Bus-nodal_balance"]
    expected = network.buses_t.marginal_price
    found = prices.transpose("snapshot", "name").to_pandas()[expected.columns]
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-7)


def follower_of(model, rows=None, variables=None, cost=None, sense="min"):
    p = model.variables["p"]
    return bl.Follower(
        variables=[p] if variables is None else variables,
        constraints=[model.constraints["need"]] if rows is None else rows,
        cost=1 * p if cost is None else cost,
        sense=sense,
    )


@pytest.fixture
def small():
    model = linopy.Model()
    p = model.add_variables(lower=0, name="p")
    x = model.add_variables(lower=0, name="x")
    model.add_variables(lower=0, upper=3, integer=True, name="whole")
    model.add_constraints(p + x >= 2, name="need")
    model.add_constraints(1 * x <= 2, name="leaders")
    return model


def test_rows_without_a_variable_of_the_follower_are_refused(small):
    follower = follower_of(small, rows=[small.constraints["need"], small.constraints["leaders"]])
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower)
    assert raised.value.where == "leaders"


def test_a_follower_of_another_model_is_refused(small):
    with pytest.raises(ModelError) as raised:
        bl.kkt(small.copy(), follower_of(small))
    assert raised.value.where == "follower 1"
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, [])
    assert raised.value.where == "kkt(model, [])"


def test_a_row_of_two_followers_is_refused(small):
    other = follower_of(small, variables=[small.variables["x"]], cost=1 * small.variables["x"])
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, [follower_of(small), other])
    assert raised.value.where == "need"


def test_parts_of_two_models_in_one_follower_are_refused(small):
    twin = small.copy()
    with pytest.raises(ModelError) as raised:
        follower_of(small, rows=[twin.constraints["need"]], cost=1 * twin.variables["p"])
    assert raised.value.where == "need, the cost"


def test_integer_followers_are_refused(small):
    with pytest.raises(ModelError) as raised:
        follower_of(small, variables=[small.variables["p"], small.variables["whole"]])
    assert raised.value.where == "whole"


def test_a_cost_that_is_not_convex_is_refused_with_its_eigenvalue(small):
    p = small.variables["p"]
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small, cost=-3 * p * p))
    assert raised.value.where == "p"
    assert "-6" in raised.value.what
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small, cost=3 * p * p, sense="max"))
    assert "not concave" in raised.value.what


def test_an_indefinite_cost_is_refused_though_its_diagonal_is_positive(small):
    p, x = small.variables["p"], small.variables["x"]
    cost = p * p + x * x + 3 * p * x
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small, variables=[p, x], cost=cost))
    assert raised.value.where == "p, x"
    assert "-1" in raised.value.what


def test_further_refusals_of_a_follower(small):
    p = small.variables["p"]
    with pytest.raises(ModelError) as raised:
        follower_of(small, sense="minimal")
    assert raised.value.where == "sense='minimal'"
    with pytest.raises(ModelError) as raised:
        follower_of(small, variables=[p, p])
    assert raised.value.where == "p"
    with pytest.raises(ModelError):
        bl.Follower(variables=[], constraints=[], cost=1 * p)
    free = small.add_variables(name="free")
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small, variables=[p, free], cost=p + free))
    assert raised.value.where == "free"
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small, cost=float("inf") * p))
    assert raised.value.where == "the follower's cost"


def test_a_part_of_an_array_is_refused():
    model = linopy.Model()
    p = model.add_variables(lower=0, coords=[UNIT], name="p")
    with pytest.raises(ModelError) as raised:
        bl.Follower(variables=[p.sel(unit=["a", "b"])], constraints=[], cost=p.sum())
    assert raised.value.where == "p"


def test_names_that_the_multipliers_need_are_refused_if_taken(small):
    small.add_variables(name="dual-need")
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small))
    assert raised.value.where == "dual-need"


def test_indicator_rows_are_refused(small):
    b = small.add_variables(binary=True, name="b")
    small.add_indicator_constraints(b, 1, 1 * small.variables["x"] <= 1, name="if_b")
    with pytest.raises(ModelError) as raised:
        bl.kkt(small, follower_of(small))
    assert "if_b" in raised.value.where
