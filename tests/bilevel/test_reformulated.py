"""The reformulated problem as a labelled linopy model: its rows as text, its files, its optimum."""

import linopy
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.errors import InfeasibleError, UnboundedPairError

UNIT, HOUR = pd.Index(["ours", "rival", "dear"], name="unit"), pd.Index([1, 2], name="hour")


@pytest.fixture(scope="module")
def mpec():
    """An offer into 12 and 9 MW; the rival is away in the second hour, and others bring 9 MW at most.

    First hour: 3 MW at least are ours, paid 200: 570; second hour: 4 MW at 50: 160.
    """
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = linopy.Model()
        there = xr.DataArray([[True, True], [True, False], [True, True]], coords=[UNIT, HOUR])
        most = xr.DataArray([4.0, 6.0, 10.0], coords=[UNIT]) * there
        p = model.add_variables(0, most, mask=there, name="p")
        offer = model.add_variables(0, 200, coords=[HOUR], name="offer")
        limit = model.add_constraints(p.sel(unit=["rival", "dear"]).sum("unit") <= 9, name="limit")
        need = model.add_constraints(p.sum("unit") == xr.DataArray([12.0, 9.0], coords=[HOUR]), name="need")
        known = xr.DataArray([0.0, 20.0, 50.0], coords=[UNIT])
        cost = (known * p).sum() + (offer * p.sel(unit="ours", drop=True)).sum()
        mpec = bl.kkt(model, bl.Follower(variables=[p], constraints=[limit, need], cost=cost))
        ours = p.sel(unit=["ours"])
        return mpec.maximise(bl.dual_times_primal(mpec, "need", ours) - 10 * ours.sum())


OPTIMUM = 730.0


def rows(model, name):
    """The rows of a family as linopy prints them, without heading; spaces, −0 and small change of bounds apart."""
    lines = str(model.constraints[name]).splitlines()[2:]
    lines = [" ".join(line.replace("-0.0", "0.0").split()) for line in lines]
    return [line for line in lines if "None" not in line]


def added(model, mpec):
    """What a reformulation adds: variables and rows."""
    return {*model.variables} - {*mpec.variables}, {*model.constraints} - {*mpec.constraints}


def test_big_m_as_text(mpec):
    model = bl.reformulated(mpec, bl.BigM())
    binaries, families = added(model, mpec)
    assert binaries == {"free-limit", "free-lower-p", "free-upper-p"} == {*model.binaries}
    pairs = {f"{side}-{name}" for side in ("slack", "multiplier") for name in ("limit", "lower-p", "upper-p")}
    # what others offer is never refused, and the dear one's limit never reached: decided beforehand
    assert families == pairs | {"silent-lower-p", "silent-upper-p"}
    assert rows(model, "limit") == ["[1]: +1 p[rival, 1] + 1 p[dear, 1] ≤ 9.0", "[2]: +1 p[dear, 2] ≤ 9.0"]
    assert rows(model, "slack-limit") == [
        "[1]: -1 p[rival, 1] - 1 p[dear, 1] - 1 free-limit[1] ≤ -9.0",
        "[2]: -1 p[dear, 2] - 4 free-limit[2] ≤ -9.0",
    ]
    assert rows(model, "multiplier-limit")[0].startswith("[1]: -1 dual-limit[1] + 150 free-limit[1] ≤ 150.0000")
    assert rows(model, "slack-lower-p") == ["[ours, 2]: +1 p[ours, 2] - 4 free-lower-p[ours, 2] ≤ 0.0"]
    assert rows(model, "silent-upper-p") == [
        "[dear, 1]: +1 upper-p[dear, 1] = 0.0",
        "[dear, 2]: +1 upper-p[dear, 2] = 0.0",
    ]
    assert rows(model, "slack-upper-p") == [
        "[ours, 1]: -1 p[ours, 1] - 4 free-upper-p[ours, 1] ≤ -4.0",
        "[ours, 2]: -1 p[ours, 2] - 4 free-upper-p[ours, 2] ≤ -4.0",
        "[rival, 1]: -1 p[rival, 1] - 6 free-upper-p[rival, 1] ≤ -6.0",
    ]


def test_sos1_as_text(mpec):
    model = bl.reformulated(mpec, bl.SOS1())
    members, families = added(model, mpec)
    names = ("limit", "lower-p", "upper-p")
    assert members == {f"pair-{name}" for name in names}
    assert families == {f"{side}-{name}" for side in ("slack", "multiplier") for name in names}
    assert "pair-upper-p (unit, hour, side) - sos1 on side" in str(model)
    assert not {*model.binaries}
    assert rows(model, "slack-limit") == [
        "[1]: +1 pair-limit[1, slack] + 1 p[rival, 1] + 1 p[dear, 1] = 9.0",
        "[2]: +1 pair-limit[2, slack] + 1 p[dear, 2] = 9.0",
    ]
    assert rows(model, "multiplier-limit")[1] == "[2]: +1 pair-limit[2, multiplier] + 1 dual-limit[2] = 0.0"
    assert len(rows(model, "slack-upper-p")) == 5
    assert (
        rows(model, "multiplier-lower-p")[0]
        == "[ours, 1]: +1 pair-lower-p[ours, 1, multiplier] - 1 lower-p[ours, 1] = 0.0"
    )


def test_indicator_as_text(mpec):
    model = bl.reformulated(mpec, bl.Indicator())
    binaries, families = added(model, mpec)
    names = ("limit", "lower-p", "upper-p")
    assert binaries == {f"free-{name}" for name in names} == {*model.binaries}
    assert families == {f"{side}-{name}" for side in ("slack", "multiplier") for name in names}
    assert {name for name, _ in model.constraints.indicator.items()} == families
    assert rows(model, "slack-limit") == [
        "[1]: -1 p[rival, 1] - 1 p[dear, 1] ≤ -9.0",
        "[2]: -1 p[dear, 2] ≤ -9.0",
    ]
    assert rows(model, "multiplier-limit") == ["[1]: -1 dual-limit[1] ≤ 0.0", "[2]: -1 dual-limit[2] ≤ 0.0"]


def test_mixed_as_text(mpec):
    model = bl.reformulated(mpec, bl.Mixed({"limit": bl.SOS1(), "lower-p": bl.Indicator()}))
    new, _ = added(model, mpec)
    assert new == {"pair-limit", "free-lower-p", "free-upper-p"}
    assert {name for name, _ in model.constraints.indicator.items()} == {"slack-lower-p", "multiplier-lower-p"}
    assert rows(model, "slack-upper-p")[0] == "[ours, 1]: -1 p[ours, 1] - 4 free-upper-p[ours, 1] ≤ -4.0"


def test_the_problem_itself_is_left_as_it_is(mpec):
    before = str(mpec.model)
    bl.reformulated(mpec, bl.BigM())
    assert str(mpec.model) == before


@pytest.mark.parametrize(
    "reformulation",
    [bl.BigM(), bl.Mixed({"limit": bl.BigM(dual=500.0)}, otherwise=bl.BigM(dual=1000.0, primal=1000.0))],
    ids=["big-m", "mixed"],
)
def test_the_whole_model_has_the_optimum(mpec, reformulation):
    model = bl.reformulated(mpec, reformulation)
    model.solve("highs", output_flag=False, progress=False)
    assert model.objective.value == pytest.approx(OPTIMUM, rel=1e-6)
    solution = bl.solve(mpec, reformulation)
    assert solution.objective == pytest.approx(OPTIMUM, rel=1e-6)
    xr.testing.assert_allclose(model.variables["p"].solution.sum("unit"), solution["p"].sum("unit"))


@pytest.mark.parametrize(
    "reformulation",
    [bl.SOS1(), bl.Indicator(), bl.Mixed({"limit": bl.SOS1(), "lower-p": bl.Indicator()})],
    ids=["sos1", "indicator", "mixed"],
)
def test_sets_and_indicators_by_gurobi(mpec, reformulation):
    pytest.importorskip("gurobipy")
    model = bl.reformulated(mpec, reformulation)
    model.solve("gurobi", io_api="direct", OutputFlag=0, progress=False)
    assert model.objective.value == pytest.approx(OPTIMUM, rel=1e-6)


@pytest.mark.parametrize(
    "reformulation", [bl.SOS1(solver="gurobi"), bl.Indicator(solver="gurobi")], ids=["sos1", "indicator"]
)
def test_parts_by_gurobi(mpec, reformulation):
    pytest.importorskip("gurobipy")
    solution = bl.solve(mpec, reformulation)
    assert solution.objective == pytest.approx(OPTIMUM, rel=1e-6)
    solution.certificate.require()


@pytest.mark.parametrize("suffix", ["lp", "mps"])
def test_a_file_has_the_same_optimum(mpec, suffix, tmp_path):
    highspy = pytest.importorskip("highspy")
    path = tmp_path / f"milp.{suffix}"
    bl.reformulated(mpec, bl.BigM()).to_file(path, progress=False)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_feasibility_tolerance", 1e-9)
    highs.readModel(str(path))
    highs.run()
    # the sense is written as it is, or turned into a minimum
    assert abs(highs.getObjectiveValue()) == pytest.approx(OPTIMUM, rel=1e-6)


def test_a_pair_without_a_bound_is_refused():
    model = linopy.Model()
    x, y = model.add_variables(0, name="x"), model.add_variables(0, name="y")
    row = model.add_constraints(y - x >= 0, name="row")
    mpec = bl.kkt(model, bl.Follower(variables=[y], constraints=[row], cost=1 * y))
    with pytest.raises(UnboundedPairError) as refused:
        bl.reformulated(mpec.maximise(1 * x), bl.BigM())
    assert refused.value.side == "primal"


def test_bounds_without_a_point_are_told():
    model = linopy.Model()
    x, y = model.add_variables(0, 1, name="x"), model.add_variables(0, 1, name="y")
    row = model.add_constraints(y - x >= 5, name="row")
    mpec = bl.kkt(model, bl.Follower(variables=[y], constraints=[row], cost=1 * y))
    with pytest.raises(InfeasibleError) as told:
        bl.reformulated(mpec.minimise(1 * x), bl.BigM())
    assert told.value.where.startswith("part")
