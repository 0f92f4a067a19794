"""Bids of one resource held together: by hand on two buses, and against an independent MILP."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import hiermarket as hm
from hiermarket.market.resource_paths import broken_limits, output_of
from hiermarket.network.losses import LinDistFlow
from tests.resource_markets import bid, independent_cost, market, random_resource_market

LOSSLESS = LinDistFlow(loss_passes=0)
EVERYTHING = hm.SolverOptions(screening=False)
BOTH_WAYS = [bid("up", 1.0, 30.0, "R"), bid("down", 1.0, 25.0, "R")]
BATTERY = {"resource": ["R"], "energy_start": 1.0, "energy_max": 2.0, "charging": 0.8, "discharging": 0.5}


def cleared(case, **options):
    return hm.clear_dso(case, grid=LOSSLESS, **options).require()


def test_a_storage_gives_what_it_holds():
    # 1 MWh stored gives 0.5 MWh at η_d = 0.5, at 30 instead of 70 from the TBM: in which hour is a tie of one price.
    # Cost 0.5·30 + 2.5·70 = 190; the price is the TBM's wherever it buys
    found = cleared(market([1.0, 1.0, 1.0], BOTH_WAYS, BATTERY))
    assert found.flat.activation.values[0].sum() == pytest.approx(0.5)
    assert found.flat.clearing_cost.sum().item() == pytest.approx(190.0)
    assert found.flat.nodal_price.values.ravel() == pytest.approx([70.0] * 6)
    assert found.stored_energy.values[0, -1] == pytest.approx(0.0)
    assert found.resource_output.values[0] == pytest.approx(found.flat.activation.values[0])
    assert not found.flat.screened.any()


def test_stored_in_one_hour_it_is_there_in_the_next():
    # hour 1: 1 MW surplus is stored, 1 + 0.8 = 1.8 MWh; hour 2: deficit 0.9 MW draws 0.9/0.5 = 1.8: all of it
    found = cleared(market([-1.0, 0.9], BOTH_WAYS, BATTERY))
    assert found.flat.activation.values.tolist() == [pytest.approx([0.0, 0.9]), pytest.approx([1.0, 0.0])]
    assert found.stored_energy.values[0] == pytest.approx([1.8, 0.0])
    assert found.flat.screened.all()  # the merit order keeps all limits: a relaxation whose optimum is feasible


def test_it_stores_no_more_than_it_can():
    # room for 1 MWh: 1/0.8 = 1.25 MWh of the surplus of 2; the rest goes to the TBM at 20: −(1.25·25 + 0.75·20)
    found = cleared(market([-1.0, -1.0], [BOTH_WAYS[1]], BATTERY))
    assert found.flat.activation.values.sum() == pytest.approx(1.25)
    assert found.flat.clearing_cost.sum().item() == pytest.approx(-(1.25 * 25 + 0.75 * 20))


def test_charging_and_discharging_at_once_fakes_no_room():
    # a full storage with an up bid too dear to be wanted: nothing can be stored, though losing energy by charging and
    # discharging at once would make room; one hour, so that no other hour can make it
    full = BATTERY | {"energy_start": 2.0}
    found = cleared(market([-1.0], [bid("up", 1.0, 30.0, "R"), bid("down", 1.0, 60.0, "R", bsp="A")], full))
    up, down = found.flat.activation.values[:, 0]
    # both bids at once are one output: up 1, down 1 is nothing; that trade without imbalance saves 30 per MWh, but
    # net charging stays 0
    assert up - down == pytest.approx(0.0, abs=1e-9)
    assert found.stored_energy.values.ravel() == pytest.approx([2.0])


@pytest.mark.parametrize(("end", "up"), [("free", 0.5), ("at_least", 0.25), ("equal", 0.25)])
def test_the_end_level(end, up):
    # 1 MWh stored, 0.5 must remain: (1 − 0.5)·0.5 = 0.25 MWh; equal: the same, the energy is wanted
    level = {"energy_end": 0.5} if end != "free" else {}
    if end == "equal":  # the schedule itself must keep it: it discharges 0.25 MW, the activation adds nothing
        case = market([1.0], [bid("up", 1.0, 30.0, "R")], BATTERY | level | {"output": 0.25, "end_level": end})
        assert cleared(case).flat.activation.values.ravel() == pytest.approx([0.0])
        return
    case = market([1.0], [bid("up", 1.0, 30.0, "R")], BATTERY | level | {"end_level": end})
    assert cleared(case).flat.activation.values.ravel() == pytest.approx([up])


def test_less_charging_first_then_discharging():
    # scheduled to charge 1 MW (η_c = 0.8) from 0.5 MWh to 1.3; up 1.25 MW: first no charging, then 0.25/0.5 = 0.5 MWh
    resource = BATTERY | {"output": -1.0, "energy_start": 0.5}
    found = cleared(market([2.0], [bid("up", 2.0, 30.0, "R")], resource))
    assert found.flat.activation.values.ravel() == pytest.approx([1.25])
    assert found.stored_energy.values.ravel() == pytest.approx([0.0])


def test_a_ramp_holds_two_hours_together():
    # need 0, then 1; 0.4 MW/h up: 0.4 in hour 2 at no need before... or 0.3 earlier to have 0.7: up 30, TBM down 20
    # saves 20: costs 10 per MWh and wins 70 − 30 = 40. So hour 1 as high as the ramp from 0 allows, 0.4, then 0.8
    ramp = {"resource": ["R"], "ramp_up": 0.4, "output_before": 0.0}
    found = cleared(market([0.0, 1.0], [bid("up", 1.0, 30.0, "R")], ramp))
    assert found.flat.activation.values.ravel() == pytest.approx([0.4, 0.8])
    # price in hour 1 is the TBM's, and the bid at 30 runs at a loss of 10 for the ramp's sake
    assert found.flat.nodal_price.values[0] == pytest.approx([20.0, 70.0])


def test_a_joint_limit_of_two_blocks():
    # output 0.5, at most 1.2: of the blocks 0.5 at 30 and 0.5 at 40 there are 0.5 and 0.2; the hour beside is free
    joint = {"resource": ["R"], "output": 0.5, "p_max": 1.2}
    blocks = [bid("up", 0.5, 30.0, "R"), bid("up", 0.5, 40.0, "R", block=1)]
    found = cleared(market([1.0, 0.3], blocks, joint))
    assert found.flat.activation.values.tolist() == [pytest.approx([0.5, 0.3]), pytest.approx([0.2, 0.0])]
    assert found.flat.nodal_price.values[0] == pytest.approx([70.0, 30.0])
    assert found.flat.screened.values.ravel().tolist() == [False, True]  # no period waits for another one


def test_a_renewable_is_curtailed_by_what_blows():
    wind = {"resource": "W", "output": [0.2, 0.6], "p_min": 0.0, "p_max": [0.2, 0.6]}
    periods = market([0.0, 0.0], BOTH_WAYS[:0] or [bid("up", 0.0, 30.0)]).periods
    found = cleared(market([-0.5, -0.5], [bid("down", 1.0, 22.0, "W")], wind | {"period": periods}))
    assert found.flat.activation.values.ravel() == pytest.approx([0.2, 0.5])


def test_what_is_shed_comes_back():
    # 0.5 MW less load in hour 1 at 30 (TBM 70), so 0.5 MW more in hour 2 at 10 (the TBM pays 20 for the surplus): it
    # wins 40 and loses 10; in the other window nothing pays
    shift = {"resource": ["R"], "rebound_hours": 2.0}
    rows = [bid("up", 0.5, 30.0, "R"), bid("down", 0.5, 10.0, "R")]
    found = cleared(market([1.0, -0.5, 0.0, 0.0], rows, shift))
    assert found.flat.activation.values.tolist() == [pytest.approx([0.5, 0, 0, 0]), pytest.approx([0, 0.5, 0, 0])]


def test_a_block_that_fails_fails_in_all_its_periods(monkeypatch):
    import hiermarket.stages.dso_clearing as module
    from hiermarket.solving.solver import Outcome

    solve = module.solve_whole

    def failing(*args):
        answers = solve(*args)
        answers.outcome[:] = [Outcome.LIMIT] * len(answers.outcome)
        return answers

    monkeypatch.setattr(module, "solve_whole", failing)
    found = hm.clear_dso(market([1.0, 0.1, 1.0], BOTH_WAYS, BATTERY), grid=LOSSLESS)
    assert (found.flat.status.values == module.STATUS[Outcome.LIMIT]).all()
    assert found.stored_energy.isnull().all()


def check(seed):
    case = random_resource_market(seed)
    expected = independent_cost(case)
    for options in (hm.SolverOptions(), EVERYTHING):
        found = cleared(case, solver=options)
        assert found.flat.clearing_cost.sum().item() == pytest.approx(expected, abs=1e-6)
        output = output_of(case.resources, case.bids, found.flat.activation)
        assert not any(broken.any() for broken in broken_limits(case.resources, output, case.duration).values())
        balance = (case.bids.sign * found.flat.activation).sum("bid") + found.flat.tbm_volume.sel(
            direction="up", drop=True
        ) - found.flat.tbm_volume.sel(direction="down", drop=True)  # fmt: skip
        np.testing.assert_allclose(balance.values.ravel(), case.imbalance.values.sum(axis=0), atol=1e-7)


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 10**6))
def test_as_an_independent_milp(seed):
    check(seed)


@pytest.mark.nightly
@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10**6))
def test_as_an_independent_milp_many_times(seed):
    check(seed)
