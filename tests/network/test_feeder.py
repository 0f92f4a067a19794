import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.network.feeder import QUANTITIES, Feeder, check, feeder_from_table

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


@pytest.fixture
def data():
    table = pd.DataFrame(
        {"parent": ["", "1", "2"], "r": [0.0, 0.01, 0.02], "x": [0.0, 0.01, 0.01], "p_scheduled": [0.0, -1.0, -0.5]},
        index=["1", "2", "3"],
    )
    return feeder_from_table(table, name="north", periods=PERIODS).data.copy(deep=True)


def one_fault(data):
    with pytest.raises(DataError) as error:
        Feeder(data)
    (fault,) = error.value.faults
    return fault


def test_units_and_order(data):
    feeder = Feeder(data)
    assert list(feeder.data.data_vars) == [quantity.name for quantity in QUANTITIES]
    assert all({"units", "long_name"} <= feeder.data[name].attrs.keys() for name in feeder.data.data_vars)
    assert (feeder.name, feeder.root) == ("north", "1")
    assert feeder.data.s_max.values.tolist() == [np.inf] * 3


def test_read_only_and_apart_from_its_source(data):
    feeder = Feeder(data)
    data["r"][1] = 7.0
    assert feeder.data.r.sel(bus="2") == 0.01
    for name in feeder.data.data_vars:
        with pytest.raises(ValueError, match=r"read-only|is a view"):
            feeder.data[name][0] = feeder.data[name][0]
    with pytest.raises(AttributeError):
        feeder.data = data


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("r", -0.1, "finite numbers >= 0"),
        ("x", -0.1, "finite numbers >= 0"),
        ("r", np.nan, "finite numbers >= 0"),
        ("x", np.inf, "finite numbers >= 0"),
        ("tap", 0.0, "finite numbers > 0"),
        ("g", -1.0, "finite numbers >= 0"),
        ("b", np.nan, "finite numbers"),
        ("s_max", 0.0, "numbers > 0 or inf"),
        ("s_max", np.nan, "numbers > 0 or inf"),
        ("v_min", -1.0, "finite numbers >= 0"),
        ("v_max", np.nan, "numbers > 0 or inf"),
        ("p_scheduled", np.nan, "finite numbers"),
        ("q_scheduled", -np.inf, "finite numbers"),
    ],
)
def test_values_outside_the_domain(data, name, value, expected):
    data[name].loc[{"bus": "2"}] = value
    fault = one_fault(data)
    assert fault.where.startswith(f"north.{name} at (bus=2")
    assert fault.found == str(float(value))
    assert fault.expected == expected


@pytest.mark.parametrize(
    ("name", "value"), [("v_root", 0.0), ("v_root", np.nan), ("duration", 0.0), ("duration", -1.0)]
)
def test_values_by_period(data, name, value):
    data[name][1] = value
    assert one_fault(data).where == f"north.{name} at (period=2026-01-01 01:00:00)"


def test_missing_array(data):
    assert one_fault(data.drop_vars("tap")).where == "north.tap"


def test_wrong_dimensions(data):
    fault = one_fault(data.assign(p_scheduled=data.p_scheduled.T))
    assert fault.found == "dimensions (period, bus)"
    assert fault.expected == "(bus, period)"


def test_wrong_type(data):
    assert one_fault(data.assign(r=("bus", ["a", "b", "c"]))).where == "north.r"


def test_parents_that_are_no_strings(data):
    fault = one_fault(data.assign(parent=("bus", np.array(["", 1, "2"], dtype=object))))
    assert fault.expected == "strings"
    assert fault.found == "1"


def test_labels_that_are_no_strings(data):
    assert "1, 2, 3" in one_fault(data.assign_coords(bus=[1, 2, 3])).found


def test_no_labels(data):
    with pytest.raises(DataError) as error:
        Feeder(data.drop_vars("bus"))
    assert error.value.faults[0].where == "north.bus"


def test_duplicate_labels(data):
    fault = one_fault(data.assign_coords(bus=["1", "2", "2"]))
    assert fault.found == "labels that stand twice: 2"


@pytest.mark.parametrize(
    ("periods", "found"),
    [
        (PERIODS[::-1], "periods out of order"),
        (["a", "b"], "labels of type object"),
        (pd.DatetimeIndex(["2026-01-01", pd.NaT]), "NaT"),
    ],
)
def test_periods(data, periods, found):
    fault = one_fault(data.assign_coords(period=periods))
    assert fault.where == "north.period"
    assert fault.found.startswith(found.split(" of type")[0])


def test_no_period(data):
    fault = one_fault(data.isel(period=slice(0)))
    assert fault.found == "no period"


def test_periods_that_overlap(data):
    data["duration"][:] = 2.0
    fault = one_fault(data)
    assert fault.where == "north.duration at (period=2026-01-01 00:00:00)"
    assert fault.found == "2.0"


def test_band(data):
    data["v_min"].loc[{"bus": "3"}] = 1.05
    data["v_max"].loc[{"bus": "3"}] = 1.05
    fault = one_fault(data)
    assert fault.where == "north.v_min at (bus=3)"


@pytest.mark.parametrize("key", ["name", "root"])
def test_attributes(data, key):
    del data.attrs[key]
    fault = one_fault(data)
    assert fault.found == f"no {key!r}"


def test_unknown_root(data):
    data.attrs["root"] = "9"
    assert any("'9'" in fault.found for fault in check(data))


def test_unknown_parent(data):
    data["parent"].loc[{"bus": "3"}] = "8"
    found = [fault.found for fault in check(data)]
    assert found == ["ends at '8', which is no bus", "buses without a path to root 1: 3"]


def test_no_parent(data):
    data["parent"].loc[{"bus": "3"}] = ""
    faults = check(data)
    assert [fault.where for fault in faults] == ["north.parent at (bus=3)", "north"]


def test_root_with_a_parent(data):
    data["parent"].loc[{"bus": "1"}] = "3"
    (fault,) = check(data)
    assert fault.found == "parent 3"


def test_buses_that_feed_each_other(data):
    data["parent"].loc[{"bus": "2"}] = "3"
    assert [fault.found for fault in check(data)] == [
        "parallel branches",
        "buses without a path to root 1: 2, 3",
    ]


def test_impedance_at_the_root(data):
    data["r"].loc[{"bus": "1"}] = 0.1
    (fault,) = check(data)
    assert fault.found == "r 0.1, x 0, tap 1"


def test_all_faults_together(data):
    data["r"].loc[{"bus": "2"}] = -1.0
    data["v_root"][0] = np.nan
    with pytest.raises(DataError) as error:
        Feeder(data.drop_vars("g").assign_coords(bus=["1", "2", "2"]))
    assert [fault.where.split(" ")[0] for fault in error.value.faults] == [
        "north.bus",
        "north.r",
        "north.g",
        "north.v_root",
    ]


@pytest.mark.parametrize("parents", [["", ""], ["2", "1"]])
def test_table_with_one_root_only(parents):
    with pytest.raises(DataError) as error:
        feeder_from_table(pd.DataFrame({"parent": parents}, index=["1", "2"]), name="north")
    assert error.value.faults[0].found == f"{parents.count('')} buses without a parent"


def test_netcdf_round_trip(data, tmp_path):
    feeder = Feeder(data)
    feeder.data.to_netcdf(tmp_path / "north.nc")
    with xr.open_dataset(tmp_path / "north.nc", decode_timedelta=False) as read:
        xr.testing.assert_equal(Feeder(read).data, feeder.data)
