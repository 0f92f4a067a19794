"""What a study has come to, as tables: what was computed, what it found, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hiermarket.errors import some_labels
from hiermarket.results.table import Column, figure, table

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

    from hiermarket.study.opened import StudyResults

#: What the counts of the parts are, in words; any other has its name.
WORDS: Final = {
    "led": "Batches with a leader",
    "periods": "Clearings (feeders × periods)",
    "solves": "LPs solved",
    "screened": "LPs left out: no limit of a grid counts",
    "seconds": "Time inside the solver",
}

#: What a cost is, in the columns of savings.
SHOWN: Final = ("payment", "true cost")

#: Counts that are times.
TIMES: Final = ("seconds",)


def study_report(results: StudyResults) -> list[Table]:
    """Return the tables of a study.

    Parameters
    ----------
    results : StudyResults
        Of `hiermarket.run` or `hiermarket.open_study`.

    Returns
    -------
    list of rich.table.Table
        What was computed; shares and savings after each market, of a study that has come to its
        end; batches, feeders and periods without results, where there are any.
    """
    plan, now = results.standing.plan, results.standing
    size = sum(part.bytes for part in results.parts) / 1e6
    counts: list[list[float | str]] = [
        [WORDS.get(name, name), f"{n:.1f} s" if name in TIMES else f"{n:,.6g}"] for name, n in results.counts.items()
    ]
    rows: list[list[float | str]] = [
        ["Feeders", str(len(results.feeders))],
        ["Feeders without results", str(len(results.missing))],
        ["Batches", f"{len(now.final)} of {len(plan.batches)}"],
        *counts,
        ["Feeder-periods without a clearing", str(len(results.failed))],
        ["Time of computing, all workers", f"{sum(part.seconds for part in results.parts):.1f} s"],
        ["Results", f"{size:.1f} MB"],
    ]
    tables = [table("Study", [Column("What"), Column("How much")], rows)]
    if results.complete:
        tables.append(_figures(results))
    if results.failures:
        lost = [
            [str(f.batch), f.phase, f"{len(f.feeders)}: {some_labels(f.feeders)}", f.reason] for f in results.failures
        ]
        columns = [Column("Batch"), Column("Phase"), Column("Feeders"), Column("Reason")]
        tables.append(table("Batches that failed", columns, lost))
    if results.failed:
        gone = [[p.feeder, p.period, p.outcome] for p in results.failed]
        tables.append(table("Without a clearing", [Column("Feeder"), Column("Period"), Column("Outcome")], gone))
    return tables


def _figures(results: StudyResults) -> Table:
    found = results["indicators"].flat.compute()
    rows: list[list[float | str]] = []
    for stage in found["stage"].values:
        one = found.sel(stage=stage)
        saving = [100 * float(one["saving"].sel(measure=measure)) for measure in SHOWN]
        rows.append(
            [str(stage), float(one["imbalance_energy"].sum()), 100 * float(one["local_share"]),
             100 * float(one["tbm_share"]), *saving]
        )  # fmt: skip
    columns = [
        Column("After the market of"), Column("Gross imbalance", "MWh"), Column("Local share", "%"),
        Column("TBM share", "%"), Column("Saving as payment", "%"), Column("as true cost", "%"),
    ]  # fmt: skip
    lost = figure(float(found["energy_not_served"]), "MWh")
    note = " ".join([f"Energy not served: {lost} MWh.", *_without_saving(found)])
    return table("Shares and savings", columns, rows, note=note)


def _without_saving(found: xr.Dataset) -> list[str]:
    """Say why there is no saving, where one that is shown is NaN."""
    shown = found.sel(measure=list(SHOWN))
    none, free = shown["saving"].isnull(), shown["cost_before"] <= 0
    reasons = {"the TBM alone costs nothing or less (C0 ≤ 0)": none & free, "energy is not served": none & ~free}
    why = [reason for reason, where in reasons.items() if bool(where.any())]
    return [f"A saving is undefined (-) where {', or where '.join(why)}."] if why else []
