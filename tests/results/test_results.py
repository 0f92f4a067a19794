"""The tree of results: every array with the dimensions, labels and unit that the table says."""

import json
from importlib.metadata import version

import numpy as np
import pytest
import xarray as xr

from hiermarket.nomenclature import QUANTITIES
from hiermarket.results.results import options_of, result_tree, storable
from hiermarket.stages.forwarding_methods import SafeBox

#: Arrays of the grid, described where they are made.
OF_THE_GRID = {
    "p_scheduled": ("feeder", "bus", "period"), "q_scheduled": ("feeder", "bus", "period"),
    "parent": ("feeder", "bus"), "v_min": ("feeder", "bus"), "v_max": ("feeder", "bus"), "s_max": ("feeder", "bus"),
    "residual": ("check",),
}  # fmt: skip
GROUPS = {"input", "clearing", "forwarded", "tso", "disaggregation", "settlement", "baseline", "indicators"}


def test_groups(random_tree, led_run):
    assert set(random_tree.children) == GROUPS
    led = result_tree(led_run)
    assert set(led.children) == GROUPS | {"bidding"}
    assert led["bidding"].attrs["leader"] == "A"
    assert led["bidding"].attrs["certificate_holds"] == 1
    check(led)


def check(tree):
    for group in tree.children.values():
        for name, array in group.data_vars.items():
            where = f"{group.name}/{name}"
            row = QUANTITIES.get(name)
            expected = OF_THE_GRID[name] if row is None else row.dims
            assert array.dims == expected, where
            assert array.attrs["units"], where
            assert array.attrs["long_name"], where
            if row is not None:
                assert array.attrs["units"] == row.unit, where
            for dim in array.dims:
                assert dim in array.indexes, where


def test_every_array_has_dimensions_labels_and_a_unit(random_tree):
    check(random_tree)


def test_values_are_found_by_name(random_run, random_tree):
    flat = random_run.clearing.flat
    for bid in flat.bid:
        at = {name: bid[f"bid_{name}"].item() for name in ("feeder", "bsp", "bus", "block", "direction")}
        np.testing.assert_array_equal(random_tree["clearing/activation"].sel(at), flat.activation.sel(bid=bid.item()))
        price = random_tree["input/price"].sel(at)
        np.testing.assert_array_equal(price, random_run.market.bids.data.price.sel(bid=bid.item()))
    for bus in flat.bus:
        at = {"feeder": bus.bus_feeder.item(), "bus": bus.bus_name.item()}
        np.testing.assert_array_equal(random_tree["clearing/voltage"].sel(at), flat.voltage.sel(bus=bus.item()))
        np.testing.assert_array_equal(
            random_tree["input/imbalance"].sel(at), random_run.market.imbalance.sel(bus=bus.item())
        )
    # absent bids are gaps
    assert random_tree["clearing/activation"].notnull().sum() == flat.activation.size


def test_a_feeder_without_such_a_bus_has_no_parent_there(random_tree, random_run):
    parent = random_tree["input/parent"]
    data = random_run.market.feeders.data
    assert parent.dtype.kind in "UT"
    assert "nan" not in parent.values
    named = {
        f"{f}/{b}": str(parent.sel(feeder=f, bus=b).item()) for f in parent.feeder.values for b in parent.bus.values
    }
    for bus, above in named.items():
        assert above == (data.parent.sel(bus=bus).item() if bus in data.bus else "")


def test_attributes_are_json(random_run, random_tree):
    options = json.loads(random_tree.attrs["options"])
    assert options["kind"] == "Options"
    assert options["behaviour"] == {"kind": "Truthful"}
    assert options["forwarding"] == {"kind": "SafeBox", "undo": True, "corner_passes": 1}
    assert options["grid"] == {"kind": "LinDistFlow", "loss_passes": 1, "losses": "linearised", "sides": 12}
    rules = json.loads(random_tree.attrs["rules"])
    prices = {"price_cap": 120.0, "price_floor": 0.0, "value_of_lost_load": 1000.0}
    assert rules == {**prices, "pricing": "nodal", "imbalance_pricing": "single"}
    versions = json.loads(random_tree.attrs["versions"])
    assert versions["linopy"] == version("linopy")
    assert versions["hiermarket"] == version("hiermarket")


def test_options_of():
    assert options_of(SafeBox()) == {"kind": "SafeBox", "undo": False, "corner_passes": 3}
    assert options_of(3.0) == 3.0


def test_storable():
    dataset = xr.Dataset(
        {
            "ok": ("bus", [True, False], {"units": "1"}),
            "parent": ("bus", np.array(["a", np.nan], dtype=object), {"units": "1"}),
            "v": ("bus", [1.0, np.nan]),
        },
        coords={"bus": np.array(["x", "y"], dtype=object)},
    )
    found = storable(dataset)
    assert found.ok.dtype == np.int8
    assert found.ok.attrs["flag_meanings"] == "no yes"
    assert found.parent.values.tolist() == ["a", ""]
    assert found.parent.attrs == {"units": "1"}
    assert found.bus.dtype.kind in "UT"
    assert np.isnan(found.v.values[1])
    assert dataset.ok.dtype == bool  # a copy


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_same_buses_in_every_group(random_tree, group):
    node = random_tree[group]
    if "bus" in node.dims:
        assert node.indexes["bus"].equals(random_tree["input"].indexes["bus"])
