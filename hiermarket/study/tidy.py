"""What a run finds in its results folder, and takes out of it, before it begins; under the lock."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hiermarket.study.manifest import MANIFEST, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The folder of arrays that were read from networks.
INPUTS: Final = "inputs"

#: The folders that hold a file for every batch.
OF_BATCHES: Final = (Phase.LOCAL.value, Phase.FINAL.value, INPUTS)

#: The files in them: nothing else is ever deleted, the folder may hold what is not ours.
OF_A_BATCH: Final = re.compile(r"batch-(\d{5,})\.(nc|key)")


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
