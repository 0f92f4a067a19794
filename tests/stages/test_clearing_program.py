"""One build for all passes: refilled arrays are those of a model built anew."""

import linopy
import numpy as np
import pytest

from hiermarket.network.losses import LinDistFlow, Losses, linearise
from hiermarket.network.power_flow import power_flow
from hiermarket.solving.program import program_of
from hiermarket.stages.clearing_model import clearing_cost, clearing_model
from hiermarket.stages.clearing_program import read_clearing
from tests.random_markets import random_market


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
