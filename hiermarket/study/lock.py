"""One run at a time in a results folder."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from hiermarket.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The file that says who is running.
LOCK: Final = "running.lock"

#: Two start times of one process differ by less [s].
SAME = 2.0

#: Time that a lock has to be written [s].
PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that writes a folder: its host, its number, and when it began [s since 1970]."""

    host: str
    pid: int
    since: float

    @property
    def alive(self) -> bool:
        """Whether it still runs; True where it is on another machine and nobody can tell."""
        import psutil

        if self.host != socket.gethostname():
            return True
        try:
            # a number is used again: it is the same process if it began at the same time
            return bool(abs(psutil.Process(self.pid).create_time() - self.since) < SAME)
        except psutil.Error:
            return False


def this_process() -> Owner:
    """Return this process as an owner."""
    import psutil

    return Owner(host=socket.gethostname(), pid=os.getpid(), since=psutil.Process().create_time())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; a lock whose process is gone is taken over.

    Parameters
    ----------
    folder : Path
        The results folder, which exists.

    Raises
    ------
    StudyError
        When another run writes there.
    """
    path, mine = folder / LOCK, this_process()
    content = json.dumps(asdict(mine))
    for _ in range(2):
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
            break
        except FileExistsError:
            owner = _owner(path)
            if owner is not None and owner.alive:
                raise _in_use(path, owner) from None
            # of two runs that find a stale lock, the one that moves it away goes on
            stale = path.with_name(f".{LOCK}.{os.getpid()}")
            with suppress(FileNotFoundError):
                path.replace(stale)
                stale.unlink()
    if _owner(path) != mine:
        raise _in_use(path, _owner(path) or mine)
    try:
        yield
    finally:
        if _owner(path) == mine:
            path.unlink(missing_ok=True)


def _owner(path: Path) -> Owner | None:
    """Return who a lock names; None for one that says nothing, a moment later as well."""
    for pause in (PAUSE, 0.0):
        try:
            return Owner(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            time.sleep(pause)  # it may be being written
    return None


def _in_use(path: Path, owner: Owner) -> StudyError:
    return StudyError(
        f"Another run writes this folder: process {owner.pid} on {owner.host}",
        where=str(path.parent),
        remedy=f"Wait for it, or choose another folder; if it is gone, delete {path.name}.",
    )
