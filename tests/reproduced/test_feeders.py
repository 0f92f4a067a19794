"""The published feeders by the package's own power flow and linear grids, beside PyPSA's."""

import pytest

import hiermarket as hm
from hiermarket.network.feeders import combine
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import Losses, linearise, lossless
from hiermarket.network.power_flow import power_flow
from hiermarket.stages.ac_check import injections
from tests.reproduced.page import check

NAMES = ("ieee33", "ieee69")
PRICED = ("18", "33", "14", "22", "25")


def by_pypsa(name):
    network = hm.load_network(name)
    network.pf(x_tol=1e-10)
    lines, voltage = network.lines_t, network.buses_t.v_mag_pu.iloc[0]
    return {
        f"{name}: losses [kW]": 1e3 * float((lines.p0 + lines.p1).to_numpy().sum()),
        f"{name}: losses [kvar]": 1e3 * float((lines.q0 + lines.q1).to_numpy().sum()),
        f"{name}: lowest voltage [p.u.]": float(voltage.min()),
        f"{name}: at bus": str(voltage.idxmin()),
        f"{name}: import [MW]": float(network.generators_t.p["interface"].iloc[0]),
    }


@pytest.fixture(scope="module")
def grids():
    found = {name: combine({name: hm.feeder_from_pypsa(hm.load_network(name), name=name)}) for name in NAMES}
    return {
        name: (f, power_flow(f, f.data.p_scheduled, f.data.q_scheduled, tolerance=1e-12)) for name, f in found.items()
    }


def test_power_flows(grids):
    ours, reference = {}, {}
    for name, (feeders, state) in grids.items():
        lowest = state.v.isel(period=0)
        x = feeders.data.x.sel(bus=state.l.bus)
        ours |= {
            f"{name}: losses [kW]": 1e3 * float(state.loss.sum()),
            f"{name}: losses [kvar]": 1e3 * float((x * state.l).sum()),
            f"{name}: lowest voltage [p.u.]": float(lowest.min()),
            f"{name}: at bus": str(lowest.idxmin().item()).partition("/")[2],
            f"{name}: import [MW]": float(state.p_interface.sum()),
        }
        reference |= by_pypsa(name)
    for figure, value in reference.items():
        assert ours[figure] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-5)), figure
    check("feeders", ours, reference=reference)


def test_the_linear_grid_approaches_the_power_flow(grids):
    feeders, ac = grids["ieee33"]
    ours, reference = {}, {}
    for kind in (Losses.CONSTANT, Losses.LINEARISED):
        terms = lossless(feeders)
        for number in range(4 if kind is Losses.CONSTANT else 3):
            state = linear_flow(feeders, terms, feeders.data.p_scheduled, feeders.data.q_scheduled)
            figure = f"{number} pass{'es' if number > 1 else ''}, {kind} losses" if number else "lossless"
            ours[figure], reference[figure] = float(state.v.min()), float(ac.v.min())
            terms = linearise(feeders, state, kind)
    check("passes", ours, reference=reference)


def test_nodal_prices_are_what_a_megawatt_costs_at_the_root():
    market = hm.load_case("m33")
    nobody = market.with_bids(market.bids.data.assign(volume=0 * market.bids.data.volume))
    cleared = hm.clear_dso(nobody)
    price = cleared.flat.nodal_price.isel(period=0)
    p, q = injections(nobody, cleared.flat.activation, cleared.flat)
    ours, reference, step = {}, {}, 1e-5
    for bus in PRICED:
        label = f"m33/{bus}"
        more = step * (p.bus == label)
        high, low = (power_flow(nobody.feeders, p - s * more, q, tolerance=1e-14).p_interface.item() for s in (1, -1))
        figure = f"price at {bus} by that at the root"
        ours[figure] = float(price.sel(bus=label) / price.sel(bus="m33/1"))
        reference[figure] = (high - low) / (2 * step)
    check("prices", ours, reference=reference)
