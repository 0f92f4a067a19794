"""The batches of a study, what each part depends on, and which parts of a folder are still right."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from hiermarket.results.results import options_of
from hiermarket.study.digest import digest
from hiermarket.study.manifest import FORMAT, WHOLE, Part, Phase, Plan
from hiermarket.study.study import OnFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.study.manifest import Manifest
    from hiermarket.study.study import Study


def plan_of(study: Study, side: TsoSide) -> Plan:
    """Return the plan of a study.

    Parameters
    ----------
    study : Study
        Feeders, options, batches.
    side : TsoSide
        Of all feeders.
    """
    options, batches = study.options, study.batches
    release = version("hiermarket")
    keys = (digest(FORMAT, release, "local", options, names, study.source.fingerprint(names)) for names in batches)
    common = digest(side.tbm, side.duration, side.rules, *_grid(side))
    return Plan(
        version=release,
        batches=batches,
        keys=tuple(keys),
        common=digest(FORMAT, release, "tso", options.solver, common),
        options=json.dumps(options_of(options), sort_keys=True),
        rules=json.dumps(dataclasses.asdict(side.rules), sort_keys=True),
        goes_on=study.on_failure is OnFailure.CONTINUE,
    )


def _grid(side: TsoSide) -> tuple[object, ...]:
    own = side.transmission
    grid = None if own.grid is None else own.grid.data
    return grid, own.interface, None if own.bids is None else own.bids.data, own.imbalance


def tso_key(plan: Plan, batches: Sequence[int]) -> str:
    """Return what the TSO's clearing depends on: its own side, and the batches that it is fed by."""
    return digest(plan.common, [plan.keys[batch] for batch in batches])


def final_key(plan: Plan, batch: int, piece: str) -> str:
    """Return what comes after the TSO depends on: the batch, and what the TSO has cleared for it."""
    return digest(FORMAT, "final", plan.keys[batch], piece)


def totals_key(tso: Part, final: Mapping[int, Part]) -> str:
    """Return what the sums over the study depend on."""
    return digest(FORMAT, "totals", tso.key, [final[batch].key for batch in sorted(final)])


@dataclass(frozen=True, slots=True)
class Standing:
    """The parts of a folder that belong to its plan.

    Parameters
    ----------
    plan : Plan
        Of the last run.
    local, final : mapping batch → Part
        Before and after the TSO's clearing.
    tso, totals : Part or None
        Of the whole study.
    errors : mapping (phase, batch) → Part
        The last attempt of batches without a part.
    """

    plan: Plan
    local: Mapping[int, Part]
    final: Mapping[int, Part]
    tso: Part | None
    totals: Part | None
    errors: Mapping[tuple[Phase, int], Part]


def standing(manifest: Manifest, plan: Plan, folder: Path) -> Standing:
    """Find the parts that belong to a plan, by the manifest and the sizes of the files.

    Parameters
    ----------
    manifest : Manifest
        Of the folder.
    plan : Plan
        Whose parts are wanted.
    folder : Path
        Where the files are.
    """

    def there(phase: Phase, batch: int, key: str) -> Part | None:
        part = manifest.find(phase, batch, key)
        return part if part is not None and part.intact(folder, checksum=False) else None

    local = {b: part for b, key in enumerate(plan.keys) if (part := there(Phase.LOCAL, b, key)) is not None}
    whole = len(local) == len(plan.keys) or plan.goes_on
    tso = there(Phase.TSO, WHOLE, tso_key(plan, sorted(local))) if local and whole else None
    final: dict[int, Part] = {}
    if tso is not None:
        keys = {b: final_key(plan, b, piece) for b, piece in zip(sorted(local), tso.slices, strict=True)}
        final = {b: part for b, key in keys.items() if (part := there(Phase.FINAL, b, key)) is not None}
    totals = there(Phase.TOTALS, WHOLE, totals_key(tso, final)) if tso is not None and final else None
    lost = {
        (part.phase, part.batch): part
        for part in manifest.parts.values()
        if part.error and part.batch < len(plan.keys) and not (part.phase is Phase.LOCAL and part.batch in local)
        if part.phase is not Phase.LOCAL or part.key == plan.keys[part.batch]
        if part.phase is not Phase.FINAL or (tso is not None and part.batch not in final)
    }
    return Standing(plan, local, final, tso, totals, lost)
