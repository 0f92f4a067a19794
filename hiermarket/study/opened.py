"""The results of a study, opened lazily: one Dataset a stage, selected by label."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from hiermarket.errors import BatchFailure, DataError, Fault, StudyError, some_labels
from hiermarket.labels import BID, BUS, FEEDER
from hiermarket.schema import Labelled, raise_together, unknown_names
from hiermarket.stages.accounts import ACCOUNT, FEEDER_OF, ITEM, Item
from hiermarket.study.manifest import LED, Phase, read_manifest
from hiermarket.study.parts import READING, open_group, restored
from hiermarket.study.plan import standing
from hiermarket.study.tidy import usable
from hiermarket.study.words import counted

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from hiermarket.study.manifest import FailedPeriod, Part
    from hiermarket.study.plan import Standing

#: The phase whose files hold a stage.
STAGES: Final = {
    "input": Phase.LOCAL, "bidding": Phase.LOCAL, "clearing": Phase.LOCAL, "forwarded": Phase.LOCAL,
    "baseline": Phase.LOCAL, "tso": Phase.TSO, "tso_baseline": Phase.TSO, "disaggregation": Phase.FINAL,
    "settlement": Phase.FINAL, "indicators": Phase.TOTALS,
}  # fmt: skip

#: Dimensions that grow from batch to batch.
GROWING: Final = (BID, BUS, FEEDER, ACCOUNT)


@dataclass(frozen=True, eq=False)
class StudyResults:
    """Results in a folder; nothing is read before it is asked for.

    ``results["clearing"]`` is a stage, with the flat arrays of all feeders as dask arrays
    (``.flat``) and the arrays of what is selected with named dimensions:
    ``results["clearing"].sel(feeder="north", bsp="A").data``.

    Parameters
    ----------
    folder : Path
        The results folder.
    standing : Standing
        Its parts.
    """

    folder: Path
    standing: Standing

    def __repr__(self) -> str:
        whole, stages = self.standing, ", ".join(self.stages) or "none"
        there = counted(len(whole.final), "batch", of=len(whole.plan.batches))
        lost = f"without {some_labels(self.missing)}" if self.missing else "no feeder missing"
        state = "complete" if self.complete else "not at its end"
        return (
            f"<StudyResults of {counted(len(self.feeders), 'feeder')} in {self.folder}: {there}, {state}, {lost}; "
            f"stages: {stages}>"
        )

    def __getitem__(self, stage: str) -> Labelled:
        if stage not in self._opened:
            self._opened[stage] = self._open(stage)
        return self._opened[stage]

    @functools.cached_property
    def _opened(self) -> dict[str, Labelled]:
        """Stages that were asked for."""
        return {}

    @functools.cached_property
    def stages(self) -> tuple[str, ...]:
        """The stages that are there."""
        there = {
            Phase.LOCAL: bool(self.standing.local), Phase.TSO: self.standing.tso is not None,
            Phase.FINAL: bool(self.standing.final), Phase.TOTALS: self.standing.totals is not None,
        }  # fmt: skip
        led = self._files("bidding") != []
        return tuple(name for name, phase in STAGES.items() if there[phase] and (led or name != "bidding"))

    @property
    def complete(self) -> bool:
        """Whether the study has come to its end."""
        return self.standing.totals is not None

    @property
    def feeders(self) -> tuple[str, ...]:
        """The feeders of the study, those without results included."""
        return tuple(name for batch in self.standing.plan.batches for name in batch)

    @property
    def missing(self) -> tuple[str, ...]:
        """The feeders without final results."""
        batches = self.standing.plan.batches
        return tuple(
            name for number, batch in enumerate(batches) if number not in self.standing.final for name in batch
        )

    @property
    def failures(self) -> tuple[BatchFailure, ...]:
        """The batches that failed in their last attempt."""
        batches = self.standing.plan.batches
        return tuple(
            BatchFailure(part.phase.words, part.batch, batches[part.batch], part.error)
            for part in self.standing.errors.values()
        )

    @property
    def failed(self) -> tuple[FailedPeriod, ...]:
        """Feeders and periods without a clearing, those of the TSO included."""
        return tuple(period for part in self.parts for period in part.failed)

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings of the market, each once."""
        return tuple(dict.fromkeys(note for part in self.parts for note in part.notes))

    @property
    def counts(self) -> Mapping[str, float]:
        """What was solved, over all parts."""
        total: dict[str, float] = {}
        for part in self.parts:
            for name, number in part.counts.items():
                total[name] = total.get(name, 0) + number
        return total

    @property
    def parts(self) -> tuple[Part, ...]:
        """The lines of the manifest that the results are made of."""
        now = self.standing
        whole = [part for part in (now.tso, now.totals) if part is not None]
        return (*now.local.values(), *now.final.values(), *whole)

    def _open(self, stage: str) -> Labelled:
        raise_together(unknown_names("results", [stage], list(STAGES)))
        if stage not in self.stages:
            found = f"no {stage} of {self.folder}"
            raise DataError([Fault("results", found, f"one of {', '.join(self.stages)}", "Run the study to its end.")])
        now = self.standing
        pieces = [_lazy(file, stage) for file in self._files(stage)]
        if stage == "settlement":
            pieces = [piece.isel({ACCOUNT: piece[FEEDER_OF].values != ""}).drop_vars("profit") for piece in pieces]
            pieces += [] if now.totals is None else [_lazy(self.folder / now.totals.file, stage)]
            booked = {str(item) for piece in pieces for item in piece[ITEM].values}
            # a part has the items that it has payments of
            items = [item.value for item in Item if item.value in booked]
            pieces = [piece.reindex({ITEM: items}, fill_value=0.0) for piece in pieces]
        return Labelled(joined(pieces))

    def _files(self, stage: str) -> list[Path]:
        """Return the files that hold a stage."""
        now, phase = self.standing, STAGES[stage]
        of_phase = {
            Phase.LOCAL: now.local.values(), Phase.FINAL: now.final.values(),
            Phase.TSO: [now.tso], Phase.TOTALS: [now.totals],
        }  # fmt: skip
        parts = [part for part in of_phase[phase] if part is not None]
        # nobody leads in a batch without bids of the leader
        led = [part for part in parts if stage != "bidding" or part.counts.get(LED)]
        return [self.folder / part.file for part in led]


def open_study(folder: str | Path) -> StudyResults:
    """Open the results of a study, lazily.

    Parameters
    ----------
    folder : str or Path
        The results folder; of a study that has not come to its end, what is there.

    Returns
    -------
    StudyResults
        A Dataset for each stage.

    Raises
    ------
    StudyError
        When there is no study in the folder, or it cannot be read.
    """
    path = Path(folder).absolute()
    with usable(path):
        manifest = read_manifest(path)
    if manifest.plan is None:
        remedy = "Run one with hiermarket.run(study), or correct the path."
        raise StudyError("No study in this folder", where=str(folder), remedy=remedy)
    return StudyResults(path, standing(manifest, manifest.plan, path))


@dataclass(frozen=True, slots=True)
class _Stored:
    """An array in a file, which is open only while something of it is being read."""

    path: Path
    group: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        from netCDF4 import Dataset

        with READING, Dataset(self.path) as file:
            stored = file[self.group].variables[self.name]
            stored.set_auto_maskandscale(False)
            return np.asarray(stored[key], dtype=self.dtype)


def _lazy(path: Path, group: str) -> xr.Dataset:
    """Open a group of a file: labels in memory, arrays as dask arrays."""
    from dask.array import from_array
    from dask.base import tokenize

    changed = path.stat().st_mtime_ns
    with open_group(path, group) as found:
        # of every array one number: what kind it is, and its attributes
        one = restored(found.isel(dict.fromkeys(found.dims, slice(0, 1))).load())
        labels = restored(found[list(found.coords)].load())
        arrays: dict[Hashable, xr.Variable] = {}
        for name, array in found.data_vars.items():
            stored = _Stored(path, group, str(name), array.shape, one[name].dtype)
            # a tag of its own: a file of the same name may hold other values tomorrow
            tag = f"{group}-{name}-{tokenize(str(path), changed, group, name)}"
            meta = np.empty((0,) * array.ndim, dtype=stored.dtype)
            whole = from_array(stored, chunks=-1, name=tag, meta=meta)  # type: ignore[no-untyped-call]  # no types
            arrays[name] = xr.Variable(array.dims, whole, one[name].attrs)
        return labels.assign(arrays).assign_attrs(found.attrs)


def joined(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the flat Datasets of batches one behind the other, array by array, without reading them.

    Parameters
    ----------
    pieces : sequence of Dataset
        The same arrays, each of other feeders; an array without such a dimension is taken
        from the first that has it.
    """
    whole = xr.Dataset(attrs=pieces[0].attrs)
    for dim in GROWING:
        own = [piece[[name for name, a in piece.items() if dim in a.dims]] for piece in pieces]
        own = [piece for piece in own if piece.data_vars]
        if own:
            along = xr.concat(
                own, dim=dim, data_vars="minimal", coords="minimal", compat="override", join="outer",
                combine_attrs="override",
            )  # fmt: skip
            whole = whole.assign(along.data_vars).assign_coords(along.coords)
    for piece in pieces:
        rest = {name: a for name, a in piece.items() if name not in whole and not set(GROWING) & set(a.dims)}
        whole = whole.assign(rest)
    return whole
