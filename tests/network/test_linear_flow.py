"""The linear grid against AC power flow: figures of the 33-bus feeder, taps and shunts, slopes."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.feeders import combine
from hiermarket.network.linear_flow import eliminate, linear_flow
from hiermarket.network.losses import Losses, linearise, lossless
from hiermarket.network.power_flow import power_flow
from tests.random_markets import random_feeder

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


def schedule(feeders):
    return feeders.data.p_scheduled, feeders.data.q_scheduled


def errors_of_passes(feeders, losses, passes, active=1.0):
    """Voltage errors against AC, largest and of the lowest voltage, of passes around the model's own last state."""
    p, q = active * feeders.data.p_scheduled, feeders.data.q_scheduled
    true = power_flow(feeders, p, q, tolerance=1e-14)
    state = linear_flow(feeders, lossless(feeders), p, q)
    found = []
    for _ in range(passes + 1):
        found.append((abs(state.v - true.v).max().item(), abs(state.v.min() - true.v.min()).item()))
        state = linear_flow(feeders, linearise(feeders, state, losses), p, q)
    return np.array(found).T


@pytest.fixture(scope="module")
def random_grid():
    """Two feeders of unlike size with taps and shunts."""
    rng = np.random.default_rng(11)
    return combine({name: random_feeder(rng, name, size, PERIODS) for name, size in (("n", 7), ("s", 4))})


def test_lossless_lowest_voltage(ieee33):
    state = linear_flow(ieee33, lossless(ieee33), *schedule(ieee33))
    assert state.v.min().item() == pytest.approx(0.91593, abs=5e-6)
    assert state.v.squeeze().idxmin().item() == "ieee33/18"
    # without losses the root takes the sum of the loads
    assert state.p_interface.item() == pytest.approx(3.715, abs=1e-12)


def test_errors_with_linearised_losses(ieee33):
    # with the deficit of 15 % of every active load that the micro-case M33 balances
    largest, _ = errors_of_passes(ieee33, Losses.LINEARISED, 2, active=1.15)
    assert largest == pytest.approx([3.563e-3, 6.403e-6, 2.28e-11], rel=3e-3)


def test_errors_with_constant_losses(ieee33):
    _, lowest = errors_of_passes(ieee33, Losses.CONSTANT, 3)
    assert lowest == pytest.approx([2.844e-3, 1.746e-4, 1.015e-5, 5.59e-7], rel=1e-3)


@pytest.mark.parametrize("losses", list(Losses))
def test_equals_ac_at_the_ac_state_with_taps_and_shunts(random_grid, losses):
    p, q = schedule(random_grid)
    true = power_flow(random_grid, p, q)
    state = linear_flow(random_grid, linearise(random_grid, true, losses), p, q)
    assert (random_grid.data.tap != 1).any()
    assert (random_grid.data.b != 0).all()
    for name in ("v", "p_flow", "q_flow", "p_interface"):
        # the sweeps stop at steps of 1e-10
        np.testing.assert_allclose(state[name], true[name].transpose(*state[name].dims), atol=1e-8, err_msg=name)


def test_two_buses_by_hand():
    # t = 0.9, v_1 = 1: w_2 = 1/0.81 − 2 (0.01·0.5 + 0.02·0.2) + …, lossless with b = 0.1, g = 0.2 at bus 2:
    # P = 0.5 + 0.2 w_2, Q = 0.2 − 0.1 w_2, so w_2 (1 + 2 (0.01·0.2 − 0.02·0.1)) = 1/0.81 − 2 (0.01·0.5 + 0.02·0.2)
    # = 1.2345679 − 0.018 = 1.2165679, P = 0.74331358, Q = 0.07834321; the root adds 0.3·1 of its own shunt − 0.25
    table = pd.DataFrame(
        {
            "parent": ["", "1"], "r": [0.0, 0.01], "x": [0.0, 0.02], "tap": [1.0, 0.9], "g": [0.3, 0.2],
            "b": [0.0, 0.1], "p_scheduled": [0.25, -0.5], "q_scheduled": [0.0, -0.2],
        },
        index=["1", "2"],
    )  # fmt: skip
    feeders = combine({"n": feeder_from_table(table, name="n")})
    state = linear_flow(feeders, lossless(feeders), *schedule(feeders))
    assert state.v.sel(bus="n/2").item() ** 2 == pytest.approx(1.2165679, abs=1e-7)
    assert state.p_flow.sel(bus="n/2").item() == pytest.approx(0.74331358, abs=1e-7)
    assert state.q_flow.sel(bus="n/2").item() == pytest.approx(0.07834321, abs=1e-7)
    assert state.p_interface.item() == pytest.approx(0.74331358 + 0.3 - 0.25, abs=1e-7)
    assert np.isnan(state.p_flow.sel(bus="n/1").item())


def test_feeders_do_not_touch_each_other(random_grid):
    terms = linearise(random_grid, power_flow(random_grid, *schedule(random_grid)))
    p, q = schedule(random_grid)
    before = linear_flow(random_grid, terms, p, q)
    after = linear_flow(random_grid, terms, p - 0.1 * (p.bus_feeder == "s"), q)
    of_n = before.bus.str.startswith("n/")
    xr.testing.assert_equal(before.v[of_n], after.v[of_n])
    assert (abs(before.v - after.v)[~of_n] > 1e-6).any()
    assert before.p_interface.sel(feeder="n").equals(after.p_interface.sel(feeder="n"))


def test_sensitivities_are_ac_derivatives(random_grid):
    """With losses linearised at the AC state, slopes are those of the AC power flow (central differences)."""
    p, q = schedule(random_grid)
    terms = linearise(random_grid, power_flow(random_grid, p, q))
    n, s = random_grid.data.bus_feeder.values == "n", random_grid.data.bus_feeder.values == "s"
    some = np.array([random_grid.data.bus.values[n][[3, 6, 0]], [*random_grid.data.bus.values[s][[1, 3]], ""]])
    place = np.array([random_grid.data.indexes["bus"].get_indexer(row) for row in some])
    at = xr.DataArray(some.astype(str), dims=("feeder", "rank"), coords={"feeder": ["n", "s"]})
    tau = xr.DataArray(
        np.random.default_rng(2).uniform(-1, 1, (2, 3, 2)),
        dims=("feeder", "rank", "period"), coords={"feeder": ["n", "s"], "period": PERIODS},
    )  # fmt: skip
    found = eliminate(random_grid, terms).responses(place, tau.values)
    step = 1e-4
    for rank in range(3):
        dp, dq = xr.zeros_like(p), xr.zeros_like(q)
        for feeder in ("n", "s"):
            bus = at.sel(feeder=feeder).values[rank]
            if bus:
                dp.loc[{"bus": bus}] = step
                dq.loc[{"bus": bus}] = step * tau.sel(feeder=feeder).isel(rank=rank).values
        high = power_flow(random_grid, p + dp, q + dq, tolerance=1e-13)
        low = power_flow(random_grid, p - dp, q - dq, tolerance=1e-13)
        slope = (high.v**2 - low.v**2) / (2 * step)
        # second-order error of the differences 1e-8, sweeps 1e-13/1e-4
        np.testing.assert_allclose(found.w[:, rank], slope, atol=1e-6)
        for name, answer in (("p_flow", found.p), ("q_flow", found.q)):
            slope = ((high[name] - low[name]) / (2 * step)).fillna(0.0)
            np.testing.assert_allclose(answer[:, rank], slope, atol=1e-6)
        slope = (high.p_interface - low.p_interface) / (2 * step)
        np.testing.assert_allclose(found.interface[:, rank], slope, atol=1e-6)
    # at the root an injection is exchanged one for one; where there is no resource nothing happens
    np.testing.assert_allclose(found.interface[0, 2], -1.0)
    np.testing.assert_allclose(found.interface[1, 2], 0.0)


def test_factors_are_the_responses_of_the_interface(random_grid):
    """The way down the tree (by transposed inverses) against unit injections at every bus."""
    terms = linearise(random_grid, power_flow(random_grid, *schedule(random_grid)))
    grid = eliminate(random_grid, terms)
    factor = grid.factors()
    for reactive in (0.0, 0.7):
        for position, owner in enumerate(grid.feeder):
            place = np.full((2, 1), -1)
            place[owner] = position
            answer = grid.responses(place, np.full((2, 1, 2), reactive)).interface[owner, 0]
            np.testing.assert_allclose(-answer, factor[0, position] + reactive * factor[1, position], atol=1e-13)
