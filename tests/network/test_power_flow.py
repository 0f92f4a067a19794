"""The sweep against published figures, against PyPSA's Newton–Raphson, and against itself one feeder at a time."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermarket.errors import DataError
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.feeders import combine
from hiermarket.network.power_flow import power_flow, violations


def scheduled(feeders, scale=1.0):
    return power_flow(feeders, scale * feeders.data.p_scheduled, scale * feeders.data.q_scheduled)


def random_feeder(name, size, seed, periods=3):
    """A tree of random shape with taps, shunts and both loads and generators."""
    rng = np.random.default_rng(seed)
    buses = [str(bus) for bus in range(size)]
    table = pd.DataFrame(
        {
            "parent": ["", *(str(rng.integers(bus)) for bus in range(1, size))],
            "r": [0.0, *rng.uniform(1e-3, 5e-2, size - 1)],
            "x": [0.0, *rng.uniform(1e-3, 5e-2, size - 1)],
            "tap": [1.0, *rng.choice([1.0, 0.98, 1.03], size - 1)],
            "g": rng.uniform(0, 0.01, size),
            "b": rng.uniform(-0.02, 0.02, size),
            "s_max": 0.5,
            "v_min": 0.95,
            "v_max": 1.05,
        },
        index=buses,
    )
    feeder = feeder_from_table(table, name=name, periods=pd.date_range("2026-01-01", periods=periods, freq="h"))
    shape = (size, periods)
    dims = ("bus", "period")
    p, q = rng.uniform(-0.6, 0.4, shape) / size, rng.uniform(-0.3, 0.2, shape) / size
    return type(feeder)(feeder.data.assign(p_scheduled=(dims, p), q_scheduled=(dims, q), v_root=("period", 1 + q[0])))


# losses kW, lowest voltage and its bus, import MW
@pytest.mark.parametrize(
    ("name", "loss", "lowest", "at", "imported"),
    [("ieee33", 202.677, 0.913090, "18", 3.91768), ("ieee69", 224.99, 0.90919, "65", 4.02718)],
)
def test_published_figures(ieee, name, loss, lowest, at, imported):
    state = scheduled(combine({name: ieee[name]}))
    assert 1e3 * state.loss.item() == pytest.approx(loss, abs=5e-3)
    assert state.v.min().item() == pytest.approx(lowest, abs=5e-6)
    assert state.v.squeeze().idxmin().item() == f"{name}/{at}"
    assert state.p_interface.item() == pytest.approx(imported, abs=5e-6)
    assert state.converged.item()
    assert state.iterations.item() < 20


@pytest.mark.parametrize("name", ["ieee33", "ieee69"])
def test_agrees_with_pypsa(ieee, solved, name):
    state, network = scheduled(combine({name: ieee[name]})), solved[name]
    local = state.isel(period=0).assign_coords(bus=state.bus_name)
    np.testing.assert_allclose(local.v.sel(bus=list(network.buses.index)), network.buses_t.v_mag_pu.iloc[0], atol=1e-8)
    below = local.sel(bus=list(network.lines.bus1))
    np.testing.assert_allclose(below.p_flow, network.lines_t.p0.iloc[0], atol=1e-8)
    np.testing.assert_allclose(below.q_flow, network.lines_t.q0.iloc[0], atol=1e-8)
    assert state.q_interface.item() == pytest.approx(network.generators_t.q["interface"].item(), abs=1e-8)


def test_two_buses_by_hand():
    # w_2 = w_1 − 2(rP + xQ) + (r² + x²) l at v_1 = 1 with r = 0.1: v_2 = 0.9 draws 0.9 MW, l = 1, P = 1, loss 0.1
    table = pd.DataFrame({"parent": ["", "1"], "r": [0.0, 0.1], "p_scheduled": [0.2, -0.9]}, index=["1", "2"])
    state = scheduled(combine({"n": feeder_from_table(table, name="n")}))
    assert state.v.sel(bus="n/2").item() == pytest.approx(0.9, abs=1e-9)
    assert state.p_flow.sel(bus="n/2").item() == pytest.approx(1.0, abs=1e-9)
    assert state.l.sel(bus="n/2").item() == pytest.approx(1.0, abs=1e-8)
    assert state.loss.item() == pytest.approx(0.1, abs=1e-9)
    assert state.p_interface.item() == pytest.approx(0.8, abs=1e-9)  # 0.2 MW are injected at the root
    assert np.isnan(state.p_flow.sel(bus="n/1").item())


@given(st.integers(1, 25), st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_state_solves_the_equations(size, seed):
    feeders = combine({"f": random_feeder("f", size, seed)})
    data, state = feeders.data, scheduled(feeders)
    assert state.converged.all()
    w = state.v**2
    injected = data.p_scheduled.sum("bus").values + state.p_interface.isel(feeder=0).values
    np.testing.assert_allclose(injected, state.loss.isel(feeder=0), atol=1e-8)
    for bus, parent in feeders.parents.items():
        here = state.sel(bus=bus)
        r, x, t = (data[name].sel(bus=bus).item() for name in ("r", "x", "tap"))
        seen = w.sel(bus=parent) / t**2
        np.testing.assert_allclose(here.l, (here.p_flow**2 + here.q_flow**2) / seen, atol=1e-8)
        # voltage drop, equation 3
        drop = seen - 2 * (r * here.p_flow + x * here.q_flow) + (r**2 + x**2) * here.l
        np.testing.assert_allclose(w.sel(bus=bus), drop, atol=1e-8)
        # balances, equations 1 and 2
        children = state.sel(bus=list(feeders.parents.index[feeders.parents == bus]))
        at = data.sel(bus=bus)
        active = here.p_flow - r * here.l - children.p_flow.sum("bus") + at.p_scheduled - at.g * w.sel(bus=bus)
        reactive = here.q_flow - x * here.l - children.q_flow.sum("bus") + at.q_scheduled + at.b * w.sel(bus=bus)
        np.testing.assert_allclose(active, 0, atol=1e-8)
        np.testing.assert_allclose(reactive, 0, atol=1e-8)


def test_many_at_once_equal_one_by_one(ieee):
    feeders = {name: random_feeder(name, size, size) for name, size in (("a", 40), ("b", 3), ("c", 17), ("d", 1))}
    together = scheduled(combine(feeders))
    for name, feeder in feeders.items():
        alone = scheduled(combine({name: feeder}))
        part = together.sel(bus=alone.bus.values, feeder=[name])
        xr.testing.assert_identical(part, alone)


def test_order_of_the_labels_does_not_matter(ieee33):
    data = ieee33.data
    p, q = data.p_scheduled.isel(bus=slice(None, None, -1)), data.q_scheduled.T
    xr.testing.assert_identical(power_flow(ieee33, p, q), scheduled(ieee33))


def test_more_than_the_feeder_can_carry_is_no_answer(ieee):
    # ten times the load is beyond the nose of the curve; the other feeder is not concerned
    feeders = combine({"heavy": ieee["ieee33"], "light": ieee["ieee69"]})
    scale = xr.where(feeders.data.bus_feeder == "heavy", 10.0, 1.0)
    p, q = scale * feeders.data.p_scheduled, scale * feeders.data.q_scheduled
    state = power_flow(feeders, p, q)
    assert state.converged.squeeze("period").values.tolist() == [False, True]
    assert state.iterations.sel(feeder="heavy").item() == 200
    heavy, light = state.bus_feeder == "heavy", state.bus_feeder == "light"
    for name in ("v", "p_flow", "q_flow", "l"):
        assert state[name].sel(bus=heavy).isnull().all()
    assert state[["p_interface", "q_interface", "loss"]].sel(feeder="heavy").to_array().isnull().all()
    assert state.v.sel(bus=light).notnull().all()
    limits = violations(feeders, state).sel(bus=heavy)
    assert limits.to_array().isnull().all()


def test_too_few_sweeps_are_no_answer(ieee33):
    state = power_flow(ieee33, ieee33.data.p_scheduled, ieee33.data.q_scheduled, max_iterations=3)
    assert not state.converged.item()
    assert state.v.isnull().all()


def test_tolerance(ieee33):
    exact = scheduled(ieee33)
    rough = power_flow(ieee33, ieee33.data.p_scheduled, ieee33.data.q_scheduled, tolerance=1e-4)
    assert rough.iterations.item() < exact.iterations.item()
    np.testing.assert_allclose(rough.v, exact.v, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda p: p.isel(period=0, drop=True), "p"),
        (lambda p: p.isel(bus=slice(1, None)), "p.bus"),
        (lambda p: p.assign_coords(bus=[f"x{bus}" for bus in p.bus.values]), "p.bus"),
        (lambda p: p.assign_coords(period=p.period + np.timedelta64(1, "h")), "p.period"),
        (lambda p: p.drop_vars("bus"), "p.bus"),
        (lambda p: p.where(p.bus != "ieee33/18"), "p at (bus=ieee33/18, period=2026-01-01 00:00:00)"),
    ],
)
def test_injections_with_faults(ieee33, change, where):
    p = ieee33.data.p_scheduled
    with pytest.raises(DataError) as error:
        power_flow(ieee33, change(p), p)
    assert [fault.where for fault in error.value.faults] == [where]


def test_violations_by_hand():
    # 0.9 p.u. at bus 2 of test_two_buses_by_hand; the sending end carries 1.0 MVA, the receiving end 0.9
    table = pd.DataFrame(
        {
            "parent": ["", "1"], "r": [0.0, 0.1], "p_scheduled": [0.0, -0.9], "s_max": [np.inf, 0.95],
            "v_min": [0.9, 0.92], "v_max": [0.98, 1.1],
        },
        index=["1", "2"],
    )  # fmt: skip
    feeders = combine({"n": feeder_from_table(table, name="n")})
    found = violations(feeders, scheduled(feeders)).squeeze("period")
    assert found.undervoltage.values == pytest.approx([0.0, 0.02])
    assert found.overvoltage.values == pytest.approx([0.02, 0.0])
    assert found.overload.values == pytest.approx([0.0, 0.05])
    assert found.overload.attrs["units"] == "MVA"


def test_the_receiving_end_may_be_the_larger_one():
    # a generator of 1.0 MW behind r: more at the bus than at the parent
    table = pd.DataFrame({"parent": ["", "1"], "r": [0, 0.1], "p_scheduled": [0, 1.0], "s_max": 0.98}, index=["1", "2"])
    feeders = combine({"n": feeder_from_table(table, name="n")})
    assert violations(feeders, scheduled(feeders)).overload.sel(bus="n/2").item() == pytest.approx(0.02)


def test_no_violations_at_peak(ieee):
    feeders = combine(ieee)
    assert float(violations(feeders, scheduled(feeders)).to_array().max()) == 0.0
