"""Results come back from a file as they were, and a failed write leaves nothing behind."""

import numpy as np
import pytest
import xarray as xr

from hiermarket.results.netcdf import read_results, write_results
from hiermarket.results.results import result_tree


def test_round_trip(random_tree, tmp_path):
    path = write_results(random_tree, tmp_path / "run.nc")
    assert path == tmp_path / "run.nc"
    again = read_results(path)
    xr.testing.assert_identical(again, random_tree)
    for group in random_tree.children:
        for name, array in random_tree[group].data_vars.items():
            found = again[group][name]
            assert found.dtype.kind == array.dtype.kind or {found.dtype.kind, array.dtype.kind} <= set("OUT"), name
            assert found.dims == array.dims
            np.testing.assert_array_equal(found.values, array.values)
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


def test_round_trip_with_a_leader(led_run, tmp_path):
    tree = result_tree(led_run)
    xr.testing.assert_identical(read_results(write_results(tree, str(tmp_path / "led.nc"))), tree)


def test_the_file_is_closed_and_in_memory(random_tree, tmp_path):
    path = write_results(random_tree, tmp_path / "run.nc")
    again = read_results(path)
    path.unlink()
    assert float(again["clearing/voltage"].max()) > 0.5


def test_a_file_is_replaced(random_tree, tmp_path):
    path = tmp_path / "run.nc"
    path.write_bytes(b"an older file")
    write_results(random_tree, path)
    assert set(read_results(path).children) == set(random_tree.children)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(random_tree, tmp_path):
    path = tmp_path / "run.nc"
    path.write_bytes(b"an older file")
    broken = random_tree.copy()
    broken["zz"] = xr.DataTree(xr.Dataset({"object": ("n", np.array([{}, set()], dtype=object))}))
    with pytest.raises(Exception, match=r".") as error:
        write_results(broken, path)
    assert not isinstance(error.value, AssertionError)
    assert path.read_bytes() == b"an older file"
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


def test_a_write_that_fails_at_the_end(random_tree, tmp_path, monkeypatch):
    path = tmp_path / "run.nc"

    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_results(random_tree, path)
    assert list(tmp_path.iterdir()) == []
