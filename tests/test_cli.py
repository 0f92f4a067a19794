"""The command line, as somebody types it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hiermarket.cli import FILE_WIDTH, app, largest_bsp
from hiermarket.market.cases import load_case
from hiermarket.results.netcdf import read_results

LOSSLESS = ["--loss-passes", "0"]


def typed(*words: str):
    return CliRunner().invoke(app, list(words))


def test_help_loads_no_slow_library():
    slow = {"pypsa", "linopy", "highspy", "dask", "distributed", "matplotlib", "xarray", "pandas"}
    script = (
        "import sys\nfrom hiermarket.cli import main\nsys.argv = ['hiermarket', '--help']\n"
        f"try:\n    main()\nfinally:\n    print('loaded:', *sorted({slow!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "run" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_version():
    done = typed("--version")
    assert done.exit_code == 0
    assert re.fullmatch(r"hiermarket \d+\.\d+\.\d+\S*\n", done.stdout)


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "hiermarket", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("hiermarket ")


def test_cases():
    done = typed("cases")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ieee33", "m33", "two_bus"]
    assert "One period on two buses" in done.stdout


def test_run(tmp_path: Path):
    done = typed("run", "two_bus", "--truthful", *LOSSLESS, "--no-compare", "--output", str(tmp_path / "new"))
    assert done.exit_code == 0, done.output
    names = ["two_bus.nc", "two_bus_capability.png", "two_bus_feeder.png", "two_bus_prices.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert all(path.stat().st_size > 5000 for path in (tmp_path / "new").iterdir())
    assert done.stdout.count("Written: ") == 4
    for title in ("Inputs", "DSO clearing", "Forwarding", "TSO clearing", "Disaggregation", "Settlement", "Indicators"):
        assert title in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= FILE_WIDTH
    assert re.search(r"DSO clearing +\d+\.\d s", done.stderr)
    tree = read_results(tmp_path / "new" / "two_bus.nc")
    assert float(tree["clearing"]["activation"].max()) == pytest.approx(0.2)


def test_run_with_a_leader_and_comparison(tmp_path: Path):
    """A offers 0.2 MW where the TBM's 60 EUR/MWh set the price: leading gains it nothing more."""
    done = typed("run", "two_bus", *LOSSLESS, "--leader", "A", "--no-pictures", "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["two_bus.nc"]
    assert "Certificate of the offers of A: holds" in done.stdout
    rows = done.stdout.partition("Comparison of behaviours")[2].splitlines()
    leads = next(row.split() for row in rows if row.startswith("A leads"))
    assert leads[2:5] == ["6.00", "6.00", "6.00"]
    assert [row.split("  ")[0] for row in rows if "holds" in row or row.startswith("all")] == [
        "all truthful", "A leads", "B leads",
    ]  # fmt: skip


def test_options_reach_the_run(tmp_path: Path):
    words = ["--as-bid", "--forwarding", "maximum-regulation", "--undo", "--no-pictures", "--no-compare"]
    done = typed("run", "two_bus", *LOSSLESS, *words, "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "MaximumRegulation" in done.stdout
    assert "Undo up" in " ".join(done.stdout.split()) or "Undo" in done.stdout
    options = read_results(tmp_path / "two_bus.nc").attrs["options"]
    assert '"kind": "AsBid"' in options
    assert '"loss_passes": 0' in options


def test_unknown_case():
    done = typed("run", "nowhere")
    assert done.exit_code == 1
    assert "ieee33, m33, two_bus" in done.stderr
    assert "Traceback" not in done.output


def test_unknown_leader(tmp_path: Path):
    done = typed("run", "two_bus", "--leader", "Nobody", "--output", str(tmp_path))
    assert done.exit_code == 1
    assert "'Nobody'; expected one of A, B" in done.stderr
    assert not list(tmp_path.iterdir())


def test_contradicting_options():
    done = typed("run", "two_bus", "--leader", "A", "--truthful")
    assert done.exit_code == 2
    assert "only one of" in done.output


def test_output_that_is_a_file(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    done = typed("run", "two_bus", "--truthful", *LOSSLESS, "--no-compare", "--output", str(tmp_path / "taken"))
    assert done.exit_code == 1
    assert "taken" in done.stderr


def test_the_largest_bsp():
    assert largest_bsp(load_case("two_bus")) == "B"  # 0.3 MW against 0.2
    assert largest_bsp(load_case("m33")) == "A"  # as much as B, 0.45 MW, and before it
