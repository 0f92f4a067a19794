"""What a terminal shows while something runs: steps and their time, plain words for errors and warnings."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from hiermarket.errors import HiermarketError, MarketWarning

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

#: Columns that every table fits into: those of a file or a pipe, and the least of a terminal [characters].
TABLE_WIDTH = 120


@dataclass(slots=True)
class Stopwatch:
    """Says what is being done, and how long what is done has taken.

    Parameters
    ----------
    console : Console
        Where to; a terminal shows the running step too.
    width : int
        Room for the name of a step [characters].
    """

    console: Console
    width: int = 16
    _status: Status | None = field(default=None, init=False)
    _step: str = field(default="", init=False)
    _start: float = field(default=0.0, init=False)

    def __call__(self, step: str) -> None:
        """End the running step and begin another."""
        self._end()
        self._step, self._start = step, time.perf_counter()
        if self._status is not None:
            self._status.update(f"{step} …")

    @contextmanager
    def running(self, words: str) -> Iterator[None]:
        """Time everything that is done inside, in steps where they are told."""
        self.console.print(words, style="bold", highlight=False)
        began = time.perf_counter()
        with self.console.status(f"{words} …") as status:
            self._status = status
            try:
                yield
                self._end()
            finally:
                self._status, self._step = None, ""
        self.console.print(f"  done in {time.perf_counter() - began:.1f} s", highlight=False)

    def _end(self) -> None:
        if self._step:
            took = time.perf_counter() - self._start
            self.console.print(f"  {self._step:<{self.width}} {took:6.1f} s", highlight=False)
        self._step = ""


def consoles() -> tuple[Console, Console]:
    """Return the consoles for results and for progress."""
    from rich.console import Console

    # a file or a pipe has no width of its own; a narrow terminal breaks the lines, where the table would drop names
    own = Console()
    width = max(own.width, TABLE_WIDTH) if own.is_terminal or "COLUMNS" in os.environ else TABLE_WIDTH
    return Console(width=width), Console(stderr=True)


@contextmanager
def plain_words(console: Console) -> Iterator[None]:
    """End with the message of an error of the package, and show its warnings as notes."""
    logging.getLogger("pypsa").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: object) -> None:
            if issubclass(category, MarketWarning):
                console.print(f"Note: {message}", style="yellow", markup=False, highlight=False)
            else:
                usual(message, category, *rest)  # type: ignore[arg-type]  # passed on as they came

        warnings.filterwarnings("default", category=MarketWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # the rest of its parameters are passed on
        try:
            yield
        except (HiermarketError, OSError) as error:
            console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
