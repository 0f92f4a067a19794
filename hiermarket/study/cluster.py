"""A cluster of processes on this machine, or one that runs somewhere else."""

from __future__ import annotations

import ast
import logging
import os
import sys
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hiermarket.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from hiermarket.study.study import Study

#: Time for a connection to an existing cluster [s].
TIMEOUT: Final = 20


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """Start worker processes on this machine, each with one thread, and end them afterwards.

    Parameters
    ----------
    workers : int
        How many.

    Yields
    ------
    distributed.Client
        For `hiermarket.run`.

    Raises
    ------
    StudyError
        In a script without ``if __name__ == "__main__":``, which every worker would run
        again from its first line.
    """
    _require_guard()
    from distributed import Client, LocalCluster

    local = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", "silence_logs": logging.ERROR}
    with LocalCluster(n_workers=workers, **local) as cluster, Client(cluster) as client:
        client.register_plugin(_deaf_to_ctrl_c())
        yield client


def _deaf_to_ctrl_c() -> object:
    """Return a plugin for workers that leaves Ctrl-C to this process, which then ends them."""
    from distributed import WorkerPlugin

    class DeafToCtrlC(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
        def setup(self, worker: object) -> None:
            import signal

            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return DeafToCtrlC()


@contextmanager
def scheduler_at(address: str) -> Iterator[Client]:
    """Connect to a dask cluster that runs already.

    Parameters
    ----------
    address : str
        Of its scheduler, such as ``tcp://10.0.0.5:8786``.

    Raises
    ------
    StudyError
        When nobody answers there.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        remedy = "Start one with `dask scheduler`, and workers with `dask worker`, and give its address."
        raise StudyError("No dask scheduler answers", where=address, remedy=remedy) from error
    with client:
        yield client


@contextmanager
def cluster_for(study: Study, *, workers: int | None = None, scheduler: str | None = None) -> Iterator[Client | None]:
    """Give the client of a study: of an existing cluster, or of processes on this machine.

    Parameters
    ----------
    study : Study
        Its batches.
    workers : int, optional
        Processes on this machine; by default one for each processor, and no more than there
        are batches.
    scheduler : str, optional
        Address of an existing cluster.

    Yields
    ------
    distributed.Client or None
        For `hiermarket.run`; None for one process, which is this one.
    """
    count = min(os.cpu_count() or 1, len(study.batches)) if workers is None else workers
    if scheduler is not None:
        with scheduler_at(scheduler) as client:
            yield client
    elif count > 1:
        with local_cluster(count) as client:
            yield client
    else:
        yield None


def _require_guard() -> None:
    """Refuse a script that would start itself again in each of its workers."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    again = getattr(current_process(), "_inheriting", False)
    line = _line_of(script) if script else None
    if again or (line is not None and not _guarded(Path(str(script)), line)):
        raise StudyError(
            'A script that starts worker processes needs `if __name__ == "__main__":`',
            where=f"{script}, line {line}" if line else str(script),
            remedy="Put this call below that line: each worker reads the script again, from its beginning.",
        )


def _line_of(script: str) -> int | None:
    """Return the line that a script is running outside its functions; None where it is not running."""
    frame = sys._getframe()  # noqa: SLF001  (the documented way to the callers' frames)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == script:
            return frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return None


def _guarded(script: Path, line: int) -> bool:
    """Whether a line of a script stands below a test of `__name__`; True where the script cannot be read."""
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return True
    for statement in tree.body:
        if isinstance(statement, ast.If) and statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))
    return False
