"""What is done in a results folder: a line for every finished part, appended and never changed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hiermarket.labels import FEEDER, PERIOD
from hiermarket.market.bids import TRANSMISSION
from hiermarket.solving.solver import Outcome
from hiermarket.study.digest import digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import xarray as xr

#: Counts up when files of a folder come to mean something else.
FORMAT: Final = 1

#: The file of the lines.
MANIFEST: Final = "manifest.jsonl"

#: Among the counts: batches in which somebody leads.
LED: Final = "led"

#: The batch of a part that is of the whole study.
WHOLE: Final = -1


class Phase(StrEnum):
    """What a part is of, in the order in which a study walks."""

    LOCAL = "local"
    """Bids, DSO clearing, forwarding and baseline exchange of a batch."""
    TSO = "tso"
    """The TSO's clearing, fed by all batches."""
    FINAL = "final"
    """Disaggregation, AC check and settlement of a batch."""
    TOTALS = "totals"
    """Indicators and accounts of the whole study."""

    @property
    def words(self) -> str:
        """What is being done, as progress, errors and tables say it."""
        return _WORDS[self]


_WORDS: Final = {
    Phase.LOCAL: "Distribution markets",
    Phase.TSO: "Transmission market",
    Phase.FINAL: "Disaggregation, settlement",
    Phase.TOTALS: "Indicators",
}


@dataclass(frozen=True, slots=True)
class FailedPeriod:
    """A feeder's period without a clearing.

    Parameters
    ----------
    feeder, period, outcome : str
        The labels, and the solver's outcome in a word. The TSO's own periods have the
        feeder "transmission".
    """

    feeder: str
    period: str
    outcome: str

    def __str__(self) -> str:
        return f"feeder={self.feeder}, period={self.period} ({self.outcome})"


def failed_in(status: xr.DataArray) -> tuple[FailedPeriod, ...]:
    """Name what has no clearing in ``status`` (feeder, period) or ``grid_status`` (period)."""
    outcomes = list(Outcome)
    codes = status if FEEDER in status.dims else status.expand_dims({FEEDER: [TRANSMISSION]})
    codes = codes.transpose(FEEDER, PERIOD)
    feeders, periods = codes[FEEDER].values, codes.indexes[PERIOD]
    return tuple(
        FailedPeriod(str(feeders[row]), periods[t].isoformat(), outcomes[int(codes.values[row, t])].value)
        for row, t in np.argwhere(codes.values != 0)
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the manifest: a part that is done, or that failed in every attempt.

    Parameters
    ----------
    phase : Phase
        What it is of.
    batch : int
        Number of the batch; −1 for parts of the whole study.
    key : str
        Fingerprint of everything that the part depends on.
    feeders : int
        How many feeders are in it.
    file : str
        Its file, as seen from the folder; empty for a part that failed.
    bytes : int
        Size of the file.
    checksum : str
        Fingerprint of the file.
    seconds : float
        How long it took.
    counts : mapping name → number
        What was solved.
    failed : tuple of FailedPeriod
        Feeders and periods without a clearing.
    notes : tuple of str
        Warnings of the market.
    slices : tuple of str
        Of the TSO's clearing: a fingerprint of what each batch takes from it.
    error : str
        Why there is no file.
    """

    phase: Phase
    batch: int
    key: str
    feeders: int = 0
    file: str = ""
    bytes: int = 0
    checksum: str = ""
    seconds: float = 0.0
    counts: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[FailedPeriod, ...] = ()
    notes: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    error: str = ""

    def intact(self, folder: Path, *, checksum: bool = True) -> bool:
        """Whether the part's file is there, with the size and the content that were noted."""
        path = folder / self.file
        if not self.file or not path.is_file() or path.stat().st_size != self.bytes:
            return False
        return not checksum or digest_of_file(path) == self.checksum


@dataclass(frozen=True, slots=True)
class Plan:
    """The first line of every run: the batches, and the fingerprint of what each depends on.

    Parameters
    ----------
    version : str
        Of the package.
    batches : tuple of tuple of str
        The feeders of each batch.
    keys : tuple of str
        The keys of the batches' local parts.
    common : str
        Fingerprint of the TSO's side.
    options, rules : str
        As JSON, for the attributes of the results.
    goes_on : bool
        Whether the study goes on without batches that failed.
    """

    version: str
    batches: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...]
    common: str
    options: str
    rules: str
    goes_on: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """The lines of a folder, as far as they are whole.

    Parameters
    ----------
    plan : Plan or None
        Of the last run.
    parts : mapping (phase, batch, key) → Part
        The last line of each.
    """

    plan: Plan | None
    parts: Mapping[tuple[Phase, int, str], Part]

    def find(self, phase: Phase, batch: int, key: str) -> Part | None:
        """Return the part with these inputs, if there is one that did not fail."""
        part = self.parts.get((phase, batch, key))
        return part if part is not None and not part.error else None


def read_manifest(folder: Path) -> Manifest:
    """Read the lines of a folder; lines that were not written to their end do not count.

    Parameters
    ----------
    folder : Path
        A results folder; one without a manifest has no parts.
    """
    path = folder / MANIFEST
    text = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
    plan: Plan | None = None
    # of the parts in one file, only the last is there
    by_file: dict[tuple[Phase, int], Part] = {}
    for line in text.split("\n"):
        found = _parsed(line)
        if isinstance(found, Plan):
            plan = found
        elif found is not None:
            by_file[found.phase, found.batch] = found
    return Manifest(plan, {(part.phase, part.batch, part.key): part for part in by_file.values()})


def append(folder: Path, lines: Iterable[Part | Plan]) -> None:
    """Add lines to the manifest of a folder, on disk when this returns."""
    path = folder / MANIFEST
    text = "".join(json.dumps(_plain(line), ensure_ascii=False) + "\n" for line in lines)
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")  # a line of a run that was killed
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _plain(line: Part | Plan) -> dict[str, object]:
    return {"line": type(line).__name__.lower(), **asdict(line)}


def _parsed(line: str) -> Part | Plan | None:
    """Return what a line says; None where it is not whole."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = values.pop("line")
        if kind == "plan":
            batches = tuple(tuple(batch) for batch in values.pop("batches"))
            return Plan(batches=batches, keys=tuple(values.pop("keys")), **values)
        return Part(
            phase=Phase(values.pop("phase")),
            failed=tuple(FailedPeriod(**labels) for labels in values.pop("failed")),
            notes=tuple(values.pop("notes")),
            slices=tuple(values.pop("slices")),
            **values,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
