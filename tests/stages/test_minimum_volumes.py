"""Bids with a minimum volume, or all or nothing: by hand, and against an enumeration of all decisions."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

import hiermarket as hm
from hiermarket.market.bids import Bids
from hiermarket.network.losses import LinDistFlow
from tests.random_markets import VOLL, random_market
from tests.resource_markets import bid, independent_cost, market

LOSSLESS = LinDistFlow(loss_passes=0)
EVERYTHING = hm.SolverOptions(screening=False)


def cleared(case, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.MarketWarning)
        return hm.clear_dso(case, grid=LOSSLESS, **options).require()


def activation(found):
    return found.flat.activation.values[:, 0].tolist()


def test_a_block_that_does_not_fit_is_left():
    # need 1: the block 1.5 at 30 would be 0.5 too much, sold to the TBM at 20: 45 − 10 = 35; the bid at 40 costs 40:
    # the block is cheaper. With a block at 36 it costs 54 − 10 = 44: it is left
    rows = [bid("up", 1.5, 30.0, all_or_nothing=True), bid("up", 1.0, 40.0, bsp="B", all_or_nothing=False)]
    assert activation(cleared(market([1.0], rows))) == pytest.approx([1.5, 0.0])
    rows[0]["price"] = 36.0
    found = cleared(market([1.0], rows))
    assert activation(found) == pytest.approx([0.0, 1.0])
    # it sets no price: with the decisions held, the bid at 40 is taken whole, and the TBM sells at 70
    assert 40.0 <= found.flat.nodal_price.values[0, 0] <= 70.0
    assert not found.flat.make_whole.any()


def test_a_block_accepted_at_a_loss_is_named():
    # need 1; block 1.5 at 30 is accepted, 0.5 goes to the TBM at 20: with the block held the price is 20, and the block
    # loses 10 on each of 1.5 MWh
    case = market([1.0], [bid("up", 1.5, 30.0, all_or_nothing=True)])
    with pytest.warns(hm.MarketWarning, match=r"bid=f/A/e/0/up.*15\.00 EUR"):
        found = hm.clear_dso(case, grid=LOSSLESS)
    assert found.flat.nodal_price.values[:, 0] == pytest.approx([20.0, 20.0])
    assert found.flat.make_whole.values.ravel() == pytest.approx([15.0])
    assert found.make_whole.attrs["units"] == "EUR"


def test_a_minimum_is_not_the_whole():
    # need 0.4: at least 0.6 of 1.0 at 30, 0.2 sold at 20: 18 − 4 = 14; a dear bid at 65 for 0.4: 26
    rows = [bid("up", 1.0, 30.0, minimum=0.6), bid("up", 1.0, 65.0, bsp="B", minimum=0.0)]
    assert activation(cleared(market([0.4], rows))) == pytest.approx([0.6, 0.0])
    # need 0.8: the minimum is exceeded, and the merit order is the result
    found = cleared(market([0.8], rows))
    assert activation(found) == pytest.approx([0.8, 0.0])
    assert found.flat.screened.all()
    assert found.flat.nodal_price.values[:, 0] == pytest.approx([30.0, 30.0])


def test_a_down_block():
    # surplus 1: a block of 2 at 25 needs 1 more from the TBM at 70: 70 − 50 = 20 > −20, what the TBM pays
    assert activation(cleared(market([-1.0], [bid("down", 2.0, 25.0, all_or_nothing=True)]))) == pytest.approx([0.0])
    # of 1.1: 7 − 27.5 = −20.5 < −20
    assert activation(cleared(market([-1.0], [bid("down", 1.1, 25.0, all_or_nothing=True)]))) == pytest.approx([1.1])


def test_other_stages_refuse_what_they_would_cut():
    case = market([1.0], [bid("up", 1.0, 30.0, all_or_nothing=True)])
    with pytest.raises(hm.ModelError) as error:
        hm.bid_strategically(case, "A")
    assert error.value.where == "bids.minimum"


def with_blocks(seed, transform):
    """A random market on a grid, some of whose bids are all or nothing."""
    case = random_market(seed, periods=1, tau=0.0)
    data = case.bids.data
    rng = np.random.default_rng(seed)
    whole = rng.random(data.volume.shape) < 0.7
    return transform(case, np.where(whole, data.volume.values, 0.0))


def objective(found, case):
    lost = sum(float(found.flat[name].sum()) for name in
               ("unserved", "spilled", "reactive_shortage", "reactive_surplus"))  # fmt: skip
    return float(found.flat.clearing_cost.sum()) + VOLL * lost * float(case.duration[0])


def enumerated(case, least):
    """Least objective over every choice of the blocks: accepted ones are a part of the imbalance, others are gone."""
    data, best = case.bids.data, np.inf
    blocks = np.flatnonzero(least[:, 0] > 0)
    for choice in itertools.product([0.0, 1.0], repeat=len(blocks)):
        volume, shift, cost = data.volume.values.copy(), case.imbalance.copy(), 0.0
        volume[blocks] = 0.0
        for number, taken in zip(blocks, choice, strict=True):
            injected = taken * least[number, 0] * (1 if data.bid_direction.values[number] == "up" else -1)
            shift.loc[{"bus": data.bid_node.values[number]}] -= injected
            cost += injected * float(data.price[number, 0]) * float(case.duration[0])
        part = type(case)(
            case.feeders, Bids(data.assign(volume=(data.volume.dims, volume))), shift, case.tbm, case.rules,
            case.transmission,
        )  # fmt: skip
        found = cleared(part)
        best = min(best, objective(found, part) + cost)
    return best


def check(seed):
    def divide(case, least):
        return case, case.with_bids(case.bids.data.assign(minimum=(case.bids.data.volume.dims, least))), least

    plain, case, least = with_blocks(seed, divide)
    # a voltage limit behind a tap that no injection mends: no clearing with or without blocks
    assume(not hm.clear_dso(plain, grid=LOSSLESS).flat.status.any())
    expected = enumerated(plain, least)
    for options in (hm.SolverOptions(), EVERYTHING):
        found = cleared(case, solver=options)
        assert objective(found, case) == pytest.approx(expected, abs=1e-5)
        a = found.flat.activation.values
        assert ((np.abs(a) < 1e-6) | (np.abs(a - least) < 1e-6) | (least == 0)).all()


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 10**6))
def test_as_all_decisions_tried(seed):
    check(seed)


@pytest.mark.nightly
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_as_all_decisions_tried_many_times(seed):
    check(seed)


@pytest.mark.parametrize("seed", range(4))
def test_minimum_and_storage_together_as_an_independent_milp(seed):
    rng = np.random.default_rng(seed)
    rows = [
        bid(way, 1.0, rng.uniform(10, 60), name, bsp, minimum=rng.uniform(0.0, 1.0))
        for way in ("up", "down") for bsp, name in (("A", "R"), ("B", ""))
    ]  # fmt: skip
    battery = {"resource": ["R"], "energy_start": 0.6, "energy_max": 1.1, "charging": 0.9, "discharging": 0.7}
    case = market(rng.uniform(-1.5, 1.5, 4), rows, battery)
    found = cleared(case)
    assert found.flat.clearing_cost.sum().item() == pytest.approx(independent_cost(case), abs=1e-6)


def test_the_transmission_market_takes_any_part():
    import pandas as pd

    case = market([1.0], [bid("up", 1.0, 30.0)])
    row = {"feeder": "transmission", "bus": "transmission", **bid("up", 1.0, 30.0, minimum=0.5)}
    side = hm.Transmission(bids=hm.bids(pd.DataFrame([row]), case.periods))
    with pytest.raises(hm.DataError) as error:
        type(case)(case.feeders, case.bids, case.imbalance, case.tbm, case.rules, side)
    assert error.value.faults[0].where == "transmission.bids.minimum"
