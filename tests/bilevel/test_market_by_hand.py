"""Two hours, three units, one of them ours: profit 160 + 380, by hand.

Ours: 4 MW at cost 10, offered at 0 to 200. Rivals: 6 MW at 20, 10 MW at 50. Demand 12, then 18.
Hour 1: the rivals alone could serve it, we undercut at 50: price 50, 4 (50 − 10) = 160.
Hour 2: 2 MW need us, we offer the cap: price 200, 2 (200 − 10) = 380.
"""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.errors import InfeasibleError, ModelError, UnboundedError

COST = 10.0


def market(units=("ours", "r1", "r2"), hours=(1, 2), demand=(12.0, 18.0), cap=200.0, sparse=False):
    model = linopy.Model(sparse=sparse)
    hour, unit = pd.Index(hours, name="hour"), pd.Index(units, name="unit")
    volume = xr.DataArray([4.0, 6.0, 10.0], coords=[unit])
    p = model.add_variables(lower=0, upper=volume.expand_dims(hour=hour), name="p")
    offer = model.add_variables(lower=0, upper=cap, coords=[hour], name="offer")
    balance = model.add_constraints(p.sum("unit") == xr.DataArray(list(demand), coords=[hour]), name="balance")
    rivals = list(units[1:])
    cost = (p.sel(unit=rivals) * xr.DataArray([20.0, 50.0], coords=[pd.Index(rivals, name="unit")])).sum()
    cost = cost + (offer * p.sel(unit=units[0])).sum()
    return model, bl.Follower(variables=[p], constraints=[balance], cost=cost)


def with_profit(mpec, ours="ours"):
    own = mpec.variables["p"].sel(unit=ours)
    return mpec.maximise(bl.dual_times_primal(mpec, "balance", own) - (COST * own).sum())


@pytest.mark.parametrize("reformulation", [bl.Auto(), bl.Branching(), bl.BigM()], ids=["auto", "branching", "big-m"])
@pytest.mark.parametrize("sparse", [False, True])
def test_profit_prices_and_volumes(reformulation, sparse):
    model, follower = market(sparse=sparse)
    solution = bl.solve(with_profit(bl.kkt(model, follower)), reformulation)
    assert solution.objective == pytest.approx(540.0, abs=1e-6)
    assert solution.duals["balance"].sel(hour=1) == pytest.approx(50.0)
    assert solution.duals["balance"].sel(hour=2) == pytest.approx(200.0)
    assert solution["p"].sel(unit="ours").values == pytest.approx([4.0, 2.0])
    assert solution.certificate.ok
    assert solution.certificate.parts == 2


def test_the_product_itself_as_objective_gives_the_same():
    model, follower = market()
    mpec = bl.kkt(model, follower)
    own = mpec.variables["p"].sel(unit="ours", drop=True)
    solution = bl.solve(mpec.maximise((mpec.dual["balance"] * own).sum() - (COST * own).sum()))
    assert solution.objective == pytest.approx(540.0, abs=1e-6)


def test_other_labels_change_nothing():
    model, follower = market(units=("z", "a b", "ü"), hours=("late", "early"))
    solution = bl.solve(with_profit(bl.kkt(model, follower), ours="z"))
    assert solution.objective == pytest.approx(540.0, abs=1e-6)
    assert list(solution["p"].indexes["hour"]) == ["late", "early"]


def test_a_constant_of_the_objective_is_counted():
    model, follower = market()
    mpec = bl.kkt(model, follower)
    own = mpec.variables["p"].sel(unit="ours")
    value = bl.dual_times_primal(mpec, "balance", own) - (COST * own).sum() + 1000.0
    assert bl.solve(mpec.maximise(value)).objective == pytest.approx(1540.0, abs=1e-6)


def test_the_users_model_and_settings_are_untouched():
    model, follower = market()
    before = (sorted(model.variables), sorted(model.constraints), str(model.objective))
    with linopy.options as options:
        options.set_value(semantics="legacy")
        mpec = bl.kkt(model, follower)
        assert linopy.options["semantics"] == "legacy"
    assert (sorted(model.variables), sorted(model.constraints), str(model.objective)) == before
    assert mpec.model is not model
    assert np.array_equal(mpec.variables["p"].labels, model.variables["p"].labels)


def test_rows_of_the_leader_may_be_added_to_the_copy_on_duals_too():
    model, follower = market()
    mpec = with_profit(bl.kkt(model, follower))
    mpec.model.add_constraints(1 * mpec.dual["balance"] <= 60.0, name="price_limit")
    solution = bl.solve(mpec)
    # hour 2 at 60 would give 2 (60 − 10) = 100: undercutting at 50 gives 4 (50 − 10) = 160 as in hour 1
    assert solution.objective == pytest.approx(160.0 + 160.0, abs=1e-6)
    assert solution.duals["balance"].values == pytest.approx([50.0, 50.0])


def test_an_infeasible_hour_is_named():
    model, follower = market(demand=(12.0, 25.0))
    with pytest.raises(InfeasibleError) as raised:
        bl.solve(with_profit(bl.kkt(model, follower)))
    assert raised.value.where == "hour=2"


def test_an_unbounded_hour_is_named():
    model, follower = market(cap=np.inf)
    with pytest.raises(UnboundedError) as raised:
        bl.solve(with_profit(bl.kkt(model, follower)))
    assert raised.value.where == "hour=2"


def test_an_objective_of_the_original_model_will_do_and_one_of_another_is_refused():
    model, follower = market()
    mpec = bl.kkt(model, follower)
    other, _ = market()
    for choose in (mpec.maximise, mpec.minimise):
        chosen = choose((1 * model.variables["p"]).sum())
        same = choose((1 * mpec.variables["p"]).sum())
        assert chosen.objective.labels.tolist() == same.objective.labels.tolist()
        with pytest.raises(ModelError) as raised:
            choose((1 * other.variables["p"]).sum())
        assert "mpec.variables" in raised.value.remedy


def test_a_leader_who_does_nothing_leaves_the_follower_at_its_optimum():
    model, follower = market()
    model.add_constraints(1 * model.variables["offer"] == 30.0, name="fixed_offer")
    solution = bl.solve(bl.kkt(model, follower))
    # hour 1: 6 at 20, 4 of ours at 30, 2 at 50
    assert solution["p"].sel(hour=1).values == pytest.approx([4.0, 6.0, 2.0])
    assert solution.objective == 0.0
