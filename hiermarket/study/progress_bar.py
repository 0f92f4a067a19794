"""A study's progress: a bar in a terminal, lines in a file or a pipe."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from hiermarket.study.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import TaskID

    from hiermarket.study.manifest import Phase
    from hiermarket.study.progress import Progress

#: Seconds between two lines of one phase.
PAUSE: Final = 5.0


@contextmanager
def shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a study while it runs.

    Parameters
    ----------
    console : Console
        Where to.

    Yields
    ------
    callable
        For the parameter ``progress`` of `hiermarket.run`.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description:<27}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[rest]}"), console=console) as bars:
        tasks: dict[Phase, TaskID] = {}

        def show(step: Progress) -> None:
            if step.phase not in tasks:
                tasks[step.phase] = bars.add_task(step.phase.words, total=step.of_batches, rest="")
            bars.update(tasks[step.phase], completed=step.batches, rest=_rest(step))

        yield show


def _rest(step: Progress) -> str:
    """Say feeders, rate, time left, and what failed."""
    said = counted(step.feeders, "feeder")
    if step.batches < step.of_batches and step.rate:
        said += f", {step.rate:.3g}/s, {time.strftime('%H:%M:%S', time.gmtime(step.left))} left"
    said += f", {counted(step.kept, 'batch')} kept" if step.kept else ""
    return said + (f", {step.failed} failed" if step.failed else "")


def _lines(console: Console) -> Callable[[Progress], None]:
    last = {"told": 0.0}

    def show(step: Progress) -> None:
        now = time.monotonic()
        if step.batches == step.of_batches or now - last["told"] >= PAUSE:
            last["told"] = now
            text = f"{step.phase.words}: {counted(step.batches, 'batch', of=step.of_batches)}, {_rest(step)}"
            console.print(text, highlight=False, soft_wrap=True)

    return show
