"""A strategic BSP where resources hold bids together: by hand, payment recomputed, against a search over prices."""

import itertools

import numpy as np
import pytest

import hiermarket as hm
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.paid_prices import paid_price
from hiermarket.stages.resource_safety import held_by_resources
from tests.resource_markets import bid, market

LOSSLESS = LinDistFlow(loss_passes=0)
BATTERY = {"resource": ["R"], "energy_start": 1.0, "energy_max": 9.0, "charging": 0.8, "discharging": 0.5}


def led(case, bsp="A", **options):
    found = hm.bid_strategically(case, bsp, grid=LOSSLESS, **options)
    assert found.revenue_gap < 1e-6
    assert found.certificate.ok
    return found


def profit(case, cleared, bsp):
    """Σ Δ σ (λ + τκ − c) a of a BSP, from prices and volumes alone."""
    data, own = case.bids.data, case.bids.of(bsp)
    margin = case.bids.sign * (paid_price(case, cleared.flat) - data.cost)
    return float((own * margin * cleared.flat.activation * case.duration).sum())


def best_of_a_search(case, bsp, prices, most=12):
    """Most that a BSP earns by one price per bid and period of some, cleared by the tie rule; a part of all choices."""
    data = case.bids.data
    own = np.flatnonzero(case.bids.of(bsp).values)
    places = list(itertools.product(own, range(len(case.periods))))
    best = -np.inf
    choices = list(itertools.product(prices, repeat=len(places)))
    rng = np.random.default_rng(0)
    for choice in [choices[k] for k in rng.permutation(len(choices))[:most]]:
        price = data.price.values.copy()
        for (number, t), value in zip(places, choice, strict=True):
            price[number, t] = value
        offered = case.with_bids(data.assign(price=(data.price.dims, price)))
        best = max(best, profit(offered, hm.clear_dso(offered, grid=LOSSLESS), bsp))
    return best


def test_a_storage_sells_where_it_is_paid_most():
    # 1 MWh held gives 0.5 MWh up, at cost 30. Hour 1: a rival at 40; hour 2: only the TBM at 70. It waits for hour 2,
    # and earns 0.5·(70 − 30) = 20
    hours = market([0.5, 0.5], [bid("up", 1.0, 30.0)]).periods
    rows = [bid("up", 0.5, 30.0, "R", period=t) for t in hours] + [bid("up", 0.5, 40.0, bsp="B", period=hours[0])]
    case = market([0.5, 0.5], rows, BATTERY)
    found = led(case)
    assert found.objective == pytest.approx(20.0, abs=1e-6)
    assert profit(found.market, found.clearing, "A") == pytest.approx(20.0, abs=0.05)
    assert found.clearing.stored_energy.min() >= -1e-9


def test_a_rivals_storage_is_in_the_payment():
    # the rival's battery gives 0.5 MWh at 50 in the two hours together, need 0.4 in each. We have 0.3 MW at cost 20.
    # Need 0.8 in all, the rival 0.5, we 0.3 or more: we are needed for 0.3 against the TBM at 70: price 70
    rows = [bid("up", 0.3, 20.0, bsp="A"), bid("up", 1.0, 50.0, "R", "B")]
    case = market([0.4, 0.4], rows, BATTERY)
    found = led(case)
    searched = best_of_a_search(case, "A", [20.0, 49.0, 60.0, 69.99])
    assert found.objective >= searched - 1e-6
    # 0.5 MWh of the rival in two hours: with all of our 0.6 MWh nobody needs the TBM, and the price is 50; with 0.3
    # it is 70: 0.3·50 = 15 against 0.6·30 = 18
    assert found.objective == pytest.approx(18.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_payment_as_recomputed_and_no_worse_than_a_search(seed):
    rng = np.random.default_rng(seed)
    rows = [
        bid("up", rng.uniform(0.2, 0.8), 30.0, "R", "A"), bid("down", 0.4, 25.0, "R", "A"),
        bid("up", rng.uniform(0.2, 0.8), rng.uniform(35, 60), "Q", "B"),
        bid("down", 0.5, rng.uniform(21, 30), "Q", "B"), bid("up", 0.2, rng.uniform(30, 60), "", "C"),
    ]  # fmt: skip
    table = {
        "resource": ["R", "Q"], "energy_start": [0.6, np.nan], "energy_max": [9.0, np.nan], "ramp_up": [np.inf, 0.3],
        "ramp_down": [np.inf, 0.4], "output_before": 0.0, "rebound_hours": [np.nan, 2.0 if seed % 2 else np.nan],
    }  # fmt: skip
    if seed % 3 == 0:  # whose resource is whose: the leader's own ramps, a rival's storage
        for row in rows:
            row["resource"] = {"R": "Q", "Q": "R", "": ""}[row["resource"]]
    case = market(rng.uniform(-0.6, 1.0, 2), rows, table)
    assert held_by_resources(case).any()
    found = led(case)
    # (11) equals Σ Δ σ (λ + τκ) a of the leader's expectation: revenue_gap; and nobody finds better offers
    searched = best_of_a_search(case, "A", [25.0, 30.0, 45.0, 69.0])
    assert found.objective >= searched - 1e-5


def test_safe_volumes_leave_every_hour_to_itself():
    rows = [bid("up", 1.0, 30.0, "R"), bid("down", 1.0, 25.0, "R")]
    case = market([0.5, 0.5], rows, BATTERY | {"energy_max": 1.5})
    safe = hm.safe_volumes(case)
    # 1 MWh held: 0.5 up in all, the first hour first; room 0.5 MWh: 0.625 down
    assert safe.bids.data.volume.values.tolist() == [pytest.approx([0.5, 0.0]), pytest.approx([0.625, 0.0])]
    assert not held_by_resources(safe).any()
    assert held_by_resources(case).all()
    found = led(safe)
    assert found.objective == pytest.approx(0.5 * 40.0, abs=1e-6)
    plain = market([0.5, 0.5], rows)
    assert hm.safe_volumes(plain) is plain
    roomy = market([0.5, 0.5], rows, BATTERY | {"energy_start": 50.0, "energy_max": 99.0})
    assert (hm.safe_volumes(roomy).bids.data.volume == 1.0).all()


def test_what_is_not_convex_is_refused():
    rows = [bid("up", 1.0, 30.0, "R"), bid("down", 1.0, 25.0, "R")]
    case = market([0.5, -0.5], rows, BATTERY | {"energy_max": 1.5})
    with pytest.raises(hm.ModelError) as error:
        led(case)
    assert error.value.where == "f/R"
    assert "safe_volumes" in error.value.remedy
    indivisible = market([0.5], [bid("up", 1.0, 30.0, "R", minimum=0.5)], BATTERY)
    with pytest.raises(hm.ModelError) as error:
        hm.safe_volumes(indivisible)
    assert error.value.where == "bids.minimum"
