"""`python -m benchmarks`: measure cases, print a table, keep the figures as JSON."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import logging
import math
import os
import platform
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import COUNTS, Run, measure, measure_by_name
from benchmarks.registry import every_case

#: Shorter phases say nothing about growth [s].
LEAST_SECONDS = 0.05

#: Columns of tables that go to a file or a pipe [characters].
FILE_WIDTH = 120

RESULTS = Path(__file__).parent / "results"


def apart(name: str, size: Mapping[str, int], repeat: int) -> Run:
    """Measure in a process of its own: memory of one case is not that of another."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_by_name, name, size, repeat).result()


def table(run: Run) -> Table:
    shown = Table()
    # a count that no phase has is no column
    counted = [name for name in COUNTS if any(getattr(phase, name) is not None for phase in run.phases)]
    for heading in ("phase", "seconds", "peak MB", *counted):
        shown.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase in run.phases:
        counts = [getattr(phase, name) for name in counted]
        cells = ["" if count is None else f"{count:,}" for count in counts]
        shown.add_row(phase.phase, f"{phase.seconds:.4f}", f"{phase.peak_mb:.0f}", *cells)
    return shown


def remarks(run: Run) -> list[str]:
    """Return what stands below the table: ratios, what phases say of themselves, the remark of the case."""
    below = [f"{name} = {ratio:.3f}" for name, ratio in run.ratios.items()]
    below += [f"{phase.phase}: {phase.note}" for phase in run.phases if phase.note]
    return [*below, *filter(None, [run.remark])]


def growth(runs: list[Run], size: str) -> list[str]:
    """Say by which power of a size the seconds of every phase grow, from each run to the next."""
    lines = []
    for less, more in pairwise(runs):
        factor = math.log(more.size[size] / less.size[size]) if more.size[size] > less.size[size] else 0.0
        others = {name: number for name, number in more.size.items() if name != size}
        if factor and others.items() <= less.size.items():
            for before, after in zip(less.phases, more.phases, strict=True):
                if before.seconds > LEAST_SECONDS:
                    power = math.log(after.seconds / before.seconds) / factor
                    lines.append(f"{after.phase}: {size}^{power:.2f} from {less.size[size]:,} to {more.size[size]:,}")
    return lines


def keep(runs: list[Run]) -> Path:
    """Write the figures and what they were measured on."""
    now = datetime.datetime.now(datetime.UTC)
    packages = ("hiermarket", "linopy", "highspy", "xarray", "numpy", "scipy", "pypsa")
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    record = {
        "time": now.isoformat(timespec="seconds"),
        "machine": system,
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "runs": [asdict(run) for run in runs],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return path


def main() -> None:
    logging.disable(logging.INFO)  # of PyPSA, linopy and distributed
    cases = every_case()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", action="append", choices=sorted(cases), help="only this case; may be repeated")
    parser.add_argument("--smoke", action="store_true", help="the smallest size of each case, once")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the least seconds count (default 3)")
    wanted = parser.parse_args()
    # a file or a pipe has no width of its own
    console = Console(width=None if Console().is_terminal else FILE_WIDTH)
    runs: list[Run] = []
    for name in wanted.case or cases:
        case = cases[name]
        few = wanted.smoke or (case.long and not wanted.case)
        since = len(runs)
        for size in case.sizes[: 1 if few else None]:
            runs.append(measure(case, size) if wanted.smoke else apart(name, size, max(1, wanted.repeat)))
            sizes = ", ".join(f"{n:,} {dim}" for dim, n in size.items())
            console.print(f"\n{name}: {case.title}\n{sizes}", style="bold", markup=False, highlight=False)
            console.print(table(runs[-1]))
            for line in remarks(runs[-1]):
                console.print(line, markup=False, highlight=False)
        for line in growth(runs[since:], case.grows) if case.grows else ():
            console.print(f"Growth of {line}", highlight=False)
    if not wanted.smoke:
        console.print(f"Kept in {keep(runs)}")


if __name__ == "__main__":
    main()
