"""Seconds, sizes and memory of one case at one size."""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.registry import Case, Ratio, every_case

BUILD = "build"
#: Once a run has taken this long, it is not repeated [s].
LONG = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One phase: what flickers (seconds, memory) and what never does (the rest)."""

    phase: str
    seconds: float
    peak_mb: float
    note: str = ""
    rows: int | None = None
    columns: int | None = None
    nonzeros: int | None = None
    binaries: int | None = None
    solves: int | None = None
    nodes: int | None = None


#: What is counted: the fields of `Measured` after those of every phase.
COUNTS = tuple(field.name for field in fields(Measured))[4:]


@dataclass(frozen=True, slots=True)
class Run:
    """One case at one size."""

    case: str
    size: Mapping[str, int]
    phases: tuple[Measured, ...]
    ratios: Mapping[str, float]
    remark: str = ""


def _forget_peak() -> None:
    """Start a new high-water mark, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    """High-water mark of the process's memory [MB]."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _sizes(answer: object) -> dict[str, Any]:
    """Rows, columns, nonzeros and binaries of a linopy model, Program or Mpec; what any other answer says of itself."""
    from hiermarket.bilevel import Mpec
    from hiermarket.solving.program import Program, program_of

    if isinstance(answer, Mpec):
        answer = answer.model
    if type(answer).__module__.startswith("linopy") and hasattr(answer, "matrices"):
        answer = program_of(answer)  # type: ignore[arg-type]  # a linopy model, told without importing linopy
    if isinstance(answer, Program):
        rows, columns = answer.shape
        sizes = {"rows": rows, "columns": columns, "nonzeros": int(answer.matrix.nnz)}
        return {**sizes, "binaries": int(answer.integer.sum())}
    own = {name: getattr(answer, name, None) for name in COUNTS}
    note = getattr(answer, "note", None)
    return {
        **{name: value for name, value in own.items() if isinstance(value, int)},
        **({"note": note} if isinstance(note, str) else {}),
    }


def _once(case: Case, size: Mapping[str, int]) -> list[Measured]:
    answers: dict[str, Any] = {}
    measured = []
    for phase in (BUILD, *case.phases):
        gc.collect()
        _forget_peak()
        start = time.perf_counter()
        answers[phase] = case.build(**size) if phase == BUILD else case.phases[phase](answers)
        seconds = time.perf_counter() - start
        measured.append(Measured(phase, seconds, _peak_mb(), **_sizes(answers[phase])))
    case.agree(answers)
    return measured


def _ratio(ratio: Ratio, seconds: Mapping[str, float]) -> tuple[str, float]:
    name = f"{' + '.join(ratio.ours)} : {' + '.join(ratio.reference)}"
    return name, sum(seconds[p] for p in ratio.ours) / sum(seconds[p] for p in ratio.reference)


def measure(case: Case, size: Mapping[str, int], repeat: int = 1) -> Run:
    """Run a case, with the least seconds of each phase in a number of repetitions; a long run is not repeated."""
    runs: list[list[Measured]] = []
    while len(runs) < repeat and not (runs and sum(phase.seconds for phase in runs[-1]) > LONG):
        runs.append(_once(case, size))
    best = tuple(min(phases, key=lambda phase: phase.seconds) for phases in zip(*runs, strict=True))
    seconds = {phase.phase: phase.seconds for phase in best}
    return Run(case.name, dict(size), best, dict(_ratio(ratio, seconds) for ratio in case.ratios), case.remark)


def measure_by_name(name: str, size: Mapping[str, int], repeat: int) -> Run:
    """Measure a case of the registry; what a process of its own is asked for."""
    logging.disable(logging.INFO)
    case = every_case()[name]
    measure(case, case.sizes[0])  # pays for the imports
    return measure(case, size, repeat)
