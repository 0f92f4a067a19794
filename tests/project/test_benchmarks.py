"""Every registered benchmark runs at its smallest size, and its answers agree."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import measure
from benchmarks.registry import Case, every_case

CASES = every_case()


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_smallest_size(case: Case):
    run = measure(case, case.sizes[0])
    assert [phase.phase for phase in run.phases] == ["build", *case.phases]
    assert all(phase.seconds >= 0 and phase.peak_mb > 0 for phase in run.phases)
    counted = any(phase.rows or phase.solves is not None for phase in run.phases)
    assert counted, "no phase of the case says how large it is, or what it solved"


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_ratios_name_phases(case: Case):
    for ratio in case.ratios:
        assert {*ratio.ours, *ratio.reference} <= {"build", *case.phases}


def test_command_line_prints_a_table():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--case", "blocks"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert "nonzeros" in done.stdout
    assert "read + solve + write : joint" in done.stdout
