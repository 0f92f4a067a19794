"""Tables of resources: read, checked, all faults together; paths by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hiermarket.errors import DataError, ModelError
from hiermarket.market.resource_paths import ramp_room, rebound_windows, stored_energy
from hiermarket.market.resources import Resources, resources
from tests.resource_markets import bid, market

HOURS = pd.date_range("2026-01-01", periods=4, freq="h")
TWO = [bid("up", 1.0, 30.0, "R"), bid("down", 1.0, 25.0, "R")]


def read(**columns):
    return resources(pd.DataFrame({"feeder": "f", "resource": ["R"]} | columns), HOURS)


def where(error):
    return [fault.where.split(" at ")[0] for fault in error.value.faults]


def test_a_name_alone_sets_no_limit():
    table = read()
    assert table.labels.tolist() == ["f/R"]
    assert not (table.is_storage | table.has_ramp | table.has_rebound | table.couples).any()
    assert table.coupled_feeders == []
    assert resources(table, HOURS) is table
    with pytest.raises(ValueError, match="read-only"):
        table.data.p_max.values[0, 0] = 1.0


def test_a_csv_file(tmp_path):
    path = tmp_path / "resources.csv"
    rows = pd.DataFrame({"feeder": "1", "resource": ["7", "8"], "ramp_up": [0.5, np.nan], "end_level": ["", ""]})
    rows.to_csv(path, index=False)
    table = resources(path, HOURS)
    assert table.labels.tolist() == ["1/7", "1/8"]
    assert table.data.ramp_up.values.tolist() == [0.5, np.inf]
    assert table.has_ramp.tolist() == [True, False]


def test_values_by_period():
    rows = pd.DataFrame({"feeder": "f", "resource": "R", "period": HOURS[::-1], "p_max": [4.0, 3.0, 2.0, 1.0]})
    assert resources(rows, HOURS).data.p_max.values.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_windows_by_hours_and_by_label():
    assert [at.tolist() for _, _, at in rebound_windows(read(rebound_hours=3.0))] == [[0, 1, 2], [3]]
    labels = pd.DataFrame({"feeder": "f", "resource": "R", "period": HOURS, "rebound_window": ["a", "", "b", "a"]})
    assert [(name, at.tolist()) for _, name, at in rebound_windows(resources(labels, HOURS))] == [
        ("a", [0, 3]), ("b", [2]),
    ]  # fmt: skip


def test_stored_energy_by_hand():
    # charges 1 MW (0.8), rests, discharges 0.5 MW (1/0.5): 1 → 1.8 → 1.8 → 0.8 in hours
    case = market(
        [0.0, 0.0, 0.0], TWO,
        {"resource": "R", "energy_start": 1.0, "energy_max": 2.0, "charging": 0.8, "discharging": 0.5,
         "output": [-1.0, 0.0, 0.5], "period": HOURS[:3]},
    )  # fmt: skip
    table = case.resources
    assert stored_energy(table, table.data.output, case.duration).values[0] == pytest.approx([1.8, 1.8, 0.8])


def test_ramps_are_from_middle_to_middle():
    table = read(ramp_up=1.0, ramp_down=2.0, output_before=0.0)
    hours = pd.Series([1.0, 0.5, 0.5, 1.0], HOURS.rename("period")).to_xarray()
    up, down = ramp_room(table, hours)
    assert up.tolist() == [[1.0, 0.75, 0.5, 0.75]]
    assert down.tolist() == [[2.0, 1.5, 1.0, 1.5]]
    assert ramp_room(read(ramp_up=1.0), hours)[0][0, 0] == np.inf  # nobody knows the output before


def test_faults_of_the_table_come_together():
    with pytest.raises(DataError) as error:
        read(p_min=2.0, p_max=1.0, ramp_up=-1.0, charging=1.2, discharging=0.0, energy_max=1.0, end_level="high",
             energy_end=1.0)  # fmt: skip
    assert where(error) == [
        "resources.p_min", "resources.ramp_up", "resources.charging", "resources.discharging",
        "resources.energy_start", "resources.end_level", "resources.end_level",
    ]  # fmt: skip
    with pytest.raises(DataError) as error:
        read(output=np.inf, energy_start=1.0, energy_max=-1.0, energy_end=1.0, resource=[""])
    assert where(error) == ["resources.resource", "resources.output", "resources.energy_max", "resources.energy_end"]
    with pytest.raises(DataError) as error:
        read(energy_start=1.0)
    assert where(error) == ["resources.energy_max"]
    with pytest.raises(DataError) as error:
        read(energy_start=1.0, energy_max=2.0, energy_min=-np.inf)
    assert where(error) == ["resources.energy_min"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"resource": ["R"], "colour": 1}, ["resources", "resources"]),
        ({"feeder": ["f"], "resource": ["R"], "rebound_hours": 1.0, "rebound_window": "a"}, ["resources.rebound"]),
        ({"feeder": "f", "resource": ["R", "R"]}, ["resources"]),
        ({"feeder": "f", "resource": ["R"], "p_max": ["much"]}, ["resources.p_max"]),
        ({"feeder": "f", "resource": "R", "period": HOURS[:3]}, ["resources.period"]),
        ({"feeder": "f", "resource": "R", "period": HOURS + pd.Timedelta("1D")}, ["resources.period"]),
        ({"feeder": "f", "resource": "R", "period": HOURS, "ramp_up": [1, 1, 1, 2]}, ["resources.ramp_up"]),
    ],
)  # fmt: skip
def test_faults_of_the_rows(rows, expected):
    with pytest.raises(DataError) as error:
        resources(pd.DataFrame(rows), HOURS)
    assert where(error) == expected


def test_faults_between_bids_and_resources():
    rows = [bid("up", 1.0, 30.0, "R"), bid("up", 1.0, 30.0, "R", "B"), bid("up", 1.0, 30.0, "Q", "C")]
    with pytest.raises(DataError) as error:
        market([0.0], rows, {"resource": ["R", "Idle"]})
    assert where(error) == ["bids.resource", "resources", "resources of more than one bsp"]
    other = resources(pd.DataFrame({"feeder": ["g"], "resource": ["R"]}), HOURS)
    sound = market([0.0] * 4, [bid("up", 1.0, 30.0)])
    with pytest.raises(DataError) as error:
        replace(sound, resources=other)
    assert where(error) == ["resources.feeder", "resources"]
    short = market([0.0], [bid("up", 1.0, 30.0)])
    with pytest.raises(DataError) as error:
        replace(short, resources=other)
    assert where(error) == ["resources.period"]


def test_a_schedule_must_keep_its_own_limits():
    for limits, fault in (
        ({"output": 1.0, "p_max": 0.5}, "resources.output"),
        ({"output": 1.0, "ramp_up": 0.5, "output_before": 0.0}, "resources.ramp"),
        ({"output": 1.0, "energy_start": 0.5, "energy_max": 1.0}, "resources.energy"),
        ({"energy_start": 0.5, "energy_max": 1.0, "energy_end": 0.7, "end_level": "equal"}, "resources.energy"),
    ):
        with pytest.raises(DataError) as error:
            market([0.0], TWO, {"resource": ["R"]} | limits)
        assert where(error) == [fault]


def test_periods_that_hang_together_are_not_taken_apart():
    case = market([0.0, 0.0], TWO, {"resource": ["R"], "ramp_up": 1.0})
    assert case.of_periods(np.arange(2)).resources is case.resources
    with pytest.raises(ModelError) as error:
        case.of_periods(np.array([0]))
    assert error.value.where == "f/R"
    free = market([0.0, 0.0], TWO, {"resource": ["R"], "p_max": 1.0})
    assert free.of_periods(np.array([1])).resources.data.sizes["period"] == 1


def test_of_feeders_keeps_their_resources():
    case = market([0.0], TWO, {"resource": ["R"], "p_max": 1.0})
    assert isinstance(case.of_feeders(["f"]).resources, Resources)
    assert case.resources.of_feeders([]) is None


@pytest.mark.parametrize("hours", [0.0, -1.0])
def test_a_rebound_needs_hours(hours):
    """0 h set no limit, and less gave windows of numbers below 0."""
    with pytest.raises(DataError) as error:
        read(rebound_hours=hours)
    assert where(error) == ["resources.rebound_hours"]


def test_without_limits_there_is_reactive_support_alone():
    hours = pd.date_range("2026-01-01", periods=2, freq="h")
    battery = {"feeder": "f", "resource": "B", "energy_start": 1.0, "energy_max": 2.0, "p_max": 1.0, "ramp_up": 0.5,
               "end_level": "at_least", "energy_end": 0.5, "rebound_hours": 2.0}  # fmt: skip
    both = resources(pd.DataFrame([battery | {"q_max": 0.3}, {"feeder": "f", "resource": "G", "p_max": 2.0}]), hours)
    assert both.has_support.tolist() == [True, False]
    kept = both.without_limits()
    assert not kept.couples.any()
    assert np.isinf(kept.data.p_max).all()
    assert kept.data.q_max.values.tolist() == [[0.3, 0.3], [0.0, 0.0]]
    assert resources(pd.DataFrame([battery]), hours).without_limits() is None
