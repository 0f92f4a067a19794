import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.network.grid import TransmissionGrid, check


@pytest.fixture
def data():
    """Two islands: a triangle of a, b, c with a double line, and d–e."""
    return xr.Dataset(
        {
            "bus0": ("line", ["a", "b", "a", "a", "d"]),
            "bus1": ("line", ["b", "c", "c", "c", "e"]),
            "susceptance": ("line", [10.0, 10.0, 5.0, 5.0, 1.0]),
            "s_max": ("line", [4.0, np.inf, 4.0, 4.0, 1.0]),
            "p_scheduled": (("bus", "period"), np.zeros((5, 1))),
            "duration": ("period", [1.0]),
        },
        coords={
            "bus": list("dabce"),
            "line": ["ab", "bc", "ac1", "ac2", "de"],
            "period": pd.to_datetime(["2026-01-01"]),
        },
    )


def test_slack_is_the_first_bus_of_each_island(data):
    grid = TransmissionGrid(data)
    assert grid.slack.tolist() == ["d", "a"]
    assert grid.island_of.to_dict() == {"d": 0, "e": 0, "a": 1, "b": 1, "c": 1}
    assert grid.data.susceptance.attrs["units"] == "MW/rad"
    with pytest.raises(ValueError, match="read-only"):
        grid.data.susceptance[0] = 1.0


@pytest.mark.parametrize(
    ("name", "value"), [("susceptance", 0.0), ("susceptance", -1.0), ("susceptance", np.inf), ("s_max", np.nan)]
)
def test_values(data, name, value):
    data[name][2] = value
    with pytest.raises(DataError) as error:
        TransmissionGrid(data)
    (fault,) = error.value.faults
    assert fault.where == f"grid.{name} at (line=ac1)"


def test_unknown_buses_and_loops(data):
    data["bus0"] = "line", ["a", "x", "a", "c", "d"]
    data["bus1"] = "line", ["b", "c", "y", "c", "e"]
    assert [(fault.where, fault.found) for fault in check(data)] == [
        ("grid.bus0 at (line=bc)", "'x', which is no bus"),
        ("grid.bus1 at (line=ac1)", "'y', which is no bus"),
        ("grid at (line=ac2)", "the same bus at both ends"),
    ]


def test_duplicate_lines(data):
    (fault,) = check(data.assign_coords(line=["ab", "bc", "ac", "ac", "de"]))
    assert fault.where == "grid.line"
