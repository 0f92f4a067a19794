"""Limits c'x ≤ h against the linear grid itself: what they say is exactly what it does."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.network.feeders import combine
from hiermarket.network.limits import limit_rows, sites, smallest_slack
from hiermarket.network.linear_flow import State, eliminate, linear_flow
from hiermarket.network.losses import linearise
from hiermarket.network.power_flow import power_flow
from tests.random_markets import random_feeder

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")
SIDES = 8


@pytest.fixture(scope="module")
def grid():
    rng = np.random.default_rng(5)
    return combine({name: random_feeder(rng, name, size, PERIODS) for name, size in (("n", 6), ("s", 4), ("e", 3))})


#: Four resources of two feeders; not in the order of the feeders, none in the last one.
NODES = {"s one": "s/2", "n one": "n/3", "n two": "n/3", "n root": "n/0", "n three": "n/3"}
RATIOS = [[0.3, 0.1], [-0.5, 0.2], [0.0, 0.0], [0.7, 0.7], [-0.5, 0.2]]


@pytest.fixture(scope="module")
def who(grid):
    node = pd.Series(NODES, name="at")
    coords = {"bid": node.index, "period": PERIODS}
    return sites(grid, node, xr.DataArray(RATIOS, dims=("bid", "period"), coords=coords))


def test_resources_of_one_bus_and_ratio_share_a_site(grid, who):
    at = {name: position for position, name in enumerate(grid.data.bus.values)}
    assert who.place.tolist() == [[at["n/3"], at["n/3"], at["n/0"]], [at["s/2"], -1, -1], [-1, -1, -1]]
    assert who.feeder.tolist() == [1, 0, 0, 0, 0]
    assert who.rank.tolist() == [0, 0, 1, 2, 0]  # "n three" is where "n one" is, with its ratio
    assert who.ratio[0, 0].tolist() == [-0.5, 0.2]
    assert not who.ratio[2].any()
    total = who.total(np.arange(10.0).reshape(5, 2))
    assert total[0].tolist() == [[2 + 8, 3 + 9], [4, 5], [6, 7]]
    assert total[1, 0].tolist() == [0, 1]


def test_nobody(grid):
    none = pd.Series([], index=pd.Index([], dtype=object), dtype=object, name="at")
    ratio = xr.DataArray(np.zeros((0, 2)), dims=("bid", "period"), coords={"period": PERIODS})
    assert sites(grid, none, ratio).place.shape == (3, 0)


def injected_at(grid, who, x):
    """Add x (feeder, rank, period) to the schedule, site by site."""
    p, q = grid.data.p_scheduled.copy(deep=True), grid.data.q_scheduled.copy(deep=True)
    p.values, q.values = p.values.copy(), q.values.copy()
    for feeder, rank in np.argwhere(who.place >= 0):
        p.values[who.place[feeder, rank]] += x[feeder, rank]
        q.values[who.place[feeder, rank]] += x[feeder, rank] * who.ratio[feeder, rank]
    return p, q


def as_arrays(state):
    return State(state.v.values**2, *(state[n].fillna(0.0).values for n in ("p_flow", "q_flow", "p_interface")))


@pytest.mark.parametrize("sides", [SIDES, 2])
def test_slack_of_every_limit_is_that_of_the_linear_grid(grid, who, sides):
    rng = np.random.default_rng(1)
    base, further = (rng.uniform(-0.1, 0.1, who.ratio.shape) for _ in range(2))
    state = power_flow(grid, *injected_at(grid, who, base))
    terms = linearise(grid, state)
    after = linear_flow(grid, terms, *injected_at(grid, who, further))
    data, kinds = grid.data, set()
    smallest = np.full((3, 2), np.inf)
    for row in limit_rows(grid, terms, as_arrays(state), who, base, sides=sides):
        kinds.add(row.kind.split()[0])
        for number, position in enumerate(row.bus):
            b = data.bus.values[position]
            owner = list(grid.roots.index).index(grid.feeder_of[b])
            w = after.v.sel(bus=b) ** 2
            if row.kind == "low_voltage":
                slack = w - data.v_min.sel(bus=b) ** 2
            elif row.kind == "high_voltage":
                slack = data.v_max.sel(bus=b) ** 2 - w
            else:
                s = after.p_flow.sel(bus=b) + 1j * after.q_flow.sel(bus=b)
                w_above = after.v.sel(bus=grid.parents[b]) ** 2
                l_p, l_q, l_w = (term.sel(bus=b) for term in (terms.by_p, terms.by_q, terms.by_w))
                current = l_p * s.real + l_q * s.imag + l_w * w_above
                z = data.r.sel(bus=b).item() + 1j * data.x.sel(bus=b).item()
                normal = np.exp(2j * np.pi * int(row.kind.split()[1]) / sides)
                # the larger of both ends (the squared current is positive here)
                ends = [(end * np.conj(normal)).real for end in (s, s - z * current)]
                slack = data.s_max.sel(bus=b) * (1.0 if sides == 2 else np.cos(np.pi / sides)) - np.maximum(*ends)
            smallest[owner] = np.minimum(smallest[owner], slack)
            found = row.room[number] - (row.coefficient[number] * further[owner]).sum(axis=0)
            at = row.room[number] > 0  # a room of 0 may have been cut
            np.testing.assert_allclose(found[at], slack.values[at], atol=1e-7)
    assert kinds == {"low_voltage", "high_voltage", "rating"}
    # the same limits, looked at in the state itself
    np.testing.assert_allclose(smallest_slack(grid, terms, as_arrays(after), sides=sides), smallest, atol=1e-9)


def test_a_limit_that_is_broken_admits_nothing_that_makes_it_worse(grid, who):
    state = power_flow(grid, grid.data.p_scheduled, grid.data.q_scheduled)
    low = as_arrays(state.assign(v=0 * state.v + 0.5))
    rows = list(limit_rows(grid, linearise(grid, state), low, who, 0 * who.ratio, sides=SIDES))
    assert (rows[0].kind, rows[0].room.max()) == ("low_voltage", 0.0)
    assert all((row.room >= 0).all() for row in rows)
    assert (smallest_slack(grid, linearise(grid, state), low, sides=SIDES) < -0.1).all()


def test_interface_factor_is_the_ac_derivative(grid, who):
    state = power_flow(grid, grid.data.p_scheduled, grid.data.q_scheduled)
    factor = eliminate(grid, linearise(grid, state)).factors()
    step = 1e-4
    for feeder, rank in np.argwhere(who.place >= 0):
        only = np.zeros_like(who.ratio)
        only[feeder, rank] = step
        high, low = (power_flow(grid, *injected_at(grid, who, sign * only), tolerance=1e-13) for sign in (1, -1))
        slope = (low.p_interface - high.p_interface).values[feeder] / (2 * step)
        at = who.place[feeder, rank]
        np.testing.assert_allclose(factor[0, at] + who.ratio[feeder, rank] * factor[1, at], slope, atol=1e-6)
