"""Feeders and grids out of PyPSA networks: the sweep on them equals PyPSA's own power flow."""

import numpy as np
import pandas as pd
import pypsa
import pytest

from hiermarket.errors import DataError
from hiermarket.network.feeders import combine
from hiermarket.network.from_pypsa import feeder_from_pypsa, grid_from_pypsa
from hiermarket.network.grid import Susceptance
from hiermarket.network.power_flow import power_flow

HOURS = pd.date_range("2026-01-01", periods=3, freq="h")


def base(periods=None):
    """110 kV root, transformer, 20 kV feeder of three buses."""
    n = pypsa.Network()
    if periods is not None:
        n.set_snapshots(periods)
    n.add("Bus", "1", v_nom=110.0, v_mag_pu_set=1.02, v_mag_pu_min=0.9, v_mag_pu_max=1.1)
    n.add("Bus", ["2", "3", "4"], v_nom=20.0, v_mag_pu_min=0.95, v_mag_pu_max=1.05)
    n.add("Generator", "slack", bus="1", control="Slack")
    n.add("Transformer", "T", bus0="1", bus1="2", s_nom=40.0, r=0.005, x=0.1)
    n.add("Line", "a", bus0="2", bus1="3", r=0.4, x=0.5, b=3e-4, s_nom=10.0, s_max_pu=0.8)
    n.add("Line", "b", bus0="4", bus1="3", r=0.3, x=0.4, g=1e-5)
    n.add("Load", "l", bus="4", p_set=5.0, q_set=2.0)
    return n


def assert_equals_pypsa(network, **options):
    feeders = combine({"f": feeder_from_pypsa(network, name="f", **options)})
    state = power_flow(feeders, feeders.data.p_scheduled, feeders.data.q_scheduled)
    assert state.converged.all()
    solved = network.copy()
    solved.pf(x_tol=1e-9)
    local = state.assign_coords(bus=state.bus_name).transpose("period", "bus", "feeder")
    buses = list(local.bus.values)
    np.testing.assert_allclose(local.v, solved.buses_t.v_mag_pu[buses], atol=1e-8)
    generator = solved.generators.index[solved.generators.control == "Slack"][0]
    np.testing.assert_allclose(state.p_interface.isel(feeder=0), solved.generators_t.p[generator], atol=1e-7)
    np.testing.assert_allclose(state.q_interface.isel(feeder=0), solved.generators_t.q[generator], atol=1e-7)
    return feeders


def faults_of(network, **options):
    with pytest.raises(DataError) as error:
        feeder_from_pypsa(network, name="f", **options)
    return error.value.faults


def slack_at_zero(network):
    network.generators.loc[network.generators.control == "Slack", "p_set"] = 0.0
    return network


@pytest.mark.parametrize(("side", "ratio"), [(0, 0.94), (1, 1.07)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("model", ["t", "pi"])
def test_taps_on_both_sides(ratio, side, reverse, model):
    n = slack_at_zero(base())
    ends = ("2", "1") if reverse else ("1", "2")
    columns = ["bus0", "bus1", "tap_ratio", "tap_side", "model", "g", "b"]
    n.transformers.loc["T", columns] = [*ends, ratio, side, model, 0.003, -0.02]
    feeders = assert_equals_pypsa(n)
    tapped_at_root = (side == 0) != reverse
    assert feeders.data.tap.sel(bus="f/2").item() == pytest.approx(ratio if tapped_at_root else 1 / ratio)


def test_lines_charging_and_shunts():
    n = slack_at_zero(base())
    n.add("ShuntImpedance", ["c", "d", "root"], bus=["3", "3", "1"], b=[1e-3, 2e-3, 1e-4], g=[1e-4, 0.0, 1e-5])
    data = assert_equals_pypsa(n).data
    # at bus 3: half the charging of a (b) and of b (g), and both shunts, all × 20²
    assert data.b.sel(bus="f/3").item() == pytest.approx(400 * (1.5e-4 + 3e-3))
    assert data.g.sel(bus="f/3").item() == pytest.approx(400 * (0.5e-5 + 1e-4))
    assert data.r.sel(bus="f/4").item() == pytest.approx(0.3 / 400)


def test_ratings_limits_and_parents():
    data = feeder_from_pypsa(base(), name="f").data
    assert data.s_max.to_series().to_dict() == {"1": np.inf, "2": 40.0, "3": 8.0, "4": np.inf}
    assert data.parent.to_series().to_dict() == {"1": "", "2": "1", "3": "2", "4": "3"}
    assert data.v_min.values.tolist() == [0.9, 0.95, 0.95, 0.95]
    assert data.v_root.values.tolist() == [1.02]
    assert data.period.values[0] == np.datetime64("2026-01-01T00:00")


def test_standard_types_and_phase_shift():
    n = slack_at_zero(base())
    n.remove("Transformer", "T")
    n.remove("Line", "a")
    n.add("Transformer", "T", bus0="1", bus1="2", type="25 MVA 110/20 kV", tap_position=3, num_parallel=2)
    n.add("Line", "a", bus0="2", bus1="3", type="NAYY 4x150 SE", length=1.5, num_parallel=2)
    turned = feeder_from_pypsa(n, name="f")
    # PyPSA's Newton–Raphson starts flat and does not find its way through the type's 150 degrees
    n.transformer_types.loc["25 MVA 110/20 kV", "phase_shift"] = 0.0
    data = assert_equals_pypsa(n).data
    assert feeder_from_pypsa(n, name="f").data.equals(turned.data)
    assert data.s_max.sel(bus="f/2").item() == 25.0
    assert data.tap.sel(bus="f/2").item() != 1.0
    assert data.g.sel(bus="f/2").item() > 0


def test_types_of_the_users_own():
    n = slack_at_zero(base())
    attributes = {"r_per_length": 0.2, "x_per_length": 0.1, "c_per_length": 300.0, "f_nom": 50.0}
    n.add("LineType", "mine", **attributes, i_nom=0.3)
    n.lines.loc["a", ["type", "length", "r", "x", "b"]] = ["mine", 2.0, 0.0, 0.0, 0.0]
    data = assert_equals_pypsa(n).data
    assert data.r.sel(bus="f/3").item() == pytest.approx(0.4 / 400)
    n.lines.loc["b", "type"] = "nobody's"
    (fault,) = faults_of(n)
    assert fault.where == "f, lines b"


def test_periods_schedule_and_signs():
    n = slack_at_zero(base(HOURS))
    n.add("Load", "series", bus="3", p_set=[1.0, 2.0, 3.0], q_set=[0.1, 0.2, 0.3])
    n.add("Generator", "pv", bus="4", p_set=[0.0, 4.0, 1.0], q_set=-0.5)
    n.add("Generator", "as load", bus="4", p_set=0.5, sign=-1)
    n.add("StorageUnit", "battery", bus="3", p_nom=2.0, p_set=[1.0, -1.0, 0.0])
    n.add("Store", "tank", bus="2", p_set=0.25)
    n.add("Load", "off", bus="3", p_set=99.0, active=False)
    data = assert_equals_pypsa(n).data
    assert data.p_scheduled.sel(bus="f/3").values.tolist() == [0.0, -3.0, -3.0]
    assert data.p_scheduled.sel(bus="f/4").values.tolist() == [-5.5, -1.5, -4.5]
    assert data.q_scheduled.sel(bus="f/4").values.tolist() == [-2.5] * 3
    assert data.p_scheduled.sel(bus="f/2").values.tolist() == [0.25] * 3
    assert data.duration.values.tolist() == [1.0] * 3


def test_voltage_of_the_root_in_time():
    n = slack_at_zero(base(HOURS))
    n.buses_t.v_mag_pu_set["1"] = [1.0, 1.02, 1.04]
    assert assert_equals_pypsa(n).data.v_root.values.tolist() == [[1.0, 1.02, 1.04]]


def test_the_network_is_not_changed(shipped):
    n = shipped["ieee33"]
    before = {c.name: c.static.copy() for c in n.components}
    feeder_from_pypsa(n, name="f")
    for component in n.components:
        pd.testing.assert_frame_equal(component.static, before[component.name])


def test_out_of_service_lines_are_left_out():
    n = base()
    n.add("Line", "tie", bus0="2", bus1="4", r=0.1, x=0.1, active=False)
    assert feeder_from_pypsa(n, name="f").data.parent.sel(bus="4").item() == "3"


@pytest.fixture
def with_transmission():
    """Transmission buses A, B, C in a ring, feeder 1–2–3–4 behind a transformer at B."""
    n = slack_at_zero(base())
    n.generators.loc["slack", "bus"] = "A"
    n.add("Bus", ["A", "B", "C"], v_nom=110.0)
    n.add("Line", ["AB", "BC", "CA"], bus0=["A", "B", "C"], bus1=["B", "C", "A"], x=10.0, r=1.0, s_nom=[100, 0, 50])
    n.add("Transformer", "up", bus0="B", bus1="1", s_nom=100, x=0.1, tap_ratio=1.05)
    n.add("Load", "C", bus="C", p_set=20.0)
    n.generators.loc["slack", "p_set"] = 25.0
    return n


def test_a_part_of_a_larger_network(with_transmission):
    feeder = feeder_from_pypsa(with_transmission, name="f", root="1", buses=["1", "2", "3", "4"])
    alone = feeder_from_pypsa(base(), name="f")
    assert feeder.data.drop_attrs().equals(alone.data.drop_attrs())
    grid = grid_from_pypsa(with_transmission, buses=["A", "B", "C"])
    assert grid.data.line.values.tolist() == ["AB", "BC", "CA"]
    assert grid.data.p_scheduled.sel(bus=["A", "B", "C"]).values.ravel().tolist() == [25.0, 0.0, -20.0]


def test_a_link_at_the_root_is_the_connection(with_transmission):
    n = with_transmission
    n.remove("Transformer", "up")
    n.add("Link", "up", bus0="B", bus1="1", p_nom=50)
    assert feeder_from_pypsa(n, name="f", root="1", buses=["1", "2", "3", "4"]).root == "1"
    assert len(grid_from_pypsa(n, buses=["A", "B", "C"]).data.line) == 3
    (fault,) = faults_of_grid(n)
    assert fault.where == "grid, link up"


def test_a_second_connection_is_refused(with_transmission):
    with_transmission.add("Line", "second", bus0="C", bus1="3", x=1.0)
    (fault,) = faults_of(with_transmission, root="1", buses=["1", "2", "3", "4"])
    assert fault.where == "f, line second"
    assert fault.found == "a branch to C"


def test_unknown_buses(with_transmission):
    (fault,) = faults_of(with_transmission, root="1", buses=["1", "2", "3", "4", "5"])
    assert fault.found == "unknown buses 5"


@pytest.mark.parametrize("kind", ["Link", "Process"])
def test_controlled_branches_are_refused(kind):
    n = base()
    n.add(kind, "dc", bus0="2", bus1="4")
    (fault,) = faults_of(n)
    assert fault.where == f"f, {kind.lower()} dc"


class TestRoot:
    def test_given(self):
        n = base()
        n.remove("Generator", "slack")
        assert feeder_from_pypsa(n, name="f", root="3").data.parent.sel(bus="2").item() == "3"

    def test_none(self):
        n = base()
        n.remove("Generator", "slack")
        (fault,) = faults_of(n)
        assert fault.found == "no generator with control 'Slack'"

    def test_several(self):
        n = base()
        n.add("Generator", "other", bus="4", control="Slack")
        (fault,) = faults_of(n)
        assert fault.found == "slack generators at buses 1, 4"

    def test_elsewhere(self):
        (fault,) = faults_of(base(), root="3")
        assert fault.found == "slack generators at 1, root 3"

    def test_unknown(self):
        (fault,) = faults_of(base(), root="9")
        assert fault.where == "f.root"


def test_all_faults_together():
    n = base(pd.date_range("2026-01-01", periods=3, freq="15min"))
    n.add("Line", "tie", bus0="2", bus1="4", r=0.1, x=0.1)
    n.add("Link", "dc", bus0="2", bus1="4")
    n.add("Generator", "unset", bus="4")
    n.add("Generator", "held", bus="3", control="PV", p_set=1.0)
    n.lines_t.s_max_pu["a"] = [1.0, 0.9, 1.0]
    found = [(fault.where, fault.found) for fault in faults_of(n)]
    assert found == [
        ("f.snapshot_weightings at 2026-01-01 00:00:00, 2026-01-01 00:15:00", "1 h"),
        ("f, link dc", "a controlled branch"),
        ("f, lines a", "s_max_pu that changes in time"),
        ("f, generators unset", "no p_set"),
        ("f, generators held", "control 'PV'"),
        ("f, line tie", "a loop of buses 4, 3, 2"),
    ]


def test_dc_buses():
    n = base()
    n.buses.loc["4", "carrier"] = "DC"
    (fault,) = faults_of(n)
    assert fault.found == "DC buses 4"


def test_values_of_the_feeder_are_checked():
    n = base()
    n.lines.loc["a", "r"] = -0.4
    (fault,) = faults_of(n)
    assert fault.where == "f.r at (bus=3)"


@pytest.mark.parametrize(
    ("component", "label", "column", "value", "where"),
    [
        ("Transformer", "T", "s_nom", 0.0, "f, transformers T"),
        ("Bus", ["2", "3", "4"], "v_nom", 0.0, "f, lines a, b"),
    ],
)
def test_impedances_that_are_no_numbers(component, label, column, value, where):
    n = base()
    n.c[component].static.loc[label, column] = value
    (fault,) = faults_of(n)
    assert fault.where == where
    assert fault.found == "an impedance that is no number"


@pytest.mark.parametrize(
    ("component", "column", "name"),
    [("Line", "x", "lines a"), ("Transformer", "x", "transformers T"), ("Bus", "v_nom", "buses 3")],
)
def test_nan_is_not_taken_for_the_default(component, column, name):
    n = base()
    n.c[component].static.loc[name.split()[1], column] = np.nan
    (fault,) = faults_of(n)
    assert fault.where == f"f, {name}"
    assert fault.remedy == f"Check {column}."


def test_investment_periods_and_scenarios():
    n = base()
    n.set_investment_periods([2030, 2040])
    (fault,) = faults_of(n)
    assert fault.where == "f.investment_periods"
    n = base()
    n.set_scenarios({"low": 0.5, "high": 0.5})
    (fault,) = faults_of(n)
    assert fault.where == "f.scenarios"


def faults_of_grid(network, **options):
    with pytest.raises(DataError) as error:
        grid_from_pypsa(network, **options)
    return error.value.faults


def test_grid_has_the_flows_of_pypsas_linear_power_flow(shipped):
    n = shipped["ieee14"].copy()
    grid = grid_from_pypsa(n)
    n.lpf()
    data = grid.data
    angle = n.buses_t.v_ang.iloc[0]
    flow = data.susceptance.values * (angle[data.bus0.values].to_numpy() - angle[data.bus1.values].to_numpy())
    np.testing.assert_allclose(flow, pd.concat([n.lines_t.p0.iloc[0], n.transformers_t.p0.iloc[0]]), atol=1e-9)
    assert data.s_max.sel(line="1-2").item() == 240.0
    assert grid.slack.tolist() == ["1"]
    assert data.p_scheduled.sum().item() == pytest.approx(0.0, abs=1e-9)


def test_grid_slack_without_schedule_counts_as_zero(shipped):
    n = shipped["ieee14"].copy()
    n.generators.loc["G1", "p_set"] = np.nan
    assert grid_from_pypsa(n).data.p_scheduled.sel(bus="1").item() == 0.0
    n.generators.loc["G2", "p_set"] = np.nan
    (fault,) = faults_of_grid(n)
    assert fault.where == "grid, generators G2"


def test_grid_refuses_phase_shifts(shipped):
    n = shipped["ieee14"].copy()
    n.transformers.loc["4-7", "phase_shift"] = 30.0
    (fault,) = faults_of_grid(n)
    assert fault.where == "grid, transformers 4-7"


def test_grid_checks_reactances(shipped):
    n = shipped["ieee14"].copy()
    n.lines.loc["1-2", "x"] = 0.0
    (fault,) = faults_of_grid(n)
    assert fault.where == "grid.susceptance at (line=1-2)"


def test_grid_susceptances(shipped):
    n = shipped["ieee14"]
    by_series = grid_from_pypsa(n, susceptance=Susceptance.SERIES).data.susceptance
    # 1-2: r 0.01938, x 0.05917; 4-7: x 0.20912 with a tap that does not count; per unit on 100 MVA
    assert by_series.sel(line="1-2").item() == pytest.approx(100 * 0.05917 / (0.01938**2 + 0.05917**2))
    assert by_series.sel(line="4-7").item() == pytest.approx(100 / 0.20912)
    for by_reactance in (grid_from_pypsa(n), grid_from_pypsa(n, susceptance="reactance")):
        assert by_reactance.data.susceptance.sel(line="4-7").item() == pytest.approx(100 / 0.20912 / 0.978)


def test_grid_angles_limit_flows(shipped):
    n = shipped["ieee14"].copy()
    n.lines.loc["1-2", "v_ang_max"] = 2.0
    n.lines.loc["1-5", "v_ang_max"] = 90.0
    n.transformers.loc["4-7", "v_ang_max"] = 1.0
    limit = grid_from_pypsa(n).data.s_max
    assert limit.sel(line="1-2").item() == pytest.approx(100 / 0.05917 * np.radians(2.0))
    assert limit.sel(line="4-7").item() == pytest.approx(100 / 0.20912 / 0.978 * np.radians(1.0))
    # the rating is the tighter one
    assert limit.sel(line="1-5").item() == grid_from_pypsa(shipped["ieee14"]).data.s_max.sel(line="1-5").item()
    n.lines.loc["1-2", "v_ang_max"] = np.nan
    (fault,) = faults_of_grid(n)
    assert (fault.where, fault.remedy) == ("grid, lines 1-2", "Check v_ang_max.")
