"""Forwarded volumes whose every use keeps the resources behind the bids: by hand, by use at random, by an own LP."""

import itertools

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import hiermarket as hm
from hiermarket.market.resource_paths import broken_limits, output_of
from hiermarket.network.losses import LinDistFlow
from tests.resource_markets import bid, market, random_resource_market

LOSSLESS = LinDistFlow(loss_passes=0)
BOTH_WAYS = [bid("up", 1.0, 65.0, "R"), bid("down", 1.0, 22.0, "R")]
BATTERY = {"resource": ["R"], "energy_start": 1.0, "energy_max": 2.0, "charging": 0.8, "discharging": 0.5}


def box_of(case, method=None):
    cleared = hm.clear_dso(case, grid=LOSSLESS).require()
    return cleared, hm.forward(case, cleared, method=method or hm.SafeBox())


def volumes(forwarded):
    return forwarded.flat.forwarded.values


def test_a_storage_forwards_what_it_holds_and_what_it_has_room_for():
    # 1 MWh held: 1·0.5 = 0.5 MWh up over both hours, the first one first; room for 1 MWh: 1/0.8 = 1.25 MWh down
    _, found = box_of(market([0.0, 0.0], BOTH_WAYS, BATTERY))
    assert volumes(found).tolist() == [pytest.approx([0.5, 0.0]), pytest.approx([1.0, 0.25])]
    assert found.flat.withheld.values.sum() == pytest.approx(2 * 2 - 1.75)
    assert not found.flat.screened.any()


def test_what_stage_one_has_moved_counts():
    # stage 1 stores 1 MW in hour 1: 1.8 MWh; up 0.9 MWh from hour 1 on, down 0.2/0.8 = 0.25
    cleared, found = box_of(market([-1.0, 0.0], [BOTH_WAYS[0], bid("down", 1.0, 25.0, "R")], BATTERY))
    assert cleared.stored_energy.values[0] == pytest.approx([1.8, 1.8])
    # the volume of hour 1 is used; up in hour 1 takes 1 MWh: less charging first, 0.8 MWh per MW, the rest later
    assert volumes(found)[1] == pytest.approx([0.0, 0.25])
    assert volumes(found)[0] == pytest.approx([1.0, 0.5])  # 1·0.8 + 0.5/0.5 = 1.8


def test_charging_and_discharging_at_once_fakes_no_room():
    # scheduled to discharge 0.5 MW, 1 MWh in the hour, from 1.5 to 0.5; the bound is 1.2: room 0.7. Less discharging
    # counts 1/0.5: 0.35 MW; if charging were counted first, it would be 0.7/0.8 = 0.875
    battery = BATTERY | {"output": 0.5, "energy_start": 1.5, "energy_max": 1.2}
    _, found = box_of(market([0.0], BOTH_WAYS, battery))
    assert volumes(found)[1] == pytest.approx([0.35])
    # with room 1.4: 0.5 MW takes 1.0, then 0.4/0.8 = 0.5 MW of charging
    _, found = box_of(market([0.0], BOTH_WAYS, battery | {"energy_max": 1.9}))
    assert volumes(found)[1] == pytest.approx([1.0])


@pytest.mark.parametrize(
    "more",
    [
        {"energy_start": 1.0, "energy_max": 2.0, "end_level": "equal"},
        {"rebound_hours": 2.0},
    ],
)
def test_nothing_of_what_must_come_back(more):
    _, found = box_of(market([0.0, 0.0], BOTH_WAYS, {"resource": ["R"]} | more))
    assert not volumes(found).any()
    assert found.flat.withheld.values.sum() == pytest.approx(4.0)


def test_a_ramp_counts_both_ends():
    # ±0.6 MW/h from 0: U_1 ≤ 0.6, U_2 + D_1 ≤ 0.6, D_2 + U_1 ≤ 0.6, D_1 ≤ 0.6: at most 1.2 in all
    _, found = box_of(
        market([0.0, 0.0], BOTH_WAYS, {"resource": ["R"], "ramp_up": 0.6, "ramp_down": 0.6, "output_before": 0.0})
    )
    assert volumes(found).sum() == pytest.approx(1.2)


def test_one_direction_at_a_time_ramps_with_itself():
    ramp = {"resource": ["R"], "ramp_up": 0.6, "ramp_down": 0.6, "output_before": 0.0}
    _, found = box_of(market([0.0, 0.0], BOTH_WAYS, ramp), hm.MaximumRegulation())
    assert volumes(found).tolist() == [pytest.approx([0.6, 1.0]), pytest.approx([0.6, 1.0])]


def test_a_joint_limit():
    blocks = [bid("up", 0.5, 61.0, "R"), bid("up", 0.5, 62.0, "R", block=1)]
    _, found = box_of(market([0.0], blocks, {"resource": ["R"], "output": 0.5, "p_max": 1.2}))
    assert volumes(found).ravel() == pytest.approx([0.5, 0.2])


def test_bids_with_a_minimum():
    # accepted with 0.8 of 1: 0.2 more, and with undo down to its minimum 0.6; one that is not accepted: nothing
    rows = [bid("up", 1.0, 30.0, minimum=0.6), bid("up", 1.0, 65.0, bsp="B", minimum=0.5)]
    _, found = box_of(market([0.8], rows), hm.SafeBox(undo=True))
    assert volumes(found).ravel() == pytest.approx([0.2, 0.0])
    assert found.flat.forwarded_undo.values.ravel() == pytest.approx([0.2, 0.0])
    assert found.flat.withheld.values.ravel() == pytest.approx([0.6, 1.0])


def test_without_a_limit_in_reach_nothing_is_solved():
    roomy = BATTERY | {"energy_start": 50.0, "energy_max": 100.0}
    _, found = box_of(market([0.0, 0.0], BOTH_WAYS, roomy))
    assert (volumes(found) == 1.0).all()
    assert found.flat.screened.all()
    assert found.work.solves == 0


def test_the_whole_chain_runs():
    case = market([0.4, -0.2, 0.9], BOTH_WAYS, BATTERY, line=0.001)
    chain = hm.run(case, hm.Options(forwarding=hm.SafeBox(undo=True)))
    final = chain.disaggregation.flat.final_activation
    output = output_of(case.resources, case.bids, final)
    assert not any(broken.any() for broken in broken_limits(case.resources, output, case.duration).values())
    tree = hm.result_tree(chain)
    assert tree["clearing"]["stored_energy"].dims == ("resource", "period")
    assert chain.clearing.sel(resource="f/R", feeder="f").flat.stored_energy.sizes == {"resource": 1, "period": 3}


def use(seed):
    """Any use of the box, corners and inside, keeps every limit; a little of everything more than the box does not."""
    case = random_resource_market(seed)
    undo = bool(seed % 2)
    cleared, found = box_of(case, hm.SafeBox(undo=undo))
    a, own, back = (array.transpose("bid", "period") for array in
                    (cleared.flat.activation, found.flat.forwarded, found.flat.forwarded_undo))  # fmt: skip
    assert (own >= -1e-12).all()
    assert (own <= found.flat.remaining + 1e-9).all()
    rng = np.random.default_rng(seed)
    shares = [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
    up = case.bids.sign.values[:, None] > 0
    shares += [(np.where(up, 1.0, 0.0), np.where(up, 0.0, 1.0)), (np.where(up, 0.0, 1.0), np.where(up, 1.0, 0.0))]
    shares += [tuple(rng.integers(0, 2, (2, *a.shape)).astype(float)) for _ in range(40)]
    shares += [tuple(rng.random((2, *a.shape))) for _ in range(10)]
    for of_own, of_back in shares:
        output = output_of(case.resources, case.bids, a + of_own * own - of_back * back)
        broken = broken_limits(case.resources, output, case.duration)
        assert not any(values.any() for values in broken.values()), {k: v.sum() for k, v in broken.items()}


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 10**6))
def test_any_use_keeps_every_limit(seed):
    use(seed)


@pytest.mark.nightly
@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6))
def test_any_use_keeps_every_limit_many_times(seed):
    use(seed)


def most_of_a_storage(output, hours, rooms, eta, volume):
    """Largest Σ U and Σ D of one storage: an LP over two parts of U; for D one LP for every choice of who charges."""
    periods, below = len(output), np.tril(np.ones((len(output),) * 2))
    charge, discharge = np.maximum(-output, 0), np.maximum(output, 0)
    up = linprog(
        -np.ones(2 * periods), A_ub=np.hstack([below * hours * eta[0], below * hours / eta[1]]), b_ub=rooms[0],
        bounds=[(0, c) for c in np.minimum(charge, volume)] + [(0, max(volume - c, 0)) for c in charge],
    )  # fmt: skip
    best = 0.0
    for chosen in itertools.product([False, True], repeat=periods):
        charges = np.array(chosen)
        if (charges & (discharge > volume)).any():
            continue
        slope = np.where(charges, eta[0], 1 / eta[1])
        fixed = np.where(charges, discharge * (1 / eta[1] - eta[0]), 0.0)
        bounds = [(d if c else 0.0, volume if c else min(d, volume)) for c, d in zip(charges, discharge, strict=True)]
        down = linprog(-np.ones(periods), A_ub=below * hours * slope, b_ub=rooms[1] - below @ (hours * fixed),
                       bounds=bounds)  # fmt: skip
        if down.status == 0:
            best = max(best, -down.fun)
    return -up.fun, best


@pytest.mark.parametrize("seed", range(12))
def test_no_box_of_a_storage_is_larger(seed):
    rng = np.random.default_rng(seed)
    hours, eta, volume = 0.5, rng.uniform(0.4, 1.0, 2), 1.0
    output = rng.uniform(-0.8, 0.8, 4)
    path = -np.cumsum(hours * np.where(output > 0, output / eta[1], output * eta[0]))
    start = -min(path.min(), 0.0) + rng.uniform(0.0, 0.5)
    top = max(start + path.max(), start) + rng.uniform(0.0, 0.5)
    battery = {"resource": "R", "output": output, "energy_start": start, "energy_max": top, "charging": eta[0],
               "discharging": eta[1]}  # fmt: skip
    rows = [bid("up", volume, 65.0, "R"), bid("down", volume, 22.0, "R")]
    periods = market([0.0] * 4, [bid("up", 1.0, 65.0)], hours=hours).periods
    _, found = box_of(market([0.0] * 4, rows, battery | {"period": periods}, hours))
    up, down = most_of_a_storage(output, np.full(4, hours), (start + path, top - start - path), eta, volume)
    assert volumes(found).sum(axis=1) == pytest.approx([up, down], abs=1e-7)


@pytest.mark.parametrize("method", [hm.OfferCurve(), hm.Individual(), hm.Unfiltered(), hm.Corrective()])
def test_other_methods_refuse_what_they_do_not_look_at(method):
    with pytest.raises(hm.ModelError) as error:
        box_of(market([0.0, 0.0], BOTH_WAYS, BATTERY), method)
    assert error.value.where == "f/A/e/0/up, f/A/e/0/down"
    with pytest.raises(hm.ModelError) as error:
        box_of(market([0.0], [bid("up", 1.0, 65.0, minimum=0.5)]), method)
    assert error.value.where == "bids.minimum"
    safe = hm.safe_volumes(market([0.0, 0.0], BOTH_WAYS, BATTERY))
    _, found = box_of(safe, method)
    assert volumes(found).tolist() == [pytest.approx([0.5, 0.0]), pytest.approx([1.0, 0.25])]


def test_one_market_over_all_grids_refuses_it_too():
    with pytest.raises(hm.ModelError) as error:
        hm.clear_common(market([0.0, 0.0], BOTH_WAYS, BATTERY))
    assert "safe_volumes" in error.value.remedy
