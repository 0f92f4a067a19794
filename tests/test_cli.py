"""The command line, as somebody types it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hiermarket.cli import TABLE_WIDTH, app, largest_bsp
from hiermarket.market.cases import CASES, load_case
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
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(CASES)
    assert {"ieee33", "m33", "two_bus", "lind", "pglib_5_pjm"} <= set(CASES)
    assert "One period on two buses" in done.stdout


def test_a_narrow_terminal_keeps_names_and_headers(monkeypatch: pytest.MonkeyPatch):
    """At 80 columns the column of the schemes once was empty, and headers were cut."""
    monkeypatch.setenv("COLUMNS", "80")
    done = typed("compare", "two_bus", "--scheme", "local-only", "--loss-passes", "0")
    assert "local only" in done.stdout.partition("Scheme")[2]
    assert "…" not in done.stdout


def test_run(tmp_path: Path):
    done = typed("run", "two_bus", "--truthful", *LOSSLESS, "--no-behaviours", "--output", str(tmp_path / "new"))
    assert done.exit_code == 0, done.output
    names = ["two_bus.nc", "two_bus_capability.png", "two_bus_feeder.png", "two_bus_prices.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert all(path.stat().st_size > 5000 for path in (tmp_path / "new").iterdir())
    assert done.stdout.count("Written: ") == 4
    for title in ("Inputs", "DSO clearing", "Forwarding", "TSO clearing", "Disaggregation", "Settlement", "Indicators"):
        assert title in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= TABLE_WIDTH
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
    words = ["--as-bid", "--forwarding", "maximum-regulation", "--undo", "--no-pictures", "--no-behaviours"]
    done = typed("run", "two_bus", *LOSSLESS, *words, "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "MaximumRegulation" in done.stdout
    assert "Undo up" in " ".join(done.stdout.split()) or "Undo" in done.stdout
    options = read_results(tmp_path / "two_bus.nc").attrs["options"]
    assert '"kind": "AsBid"' in options
    assert '"loss_passes": 0' in options


def test_consistent_prices(tmp_path: Path):
    words = ["--as-bid", "--consistent-prices", "--no-pictures", "--no-behaviours"]
    done = typed("run", "two_bus", *LOSSLESS, *words, "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "Exchange prices were iterated: consistent after 1 round" in " ".join(done.stdout.split())
    assert read_results(tmp_path / "two_bus.nc")["exchange_prices"].attrs["consistent"] == 1


def test_unknown_case():
    done = typed("run", "nowhere")
    assert done.exit_code == 1
    assert ", ".join(CASES) in " ".join(done.stderr.split())
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
    done = typed("run", "two_bus", "--volumes", "--as-bid")
    assert done.exit_code == 2
    assert "only where a BSP leads" in done.output


def test_a_leader_that_decides_volumes(tmp_path: Path):
    words = ["--leader", "A", "--volumes", "--no-pictures", "--no-behaviours", "--output", str(tmp_path)]
    done = typed("run", "two_bus", *LOSSLESS, *words)
    assert done.exit_code == 0, done.output
    tree = read_results(tmp_path / "two_bus.nc")
    assert '"kind": "PricesAndVolumes"' in tree.attrs["options"]
    # nothing is gained by withholding: what is offered is the volume of the bid
    assert float(tree["bidding"]["offer_volume"].sel(bsp="A").max()) == pytest.approx(0.2)


def test_output_that_is_a_file(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    done = typed("run", "two_bus", "--truthful", *LOSSLESS, "--no-behaviours", "--output", str(tmp_path / "taken"))
    assert done.exit_code == 1
    assert "taken" in done.stderr


def test_the_largest_bsp():
    assert largest_bsp(load_case("two_bus")) == "B"  # 0.3 MW against 0.2
    assert largest_bsp(load_case("m33")) == "A"  # as much as B, 0.45 MW, and before it


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the example, written by its command."""
    folder = tmp_path_factory.mktemp("cli") / "example"
    done = typed("example", str(folder))
    assert done.exit_code == 0, done.output
    assert f"hiermarket run {folder / 'study.toml'}" in done.stdout
    return folder / "study.toml"


def test_a_study_twice(example: Path):
    done = typed("run", str(example), "--workers", "1")
    assert done.exit_code == 0, done.output
    for title in ("Study", "Shares and savings", f"Written: {example.parent / 'results'}"):
        assert title in done.stdout
    assert re.search(r"Time inside the solver +\d+\.\d s", done.stdout)
    assert "Distribution markets: 2 of 2 batches, 3 feeders" in done.stderr
    assert max(map(len, done.stdout.replace(str(example.parent), "").splitlines())) <= TABLE_WIDTH
    again = typed("run", str(example), "--workers", "1")
    assert again.exit_code == 0, again.output
    assert "Disaggregation, settlement: 2 of 2 batches, 3 feeders, 2 batches kept" in again.stderr
    assert again.stdout == done.stdout


def _two_buses(folder: Path, more: str = "") -> str:
    file = folder / "study.toml"
    file.write_text('[case]\nname = "two_bus"\ncopies = 2\n[options]\nloss_passes = 0\n' + more, encoding="utf-8")
    return str(file)


def test_a_study_elsewhere_and_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("run", _two_buses(tmp_path), "--workers", "1", "--output", str(tmp_path / "there"))
    assert typed(*words).exit_code == 0
    assert (tmp_path / "there" / "manifest.jsonl").exists()
    assert "kept" in typed(*words).stderr
    # nothing is deleted before there is a cluster
    fresh = ("run", words[1], *words[4:], "--fresh")
    monkeypatch.setattr("hiermarket.study.cluster.TIMEOUT", 0.2)
    assert typed(*fresh, "--scheduler", "tcp://127.0.0.1:1").exit_code == 1
    assert "kept" in typed(*words).stderr
    assert "kept" not in typed(*words, "--fresh").stderr


def test_a_study_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hiermarket.study.tasks.LocalJob.compute", stop)
    file, there = _two_buses(tmp_path), str(tmp_path / "over there")
    done = typed("run", file, "--workers", "1", "--fresh", "--output", there)
    assert done.exit_code == 130
    # what was typed, but for --fresh
    assert done.stderr.rstrip().endswith(f"to resume: hiermarket run {file} --output '{there}' --workers 1")


def test_results_of_a_study_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    done = typed("run", _two_buses(tmp_path), "--workers", "1", "--output", str(tmp_path / "taken"))
    assert done.exit_code == 1
    assert f"cannot be used (File exists: {tmp_path / 'taken'})" in done.stderr
    assert "Traceback" not in done.output


def test_the_folder_of_a_study(tmp_path: Path):
    done = typed("run", str(Path(_two_buses(tmp_path)).parent), "--workers", "1")
    assert done.exit_code == 2
    said = "".join(re.findall(r"[^\s│]+", done.output))
    assert f"for the study in it: hiermarket run {tmp_path / 'study.toml'}".replace(" ", "") in said


def test_a_study_with_faults(tmp_path: Path):
    done = typed("run", _two_buses(tmp_path, "[study]\nbach = 1\n"))
    assert done.exit_code == 1
    assert "study.toml, study.bach: found 'bach'" in done.stderr
    assert "Is 'batch' meant?" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "two_bus", "--workers", "2"), "--workers: only for a study"),
        (("run", "x.toml", "--truthful", "--no-behaviours"), "--truthful, --behaviours: only for a case"),
        (("run", "x.toml", "--workers", "2", "--scheduler", "tcp://x:1"), "only one of"),
    ],
)
def test_options_that_would_do_nothing(words: tuple[str, ...], said: str):
    done = typed(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_compare(tmp_path: Path):
    file = tmp_path / "new" / "found.csv"
    words = ["--scheme", "tso-only", "--scheme", "common", "--scheme", "fragmented", "--exchange-price", "40"]
    done = typed("compare", "two_bus", *LOSSLESS, *words, "--output", str(file))
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= TABLE_WIDTH
    assert [line.split(",")[0] for line in file.read_text().splitlines()] == [
        "scheme", "TSO only", "common", "fragmented at 40 EUR/MWh",
    ]  # fmt: skip
    assert re.search(r"common +\d+\.\d s", done.stderr)
    assert "Note: " in done.stderr


def test_compare_forwarding_methods():
    words = ["--scheme", "sequential", "--forwarding", "safe-box", "--forwarding", "offer-curve", "--undo"]
    done = typed("compare", "two_bus", *LOSSLESS, *words, "--truthful")
    assert done.exit_code == 0, done.output
    assert "OfferCurve" in done.stdout
    assert "(undo)" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--output", "found.xlsx"), "must end in .csv or .nc"),
        (("--scheme", "common", "--undo"), "--undo: only for the scheme sequential"),
        (("--scheme", "common", "--exchange-price", "3"), "--exchange-price: only for the scheme fragmented"),
    ],
)
def test_compare_refuses(words: tuple[str, ...], said: str):
    done = typed("compare", "two_bus", *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
