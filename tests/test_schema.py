"""Labelled values: read-only, in one order, unstacked by label."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError, Fault
from hiermarket.nomenclature import QUANTITIES, describe
from hiermarket.schema import (
    Labelled,
    bare,
    fault_where,
    freeze,
    freeze_array,
    labels_where,
    positions,
    raise_together,
    unstack,
)

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


@pytest.fixture
def flat():
    """Three bids and four buses of two feeders, whose labels are in no order of strings."""
    return xr.Dataset(
        {
            "activation": (("bid", "period"), np.arange(6.0).reshape(3, 2)),
            "voltage": (("bus", "period"), 1 + 0.1 * np.arange(8.0).reshape(4, 2)),
            "clearing_cost": (("feeder", "period"), [[1.0, 2.0], [3.0, 4.0]]),
            "status": (("feeder", "period"), np.zeros((2, 2), dtype=np.int8)),
        },
        coords={
            "bid": ["s/A/10/0/up", "n/B/9/1/down", "s/A/9/0/up"], "bus": ["s/10", "s/9", "n/9", "n/2"],
            "feeder": ["s", "n"], "period": PERIODS,
            "bid_feeder": ("bid", ["s", "n", "s"]), "bid_bsp": ("bid", ["A", "B", "A"]),
            "bid_bus": ("bid", ["10", "9", "9"]), "bid_block": ("bid", [0, 1, 0]),
            "bid_direction": ("bid", ["up", "down", "up"]),
            "bus_feeder": ("bus", ["s", "s", "n", "n"]), "bus_name": ("bus", ["10", "9", "9", "2"]),
        },
    )  # fmt: skip


def test_unstacked_by_label(flat):
    data = unstack(flat)
    assert data.activation.dims == ("feeder", "bsp", "bus", "block", "direction", "period")
    assert data.voltage.dims == ("feeder", "bus", "period")
    one = {"feeder": "n", "bsp": "B", "bus": "9", "block": 1, "direction": "down"}
    assert data.activation.sel(one).values.tolist() == [2.0, 3.0]
    assert data.activation.notnull().sum() == 6
    assert data.voltage.sel(feeder="n", bus="2").values.tolist() == pytest.approx([1.6, 1.7])
    assert np.isnan(data.voltage.sel(feeder="s", bus="2")).all()
    assert data.clearing_cost.sel(feeder="n").values.tolist() == [3.0, 4.0]
    # in the order in which labels first appear, not that of strings
    assert data.bus.values.tolist() == ["10", "9", "2"]
    assert data.voltage.attrs == {
        "units": "p.u.", "long_name": QUANTITIES["voltage"].meaning, "symbol": QUANTITIES["voltage"].symbol,
    }  # fmt: skip


def test_every_value_is_found_again(flat):
    data = unstack(flat)
    for bid in flat.bid:
        at = {name: bid[f"bid_{name}"].item() for name in ("feeder", "bsp", "bus", "block", "direction")}
        np.testing.assert_array_equal(data.activation.sel(at), flat.activation.sel(bid=bid.item()))


def test_labelled(flat):
    result = Labelled(freeze(flat))
    # one array has only the labels that it needs
    assert result.activation.bus.values.tolist() == ["10", "9"]
    xr.testing.assert_identical(result.activation.reindex(bus=["10", "9", "2"]), result.data.activation)
    xr.testing.assert_identical(result["voltage"], result.voltage)
    assert "voltage" in dir(result)
    with pytest.raises(AttributeError, match="Labelled has no array or attribute 'volts'"):
        _ = result.volts
    again = pickle.loads(pickle.dumps(result))
    xr.testing.assert_identical(again.flat, result.flat)


def test_freeze(flat):
    frozen = freeze(flat)
    for name in ("activation", "voltage", "status", "bid_feeder", "bid_block"):
        with pytest.raises(ValueError, match="read-only"):
            frozen[name].values[0] = frozen[name].values[0]
    flat.activation.values[0] = 77.0  # the original stays writable, and is not shared
    assert frozen.activation.values[0].tolist() == [0.0, 1.0]


def test_freeze_orders_dimensions(flat):
    frozen = freeze(flat.transpose("period", "bid", "bus", "feeder"))
    assert frozen.activation.dims == ("bid", "period")
    assert frozen.voltage.dims == ("bus", "period")
    np.testing.assert_array_equal(frozen.activation, flat.activation)


def test_freeze_leaves_the_order_of_other_dimensions():
    payment = xr.Dataset({"payment": (("account", "item", "period"), np.zeros((1, 2, 3)))})
    assert freeze(payment).payment.dims == ("account", "item", "period")


def test_freeze_array(flat):
    frozen = freeze_array(flat.voltage)
    xr.testing.assert_identical(frozen, flat.voltage)
    with pytest.raises(ValueError, match="read-only"):
        frozen.values[0, 0] = 1.0
    assert freeze_array(flat.voltage.rename(None)).name is None


def test_bare(flat):
    assert set(bare(flat.activation).coords) == {"bid", "period"}


def test_positions():
    assert positions(pd.Index(["a", "b", "c"]), np.array(["c", "x", "a"])).tolist() == [2, -1, 0]


def test_labels_where():
    array = xr.DataArray([[True, False], [False, True]], dims=("bus", "n"), coords={"bus": ["1", "18"]})
    assert labels_where(array) == ["(bus=1, n=0)", "(bus=18, n=1)"]


def test_fault_where():
    values = xr.DataArray([1.0, -2.0, -3.0], dims="bus", coords={"bus": ["a", "b", "c"]})
    (fault,) = fault_where(values < 0, values, name="load", expected="≥ 0", remedy="Turn it.")
    assert fault == Fault("load at (bus=b), (bus=c)", "-2.0, -3.0", "≥ 0", "Turn it.")
    assert fault_where(values < -9, values, name="load", expected="≥ 0", remedy="") == []


def test_fault_of_values_with_fewer_dimensions():
    mask = xr.DataArray([[True, False], [False, True]], dims=("n", "bus"), coords={"bus": ["a", "b"]})
    values = xr.DataArray([1.0, 2.0], dims="bus", coords={"bus": ["a", "b"]})
    (fault,) = fault_where(mask, values, name="x", expected="", remedy="")
    assert fault.found == "1.0, 2.0"


def test_raise_together():
    raise_together([])
    faults = [Fault(f"place {k}", "this", "that", "Mend it.") for k in range(2)]
    with pytest.raises(DataError, match="2 faults in the data") as error:
        raise_together(faults)
    assert error.value.faults == tuple(faults)


def test_describe_knows_every_quantity_once():
    assert len(QUANTITIES) == len({q.name for q in QUANTITIES.values()})
    for name, quantity in QUANTITIES.items():
        assert name == quantity.name
        assert quantity.unit
        assert quantity.meaning
        assert len(set(quantity.dims)) == len(quantity.dims)
    dataset = describe(xr.Dataset({"voltage": 1.0, "something": 2.0}))
    assert dataset.voltage.attrs["units"] == "p.u."
    assert dataset.something.attrs == {}
