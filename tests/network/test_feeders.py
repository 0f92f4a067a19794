import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.feeders import Feeders, combine

HOURS = pd.date_range("2026-01-01", periods=2, freq="h")


def small(name, **options):
    table = pd.DataFrame({"parent": ["b", "", "a"], "r": [0.1, 0.0, 0.2], "x": [0.1, 0.0, 0.2]}, index=["a", "b", "c"])
    return feeder_from_table(table, name=name, **options)


def test_flat_labels_by_feeder_and_depth():
    together = combine({"north": small("north"), "south": small("south", v_root=1.02)})
    data = together.data
    assert data.bus.values.tolist() == ["north/b", "north/a", "north/c", "south/b", "south/a", "south/c"]
    assert data.depth.values.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.depth.dtype == int
    assert data.bus_feeder.values.tolist() == ["north"] * 3 + ["south"] * 3
    assert data.bus_name.values.tolist() == ["b", "a", "c"] * 2
    assert data.r.sel(bus="south/c") == 0.2
    assert data.v_root.sel(feeder="south").item() == 1.02
    assert together.roots.to_dict() == {"north": "north/b", "south": "south/b"}
    assert together.branches.tolist() == ["north/a", "north/c", "south/a", "south/c"]
    assert together.parents.loc["south/c"] == "south/a"
    assert together.parents.name == "parent"
    assert together.feeder_of.loc["south/c"] == "south"
    assert not data.r.values.flags.writeable


def test_parents_stand_before_children(ieee):
    together = combine(ieee)
    position = {bus: i for i, bus in enumerate(together.data.bus.values)}
    assert all(position[parent] < position[bus] for bus, parent in together.parents.items())
    assert len(together.branches) == 32 + 68


def test_none():
    with pytest.raises(DataError) as error:
        combine({})
    assert error.value.faults[0].found == "none"


@pytest.mark.parametrize("name", ["", "a/b"])
def test_names(name):
    with pytest.raises(DataError) as error:
        combine({name: small("north")})
    assert error.value.faults[0].found == f"names {name!r}"


def test_periods_and_durations_that_differ_are_named_together():
    feeders = {
        "a": small("a", periods=HOURS),
        "b": small("b", periods=HOURS),
        "c": small("c", periods=HOURS + pd.Timedelta("1h")),
        "d": small("d", periods=HOURS, duration=0.25),
    }
    with pytest.raises(DataError) as error:
        combine(feeders)
    assert [fault.where for fault in error.value.faults] == ["feeders.period", "feeders.duration"]
    assert [fault.found.split(" that")[0] for fault in error.value.faults] == ["periods of c", "durations of d"]


def test_a_dataset_that_combine_did_not_make():
    data = combine({"a": small("a")}).data
    with pytest.raises(DataError) as error:
        Feeders(data.drop_vars("bus_name"))
    assert error.value.faults[0].where == "feeders.bus_name"
    with pytest.raises(DataError) as error:
        Feeders(data.assign(r=xr.full_like(data.r, np.nan)))
    assert error.value.faults[0].where.startswith("feeders.r at (bus=a/b), (bus=a/a)")
