"""Linearised losses: the value and the slope of (P² + Q²) t²/w_m, by finite differences."""

import numpy as np
import pytest
import xarray as xr

from hiermarket.errors import DataError
from hiermarket.network.feeders import combine
from hiermarket.network.losses import LinDistFlow, Losses, linearise, lossless
from hiermarket.network.power_flow import power_flow
from tests.random_markets import random_feeder

ORDER = ("constant", "by_p", "by_q", "by_w")


@pytest.fixture(scope="module")
def grid():
    rng = np.random.default_rng(4)
    periods = xr.date_range("2026-01-01", periods=2, freq="h", use_cftime=False)
    feeders = combine({name: random_feeder(rng, name, size, periods) for name, size in (("n", 6), ("s", 4))})
    return feeders, power_flow(feeders, feeders.data.p_scheduled, feeders.data.q_scheduled)


def squared_current(feeders, state):
    """l = (P² + Q²) t²/w_m of every branch, bus by bus."""
    d = feeders.data
    return {
        b: (state.p_flow.sel(bus=b) ** 2 + state.q_flow.sel(bus=b) ** 2)
        * d.tap.sel(bus=b).item() ** 2
        / state.v.sel(bus=d.parent.sel(bus=b).item()) ** 2
        for b in feeders.branches
    }


def value(terms, feeders, state):
    return {
        b: terms.constant.sel(bus=b)
        + terms.by_p.sel(bus=b) * state.p_flow.sel(bus=b)
        + terms.by_q.sel(bus=b) * state.q_flow.sel(bus=b)
        + terms.by_w.sel(bus=b) * state.v.sel(bus=feeders.parents[b]) ** 2
        for b in feeders.branches
    }


@pytest.mark.parametrize("losses", list(Losses))
def test_exact_at_the_state_itself(grid, losses):
    feeders, state = grid
    terms = linearise(feeders, state, losses)
    true, linear = squared_current(feeders, state), value(terms, feeders, state)
    for b in feeders.branches:
        np.testing.assert_allclose(linear[b], true[b], atol=1e-13)
        # the power flow's own squared current
        np.testing.assert_allclose(true[b], state.l.sel(bus=b), atol=1e-8)


def test_slopes_are_finite_differences(grid):
    feeders, state = grid
    terms, step = linearise(feeders, state), 1e-6
    for name, term in (("p_flow", terms.by_p), ("q_flow", terms.by_q)):
        high, low = (squared_current(feeders, state.assign({name: state[name] + h})) for h in (step, -step))
        for b in feeders.branches:
            np.testing.assert_allclose(term.sel(bus=b), (high[b] - low[b]) / (2 * step), atol=1e-8)
    w = state.v**2
    high, low = (squared_current(feeders, state.assign(v=np.sqrt(w + h))) for h in (step, -step))
    for b in feeders.branches:
        np.testing.assert_allclose(terms.by_w.sel(bus=b), (high[b] - low[b]) / (2 * step), atol=1e-8)


def test_constant_losses_have_no_slope(grid):
    feeders, state = grid
    terms = linearise(feeders, state, Losses.CONSTANT)
    for name in ORDER[1:]:
        assert not getattr(terms, name).any()
    true = squared_current(feeders, state)
    for b in feeders.branches:
        np.testing.assert_allclose(terms.constant.sel(bus=b), true[b], rtol=1e-12)


def test_lossless(grid):
    feeders, _ = grid
    terms = lossless(feeders)
    for name in ORDER:
        assert getattr(terms, name).dims == ("bus", "period")
        assert list(getattr(terms, name).bus.values) == list(feeders.branches)
        assert not getattr(terms, name).any()


def test_defaults():
    assert LinDistFlow() == LinDistFlow(loss_passes=2, losses=Losses.LINEARISED, sides=12)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("loss_passes", -1),
        ("loss_passes", 1.5),
        ("losses", "constnat"),
        ("sides", 1),
        ("sides", 2.5),
        ("sides", np.nan),
    ],
)
def test_what_is_no_option_is_refused(name, given):
    with pytest.raises(DataError) as error:
        LinDistFlow(**{name: given})
    assert [fault.where for fault in error.value.faults] == [f"LinDistFlow.{name}"]


def test_an_option_may_be_given_by_its_value():
    assert LinDistFlow(losses="constant").losses is Losses.CONSTANT


def test_polygon_of_twelve_sides_cuts_at_most_three_point_four_percent():
    # the apothem of a regular polygon in a circle is cos(π/J): 1 − cos(π/12) = 0.0341
    assert 1 - np.cos(np.pi / LinDistFlow().sides) < 0.0341
