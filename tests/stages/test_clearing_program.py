"""One build for all passes: refilled arrays are those of a model built anew."""

import linopy
import numpy as np
import pytest
import xarray as xr

from hiermarket.network.losses import LinDistFlow, Losses, linearise
from hiermarket.network.power_flow import power_flow
from hiermarket.solving.program import program_of
from hiermarket.stages.clearing_model import clearing_cost, clearing_model
from hiermarket.stages.clearing_program import read_clearing
from tests.random_markets import random_market
from tests.stages.test_reactive_support import supported


@pytest.mark.parametrize("losses", list(Losses))
def test_refilled_is_built_anew(losses):
    market, grid = random_market(2, count=3, sizes=(3, 6), periods=2), LinDistFlow(sides=8)
    assert np.isfinite(market.feeders.data.s_max).any()
    state = power_flow(market.feeders, market.feeders.data.p_scheduled, market.feeders.data.q_scheduled)
    terms = linearise(market.feeders, state, losses)
    refilled = read_clearing(market, grid).at(terms, state.p_interface)
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = clearing_model(market, terms, state.p_interface, grid)
        model.add_objective(clearing_cost(model, market, market.bids.data.price))
        anew = program_of(model)
    assert abs(refilled.matrix - anew.matrix).max() == 0
    for name in ("cost", "row_lower", "row_upper", "lower", "upper", "columns", "rows"):
        np.testing.assert_array_equal(getattr(refilled, name), getattr(anew, name), err_msg=name)


def test_refilled_with_reactive_support_is_built_anew():
    market, grid = supported(2, count=3, periods=2), LinDistFlow()
    held = xr.zeros_like(market.imbalance) + np.random.default_rng(0).uniform(-0.3, 0.3, market.imbalance.shape)
    state = power_flow(market.feeders, market.feeders.data.p_scheduled, market.feeders.data.q_scheduled)
    terms = linearise(market.feeders, state, support=held)
    refilled = read_clearing(market, grid).at(terms, state.p_interface)
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = clearing_model(market, terms, state.p_interface, grid)
        model.add_objective(clearing_cost(model, market, market.bids.data.price))
        anew = program_of(model)
    # what is held is summed in another order
    assert abs(refilled.matrix - anew.matrix).max() < 1e-14
    for name in ("cost", "row_lower", "row_upper", "lower", "upper"):
        np.testing.assert_allclose(getattr(refilled, name), getattr(anew, name), rtol=0, atol=1e-13, err_msg=name)
