"""Volumes of a storage: safe whatever is activated, and as large as the extreme paths allow."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hiermarket.errors import DataError
from hiermarket.market.storage import Storage, energy_safe


def array(values):
    return xr.DataArray(
        np.asarray(values, dtype=float), dims="period",
        coords={"period": pd.date_range("2026-01-01", periods=len(values), freq="h")},
    )  # fmt: skip


def path(storage, dispatch, hours, start):
    """Stored energy at the end of each period of an output > 0 (discharging), from a start."""
    change = np.where(dispatch > 0, -dispatch / storage.discharging, -storage.charging * dispatch)
    return start + np.cumsum(hours * change)


@st.composite
def schedules(draw):
    """A storage with a schedule inside its bounds, and weights."""
    count = draw(st.integers(1, 6))
    part = st.floats(0, 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    storage = Storage(
        power=draw(st.floats(0.1, 2)), energy_min=draw(st.floats(0, 1)), energy_max=0.0,
        charging=draw(st.floats(0.6, 1)), discharging=draw(st.floats(0.6, 1)),
    )  # fmt: skip
    hours = rng.choice([0.25, 1.0], count)
    dispatch = storage.power * rng.uniform(-1, 1, count)
    course = path(storage, dispatch, hours, 0.0)
    start = storage.energy_min - min(course.min(), 0.0) + draw(part)
    energy = start + course
    storage = Storage(
        storage.power, storage.energy_min, float(max(energy.max(), start) + draw(part)), storage.charging,
        storage.discharging,
    )  # fmt: skip
    return storage, energy, dispatch, hours, rng.choice([0.0, 0.3, 1.0, 2.0], count), start, rng


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_any_activation_keeps_the_bounds(case):
    storage, energy, dispatch, hours, weight, start, rng = case
    safe = energy_safe(storage, *(array(a) for a in (energy, dispatch, hours, weight)))
    up, down = safe.up.values, safe.down.values
    assert (up >= 0).all()
    assert (down >= 0).all()
    assert (up <= storage.power - dispatch + 1e-12).all()
    assert (down <= storage.power + dispatch + 1e-12).all()
    shares = [(1, 0), (0, 1), *[(rng.random(len(up)), rng.random(len(up))) for _ in range(20)]]
    shares += [(rng.integers(0, 2, len(up)), rng.integers(0, 2, len(up))) for _ in range(20)]
    for of_up, of_down in shares:
        stored = path(storage, dispatch + of_up * up - of_down * down, hours, start)
        assert stored.min() >= storage.energy_min - 1e-9
        assert stored.max() <= storage.energy_max + 1e-9


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_a_little_more_would_break_a_bound_or_the_power(case):
    storage, energy, dispatch, hours, weight, start, _ = case
    assume(weight.any())
    safe = energy_safe(storage, *(array(a) for a in (energy, dispatch, hours, weight)))
    for volume, sign in ((safe.up.values, 1), (safe.down.values, -1)):
        free = storage.power - sign * dispatch
        at_power = (volume >= free - 1e-9) | (weight == 0)
        if at_power.all():
            continue
        more = np.minimum(volume + np.where(at_power, 0.0, 1e-3 * weight), free)
        stored = path(storage, dispatch + sign * more, hours, start)
        assert stored.min() < storage.energy_min or stored.max() > storage.energy_max


def test_by_hand():
    # at rest, 1 MWh above the lower and 1 below the upper bound: up 2 × 0.25 MW × 1 h / 0.5 = 1,
    # down 2 × 0.625 MW × 1 h × 0.8 = 1
    one = array([1.0, 1.0])
    safe = energy_safe(Storage(1.0, 0.0, 2.0, 0.8, 0.5), one, 0 * one, one, one)
    assert safe.up.values.tolist() == [0.25, 0.25]
    assert safe.down.values.tolist() == [0.625, 0.625]


def test_less_discharging_saves_more_than_charging_stores():
    # it discharges 1 MW for 1 h from 2.5 to 0.5 MWh at η_d = 0.5; the bound is 1.5: room for 1 MWh. Discharging
    # 0.5 MW less leaves 0.5/0.5 = 1 MWh more; at η_c = 0.8 it would have been 1.25 MW, and 2.5 MWh too much
    storage = Storage(2.0, 0.0, 1.5, 0.8, 0.5)
    safe = energy_safe(storage, array([0.5]), array([1.0]), array([1.0]), array([1.0]))
    assert safe.down.item() == pytest.approx(0.5)


def test_less_charging_draws_less_than_discharging():
    # it charges 1 MW for 1 h to 0.8 MWh (η_c = 0.8); up 1 MW takes these 0.8 MWh away again, and that is all
    storage = Storage(2.0, 0.0, 2.0, 0.8, 0.5)
    safe = energy_safe(storage, array([0.8]), array([-1.0]), array([1.0]), array([1.0]))
    assert safe.up.item() == pytest.approx(1.0)


def test_cut_at_the_free_power_leaves_energy_to_the_others():
    # 2 MWh below, weights 3 : 1, power 1 MW, no losses: the first hour is cut at 1, the second takes the other 1
    one = array([1.0, 1.0])
    safe = energy_safe(Storage(1.0, 0.0, 4.0, 1.0, 1.0), 2 * one, 0 * one, one, array([3.0, 1.0]))
    assert safe.up.values.tolist() == pytest.approx([1.0, 1.0])


def test_quarter_hours_offer_four_times_the_power():
    one = array([1.0])
    storage = Storage(10.0, 0.0, 2.0, 1.0, 1.0)
    assert energy_safe(storage, one, 0 * one, 0.25 * one, one).up.item() == pytest.approx(4.0)


def test_nothing_where_nothing_is_weighted():
    one = array([1.0, 1.0])
    safe = energy_safe(Storage(1.0, 0.0, 2.0), one, 0 * one, one, array([0.0, 1.0]))
    assert safe.up.values[0] == safe.down.values[0] == 0


@pytest.mark.parametrize(
    ("storage", "stored", "dispatch", "weight", "where"),
    [
        (Storage(1.0, 0.0, 2.0), 2.1, 0.0, 1.0, ["storage schedule"]),
        (Storage(1.0, 0.5, 2.0), 0.4, 0.0, 1.0, ["storage schedule"]),
        (Storage(1.0, 0.0, 2.0), 1.0, -1.1, 1.0, ["storage schedule"]),
        (Storage(1.0, 0.0, 2.0), np.nan, 0.0, 1.0, ["storage schedule"]),
        (Storage(1.0, 0.0, 2.0, 0.0), 1.0, 0.0, 1.0, ["storage efficiencies"]),
        (Storage(1.0, 0.0, 2.0, 0.9, 1.1), 1.0, 0.0, 1.0, ["storage efficiencies"]),
        (Storage(1.0, 0.0, 2.0), 1.0, 0.0, -1.0, ["storage weight"]),
        (Storage(-1.0, 3.0, 2.0, 2.0), 1.0, 0.0, -1.0,
         ["storage", "storage efficiencies", "storage weight", "storage schedule"]),
    ],
)  # fmt: skip
def test_faults_together(storage, stored, dispatch, weight, where):
    with pytest.raises(DataError) as error:
        energy_safe(storage, array([stored]), array([dispatch]), array([1.0]), array([weight]))
    assert [fault.where for fault in error.value.faults] == where
