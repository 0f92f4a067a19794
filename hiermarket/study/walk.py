"""A study from its plan to its results: feeders apart, the TSO once, feeders apart again, sums."""

from __future__ import annotations

import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hiermarket.errors import BatchesFailedError, BatchFailure, HiermarketError, MarketWarning, some_labels
from hiermarket.stages.coordination import OneLeader
from hiermarket.study.batches import require_leader, require_separable
from hiermarket.study.fan_out import fan_out
from hiermarket.study.lock import locked
from hiermarket.study.manifest import LED, WHOLE, Part, Phase, append, read_manifest
from hiermarket.study.opened import open_study
from hiermarket.study.parts import open_group
from hiermarket.study.plan import final_key, plan_of, totals_key, tso_key
from hiermarket.study.progress import Progress
from hiermarket.study.source import KnowsBsps
from hiermarket.study.study import OnFailure
from hiermarket.study.tasks import FinalJob, LocalJob, finish, reason
from hiermarket.study.tidy import INPUTS, forget, require_same_study, sweep, usable
from hiermarket.study.whole import ALONE, CLEARED, TotalsJob, TsoJob, read_cleared, slice_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from distributed import Client

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.stages.tso_clearing import TsoClearing
    from hiermarket.study.manifest import Manifest, Plan
    from hiermarket.study.opened import StudyResults
    from hiermarket.study.source import Parcel
    from hiermarket.study.study import Study
    from hiermarket.study.tasks import Job


def run_study(study: Study, *, client: Client | None, tell: Callable[[Progress], None], fresh: bool) -> StudyResults:
    """Compute what is missing in the folder of a study; see `hiermarket.study.run.run`."""
    require_separable(study.options)
    with ExitStack() as held:
        with usable(study.folder):
            study.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(study.folder))
            if not fresh:
                require_same_study(study.folder, study.source.names)
        _require_known_leader(study)
        side = study.source.side()
        plan = plan_of(study, side)
        with usable(study.folder):
            if fresh:  # nothing can stop the run any more before it begins
                forget(study.folder)
            sweep(study.folder, len(plan.batches))
            append(study.folder, [plan])
        walk = _Walk(study, side, plan, read_manifest(study.folder), client, tell)
        local = walk.before_the_tso()
        tso = walk.tso(local)
        final = walk.after_the_tso(local, tso)
        walk.totals(tso, final)
    results = open_study(study.folder)
    _warn(results)
    return results


@dataclass(frozen=True, slots=True)
class _Walk:
    """One run of a study: what does not change from phase to phase, and the phases."""

    study: Study
    side: TsoSide
    plan: Plan
    manifest: Manifest
    client: Client | None
    tell: Callable[[Progress], None]

    @property
    def folder(self) -> Path:
        return self.study.folder.absolute()

    def parcel(self, batch: int) -> Parcel:
        kept = self.folder / INPUTS / f"batch-{batch:05d}.nc"
        return self.study.source.parcel(self.plan.batches[batch], kept)

    def before_the_tso(self) -> dict[int, Part]:
        """Bids, DSO clearing, forwarding and baseline exchange of every batch."""
        keys, options = self.plan.keys, self.study.options

        def job(batch: int) -> LocalJob:
            feeders = self.plan.batches[batch]
            return LocalJob(batch, keys[batch], feeders, self.folder, self.parcel(batch), options)

        parts = self.fan(Phase.LOCAL, dict(enumerate(keys)), job)
        if len(parts) == len(keys) and not any(part.counts.get(LED) for part in parts.values()):
            self.require_leader(parts)
        return parts

    def require_leader(self, local: Mapping[int, Part]) -> None:
        """Refuse a leader without a bid in any of the parts, in which nobody leads."""
        if isinstance(self.study.options.behaviour, OneLeader):
            names: dict[str, None] = {}
            for part in local.values():
                with open_group(self.folder / part.file, "input") as found:
                    names |= dict.fromkeys(map(str, found["bid_bsp"].values))
            require_leader(self.study.options, list(names))

    def tso(self, local: Mapping[int, Part]) -> Part:
        """Clear the TSO's market, fed by all batches that are there."""
        batches = tuple(self.plan.batches[batch] for batch in local)
        files = tuple(self.folder / part.file for part in local.values())
        key, solver = tso_key(self.plan, list(local)), self.study.options.solver
        return self.once(TsoJob(WHOLE, key, self.folder, self.side, files, batches, solver))

    def after_the_tso(self, local: Mapping[int, Part], tso: Part) -> dict[int, Part]:
        """Disaggregation, AC check and settlement of every batch that is there."""
        keys = {b: final_key(self.plan, b, piece) for b, piece in zip(local, tso.slices, strict=True)}
        path, options = self.folder / tso.file, self.study.options
        cleared: list[TsoClearing] = []

        def job(batch: int) -> FinalJob:
            if not cleared:  # not read where everything is there
                cleared.extend(read_cleared(path, group) for group in (CLEARED, ALONE))
            feeders = self.plan.batches[batch]
            own = tuple(slice_of(one, feeders) for one in cleared)
            file = self.folder / local[batch].file
            return FinalJob(batch, keys[batch], feeders, self.folder, self.parcel(batch), options, file, *own)

        return self.fan(Phase.FINAL, keys, job)

    def totals(self, tso: Part, final: Mapping[int, Part]) -> Part:
        """Add up indicators and accounts of the whole study."""
        feeders = tuple(name for batch in final for name in self.plan.batches[batch])
        files = tuple(self.folder / part.file for part in final.values())
        key = totals_key(tso, final)
        return self.once(TotalsJob(WHOLE, key, feeders, self.folder, self.side, self.folder / tso.file, files))

    def note(self, part: Part) -> None:
        """Add the line of a part to the manifest."""
        with usable(self.folder):
            append(self.folder, [part])

    def once(self, job: TsoJob | TotalsJob) -> Part:
        """Return a part of the whole study: of an earlier run, or computed here."""
        began, count = time.perf_counter(), len(job.feeders)
        part = self.manifest.find(job.phase, WHOLE, job.key)
        kept = part is not None and part.intact(self.folder)
        self.tell(Progress(job.phase, int(kept), 1, count * kept, count, int(kept), 0, 0.0))
        if part is None or not kept:
            part = finish(job)
            self.note(part)
            self.tell(Progress(job.phase, 1, 1, count, count, 0, 0, time.perf_counter() - began))
        return part

    def fan(self, phase: Phase, keys: Mapping[int, str], make: Callable[[int], Job]) -> dict[int, Part]:
        """Return the part of every batch: of an earlier run where its inputs are the same, or computed."""
        began, folder, batches = time.perf_counter(), self.folder, self.plan.batches
        parts: dict[int, Part] = {}
        for batch, key in keys.items():
            part = self.manifest.find(phase, batch, key)
            if part is not None and part.intact(folder):
                parts[batch] = part
        missing = [batch for batch in keys if batch not in parts]
        kept, feeders = len(parts), sum(len(batches[batch]) for batch in keys)

        def add(part: Part) -> None:
            self.note(part)
            parts[part.batch] = part

        def told() -> None:
            wrong = sum(bool(part.error) for part in parts.values())
            done = sum(len(batches[batch]) for batch in parts)
            seconds = time.perf_counter() - began
            self.tell(Progress(phase, len(parts), len(keys), done, feeders, kept, wrong, seconds))

        def jobs() -> Iterator[Job]:
            for batch in missing:
                try:
                    job = make(batch)
                except HiermarketError as error:  # the data of one batch: the others go on
                    add(Part(phase, batch, keys[batch], feeders=len(batches[batch]), error=reason(error)))
                else:
                    yield job

        told()
        for part in fan_out(jobs(), client=self.client, retries=self.study.retries):
            add(part)
            told()
        return self.without_failed(phase, {batch: parts[batch] for batch in keys})

    def without_failed(self, phase: Phase, parts: Mapping[int, Part]) -> dict[int, Part]:
        """Return the parts that did not fail, or raise one error for all that did."""
        wrong = [p for p in parts.values() if p.error]
        failures = [BatchFailure(phase.words, p.batch, self.plan.batches[p.batch], p.error) for p in wrong]
        good = {batch: part for batch, part in parts.items() if not part.error}
        if failures and (self.study.on_failure is OnFailure.STOP or not good):
            raise BatchesFailedError(failures, folder=str(self.study.folder))
        return good


def _require_known_leader(study: Study) -> None:
    """Refuse a leader that bids nowhere before anything is computed, where the source can tell."""
    source = study.source
    if isinstance(study.options.behaviour, OneLeader) and isinstance(source, KnowsBsps) and source.bsps:
        require_leader(study.options, source.bsps)


def _warn(results: StudyResults) -> None:
    """Tell what is not in the results, and what the market's data deserve."""
    if results.missing:
        warnings.warn(
            f"The study went on without {some_labels(results.missing)}: their batches failed; "
            "see `failures` of the results.",
            MarketWarning,
            stacklevel=4,
        )
    if results.failed:
        warnings.warn(
            f"Without a clearing: {some_labels(results.failed)}; see `failed` of the results.",
            MarketWarning,
            stacklevel=4,
        )
    for note in results.notes:
        warnings.warn(note, MarketWarning, stacklevel=4)
