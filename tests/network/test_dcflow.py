"""DC power flow on a model: flows against the nodal equations, limits, islands."""

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.network.dcflow import add_dc_flow
from hiermarket.network.grid import TransmissionGrid

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


@pytest.fixture(autouse=True)
def v1():
    with linopy.options as options:
        options.set_value(semantics="v1")
        yield


def grid_of(ends, susceptance, s_max, buses):
    count = len(ends)
    return TransmissionGrid(
        xr.Dataset(
            {
                "bus0": ("line", [a for a, _ in ends]),
                "bus1": ("line", [b for _, b in ends]),
                "susceptance": ("line", susceptance),
                "s_max": ("line", s_max),
                "p_scheduled": (("bus", "period"), np.zeros((len(buses), 2))),
                "duration": ("period", [1.0, 1.0]),
            },
            coords={"bus": buses, "line": [f"l{k}" for k in range(count)], "period": PERIODS},
        )
    )  # fmt: skip


def flows(grid, injection):
    """Flows for fixed injections (bus, period), by the rows."""
    model = linopy.Model()
    out = add_dc_flow(model, grid)
    model.add_constraints(out == injection, name="balance")
    model.add_objective((0 * model.variables["Line-flow"]).sum())
    status = model.solve("highs", output_flag=False, progress=False, io_api="direct")
    return status, model


def test_a_ring_by_hand():
    # three equal lines: 90 MW from a to b go 60 direct and 30 the long way round
    grid = grid_of([("a", "b"), ("b", "c"), ("a", "c")], [1000.0] * 3, [np.inf] * 3, ["a", "b", "c"])
    injection = xr.DataArray([[90.0, 0], [-90, 0], [0, 0]], coords=grid.data.p_scheduled.coords, dims=("bus", "period"))
    _, model = flows(grid, injection)
    found = model.variables["Line-flow"].solution.sel(period=PERIODS[0])
    assert found.values.tolist() == pytest.approx([60, -30, 30])
    # θ_a − θ_b = 60/1000, with a as reference
    angle = model.variables["Bus-angle"].solution.sel(period=PERIODS[0])
    assert angle.values.tolist() == pytest.approx([0, -0.06, -0.03])


def test_random_meshes_with_parallel_lines_and_islands():
    rng = np.random.default_rng(8)
    buses = [f"b{k}" for k in range(9)]
    ends = [(f"b{k}", f"b{rng.integers(k)}") for k in range(1, 6)]  # one island of six buses
    ends += [("b0", "b3"), ("b2", "b5"), ends[0], ("b6", "b7")]  # meshes, a parallel line, another island; b8 alone
    b = rng.uniform(100, 5000, len(ends))
    grid = grid_of(ends, b, [np.inf] * len(ends), buses)
    p = rng.normal(0, 50, (9, 2))
    p[:6] -= p[:6].mean(axis=0)
    p[6:8] -= p[6:8].mean(axis=0)
    p[8] = 0
    injection = xr.DataArray(p, coords=grid.data.p_scheduled.coords, dims=("bus", "period"))
    (status, _), model = flows(grid, injection)
    assert status == "ok"
    # f = B A (AᵀBA)⁺ p
    incidence = np.zeros((len(ends), 9))
    for k, (one, other) in enumerate(ends):
        incidence[k, buses.index(one)] += 1
        incidence[k, buses.index(other)] -= 1
    expected = np.diag(b) @ incidence @ np.linalg.pinv(incidence.T @ np.diag(b) @ incidence) @ p
    np.testing.assert_allclose(model.variables["Line-flow"].solution.transpose("line", "period"), expected, atol=1e-6)


def test_a_limit_binds_both_ways():
    grid = grid_of([("a", "b")], [100.0], [10.0], ["a", "b"])
    flow_limits = linopy.Model()
    add_dc_flow(flow_limits, grid)
    flow = flow_limits.variables["Line-flow"]
    assert flow.lower.values.tolist() == [[-10.0, -10.0]]
    assert flow.upper.values.tolist() == [[10.0, 10.0]]
    too_much = xr.DataArray([[11.0, 0], [-11, 0]], coords=grid.data.p_scheduled.coords, dims=("bus", "period"))
    assert flows(grid, too_much)[0] == ("warning", "infeasible")
