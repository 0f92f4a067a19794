"""The shipped networks give the published results, and the scripts give the shipped networks."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hiermarket.errors import DataError
from hiermarket.network.from_pypsa import load_network
from hiermarket.networks.feeder_table import radial_network, rating, write

FOLDER = Path(__file__).parents[2] / "networks"

# loads MW, Mvar; losses kW, kvar; lowest voltage and its bus; root import MW
PUBLISHED = {
    "ieee33": (3.715, 2.300, 202.677, 135.141, 0.913090, "18", 3.91768),
    "ieee69": (3.80219, 2.6946, 224.99, 102.16, 0.90919, "65", 4.02718),
}


def losses(network, power):
    branches = [network.c[kind].dynamic for kind in ("Line", "Transformer")]
    return 1e3 * sum((b[f"{power}0"] + b[f"{power}1"]).to_numpy().sum() for b in branches)


@pytest.fixture(scope="module")
def solved():
    networks = {name: load_network(name) for name in ("ieee33", "ieee69", "ieee14")}
    for network in networks.values():
        network.pf(x_tol=1e-9)
    return networks


@pytest.mark.parametrize("name", PUBLISHED)
def test_feeders(solved, name):
    active, reactive, loss, reactive_loss, lowest, at, imported = PUBLISHED[name]
    network = solved[name]
    voltage = network.buses_t.v_mag_pu.iloc[0]
    assert network.loads.p_set.sum() == pytest.approx(active, abs=1e-9)
    assert network.loads.q_set.sum() == pytest.approx(reactive, abs=1e-9)
    assert losses(network, "p") == pytest.approx(loss, abs=5e-3)
    assert losses(network, "q") == pytest.approx(reactive_loss, abs=5e-3)
    assert voltage.min() == pytest.approx(lowest, abs=5e-6)
    assert voltage.idxmin() == at
    assert network.generators_t.p["interface"].item() == pytest.approx(imported, abs=5e-6)


def test_transmission(solved):
    network = solved["ieee14"]
    assert network.generators_t.p["G1"].item() == pytest.approx(232.39, abs=5e-3)
    assert losses(network, "p") == pytest.approx(13393.3, abs=0.1)
    assert np.degrees(network.buses_t.v_ang["14"].item()) == pytest.approx(-16.03, abs=5e-3)
    assert network.generators.p_set.sum() == pytest.approx(network.loads.p_set.sum())


@pytest.mark.parametrize("name", PUBLISHED)
def test_labels_and_limits(solved, name):
    network = solved[name]
    assert list(network.buses.index) == [str(bus) for bus in range(1, len(network.buses) + 1)]
    assert len(network.lines) == len(network.buses) - 1
    assert list(network.lines.index) == [
        f"{a}-{b}" for a, b in zip(network.lines.bus0, network.lines.bus1, strict=True)
    ]
    assert list(network.loads.index) == list(network.loads.bus)
    flow = np.hypot(network.lines_t.p0.iloc[0], network.lines_t.q0.iloc[0])
    assert (network.lines.s_nom >= 1.5 * flow - 1e-9).all()
    assert (network.lines.s_nom < 1.5 * flow + 0.5 + 1e-3).all()
    assert set(network.buses.v_mag_pu_min) == {0.90}
    assert set(network.buses.v_mag_pu_max) == {1.05}


@pytest.mark.parametrize("name", ["ieee33", "ieee69", "ieee14"])
def test_scripts_give_the_shipped_networks(name, solved):
    script = runpy.run_path(str(FOLDER / f"build_{name}.py"))
    if name == "ieee14":
        built = script["transmission_network"]()
    else:
        built = radial_network(name, 12.66, script["LOADS"], script["BRANCHES"])
    shipped = load_network(name)
    for kind in ("Bus", "Line", "Transformer", "Load", "Generator", "ShuntImpedance"):
        columns = shipped.c[kind].static.columns
        pd.testing.assert_frame_equal(
            built.c[kind].static[columns], shipped.c[kind].static, check_dtype=False, check_index_type=False
        )


def test_equal_data_make_equal_files(tmp_path):
    files = []
    for turn in ("first", "second"):
        (tmp_path / turn).mkdir()
        network = radial_network("small", 10.0, [(2, 100.0, 50.0)], [(1, 2, 0.5, 0.5)])
        files.append(write(network, str(tmp_path / turn / "build_small.py")).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(("apparent", "expected"), [(0.0, 0.5), (1 / 3, 0.5), (0.34, 1.0), (4.6, 7.0)])
def test_rating(apparent, expected):
    assert rating(apparent, 0.5) == expected


def test_every_network_has_its_source():
    sources = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    for file in FOLDER.glob("*.nc"):
        assert f"## {file.stem} " in sources or f"| `{file.stem}`" in sources or f", `{file.stem}` |" in sources


@pytest.mark.parametrize("case", ["5_pjm", "24_ieee_rts"])
def test_the_script_gives_the_shipped_cases_of_pglib(case):
    built = runpy.run_path(str(FOLDER / "build_pglib.py"))["case_network"](case)
    shipped = load_network(f"pglib_{case}")
    for kind in ("Bus", "Line", "Transformer", "Load", "Generator", "ShuntImpedance"):
        columns = shipped.c[kind].static.columns
        pd.testing.assert_frame_equal(
            built.c[kind].static[columns], shipped.c[kind].static, check_dtype=False, check_index_type=False
        )


def test_unknown_name():
    with pytest.raises(DataError) as error:
        load_network("ieee34")
    assert error.value.faults[0].found == "'ieee34'"
    assert "ieee33" in error.value.faults[0].expected
