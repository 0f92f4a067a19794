"""What a run finds in its results folder, and takes out of it, before it begins; under the lock."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from hiermarket.errors import StudyError, some_labels
from hiermarket.study.manifest import MANIFEST, Phase, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: The folder of arrays that were read from networks.
INPUTS: Final = "inputs"

#: The folders that hold a file for every batch.
OF_BATCHES: Final = (Phase.LOCAL.value, Phase.FINAL.value, INPUTS)

#: The files in them: nothing else is ever deleted, the folder may hold what is not ours.
OF_A_BATCH: Final = re.compile(r"batch-(\d{5,})\.(nc|key)")

#: Drafts of files, which a run that was killed may leave.
DRAFT: Final = re.compile(r"\.(batch-\d{5,}|tso|totals)\.(nc|key)\.\d+\.part")


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Say of a results folder that cannot be made, read or written what is in the way.

    Parameters
    ----------
    folder : Path
        A results folder.

    Raises
    ------
    StudyError
        For every OSError inside.
    """
    try:
        yield
    except OSError as error:
        place = f"{error.strerror or type(error).__name__}: {error.filename or folder}"
        remedy = "Name a folder that can be made and written."
        raise StudyError("The results folder cannot be used", where=place, remedy=remedy) from error


def require_same_study(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder that holds the results of a study without any of these feeders.

    Parameters
    ----------
    folder : Path
        A results folder.
    names : sequence of str
        The feeders of the study that is to be run.

    Raises
    ------
    StudyError
        Naming feeders of the study that is there.
    """
    plan = read_manifest(folder).plan
    if plan is None:
        return
    there = [name for batch in plan.batches for name in batch]
    if there and not set(there) & set(names):
        raise StudyError(
            f"Another study is in this folder, of other feeders: {some_labels(there)}",
            where=str(folder),
            remedy="Name another folder; or replace that study with fresh=True, on the command line --fresh.",
        )


def sweep(folder: Path, batches: int) -> None:
    """Delete files of batches that a plan does not name, and drafts of runs that were killed.

    Parameters
    ----------
    folder : Path
        A results folder, which no other run writes.
    batches : int
        How many there are in the plan.
    """
    for name in OF_BATCHES:
        for path, number in _files_of_batches(folder / name):
            if number >= batches:
                path.unlink(missing_ok=True)
    for place in (folder, *(folder / name for name in OF_BATCHES)):
        for path in list(place.iterdir()) if place.is_dir() else []:
            if DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Let nothing of a folder count any more: the next run computes everything and replaces its files.

    Parameters
    ----------
    folder : Path
        A results folder.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    for path, _ in _files_of_batches(folder / INPUTS):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # there is none, or something else is in it
        (folder / INPUTS).rmdir()


def _files_of_batches(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files of batches in one of their folders, and the batches' numbers."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        found = OF_A_BATCH.fullmatch(path.name)
        if found is not None:
            yield path, int(found[1])
