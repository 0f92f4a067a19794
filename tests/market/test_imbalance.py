"""Imbalance and TBM prices from tables, files and arrays."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.market.imbalance import imbalance_of, tbm_of
from hiermarket.network.feeders import combine
from tests.market.conftest import PERIODS


@pytest.fixture(scope="module")
def grid(feeders):
    return combine(feeders)


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "feeder": ["n", "n", "s"],
            "bus": ["1", "1", "1"],
            "period": [PERIODS[0], PERIODS[1], PERIODS[1]],
            "imbalance": [0.1, -0.2, 0.3],
        }
    )


def faults_of(make):
    with pytest.raises(DataError) as error:
        make()
    return error.value.faults


def test_values_by_label(grid, table):
    found = imbalance_of(table, grid)
    assert found.dims == ("bus", "period")
    assert found.bus.values.tolist() == ["n/r", "n/1", "n/2", "s/r", "s/1"]
    assert found.values.tolist() == [[0, 0], [0.1, -0.2], [0, 0], [0, 0], [0, 0.3]]


def test_without_periods_a_row_holds_in_all(grid, table):
    found = imbalance_of(table.drop(columns="period").iloc[[0, 2]], grid)
    assert found.sel(bus="n/1").values.tolist() == [0.1, 0.1]


def test_table_file_and_array_are_equal(grid, table, tmp_path):
    expected = imbalance_of(table, grid)
    table.to_csv(tmp_path / "imbalance.csv", index=False)
    xr.testing.assert_equal(imbalance_of(tmp_path / "imbalance.csv", grid), expected)
    # every feeder and bus of the array; the south has no bus 2
    array = xr.DataArray(
        np.zeros((2, 3, 2)), dims=("feeder", "bus", "period"),
        coords={"feeder": ["n", "s"], "bus": ["r", "1", "2"], "period": PERIODS},
    )  # fmt: skip
    array.loc["n", "1"] = [0.1, -0.2]
    array.loc["s", "1"] = [0.0, 0.3]
    array.loc["s", "2"] = np.nan
    xr.testing.assert_equal(imbalance_of(array, grid), expected)
    one = imbalance_of(array.sel(feeder="n").transpose("period", "bus"), grid)
    xr.testing.assert_equal(one, expected.where(expected.bus.str.startswith("n/"), 0.0))


def test_a_gap_of_an_array_at_a_bus_that_exists_is_a_fault(grid):
    array = xr.DataArray(
        [[np.nan, 0.1]], dims=("bus", "period"), coords={"feeder": "n", "bus": ["1"], "period": PERIODS}
    )
    (fault,) = faults_of(lambda: imbalance_of(array, grid))
    assert fault.found == "no number at n/1"


def test_missing_column(grid, table):
    (fault,) = faults_of(lambda: imbalance_of(table.drop(columns="imbalance"), grid))
    assert fault.found == "no column imbalance"


def test_several_faults_together(grid, table):
    broken = pd.concat([table, table.iloc[[0]].assign(imbalance=9.0)]).astype({"imbalance": object})
    broken.iloc[1, 3] = "a lot"
    broken.iloc[2, 1] = "99"
    late = broken.iloc[[2]].assign(period=pd.Timestamp("2030-01-01"))
    found = faults_of(lambda: imbalance_of(pd.concat([broken, late]), grid))
    assert [(f.where, f.found) for f in found] == [
        ("imbalance.bus", "s/99"),
        ("imbalance", "no number at n/1"),
        ("imbalance.period", "2030-01-01 00:00:00"),
        ("imbalance", "more than one row for n/1"),
    ]


def test_a_row_twice_without_periods(grid, table):
    (fault,) = faults_of(lambda: imbalance_of(table.drop(columns="period"), grid))
    assert fault.found == "more than one row for n/1"


@pytest.mark.parametrize(
    "prices",
    [
        {"up": [60.0, 61.0], "down": 20.0},
        {"up": np.array([60.0, 61.0]), "down": [20, 20]},
        {"up": pd.Series([61.0, 60.0], index=PERIODS[::-1]), "down": 20.0},
        pd.DataFrame({"up": [60.0, 61.0], "down": 20.0}, index=PERIODS),
        pd.DataFrame({"period": PERIODS.astype(str), "up": [60.0, 61.0], "down": 20.0}),
        xr.DataArray(
            [[20.0, 60.0], [20.0, 61.0]], dims=("period", "direction"),
            coords={"direction": ["down", "up"], "period": PERIODS},
        ),
    ],
)  # fmt: skip
def test_prices_of_every_kind(grid, prices):
    found = tbm_of(prices, grid)
    assert found.tbm_price.dims == ("direction", "period")
    assert found.tbm_price.sel(direction="up").values.tolist() == [60.0, 61.0]
    assert found.tbm_price.sel(direction="down").values.tolist() == [20.0, 20.0]
    assert np.isinf(found.tbm_limit).all()
    assert found.tbm_limit.sizes == {"feeder": 2, "direction": 2, "period": 2}


def test_limits(grid):
    prices = {"up": 60.0, "down": 20.0}
    assert (tbm_of(prices, grid, 0.3).tbm_limit == 0.3).all()
    by_feeder = xr.DataArray([2.0, 1.0], dims="feeder", coords={"feeder": ["s", "n"]})
    found = tbm_of(prices, grid, by_feeder).tbm_limit
    assert found.dims == ("feeder", "direction", "period")
    assert (found.sel(feeder="s") == 2.0).all()
    assert (found.sel(feeder="n") == 1.0).all()


def test_faults_of_prices_and_limits_together(grid):
    limit = xr.DataArray([1.0, 2.0], dims="feeder", coords={"feeder": ["n", "west"]})
    found = faults_of(lambda: tbm_of({"up": [60.0]}, grid, limit))
    assert [(f.where, f.found) for f in found] == [
        ("tbm_price", "no down"),
        ("tbm_price", "1 values for up"),
        ("tbm_limit.feeder", "missing or unknown: s, west"),
    ]
    (fault,) = faults_of(lambda: tbm_of({"up": 1.0, "down": 0.0}, grid, xr.DataArray([1.0, 2.0], dims="owner")))
    assert fault.found == "dim 'owner'"
    missing = xr.DataArray([1.0], dims="period", coords={"period": PERIODS[:1]})
    (fault,) = faults_of(lambda: tbm_of({"up": 1.0, "down": 0.0}, grid, missing))
    assert fault.where == "tbm_limit.period"
