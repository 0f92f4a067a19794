"""What a problem shows of itself in a line or a few, and objectives that would play no part."""

import linopy
import pandas as pd
import pytest

import hiermarket.bilevel as bl
from hiermarket.errors import ModelError

UNIT = pd.Index(["ours", "rival"], name="unit")


def parts(cost=3.0):
    model = linopy.Model()
    model.add_variables(0, 9, name="offer")
    volume = model.add_variables(0, 5, coords=[UNIT], name="volume")
    need = model.add_constraints(volume.sum() >= 2, name="need")
    return model, bl.Follower([volume], [need], cost=(cost * volume).sum())


def test_a_follower_in_three_lines():
    assert repr(parts()[1]).splitlines() == [
        "Follower (minimises its cost)",
        "  variables  volume(unit) × 2",
        "  rows       need × 1",
    ]


def test_an_mpec_in_four_lines():
    model, follower = parts()
    mpec = bl.kkt(model, follower)
    shown = repr(mpec.maximise(mpec.dual["need"] - 2 * mpec.variables["offer"])).splitlines()
    assert shown == [
        "Mpec: a leader that maximises 2 terms, 1 follower, 5 pairs",
        "  leader      offer × 1; rows: nothing",
        "  follower 1  volume(unit) × 2; rows: need × 1",
        "  pairs       need × 1, lower-volume(unit) × 2, upper-volume(unit) × 2",
    ]
    assert repr(mpec).startswith("Mpec: a leader that does nothing, 1 follower")


def test_an_objective_that_would_play_no_part_is_refused():
    """Whoever writes the leader's objective into the model would get a leader that does nothing."""
    model, follower = parts()
    model.add_objective(1 * model.variables["offer"], sense="max")
    mpec = bl.kkt(model, follower)
    for use in (bl.solve, lambda one: bl.reformulated(one, bl.BigM(dual=1e3))):
        with pytest.raises(ModelError, match="plays no part") as raised:
            use(mpec)
        assert "sense max" in raised.value.where
        assert "mpec.maximise(model.objective.expression)" in raised.value.remedy
    assert bl.solve(mpec.maximise(model.objective.expression)).objective == pytest.approx(9.0)


@pytest.mark.parametrize("terms", [0, 1, 2])
def test_the_followers_cost_may_be_the_models_objective(terms):
    """As in a model of PyPSA; split over several terms it is the same cost. The need of 2 is worth 3 a unit."""
    model, follower = parts()
    volume = model.variables["volume"]
    if terms:
        model.add_objective((1 * volume).sum() + (2 * volume).sum() if terms == 2 else (3 * volume).sum())
    assert float(bl.solve(bl.kkt(model, follower)).duals["need"]) == pytest.approx(3.0)


def test_costs_of_several_followers_may_be_the_models_objective_together():
    model, first = parts()
    other = model.add_variables(0, 5, name="other")
    second = bl.Follower([other], [model.add_constraints(1 * other >= 1, name="too")], cost=other * model["offer"])
    model.add_objective((3 * model.variables["volume"]).sum() + model["offer"] * other)
    bl.solve(bl.kkt(model, [first, second])).certificate.require()
