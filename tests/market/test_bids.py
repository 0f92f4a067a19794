"""Bids from tables, files and arrays are the same; every fault is named."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.market.bids import Bids, bids
from hiermarket.market.price_convention import PriceConvention

PERIODS = pd.date_range("2026-01-01", periods=3, freq="h")


@pytest.fixture
def table():
    """Two BSPs; the second bid has no row in the last hour."""
    rows = [
        ("n", "A", "18", 0, "up", PERIODS[0], 30.0, 0.2, 28.0, 0.1),
        ("n", "A", "18", 0, "up", PERIODS[1], 31.0, 0.3, 28.0, 0.1),
        ("n", "A", "18", 0, "up", PERIODS[2], 32.0, 0.4, 28.0, 0.1),
        ("s", "B", "7", 1, "down", PERIODS[0], 20.0, 0.5, 24.0, 0.0),
        ("s", "B", "7", 1, "down", PERIODS[1], 22.0, 0.6, 24.0, 0.0),
    ]
    names = ["feeder", "bsp", "bus", "block", "direction", "period", "price", "volume", "cost", "reactive_ratio"]
    return pd.DataFrame(rows, columns=names)


def faults_of(source):
    with pytest.raises(DataError) as error:
        bids(source, PERIODS)
    return error.value.faults


def test_labels_and_values(table):
    found = bids(table, PERIODS)
    data = found.data
    assert data.bid.values.tolist() == ["n/A/18/0/up", "s/B/7/1/down"]
    assert data.bid_node.values.tolist() == ["n/18", "s/7"]
    assert data.bid_block.values.tolist() == [0, 1]
    assert data.price.sel(bid="n/A/18/0/up").values.tolist() == [30.0, 31.0, 32.0]
    assert data.cost.values[0].tolist() == [28.0] * 3
    assert found.sign.values.tolist() == [1.0, -1.0]
    assert found.node.to_dict() == {"n/A/18/0/up": "n/18", "s/B/7/1/down": "s/7"}
    assert found.node.name == "at"
    assert found.bsps == ["A", "B"]
    assert found.of("B").values.tolist() == [False, True]
    assert data.volume.attrs["units"] == "MW"
    assert data.price.attrs["units"] == "EUR/MWh"


def test_without_a_row_there_is_no_volume_and_no_missing_number(table):
    data = bids(table, PERIODS).data
    assert data.volume.values[1].tolist() == [0.5, 0.6, 0.0]
    assert data.price.values[1].tolist() == [20.0, 22.0, 21.0]  # the mean of the bid's own


def test_defaults(table):
    few = table.drop(columns=["block", "cost", "reactive_ratio", "period"]).drop_duplicates("feeder")
    data = bids(few, PERIODS).data
    assert data.bid_block.values.tolist() == [0, 0]
    xr.testing.assert_equal(data.cost, data.price.rename("cost"))
    assert not data.reactive_ratio.any()
    assert data.bid_resource.values.tolist() == ["", ""]
    # a row without a period holds in all
    assert data.volume.values.tolist() == [[0.2] * 3, [0.5] * 3]


def test_table_file_and_dataset_are_equal(table, tmp_path):
    expected = bids(table, PERIODS).data
    table.to_csv(tmp_path / "bids.csv", index=False)
    for path in (tmp_path / "bids.csv", str(tmp_path / "bids.csv")):
        xr.testing.assert_identical(bids(path, PERIODS).data, expected)
    labels = ["feeder", "bsp", "bus", "block", "direction", "period"]
    array = table.set_index(labels).to_xarray()
    assert array.volume.isnull().any()  # absent bids
    xr.testing.assert_identical(bids(array, PERIODS).data, expected)


def test_a_dataset_of_one_feeder_with_its_name_as_a_scalar(table):
    one = table[table.feeder == "n"]
    array = one.drop(columns="feeder").set_index(["bsp", "bus", "block", "direction", "period"]).to_xarray()
    found = bids(array.assign_coords(feeder="n"), PERIODS)
    xr.testing.assert_identical(found.data, bids(one, PERIODS).data)


def test_numbers_as_labels_are_read_as_strings(table):
    found = bids(table.astype({"bus": int}), PERIODS)
    assert found.data.bid_bus.values.tolist() == ["18", "7"]


def test_bids_pass_through(table):
    found = bids(table, PERIODS)
    assert bids(found, PERIODS) is found


def test_read_only(table):
    given = table.copy()
    data = bids(table, PERIODS).data
    for name in ("price", "volume", "cost", "reactive_ratio", "bid_bus"):
        with pytest.raises(ValueError, match="read-only"):
            data[name].values[0] = data[name].values[0]
    pd.testing.assert_frame_equal(table, given)


def test_a_dataset_is_copied(table):
    data = bids(table, PERIODS).data.copy(deep=True)
    data["price"] = data.price.copy(data=np.array(data.price))
    made = Bids(data)
    data.price.values[:] = 77.0
    assert made.data.price.values.max() == 32.0


def test_missing_columns(table):
    (fault,) = faults_of(table.drop(columns=["price", "bus"]))
    assert (fault.where, fault.found) == ("bids", "no column bus, price")


def test_a_row_twice(table):
    (fault,) = faults_of(pd.concat([table, table.iloc[[1]]]))
    assert (fault.where, fault.found) == ("bids", "more than one row for n/A/18/0/up")
    without = table.drop(columns="period")
    assert faults_of(without)[0].found.startswith("more than one row for n/A/18/0/up, n/A/18/0/up, s/B")


def test_an_unknown_period(table):
    late = table.assign(period=table.period + pd.Timedelta("1D"))
    (fault,) = faults_of(late)
    assert fault.where == "bids.period"
    assert fault.found.startswith("2026-01-02 00:00:00")


@pytest.mark.parametrize("block", [np.nan, 0.5, "first"])
def test_a_block_that_is_no_integer(table, block):
    (fault,) = faults_of(table.assign(block=block))
    assert (fault.where, fault.expected) == ("bids.block", "an integer")


@pytest.mark.parametrize("column", ["price", "volume", "cost", "reactive_ratio"])
@pytest.mark.parametrize("value", [np.nan, np.inf, "much"])
def test_what_is_no_number(table, column, value):
    broken = table.astype({column: object})
    broken.loc[1, column] = value
    (fault,) = faults_of(broken)
    assert fault.where == f"bids.{column} at (bid=n/A/18/0/up, period=2026-01-01 01:00:00)"


def test_several_faults_together(table):
    broken = table.assign(
        direction=["sideways"] * 3 + ["down"] * 2, bsp=["A/1"] * 3 + ["B"] * 2, volume=[0.1, -0.2, 0.3, 0.4, 0.5]
    )
    broken["price"] = [np.nan, 1.0, 2.0, 3.0, 4.0]
    found = {fault.where.split(" at ")[0]: fault for fault in faults_of(broken)}
    assert set(found) == {"bids.direction", "bid_bsp", "bids.price", "bids.volume"}
    assert found["bids.direction"].found == "sideways"
    assert found["bids.direction"].expected == "up or down"
    assert found["bid_bsp"].found == "A/1"
    assert found["bids.volume"].found == "-0.2"


def test_owners_whose_accounts_would_be_the_same(table):
    (fault,) = faults_of(table.assign(bsp=["BSP 1"] * 3 + ["1"] * 2))
    assert (fault.where, fault.found) == ("bids.bsp", "BSP 1, 1")


def test_a_feeder_with_a_slash(table):
    assert faults_of(table.assign(feeder="n/o"))[0].where.startswith("bid_feeder at")


def test_no_bids(table):
    found = bids(table.iloc[:0], PERIODS)
    assert found.bsps == []
    assert found.data.sizes == {"bid": 0, "period": 3}


def test_minimum_volumes(table):
    assert "minimum" not in bids(table, PERIODS).data
    assert bids(table, PERIODS).is_divisible
    whole = bids(table.assign(all_or_nothing=[True] * 3 + [False] * 2), PERIODS)
    assert whole.data.minimum.values.tolist() == [[0.2, 0.3, 0.4], [0.0, 0.0, 0.0]]
    assert not whole.is_divisible
    assert bids(table.assign(minimum=0.1), PERIODS).data.minimum.values.tolist() == [[0.1] * 3, [0.1, 0.1, 0.0]]


def test_faults_of_minimum_volumes(table):
    assert [f.where for f in faults_of(table.assign(minimum=0.1, all_or_nothing=True))] == ["bids"]
    assert [f.where for f in faults_of(table.assign(all_or_nothing="yes"))] == ["bids.all_or_nothing"]
    for wrong in (0.25, -0.1, np.nan):
        assert [f.where.split(" at ")[0] for f in faults_of(table.assign(minimum=wrong))] == ["bids.minimum"]


def test_providers_that_are_paid_for_both_directions(table):
    ours, theirs = (bids(table, PERIODS, convention=convention).data for convention in PriceConvention)
    up, down = ours.bid.values
    for name in ("price", "cost"):
        np.testing.assert_array_equal(theirs[name].sel(bid=up), ours[name].sel(bid=up))
        # to be paid p for down energy is to pay −p
        np.testing.assert_array_equal(theirs[name].sel(bid=down), -ours[name].sel(bid=down))
    xr.testing.assert_identical(theirs.volume, ours.volume)
    without_cost = bids(table.drop(columns="cost"), PERIODS, convention=PriceConvention.PAID_FOR_BOTH).data
    np.testing.assert_array_equal(without_cost.cost.sel(bid=down), without_cost.price.sel(bid=down))


def test_bids_that_were_read_have_no_other_convention(table):
    with pytest.raises(DataError) as error:
        bids(bids(table, PERIODS), PERIODS, convention=PriceConvention.PAID_FOR_BOTH)
    assert [fault.where for fault in error.value.faults] == ["bids.convention"]


def test_a_convention_may_be_given_by_its_value(table):
    for convention in PriceConvention:
        found = bids(table, PERIODS, convention=str(convention)).data
        xr.testing.assert_identical(found, bids(table, PERIODS, convention=convention).data)
    with pytest.raises(DataError) as error:
        bids(table, PERIODS, convention="paid")
    assert [fault.where for fault in error.value.faults] == ["bids.convention"]


@pytest.mark.parametrize("column", ["feeder", "bsp", "bus", "direction"])
@pytest.mark.parametrize("nothing", [None, np.nan])
def test_rows_without_a_label_are_named(table, column, nothing):
    labels = table[column].astype(object)
    labels.iloc[0] = nothing
    (fault,) = faults_of(table.assign(**{column: labels}))
    assert fault.where == f"bids.{column}"
    assert str(table.index[0]) in fault.found


def test_a_bid_has_one_resource_in_all_periods(table):
    """That of the first row held in all periods, in silence."""
    (fault,) = faults_of(table.assign(resource=["x", "x", "", "y", "y"]))
    assert fault.where == "bids.resource"
    assert "n/A/18/0/up" in fault.found
    assert "s/B" not in fault.found
