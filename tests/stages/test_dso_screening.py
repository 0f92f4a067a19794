"""Left-out LPs change nothing: the merit order with a check of the grid against solving everything."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hiermarket.network.losses import LinDistFlow, Losses
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.dso_clearing import clear_dso
from tests.random_markets import random_market

EVERYTHING = SolverOptions(screening=False)

#: Arrays of the clearing, and by how much HiGHS' tolerance of 1e-9 may move them: volumes in
#: MW, prices and costs in EUR; the AC check follows the volumes.
TOLERANCE = {"nodal_price": 1e-5, "reactive_price": 1e-5, "clearing_cost": 1e-6}
SAME = (
    "activation", "tbm_volume", "nodal_price", "reactive_price", "voltage", "p_flow", "q_flow", "unserved", "spilled",
    "reactive_shortage", "reactive_surplus", "clearing_cost", "status", "ac_voltage", "ac_mismatch",
)  # fmt: skip


def assert_same(screened, everything):
    for name in SAME:
        one, other = screened.flat[name], everything.flat[name]
        assert one.dims == other.dims
        np.testing.assert_allclose(
            one.astype(float), other.astype(float), atol=TOLERANCE.get(name, 1e-7), rtol=1e-9, err_msg=name
        )


def both(market, grid):
    return clear_dso(market, grid=grid), clear_dso(market, grid=grid, solver=EVERYTHING)


CASES = {
    "seed": st.integers(0, 10**6),
    "passes": st.integers(0, 2),
    "losses": st.sampled_from(list(Losses)),
    "tau": st.sampled_from([0.0, 0.4]),
}


def the_same(seed, passes, losses, tau):
    market = random_market(seed, count=6, periods=2, hours=0.5, tau=tau)
    one, other = both(market, LinDistFlow(passes, losses))
    assert one.work.screened + one.work.solves > 0
    assert other.work.screened == 0
    assert_same(one, other)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(**CASES)
def test_the_same_as_solving_everything(seed, passes, losses, tau):
    the_same(seed, passes, losses, tau)


@pytest.mark.nightly
@settings(max_examples=400, deadline=None)
@given(**CASES)
def test_the_same_as_solving_everything_many_times(seed, passes, losses, tau):
    the_same(seed, passes, losses, tau)


def test_what_is_screened_is_most_of_it_and_counts():
    market = random_market(7, count=40)
    one, other = both(market, LinDistFlow(2))
    assert one.flat.screened.dtype == bool
    share = float(one.flat.screened.mean())
    assert 0.2 < share < 0.95
    assert one.work.solves < 0.8 * other.work.solves
    assert not other.flat.screened.any()
    assert_same(one, other)


@pytest.mark.parametrize("way", ["up", "down"])
def test_prices_at_a_step_are_the_middle(way):
    """Need exactly one bid: any price up to the next offer clears the market."""
    import pandas as pd

    import hiermarket as hm
    from hiermarket.network.feeder import feeder_from_table

    feeder = feeder_from_table(pd.DataFrame({"parent": ["", "r"], "r": [0, 0.0], "x": [0, 0.0]}, index=["r", "e"]),
                               name="f")  # fmt: skip
    up = way == "up"
    rows = pd.DataFrame(
        {"feeder": "f", "bsp": ["A", "B"], "bus": "e", "direction": way, "volume": 0.5,
         "price": [30.0, 40.0] if up else [40.0, 30.0]}
    )  # fmt: skip
    market = hm.balancing_market(
        {"f": feeder}, bids=rows, tbm_prices={"up": 70.0, "down": 20.0}, rules=hm.MarketRules(200.0, 1000.0),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [0.5 if up else -0.5]}),
    )  # fmt: skip
    for cleared in both(market, LinDistFlow(0)):
        assert cleared.flat.activation.values.ravel().tolist() == pytest.approx([0.5, 0.0])
        assert cleared.flat.nodal_price.values.ravel().tolist() == pytest.approx([35.0, 35.0])
    # nothing to balance: between the best offers of both directions
    still = both(hm.BalancingMarket(
        market.feeders, market.bids, 0 * market.imbalance, market.tbm, market.rules, market.transmission
    ), LinDistFlow(0))  # fmt: skip
    for cleared in still:
        assert not cleared.flat.activation.any()
        assert cleared.flat.nodal_price.values.ravel() == pytest.approx([25.0] * 2 if up else [55.0] * 2)
