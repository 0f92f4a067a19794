"""The rows of the linear grid: a baseline of two buses, and the same state as the sparse system gives."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.feeders import combine
from hiermarket.network.lindistflow import Injections, add_rows, add_state, at_parents
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, linearise, lossless
from hiermarket.network.power_flow import power_flow
from tests.random_markets import random_feeder

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


@pytest.fixture(autouse=True)
def v1():
    with linopy.options as options:
        options.set_value(semantics="v1")
        yield


def built(feeders, losses, p, q, sides=12):
    """A model of the grid alone: fixed injections, free exchange at the interfaces."""
    model = linopy.Model()
    data = feeders.data
    buses, periods = data.indexes["bus"], data.indexes["period"]
    add_state(model, feeders)
    # an expression over all buses that is 0: the injections are data here
    nothing = model.add_variables(lower=0, upper=0, coords=[buses, periods], name="nothing")
    exchange = model.add_variables(coords=[pd.Index(feeders.roots.to_numpy(), name="bus"), periods], name="exchange")
    imported = xr.zeros_like(data.v_root)
    injections = Injections(
        active=1 * nothing, reactive=1 * nothing, at_interface=1 * exchange,
        active_demand=-p, reactive_demand=-q, scheduled_import=imported,
    )  # fmt: skip
    add_rows(model, feeders, losses, injections, sides=sides)
    model.add_objective((1 * exchange).sum())
    return model


@pytest.mark.parametrize("lossy", [False, True])
def test_one_solution_and_that_of_the_sparse_system(lossy):
    """Without decisions the rows are square: their solution is that of `linear_flow`."""
    rng = np.random.default_rng(3)
    feeders = combine({name: random_feeder(rng, name, size, PERIODS) for name, size in (("n", 6), ("s", 3))})
    data = feeders.data.assign(s_max=np.inf * feeders.data.r.clip(min=1), v_min=0 * feeders.data.v_min)
    feeders = type(feeders)(data.assign(v_max=np.inf * feeders.data.v_max))
    p, q = (feeders.data[name].reset_coords(drop=True) for name in ("p_scheduled", "q_scheduled"))
    terms = linearise(feeders, power_flow(feeders, p, q)) if lossy else lossless(feeders)
    model = built(feeders, terms, p, q)
    model.solve("highs", output_flag=False, progress=False, io_api="direct")
    state = linear_flow(feeders, terms, p, q)
    names = {"Bus-v_sq": state.v**2, "Line-p": state.p_flow.dropna("bus"), "Line-q": state.q_flow.dropna("bus")}
    for name, expected in names.items():
        found = model.variables[name].solution.transpose(*expected.dims).sel(bus=expected.bus)
        np.testing.assert_allclose(found, expected, atol=1e-7, err_msg=name)  # HiGHS' tolerance
    at = {"bus": feeders.roots.to_numpy()}
    np.testing.assert_allclose(
        model.variables["exchange"].solution.sel(at).transpose("bus", ...), state.p_interface, atol=1e-7
    )


def two_bus(**columns):
    table = pd.DataFrame({"parent": ["", "1"], "r": [0.0, 0.1], "x": [0.0, 0.2], **columns}, index=["1", "2"])
    return combine({"n": feeder_from_table(table, name="n", periods=PERIODS[:1], v_root=1.02)})


def terms_of(model, one):
    """List (variable, bus, coefficient) of a row's data, zeros left out."""
    found = []
    for label, c in zip(one.vars.values.ravel(), one.coeffs.values.ravel(), strict=True):
        for name, variable in model.variables.items():
            at = variable.labels.where(variable.labels == label, drop=True)
            if label >= 0 and c and at.size:
                found.append(((name, str(at.bus.item())), float(c)))
    return found


def row(model, name):
    """Coefficients by variable and bus, and the right-hand side, of the only row of a name."""
    one = model.constraints[name].data.squeeze()
    listed = terms_of(model, one)
    total = dict.fromkeys((key for key, _ in listed), 0.0)
    for key, c in listed:
        total[key] += c
    return total, float(one.rhs)


def test_rows_of_two_buses_by_hand():
    # state P̄ = 0.5, Q̄ = 0.3, w_1 = 1.02² = 1.0404, behind the tap w̄ = 1.0404/0.81: l̄ = 0.34/w̄
    feeders = two_bus(tap=[1.0, 0.9], g=[0.01, 0.02], b=[0.0, 0.03], p_scheduled=[0, -0.4], q_scheduled=[0, -0.2])
    ones = xr.ones_like(feeders.data.p_scheduled)
    state = xr.Dataset({"v": 1.02 * ones, "p_flow": 0.5 * ones, "q_flow": 0.3 * ones})
    terms = linearise(feeders, state)
    model = built(feeders, terms, feeders.data.p_scheduled, feeders.data.q_scheduled)
    w = 1.0404 / 0.81  # behind the transformer
    l_p, l_q, l_w = 2 * 0.5 / w, 2 * 0.3 / w, -(0.34 / w) / 1.0404
    P, Q, w_1, w_2 = ("Line-p", "n/2"), ("Line-q", "n/2"), ("Bus-v_sq", "n/1"), ("Bus-v_sq", "n/2")
    # (1)  P − r l − g w_2 = 0.4
    expected = {P: 1 - 0.1 * l_p, Q: -0.1 * l_q, w_1: -0.1 * l_w, w_2: -0.02, ("nothing", "n/2"): 1.0}
    found, right = row(model, "Bus-nodal_balance")
    assert right == pytest.approx(0.4)
    assert found == pytest.approx(expected)
    # (2)  Q − x l + b w_2 = 0.2
    expected = {Q: 1 - 0.2 * l_q, P: -0.2 * l_p, w_1: -0.2 * l_w, w_2: 0.03, ("nothing", "n/2"): 1.0}
    found, right = row(model, "Bus-reactive_balance")
    assert right == pytest.approx(0.2)
    assert found == pytest.approx(expected)
    # (3)  w_2 − w_1/t² + 2 (r P + x Q) − (r² + x²) l = 0
    expected = {P: 0.2 - 0.05 * l_p, Q: 0.4 - 0.05 * l_q, w_1: -1 / 0.81 - 0.05 * l_w, w_2: 1.0}
    found, right = row(model, "Line-v_drop")
    assert right == pytest.approx(0.0)
    assert found == pytest.approx(expected)
    # (7)  exchange − P − g_1 w_1 = 0
    found, right = row(model, "Interface-balance")
    assert right == 0.0
    assert found == pytest.approx({("exchange", "n/1"): 1.0, ("nothing", "n/1"): 1.0, P: -1.0, w_1: -0.01})


def test_bounds_of_voltages():
    model = built(f := two_bus(v_min=[0.8, 0.9], v_max=[1.2, 1.1]), lossless(f), f.data.p_scheduled, f.data.q_scheduled)
    w = model.variables["Bus-v_sq"]
    # the root is held at 1.02², whatever its limits
    assert w.lower.squeeze().values.tolist() == pytest.approx([1.0404, 0.81])
    assert w.upper.squeeze().values.tolist() == pytest.approx([1.0404, 1.21])


@pytest.mark.parametrize("sides", [4, 12])
def test_polygon_touches_the_circle_at_its_corners(sides):
    feeders = two_bus(s_max=[np.inf, 2.0])
    model = built(feeders, lossless(feeders), feeders.data.p_scheduled, feeders.data.q_scheduled, sides)
    data = model.constraints["Line-s_max"].data.squeeze()
    assert data.sizes["side"] == sides
    angle = np.linspace(0, 2 * np.pi, 2881)
    reach = np.inf
    for side in range(sides):
        one = data.isel(side=side)
        c = {name: value for (name, _), value in terms_of(model, one)}
        across = c.get("Line-p", 0.0) * np.cos(angle) + c.get("Line-q", 0.0) * np.sin(angle)
        reach = np.minimum(reach, np.where(across > 1e-9, float(one.rhs) / np.where(across > 1e-9, across, 1), np.inf))
    assert reach.max() == pytest.approx(2.0, rel=1e-9)
    assert reach.min() == pytest.approx(2.0 * np.cos(np.pi / sides), rel=1e-9)


def test_no_rating_no_rows():
    feeders = two_bus()
    model = built(feeders, lossless(feeders), feeders.data.p_scheduled, feeders.data.q_scheduled)
    assert "Line-s_max" not in model.constraints


def test_at_parents():
    feeders = combine({"n": feeder_from_table(
        pd.DataFrame({"parent": ["b", "", "a"], "r": [0.1, 0, 0.1]}, index=["a", "b", "c"]), name="n",
    )})  # fmt: skip
    model = linopy.Model()
    add_state(model, feeders)
    w = model.variables["Bus-v_sq"]
    above = at_parents(w, feeders)
    for bus, parent in (("n/a", "n/b"), ("n/c", "n/a")):
        assert above.vars.sel(bus=bus).item() == w.labels.sel(bus=parent).item()


def test_two_sides_limit_the_active_power_alone():
    feeders = two_bus(s_max=[np.inf, 2.0])
    model = built(feeders, lossless(feeders), feeders.data.p_scheduled, feeders.data.q_scheduled, 2)
    data = model.constraints["Line-s_max"].data.squeeze()
    assert data.rhs.values.tolist() == [2.0, 2.0]
    for side, sign in enumerate((1.0, -1.0)):
        assert {name: value for (name, _), value in terms_of(model, data.isel(side=side)) if value} == {"Line-p": sign}


def test_fewer_sides_are_refused():
    with pytest.raises(DataError) as error:
        LinDistFlow(sides=1)
    (fault,) = error.value.faults
    assert fault.where == "LinDistFlow.sides"
