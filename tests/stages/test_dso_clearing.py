"""The DSO's clearing against hand calculations, AC power flow and an LP written from the equations by itself."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hiermarket.errors import InfeasibleError, MarketWarning, NumericalError
from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow, Losses
from hiermarket.network.power_flow import power_flow
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.ac_check import injections
from hiermarket.stages.clearing_model import RECOURSE
from hiermarket.stages.dso_clearing import STATUS, clear_dso
from tests.oracles import dso_lp
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


def two_bus(rows, deficit=0.5, *, tbm=(60.0, 20.0), limit=np.inf, hours=1.0, periods=1, line=None, rules=None):
    """Root and end behind r = x = 0.01; bids are (bsp, bus, direction, price, volume, τ)."""
    index = pd.date_range("2026-01-01", periods=periods, freq=pd.Timedelta(hours=hours))
    table = pd.DataFrame({"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01], **(line or {})}, index=["r", "e"])
    feeder = feeder_from_table(table, name="f", periods=index, duration=hours)
    offers = pd.DataFrame(rows, columns=["bsp", "bus", "direction", "price", "volume", "reactive_ratio"])
    market = balancing_market(
        {"f": feeder}, bids=offers.assign(feeder="f"),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [deficit]}),
        tbm_prices={"up": tbm[0], "down": tbm[1]}, rules=rules or MarketRules(200.0, 1000.0),
    )  # fmt: skip
    limited = market.tbm.assign(tbm_limit=xr.full_like(market.tbm.tbm_limit, limit))
    return dataclasses.replace(market, tbm=limited)


def volumes(cleared):
    return cleared.flat.activation.isel(period=0).values.tolist()


# the micro-case


def test_m33_truthful(m33_lossless):
    flat = m33_lossless.flat
    assert volumes(m33_lossless) == pytest.approx([0.15, 0.10, 0.10, 0.15, 0.05725, 0, 0, 0, 0, 0], abs=1e-9)
    assert abs(flat.tbm_volume).max() == 0
    np.testing.assert_allclose(flat.nodal_price, 50.0, atol=1e-9)
    np.testing.assert_allclose(flat.reactive_price, 0.0, atol=1e-9)
    # 4.5 + 3.4 + 4.0 + 6.3 + 2.8625
    assert flat.clearing_cost.item() == pytest.approx(21.0625, abs=1e-9)
    assert flat.status.item() == 0


def ac_prices(market, cleared, buses, step=1e-5):
    """Marginal cost at a bus by root price: one MW more of deficit there, by AC finite differences."""
    p, q = injections(market, cleared.flat.activation, cleared.flat)
    slopes = []
    for bus in buses:
        more = xr.zeros_like(p)
        more.loc[{"bus": bus}] = step
        high, low = (power_flow(market.feeders, p + s * more, q, tolerance=1e-14).p_interface.item() for s in (-1, 1))
        slopes.append((high - low) / (2 * step))
    return slopes


def test_nodal_prices_are_the_true_ac_marginal_values(m33_case):
    nobody = m33_case.with_bids(m33_case.bids.data.assign(volume=0 * m33_case.bids.data.volume))
    cleared = clear_dso(nobody)
    buses = [f"m33/{bus}" for bus in (18, 33, 14, 22, 25)]
    price = cleared.flat.nodal_price.isel(period=0)
    ratio = (price.sel(bus=buses) / price.sel(bus="m33/1")).values
    assert price.sel(bus="m33/1").item() == pytest.approx(60.0)
    assert ratio == pytest.approx([1.1741, 1.1491, 1.1615, 1.0145, 1.0577], abs=5e-5)
    # two passes leave 2e-11 of the state; differences of second order 1e-9
    assert ratio == pytest.approx(ac_prices(nobody, cleared, buses), abs=1e-7)


def test_constant_losses_have_no_part_in_the_price(m33_case):
    nobody = m33_case.with_bids(m33_case.bids.data.assign(volume=0 * m33_case.bids.data.volume))
    cleared = clear_dso(nobody, grid=LinDistFlow(1, Losses.CONSTANT))
    np.testing.assert_allclose(cleared.flat.nodal_price, 60.0, atol=1e-7)


def test_passes_approach_ac(m33_case, m33_lossless, m33_lossy):
    lossy = m33_lossy.clearing
    passes = [m33_lossless, clear_dso(m33_case, grid=LinDistFlow(1)), lossy]
    mismatch = [abs(cleared.flat.ac_mismatch).item() for cleared in passes]
    # without losses the root misses their change; each linearised pass squares the error
    assert mismatch[0] > 1e-2
    assert mismatch[1] < 1e-3
    assert mismatch[2] < 1e-6
    np.testing.assert_allclose(lossy.flat.voltage, lossy.flat.ac_voltage, atol=1e-7)
    assert lossy.flat.undervoltage.max() < 1e-7


# ties


def test_local_before_tbm_at_equal_prices():
    cleared = clear_dso(two_bus([("A", "e", "up", 60.0, 0.2, 0)]), grid=LOSSLESS)
    assert volumes(cleared) == pytest.approx([0.2])
    assert cleared.flat.tbm_volume.values.ravel() == pytest.approx([0.3, 0.0])


def test_an_equal_priced_pair_is_not_activated_for_nothing():
    rows = [("A", "e", "up", 40.0, 0.3, 0), ("B", "e", "down", 40.0, 0.3, 0)]
    market = two_bus(rows, 0.0, periods=3)
    needs = market.imbalance.copy(data=[[0.0, 0.0, 0.0], [0.0, 0.1, -0.1]])
    cleared = clear_dso(dataclasses.replace(market, imbalance=needs), grid=LOSSLESS)
    np.testing.assert_allclose(cleared.flat.activation, [[0.0, 0.1, 0.0], [0.0, 0.0, 0.1]], atol=1e-12)


def test_an_equal_priced_pair_with_the_tbm_is_not_traded_either():
    cleared = clear_dso(two_bus([("A", "e", "up", 30.0, 0.3, 0)], 0.1, tbm=(30.0, 30.0)), grid=LOSSLESS)
    assert volumes(cleared) == pytest.approx([0.1])
    assert cleared.flat.tbm_volume.values.ravel() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_equal_bids_in_the_order_of_the_bids():
    rows = [(bsp, "e", "up", 40.0, 0.3, 0) for bsp in "CAB"]
    assert volumes(clear_dso(two_bus(rows, 0.5), grid=LOSSLESS)) == pytest.approx([0.3, 0.2, 0.0], abs=1e-9)


def test_cost_is_not_given_away_for_a_tie():
    # the TBM is a cent cheaper: the tie rule has no say
    cleared = clear_dso(two_bus([("A", "e", "up", 60.0, 0.2, 0)], tbm=(59.99, 20.0)), grid=LOSSLESS)
    assert volumes(cleared) == pytest.approx([0.0], abs=1e-12)


# prices, scales, signs


def test_two_bus_case_by_hand():
    # A gives all of its .2 MW at 30, the TBM .3 MW at 60 sets the price
    cleared = clear_dso(two_bus([("A", "e", "up", 30.0, 0.2, 0), ("B", "e", "down", 25.0, 0.3, 0)]), grid=LOSSLESS)
    assert volumes(cleared) == pytest.approx([0.2, 0.0])
    assert cleared.flat.nodal_price.values.ravel() == pytest.approx([60.0, 60.0])
    assert cleared.flat.clearing_cost.item() == pytest.approx(0.2 * 30 + 0.3 * 60)
    # w = 1 − 2 (0.01 · 0.3) at the end
    assert cleared.flat.voltage.values[1, 0] ** 2 == pytest.approx(1 - 0.006)


@pytest.mark.parametrize("hours", [0.25, 2.0])
def test_price_is_per_mwh_whatever_the_length_of_the_period(hours):
    rows = [("A", "e", "up", 30.0, 0.2, 0)]
    cleared = clear_dso(two_bus(rows, hours=hours, periods=2), grid=LOSSLESS)
    np.testing.assert_allclose(cleared.flat.nodal_price, 60.0, rtol=1e-9)
    np.testing.assert_allclose(cleared.flat.activation, 0.2, rtol=1e-9)
    np.testing.assert_allclose(cleared.flat.clearing_cost, hours * (6.0 + 18.0), rtol=1e-9)


def test_a_surplus_takes_the_best_payer():
    # surplus .5: B pays 25 for .3 MW, the TBM 20 for the rest and sets the price
    rows = [("A", "e", "up", 30.0, 0.2, 0), ("B", "e", "down", 25.0, 0.3, 0)]
    cleared = clear_dso(two_bus(rows, -0.5), grid=LOSSLESS)
    assert volumes(cleared) == pytest.approx([0.0, 0.3])
    assert cleared.flat.tbm_volume.values.ravel() == pytest.approx([0.0, 0.2])
    np.testing.assert_allclose(cleared.flat.nodal_price, 20.0)
    assert cleared.flat.clearing_cost.item() == pytest.approx(-0.3 * 25 - 0.2 * 20)


def test_negative_prices():
    # a surplus that somebody must be paid 5 EUR/MWh to take, by the TBM 10
    rows = [("B", "e", "down", -5.0, 0.3, 0)]
    market = two_bus(rows, -0.5, tbm=(60.0, -10.0), rules=MarketRules(200.0, 1000.0, -50.0))
    cleared = clear_dso(market, grid=LOSSLESS)
    assert volumes(cleared) == pytest.approx([0.3])
    np.testing.assert_allclose(cleared.flat.nodal_price, -10.0)
    assert cleared.flat.clearing_cost.item() == pytest.approx(0.3 * 5 + 0.2 * 10)
    assert cleared.flat.spilled.max() == 0


def test_scarcity_costs_the_value_of_lost_load():
    # deficit .5: A .2, TBM .1 of .1, the rest .2 MW is not served
    cleared = clear_dso(two_bus([("A", "e", "up", 30.0, 0.2, 0)], limit=0.1), grid=LOSSLESS)
    assert cleared.flat.unserved.sum().item() == pytest.approx(0.2)
    np.testing.assert_allclose(cleared.flat.nodal_price, 1000.0)
    assert cleared.flat.clearing_cost.item() == pytest.approx(12.0)  # 6 + 6, without lost load
    spilling = clear_dso(two_bus([("A", "e", "up", 30.0, 0.2, 0)], -0.5, limit=0.1), grid=LOSSLESS)
    assert spilling.flat.spilled.sum().item() == pytest.approx(0.4)
    np.testing.assert_allclose(spilling.flat.nodal_price, -1000.0)


def test_a_line_limit_parts_the_prices():
    # rating .1·cos(π/12) for active power: A at the end is needed although it costs 80, and sets the price there;
    # the root stays at 60
    line = {"s_max": [np.inf, 0.1], "q_scheduled": [0.0, 0.0]}
    cleared = clear_dso(two_bus([("A", "e", "up", 80.0, 0.5, 0)], line=line), grid=LOSSLESS)
    most = 0.1 * np.cos(np.pi / 12)
    assert cleared.flat.p_flow.values[1, 0] == pytest.approx(most)
    assert volumes(cleared) == pytest.approx([0.5 - most])
    assert cleared.flat.nodal_price.values.ravel() == pytest.approx([60.0, 80.0])


def test_an_exporting_branch_keeps_its_rating_at_the_end_that_carries_more():
    # 1.5 MW of surplus at the end: what leaves the bus is more than what arrives at the root, by the losses 0.07·1²
    line = {"r": [0.0, 0.07], "x": [0.0, 0.0], "s_max": [np.inf, 1.0]}
    cleared = clear_dso(two_bus([("B", "e", "down", 20.0, 2.0, 0)], -1.5, tbm=(60.0, 25.0), line=line))
    most = np.cos(np.pi / 12)
    sent = -cleared.flat.p_flow.values[1, 0]
    loss = cleared.flat.ac_loss.item()
    assert loss == pytest.approx(0.07 * sent**2, rel=1e-4)  # at v_root = 1
    assert sent + loss == pytest.approx(most, abs=1e-6)
    assert cleared.flat.overload.max() == 0
    assert volumes(cleared) == pytest.approx([1.5 - most], abs=1e-6)


def test_a_voltage_limit_pays_reactive_power_too():
    # w_e = 1 − 2·0.01·(P + Q) ≥ 0.99² = 0.9801 means P + Q ≤ 0.995; load 1 MW + .3 deficit = 1.3 − a (1 + τ) ≤ .995.
    # With τ = .25 the bid at 80 is needed with a = .305/1.25 = .244. Stationarity 80 = λ + τκ; voltage row μ:
    # λ = 60 + .02μ', κ = .02μ' (μ' per p.u.²), so 80 = 60 + .02 μ' (1 + .25): .02μ' = 16, λ = 76, κ = 16
    line = {"v_min": [0.0, 0.99], "p_scheduled": [0.0, -1.0]}
    cleared = clear_dso(two_bus([("A", "e", "up", 80.0, 0.5, 0.25)], 0.3, line=line), grid=LOSSLESS)
    assert cleared.flat.voltage.values[1, 0] == pytest.approx(0.99)
    assert volumes(cleared) == pytest.approx([0.244])
    assert cleared.flat.nodal_price.values.ravel() == pytest.approx([60.0, 76.0])
    assert cleared.flat.reactive_price.values.ravel() == pytest.approx([0.0, 16.0])


def decomposition(market, cleared, solved, feeder, period):
    """(9): prices along the path to the root from the duals of the independent LP."""
    d, hours = market.feeders.data, float(market.duration.sel(period=period))
    root = next(b for b in d.bus.values if b.startswith(f"{feeder}/") and not d.parent.sel(bus=b).item())
    at = float(cleared.flat.nodal_price.sel(bus=root, period=period))
    found = {root: (at, 0.0)}
    for b in d.bus.values:
        if b == root or not b.startswith(f"{feeder}/"):
            continue
        nu = solved.dual["w", b]
        sides = [(key[2], mu) for key, mu in solved.slack_dual.items() if key[1] == b]
        # both ends of a branch: the losses are constant here
        congestion = sum(np.exp(2j * np.pi * side / 12) * mu for side, mu in sides)
        above = found[d.parent.sel(bus=b).item()]
        r, x = float(d.r.sel(bus=b)), float(d.x.sel(bus=b))
        found[b] = (
            above[0] - (2 * r * nu + np.real(congestion)) / hours,
            above[1] - (2 * x * nu + np.imag(congestion)) / hours,
        )
    return found


def test_prices_decompose_along_the_path_to_the_root():
    """(9) with constant losses: energy, voltage and congestion; parents stand before children."""
    market = random_market(21, count=20, hours=0.25)
    cleared = clear_dso(market, grid=LinDistFlow(1, Losses.CONSTANT))
    terms, period = cleared.losses, market.periods[0]
    binding = 0
    # in one feeder taps and ratings leave no voltage within the limits, whatever is served
    assert (cleared.flat.status != 0).sum() <= 1
    for feeder in market.feeder_names[(cleared.flat.status == 0).all("period").values]:
        imported = float(cleared.scheduled_import.sel(feeder=feeder, period=period))
        four = (terms.constant, terms.by_p, terms.by_q, terms.by_w)
        solved = dso_lp(market, feeder, period, four, imported)
        for bus, (active, reactive) in decomposition(market, cleared, solved, feeder, period).items():
            assert cleared.flat.nodal_price.sel(bus=bus).item() == pytest.approx(active, abs=1e-4)
            assert cleared.flat.reactive_price.sel(bus=bus).item() == pytest.approx(reactive, abs=1e-4)
            binding += abs(active - cleared.flat.nodal_price.sel(bus=f"{feeder}/0").item()) > 1e-3
    assert binding > 5


# an LP of its own


@pytest.mark.parametrize(
    ("seed", "grid", "hours"),
    [
        (1, LOSSLESS, 1.0), (2, LinDistFlow(2), 0.25), (3, LinDistFlow(1, Losses.CONSTANT, sides=5), 1.0),
        (4, LinDistFlow(1, sides=24), 2.0),
    ],
)  # fmt: skip
def test_objective_of_an_lp_written_from_the_equations(seed, grid, hours):
    market = random_market(seed, count=15, hours=hours)
    cleared = clear_dso(market, grid=grid).require()
    flat, period = cleared.flat, market.periods[0]
    terms = tuple(getattr(cleared.losses, name) for name in ("constant", "by_p", "by_q", "by_w"))
    lost = sum(flat[name.partition("-")[2]].fillna(0.0) for name in RECOURSE)
    scarce = 0
    for feeder in market.feeder_names:
        imported = float(cleared.scheduled_import.sel(feeder=feeder, period=period))
        solved = dso_lp(market, feeder, period, terms, imported, sides=grid.sides)
        unserved = float(lost.where(flat.bus_feeder == feeder).sum())
        scarce += unserved > 1e-6
        cost = float(flat.clearing_cost.sel(feeder=feeder).sum()) + hours * 1000.0 * unserved
        assert cost == pytest.approx(solved.objective, abs=1e-6)
        for bus in flat.bus.values[flat.bus_feeder.values == feeder]:
            # unique but at exact kinks, which random numbers avoid
            assert flat.nodal_price.sel(bus=bus).item() == pytest.approx(solved.dual["P", bus] / hours, abs=1e-4)
    assert 0 < scarce < 15


def test_the_ac_check_is_that_of_the_final_injections():
    market = random_market(5, count=6)
    cleared = clear_dso(market, grid=LinDistFlow(1))
    # by hand: schedule − imbalance + Σ σa + s⁺ − s⁻, and τσa + z⁺ − z⁻
    flat, d, b = cleared.flat, market.feeders.data, market.bids.data
    p = (d.p_scheduled - market.imbalance + flat.unserved - flat.spilled).reset_coords(drop=True)
    q = (d.q_scheduled + (flat.reactive_shortage - flat.reactive_surplus).fillna(0)).reset_coords(drop=True)
    for k in b.bid.values:
        one = b.sel(bid=k)
        change = flat.activation.sel(bid=k).values * (1 if one.bid_direction == "up" else -1)
        p.loc[{"bus": one.bid_node.item()}] += change
        q.loc[{"bus": one.bid_node.item()}] += change * one.reactive_ratio.values
    state = power_flow(market.feeders, p, q)
    np.testing.assert_allclose(flat.ac_voltage, state.v, atol=1e-12)
    np.testing.assert_allclose(flat.ac_loss, state.loss, atol=1e-12)
    low = np.maximum(d.v_min - state.v, 0.0)
    np.testing.assert_allclose(flat.undervoltage, low, atol=1e-12)
    tbm = flat.tbm_volume.sel(direction="up") - flat.tbm_volume.sel(direction="down")
    linear = cleared.scheduled_import + tbm
    np.testing.assert_allclose(flat.ac_mismatch, state.p_interface - linear, atol=1e-12)


# many feeders


def test_feeders_in_one_call_equal_one_by_one(trio):
    market, together = trio[""]
    data = market.feeders.data
    assert len({int((data.bus_feeder == name).sum()) for name in market.feeder_names}) == 3  # unlike topologies
    for name in market.feeder_names:
        _, alone = trio[name]
        for array in alone.flat:
            expected = alone.flat[array]
            labels = {dim: expected[dim] for dim in ("bid", "bus", "feeder") if dim in expected.dims}
            found = together.flat[array].sel(labels)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, err_msg=f"{name} {array}")


# failures


def with_an_impossible_feeder(other, names):
    """A market in which the feeder "x" is other: a voltage that no injection moves, or a load beyond the nose."""
    index = pd.date_range("2026-01-01", periods=2, freq="h")
    plain = {"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01]}
    tables = {name: pd.DataFrame({**plain, **(other if name == "x" else {})}, index=["r", "e"]) for name in names}
    feeders = {name: feeder_from_table(table, name=name, periods=index) for name, table in tables.items()}
    offers = [
        {"feeder": name, "bsp": bsp, "bus": "e", "direction": way, "price": price, "volume": 0.2}
        for name in names for bsp, way, price in (("A", "up", 30.0), ("B", "down", 25.0))
    ]  # fmt: skip
    needs = [{"feeder": name, "bus": "e", "imbalance": 0.5} for name in names]
    return balancing_market(
        feeders, bids=pd.DataFrame(offers), imbalance=pd.DataFrame(needs), tbm_prices={"up": 60.0, "down": 20.0},
        rules=MarketRules(200.0, 1000.0),
    )  # fmt: skip


#: A branch without impedance cannot hold another voltage than the root's 1.0 p.u.
NO_VOLTAGE = {"r": [0.0, 0.0], "x": [0.0, 0.0], "v_min": [0.0, 1.02], "v_max": [2.0, 1.10]}
#: 8 MW over r = x = 0.1 is beyond the nose of the curve.
NO_SCHEDULE = {"r": [0.0, 0.1], "x": [0.0, 0.1], "p_scheduled": [0.0, -8.0]}


@pytest.mark.parametrize("grid", [LOSSLESS, LinDistFlow(1)])
def test_an_infeasible_feeder_does_not_sink_the_others(grid):
    cleared = clear_dso(with_an_impossible_feeder(NO_VOLTAGE, ["a", "x", "b"]), grid=grid)
    assert cleared.flat.status.values.tolist() == [[0, 0], [1, 1], [0, 0]]
    alone = clear_dso(with_an_impossible_feeder({}, ["a"]), grid=grid)
    for name in ("a", "b"):
        there, bus = cleared.flat.bid_feeder == name, cleared.flat.bus_feeder == name
        np.testing.assert_allclose(cleared.flat.activation[there], alone.flat.activation, atol=1e-9)
        np.testing.assert_allclose(cleared.flat.nodal_price[bus], alone.flat.nodal_price, atol=1e-9)
        np.testing.assert_allclose(cleared.flat.ac_voltage[bus], alone.flat.ac_voltage, atol=1e-9)
    gone = cleared.flat.isel(bid=cleared.flat.bid_feeder == "x", bus=cleared.flat.bus_feeder == "x", feeder=[1])
    for array in gone:
        if array not in ("price", "status", "screened", "ac_converged"):
            assert gone[array].isnull().all(), array
    assert not gone.ac_converged.any()
    with pytest.raises(InfeasibleError) as error:
        cleared.require()
    assert error.value.where == "feeder=x, period=2026-01-01 00:00:00"


def test_a_schedule_without_power_flow_has_no_clearing_with_losses():
    market = with_an_impossible_feeder(NO_SCHEDULE, ["a", "x"])
    with pytest.warns(MarketWarning, match=r"no AC power flow at \(feeder=x, period=2026-01-01 00:00:00\)"):
        cleared = clear_dso(market)
    assert cleared.flat.status.values.tolist() == [[0, 0], [4, 4]]
    assert cleared.flat.activation.sel(bid="a/A/e/0/up").values == pytest.approx([0.2, 0.2])
    assert cleared.flat.activation.sel(bid="x/A/e/0/up").isnull().all()
    with pytest.raises(NumericalError):
        cleared.require()


def test_require_returns_a_sound_clearing(m33_lossless):
    assert m33_lossless.require() is m33_lossless
    assert list(STATUS.values()) == [0, 1, 2, 3, 4]


def test_a_time_limit_is_told(m33_case):
    cleared = clear_dso(m33_case, grid=LOSSLESS, solver=SolverOptions(time_limit=0.0, screening=False))
    assert cleared.flat.status.item() == 3
    assert cleared.flat.activation.isnull().all()


def test_read_only(m33_lossless):
    for name in m33_lossless.flat:
        with pytest.raises(ValueError, match="read-only"):
            m33_lossless.flat[name].values[...] = 0


def test_a_market_without_bids():
    market = two_bus([("A", "e", "up", 30.0, 0.2, 0)])
    empty = market.with_bids(market.bids.data.isel(bid=[]))
    cleared = clear_dso(empty, grid=LOSSLESS)
    assert cleared.flat.tbm_volume.values.ravel() == pytest.approx([0.5, 0.0])
