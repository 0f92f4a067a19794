"""The TSO's clearing with bids at cost and no flexibility is the DC optimal power flow that PGLib-OPF publishes."""

import numpy as np
import pytest

from hiermarket.market.cases import load_case
from hiermarket.market.dispatch import STEPS, dispatch_market
from hiermarket.network.from_pypsa import load_network
from hiermarket.network.grid import Susceptance
from hiermarket.stages.common_clearing import clear_common
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.tso_clearing import clear_tso
from tests.reproduced.page import check

#: USD/h, BASELINE.md of releases 21.07 and 23.07, column DC.
PUBLISHED = {
    "5_pjm": 1.7480e4, "14_ieee": 2.0515e3, "24_ieee_rts": 6.1001e4, "39_epri": 1.3689e5, "118_ieee": 9.3101e4,
}  # fmt: skip

#: The same with small limits of the angles [degrees], which are all that these cases change.
SMALL_ANGLES = {"24_ieee_rts": (7.38613520364, 7.8122e4), "39_epri": (6.87586380086, 1.5067e5)}


def costs(network, market):
    """What the TSO's clearing costs with what is given in any case; and how much too high it may be for its blocks."""
    cleared = clear_tso(market, clear_dso(market)).require()
    assert float(cleared.flat.grid_unserved.sum() + cleared.flat.grid_spilled.sum()) == pytest.approx(0.0, abs=1e-6)
    own = market.transmission.bids
    moved = (own.sign.values[:, None] * own.data.price.values * cleared.flat.grid_activation.values).sum()
    static = network.generators
    squares = static.marginal_cost_quadratic
    given = (static.stand_by_cost + static.marginal_cost * static.p_set + squares * static.p_set**2).sum()
    width = (static.p_nom - static.p_set) / STEPS
    return float(given + moved), float((squares * (width / 2) ** 2).sum())


@pytest.fixture(scope="module")
def ours():
    found = {}
    for case in PUBLISHED:
        network = load_network(f"pglib_{case}")
        found[f"{case}"] = costs(network, load_case(f"pglib_{case}"))
        if case in SMALL_ANGLES:
            network.lines["v_ang_max"] = network.transformers["v_ang_max"] = SMALL_ANGLES[case][0]
            market = dispatch_market(network, susceptance=Susceptance.SERIES)
            found[f"{case}, small angles"] = costs(network, market)
    return found


def published(name):
    case, _, angles = name.partition(", ")
    return SMALL_ANGLES[case][1] if angles else PUBLISHED[case]


def test_objectives(ours):
    assert len(ours) == 7
    for name, (cost, too_high) in ours.items():
        # five significant digits
        unit = 10.0 ** (np.floor(np.log10(published(name))) - 4)
        assert too_high < 0.1 * unit, name
        assert cost == pytest.approx(published(name), abs=0.5 * unit + too_high), name


def test_the_page(ours):
    check("pglib", {name: cost for name, (cost, _) in ours.items()})


def test_the_common_market_finds_the_same():
    market = load_case("pglib_39_epri")
    cost, _ = costs(load_network("pglib_39_epri"), market)
    assert clear_common(market).require().flat.common_cost.item() == pytest.approx(cost)


@pytest.mark.parametrize("case", ["14_ieee", "39_epri"])
def test_by_pypsas_own_optimum(case):
    """With PyPSA's susceptances the market is `n.optimize()`, its prices are the marginal prices."""
    network = load_network(f"pglib_{case}")
    market = dispatch_market(network)
    cost, _ = costs(network, market)
    cleared = clear_tso(market, clear_dso(market)).require()
    network.generators["p_set"] = np.nan  # PyPSA holds what is scheduled
    network.optimize(solver_name="highs", include_objective_constant=False, output_flag=False)
    assert network.objective == pytest.approx(cost, rel=1e-9)
    at = cleared.flat.grid_price.isel(period=0)
    np.testing.assert_allclose(at, network.buses_t.marginal_price.iloc[0][at.grid_bus.values], atol=1e-5)
