"""The same jobs in this process, or on the workers of a dask cluster, a bounded number at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from hiermarket.errors import StudyError
from hiermarket.study.tasks import attempt, failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from distributed import Client, Future

    from hiermarket.study.manifest import Part
    from hiermarket.study.tasks import Job

#: Jobs on their way for every thread of the cluster: one is computed, one waits.
IN_FLIGHT: Final = 2


def fan_out(jobs: Iterable[Job], *, client: Client | None = None, retries: int = 1) -> Iterator[Part]:
    """Compute jobs; yields a part for each as it is done, failed ones too.

    Parameters
    ----------
    jobs : iterable of Job
        Taken one by one, when there is room for another: neither they nor their results
        pile up in this process.
    client : distributed.Client, optional
        A cluster; without one the jobs run here, one after another.
    retries : int
        How often a job that raised is tried again. A job whose worker dies is given to
        another one by dask itself, up to ``distributed.scheduler.allowed-failures`` times.

    Raises
    ------
    StudyError
        When the connection to the cluster is lost.
    """
    yield from _here(jobs, retries) if client is None else _on_cluster(jobs, client, retries)


def _here(jobs: Iterable[Job], retries: int) -> Iterator[Part]:
    for job in jobs:
        yield _tried(job, retries)


def _tried(job: Job, retries: int) -> Part:
    for trial in range(retries + 1):
        try:
            return attempt(job)
        except Exception as error:
            if trial == retries:
                return failed(job, error)
    raise AssertionError


def _on_cluster(jobs: Iterable[Job], client: Client, retries: int) -> Iterator[Part]:
    from distributed import as_completed

    waiting = iter(jobs)
    running: dict[Future, Job] = {}
    done = as_completed([])
    room = IN_FLIGHT * max(1, sum(client.nthreads().values()))
    try:
        while True:
            while len(running) < room and (job := next(waiting, None)) is not None:
                # a name of its own for every attempt of a run: dask would answer with an earlier error
                name = f"{job.phase.value}-{job.batch:05d}-{uuid4().hex}"
                future = client.submit(attempt, job, pure=False, retries=retries, key=name)
                running[future] = job
                done.add(future)
            if not running:
                return
            future = next(done)
            job = running.pop(future)
            yield _outcome(future, job, client)
            del future
    finally:
        for future in running:  # stopped half way: what has not begun need not begin
            future.cancel()


def _outcome(future: Future, job: Job, client: Client) -> Part:
    if future.status == "finished":
        part: Part = future.result()
        return part
    if client.status != "running" or future.status in {"cancelled", "lost"}:
        raise StudyError(
            "The connection to the cluster is lost",
            where=str(job.folder),
            remedy="Everything that is finished is kept: run again to resume.",
        )
    return failed(job, future.exception())
