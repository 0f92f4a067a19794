import numpy as np
import pandas as pd
import pytest

from hiermarket.network.snapshots import periods_of


def weightings(index, hours=1.0):
    return pd.DataFrame(hours, index=index, columns=["objective", "stores", "generators"], dtype=float)


def test_quarter_hours():
    index = pd.date_range("2026-03-01", periods=4, freq="15min")
    periods, duration, faults = periods_of(index, weightings(index, 0.25), "north")
    assert periods.equals(index)
    assert duration.tolist() == [0.25] * 4
    assert faults == []


def test_a_single_label_without_a_time():
    periods, duration, faults = periods_of(pd.Index(["now"]), weightings(["now"], 3.0), "north")
    assert periods.tolist() == [pd.Timestamp("2026-01-01 00:00")]
    assert duration.tolist() == [3.0]
    assert faults == []


def test_time_zones_become_utc():
    index = pd.date_range("2026-07-01", periods=2, freq="h", tz="Europe/Lisbon")
    periods, _, faults = periods_of(index, weightings(index), "north")
    assert periods.tolist() == [pd.Timestamp("2026-06-30 23:00"), pd.Timestamp("2026-07-01 00:00")]
    assert faults == []


def test_weightings_that_contradict_the_timestamps():
    index = pd.date_range("2026-03-01", periods=3, freq="15min")
    _, _, (fault,) = periods_of(index, weightings(index), "north")
    assert fault.where == "north.snapshot_weightings at 2026-03-01 00:00:00, 2026-03-01 00:15:00"
    assert fault.found == "1 h"
    assert fault.expected == "the time to the next snapshot, 0.25 h"


@pytest.mark.parametrize("column", ["stores", "generators"])
def test_columns_that_differ(column):
    index = pd.date_range("2026-03-01", periods=2, freq="h")
    table = weightings(index)
    table.loc[index[1], column] = np.float64(2.0)
    _, _, (fault,) = periods_of(index, table, "north")
    assert fault.found == "columns that differ at 2026-03-01 01:00:00"


def test_several_labels_without_a_time():
    _, _, (fault,) = periods_of(pd.Index(["a", "b"]), weightings(["a", "b"]), "north")
    assert fault.where == "north.snapshots"
    assert fault.found == "2 labels that are no timestamps: a, b"
