"""The registry: a case is a build function × sizes × phases, and what its answers must agree on.

A new case is a file beside `blocks.py` with a `CASES` tuple, added to `every_case` below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Phase → what it returned; "build" first. Phases are of any type: the registry knows none.
Answers = Mapping[str, Any]
Phase = Callable[[Answers], object]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Seconds of our phases, taken together, over those of the phases that they stand in for."""

    ours: tuple[str, ...]
    reference: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark.

    Parameters
    ----------
    name : str
        What `--case` is given.
    title : str
        What is measured, in a line.
    build : callable
        Makes the input from a size, e.g. a linopy model; measured as phase "build".
    sizes : tuple of dict
        Keyword arguments of `build`, smallest first; the smallest runs in every test run
        and takes a few seconds at most.
    phases : dict of callables
        In order; each is given the answers of the phases before it and returns its own.
        Sizes are read off every answer that is a linopy model or a `Program`, solves off
        every answer with a number of `solves`.
    agree : callable
        Given all answers; raises AssertionError when they contradict each other. A fast
        wrong answer is no result.
    ratios : tuple[Ratio, ...]
        Comparisons to print.
    """

    name: str
    title: str
    build: Callable[..., object]
    sizes: tuple[Mapping[str, int], ...]
    phases: Mapping[str, Phase]
    agree: Callable[[Answers], None]
    ratios: tuple[Ratio, ...] = field(default=())


def every_case() -> dict[str, Case]:
    """Return all cases by name."""
    from benchmarks import blocks, markets

    cases = (*blocks.CASES, *markets.CASES)
    return {case.name: case for case in cases}
