"""The micro-case on the 33-bus feeder: every figure that can be worked out by hand."""

import numpy as np
import pytest

import hiermarket as hm
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import lossless
from hiermarket.stages.coordination import run_chain
from tests.reproduced.page import check

LOSSLESS = hm.LinDistFlow(loss_passes=0)

#: (bus, BSP, up MW, down MW, cost of up) in the order of the costs; the deficit is 15 % of a load of 3.715 MW.
RESOURCES = [
    ("18", "A", 0.15, 30),
    ("33", "A", 0.10, 34),
    ("22", "B", 0.10, 40),
    ("25", "B", 0.15, 42),
    ("14", "C", 0.20, 50),
]
DEFICIT, TBM, DOWN = 0.15 * 3.715, 60.0, 5 * 0.10


@pytest.fixture(scope="module")
def reference():
    """A stack of five offers below the TBM; no limit binds at the cleared state."""
    left, taken = DEFICIT, {}
    for bus, _, volume, _ in RESOURCES:
        taken[bus] = min(volume, left)
        left -= taken[bus]
    assert left == 0.0
    price = 50.0  # of C, which is taken in part
    bid_cost = sum(taken[bus] * cost for bus, _, _, cost in RESOURCES)
    margin = {name: sum(taken[b] * (price - c) for b, owner, _, c in RESOURCES if owner == name) for name in "AB"}
    found = {f"truthful: activated at {bus} [MW]": taken[bus] for bus, *_ in RESOURCES}
    return found | {
        "truthful: from the TBM [MW]": 0.0,
        "truthful: lowest and highest price [EUR/MWh]": price,
        "truthful: cost at bid prices [EUR]": bid_cost,
        "the TBM alone [EUR]": TBM * DEFICIT,
        "truthful: saving as payment [%]": 100 * (1 - price / TBM),
        "truthful: saving as bid cost [%]": 100 * (1 - bid_cost / (TBM * DEFICIT)),
        "A leads: profit [EUR]": margin["A"],
        "B leads: profit [EUR]": margin["B"],
        # C is pivotal for the rest and goes up to the TBM
        "C leads: profit [EUR]": taken["14"] * (TBM - 50),
        "C leads: offer [EUR/MWh]": TBM,
        # nobody but the TBM can replace C's rest: it sets the price, and A and B earn with it
        "all three lead: lowest and highest price [EUR/MWh]": TBM,
        "all three lead: saving as payment [%]": 0.0,
        # down volumes, what is activated and could be undone, and the rest of C
        "without a check: up and down [MW]": DOWN + DEFICIT + 0.20 - taken["14"],
    }


@pytest.fixture(scope="module")
def chain():
    return run_chain(hm.load_case("m33"), hm.Options(forwarding=hm.SafeBox(undo=True), grid=LOSSLESS))


@pytest.fixture(scope="module")
def ours(chain):
    market, flat = chain.market, chain.clearing.flat
    figures = hm.indicators(chain).sel(stage="distribution")
    activated = flat.activation.isel(period=0)
    found = {
        f"truthful: activated at {bus} [MW]": float(activated.where(activated.bid_bus == bus, 0.0).sum())
        for bus, *_ in RESOURCES
    }
    led = {name: hm.bid_strategically(market, name, grid=LOSSLESS, tick=0.0) for name in "ABC"}
    assert all(one.certificate.ok for one in led.values())
    price = flat.nodal_price
    assert float(price.max() - price.min()) < 1e-9
    offered = chain.forwarded.flat
    ended = hm.find_equilibrium(market, grid=LOSSLESS)
    assert ended.is_equilibrium
    at_the_end = ended.clearing.flat.nodal_price
    assert float(at_the_end.max() - at_the_end.min()) < 1e-9
    alone = float(figures.cost_before.sel(measure="payment"))
    return found | {
        "truthful: from the TBM [MW]": float(flat.tbm_volume.sum()),
        "truthful: lowest and highest price [EUR/MWh]": float(price.min()),
        "truthful: cost at bid prices [EUR]": float(flat.clearing_cost.sum()),
        "the TBM alone [EUR]": alone,
        "truthful: saving as payment [%]": 100 * float(figures.saving.sel(measure="payment")),
        "truthful: saving as bid cost [%]": 100 * float(figures.saving.sel(measure="bid cost")),
        **{f"{name} leads: profit [EUR]": led[name].objective for name in "ABC"},
        "C leads: offer [EUR/MWh]": float(led["C"].offer_price.sel(bsp="C", bus="14", direction="up").sum()),
        "all three lead: lowest and highest price [EUR/MWh]": float(at_the_end.min()),
        "all three lead: saving as payment [%]": 100 * (1 - float((at_the_end * market.imbalance).sum()) / alone),
        "without a check: up and down [MW]": float((offered.remaining + offered.remaining_undo).sum()),
    }


def test_all_figures(ours, reference):
    assert list(ours) == list(reference)
    for name, value in reference.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_the_page(ours, reference):
    check("m33", ours, reference=reference)


def test_the_safe_box(chain):
    flat = chain.forwarded.flat
    total = float((flat.forwarded + flat.forwarded_undo).sum())
    check(
        "m33 safe box",
        {"SafeBox: up and down [MW]": total},
        reference={"SafeBox: up and down [MW]": largest_box(chain)},
    )


def largest_box(chain):
    """The largest box by an LP of its own: of all its corners, all down breaks the voltage of bus 18 first."""
    from scipy.optimize import linprog

    market, flat = chain.market, chain.clearing.flat
    feeders, imbalance = market.feeders.data, market.imbalance
    up = (market.bids.data.bid_direction == "up").values
    buses = list(feeders.bus.values)
    down = np.zeros(len(buses))
    most_down = np.zeros(len(buses))
    bid_bus = [buses.index(node) for node in market.bids.node]
    activated = flat.activation.values[:, 0]
    np.add.at(down, bid_bus, np.where(up, activated, 0.0))
    np.add.at(most_down, bid_bus, np.where(up, activated, market.bids.data.volume.values[:, 0]))

    def voltages(injected):
        p = (feeders.p_scheduled - imbalance).transpose("bus", "period").values[:, 0] + injected
        like = feeders.p_scheduled.transpose("bus", "period")
        state = linear_flow(market.feeders, lossless(market.feeders), like.copy(data=p[:, None]), feeders.q_scheduled)
        return state.v.values[:, 0] ** 2

    base = voltages(down)
    # the squared voltages answer linearly to what goes down at each bus that offers
    offering = np.flatnonzero(most_down > 0)
    answers = np.stack([base - voltages(down - np.eye(len(buses))[bus]) for bus in offering], axis=1)
    room = base - feeders.v_min.values**2
    found = linprog(-np.ones(len(offering)), answers, room, bounds=[(0, most_down[bus]) for bus in offering])
    everything = voltages(down - most_down)
    assert np.sqrt(everything.min()) < 0.9
    assert buses[int(everything.argmin())] == "m33/18"
    left = market.bids.data.volume.values[:, 0] - activated
    return -found.fun + float(left[up].sum())
