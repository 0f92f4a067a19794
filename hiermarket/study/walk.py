"""A study from its plan to its results: feeders apart, the TSO once, feeders apart again, sums."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hiermarket.errors import BatchesFailedError, BatchFailure, HiermarketError, MarketWarning, some_labels
from hiermarket.study.fan_out import failed, fan_out
from hiermarket.study.lock import locked
from hiermarket.study.manifest import Part, Phase, append, read_manifest
from hiermarket.study.opened import open_study
from hiermarket.study.plan import WHOLE, final_key, plan_of, totals_key, tso_key
from hiermarket.study.progress import Progress
from hiermarket.study.study import OnFailure
from hiermarket.study.tasks import FinalJob, LocalJob, finish, reason
from hiermarket.study.whole import TotalsJob, TsoJob, read_tso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from distributed import Client

    from hiermarket.study.manifest import Manifest, Plan
    from hiermarket.study.opened import StudyResults
    from hiermarket.study.source import Parcel
    from hiermarket.study.study import Study
    from hiermarket.study.tasks import Job


@dataclass(frozen=True, slots=True)
class _Walk:
    """One run of a study: what does not change from phase to phase."""

    study: Study
    plan: Plan
    manifest: Manifest
    client: Client | None
    tell: Callable[[Progress], None]

    @property
    def folder(self) -> Path:
        return self.study.folder

    def parcel(self, batch: int) -> Parcel:
        kept = self.folder / "inputs" / f"batch-{batch:05d}.nc"
        return self.study.source.parcel(self.plan.batches[batch], kept)


def run_study(study: Study, *, client: Client | None, tell: Callable[[Progress], None]) -> StudyResults:
    """Compute what is missing in the folder of a study; see `hiermarket.study.run.run`."""
    study.folder.mkdir(parents=True, exist_ok=True)
    with locked(study.folder):
        side = study.source.side()
        plan = plan_of(study, side)
        append(study.folder, [plan])
        walk = _Walk(study, plan, read_manifest(study.folder), client, tell)
        local = _local(walk)
        tso = _whole(walk, TsoJob(WHOLE, tso_key(plan, sorted(local)), _names(plan, local), walk.folder, side, ...))
        final = _final(walk, local, tso)
        _whole(walk, TotalsJob(...))
    results = open_study(study.folder)
    _warn(results)
    return results


def _fan(walk: _Walk, phase: Phase, keys: Mapping[int, str], make: Callable[[int], Job]) -> dict[int, Part]:
    """Return the part of every batch: of an earlier run where its inputs are the same, or computed."""
    began, folder, batches = time.perf_counter(), walk.folder, walk.plan.batches
    parts: dict[int, Part] = {}
    for batch, key in keys.items():
        part = walk.manifest.find(phase, batch, key)
        if part is not None and part.intact(folder):
            parts[batch] = part
    kept = len(parts)

    def told() -> None:
        good = [part for part in parts.values() if not part.error]
        sizes = (sum(len(batches[part.batch]) for part in parts.values()), sum(len(batches[b]) for b in keys))
        seconds = time.perf_counter() - began
        walk.tell(Progress(phase, len(parts), len(keys), *sizes, kept, len(parts) - len(good), seconds))

    def jobs(unmade: list[Part]) -> Iterator[Job]:
        for batch, key in keys.items():
            if batch not in parts:
                try:
                    yield make(batch)
                except HiermarketError as error:  # the data of one batch; the others go on
                    unmade.append(Part(phase, batch, key, feeders=len(batches[batch]), error=reason(error)))

    unmade: list[Part] = []
    told()
    for part in fan_out(jobs(unmade), client=walk.client, retries=walk.study.retries):
        append(folder, [part])
        parts[part.batch] = part
        told()
    append(folder, unmade)
    parts |= {part.batch: part for part in unmade}
    return _without_failed(walk, phase, parts)
