"""Limits c'x ≤ h against the linear grid itself: what they say is exactly what it does."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.network.feeders import combine
from hiermarket.network.limits import limits, resources
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import linearise
from hiermarket.network.power_flow import power_flow
from tests.random_markets import random_feeder

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")
SIDES = 8


@pytest.fixture(scope="module")
def grid():
    rng = np.random.default_rng(5)
    return combine({name: random_feeder(rng, name, size, PERIODS) for name, size in (("n", 6), ("s", 4), ("e", 3))})


@pytest.fixture(scope="module")
def who(grid):
    """Three resources in one feeder, one in the next, none in the last; not in the order of the feeders."""
    node = pd.Series({"s one": "s/2", "n one": "n/3", "n two": "n/3", "n root": "n/0"}, name="at")
    ratio = xr.DataArray(
        [[0.3, 0.1], [-0.5, 0.2], [0.0, 0.0], [0.7, 0.7]],
        dims=("bid", "period"), coords={"bid": node.index, "period": PERIODS},
    )  # fmt: skip
    return resources(grid, node, ratio)


def test_resources_are_ranked_within_their_feeder(who):
    assert who.label.sizes == {"feeder": 3, "rank": 3}
    assert who.present.values.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert who.label.sel(feeder="n").values.tolist() == ["n one", "n two", "n root"]
    assert who.label.sel(feeder="s").values[0] == "s one"
    assert who.node.sel(feeder="n").values.tolist() == ["n/3", "n/3", "n/0"]
    assert who.node.sel(feeder="s").values.tolist() == ["s/2", "", ""]
    assert who.ratio.sel(feeder="n").isel(rank=0).values.tolist() == [-0.5, 0.2]
    assert not who.ratio.sel(feeder="e").any()


def test_nobody(grid):
    none = pd.Series([], index=pd.Index([], dtype=object), dtype=object, name="at")
    ratio = xr.DataArray(np.zeros((0, 2)), dims=("bid", "period"), coords={"period": PERIODS})
    assert resources(grid, none, ratio).present.sizes == {"feeder": 3, "rank": 0}


def injected_at(grid, who, x):
    """Add x (feeder, rank, period) to the schedule, resource by resource."""
    p, q = grid.data.p_scheduled.copy(), grid.data.q_scheduled.copy()
    for feeder in x.feeder.values:
        for rank in range(x.sizes["rank"]):
            bus = who.node.sel(feeder=feeder).values[rank]
            if bus:
                amount = x.sel(feeder=feeder).isel(rank=rank)
                p.loc[{"bus": bus}] = p.sel(bus=bus) + amount
                q.loc[{"bus": bus}] = q.sel(bus=bus) + amount * who.ratio.sel(feeder=feeder).isel(rank=rank)
    return p, q


def test_slack_of_every_limit_is_that_of_the_linear_grid(grid, who):
    rng = np.random.default_rng(1)
    shape = tuple(who.ratio.sizes.values())
    base, further = (who.ratio.copy(data=rng.uniform(-0.1, 0.1, shape)) for _ in range(2))
    p, q = injected_at(grid, who, base)
    state = power_flow(grid, p, q)
    terms = linearise(grid, state)
    found = limits(grid, terms, state, who, base, sides=SIDES)
    after = linear_flow(grid, terms, *injected_at(grid, who, further))
    data = grid.data
    for b in grid.branches:
        x = further.sel(feeder=grid.feeder_of[b], drop=True)
        w = after.v.sel(bus=b) ** 2
        true = {
            "low_voltage": w - data.v_min.sel(bus=b) ** 2,
            "high_voltage": data.v_max.sel(bus=b) ** 2 - w,
        }
        for name, slack in true.items():
            room, c = found.room[name].sel(bus=b), found.coefficient[name].sel(bus=b)
            at = (room > 0).values  # a room of 0 may have been cut
            np.testing.assert_allclose((room - (c * x).sum("rank"))[at], slack.transpose(*room.dims)[at], atol=1e-7)
        if np.isfinite(data.s_max.sel(bus=b)):
            s = after.p_flow.sel(bus=b) + 1j * after.q_flow.sel(bus=b)
            w_above = after.v.sel(bus=grid.parents[b]) ** 2
            current = terms.by_p.sel(bus=b) * s.real + terms.by_q.sel(bus=b) * s.imag + terms.by_w.sel(bus=b) * w_above
            z = data.r.sel(bus=b).item() + 1j * data.x.sel(bus=b).item()
            for side in range(SIDES):
                normal = np.exp(2j * np.pi * side / SIDES)
                # the larger of both ends (the squared current is positive here)
                ends = [(end * np.conj(normal)).real for end in (s, s - z * current)]
                slack = data.s_max.sel(bus=b) * np.cos(np.pi / SIDES) - np.maximum(*ends)
                room = found.room["rating"].sel(bus=b, side=side)
                c = found.coefficient["rating"].sel(bus=b, side=side)
                at = (room > 0).values
                np.testing.assert_allclose((room - (c * x).sum("rank"))[at], slack[at], atol=1e-7)
    assert "rating" in found.coefficient


def test_a_limit_that_is_broken_admits_nothing_that_makes_it_worse(grid, who):
    zero = xr.zeros_like(who.ratio)
    state = power_flow(grid, grid.data.p_scheduled, grid.data.q_scheduled)
    low = state.assign(v=0 * state.v + 0.5)
    found = limits(grid, linearise(grid, state), low, who, zero, sides=SIDES)
    assert (found.room["low_voltage"] == 0).all()
    assert all((room >= 0).all() for room in found.room.values())


def test_interface_factor_is_the_ac_derivative(grid, who):
    state = power_flow(grid, grid.data.p_scheduled, grid.data.q_scheduled)
    zero, step = xr.zeros_like(who.ratio), 1e-4
    found = limits(grid, linearise(grid, state), state, who, zero, sides=SIDES).interface
    for rank, feeder in ((0, "n"), (1, "n"), (2, "n"), (0, "s")):
        only = xr.zeros_like(zero)
        only.loc[{"feeder": feeder}] = np.where(np.arange(3)[:, None] == rank, step, 0.0)
        high, low = (power_flow(grid, *injected_at(grid, who, sign * only), tolerance=1e-13) for sign in (1, -1))
        slope = (low.p_interface - high.p_interface) / (2 * step)
        np.testing.assert_allclose(found.sel(feeder=feeder).isel(rank=rank), slope.sel(feeder=feeder), atol=1e-6)
