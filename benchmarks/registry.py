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
    """Seconds of phases, taken together, over those of others: ours over what they stand in for, or the reverse."""

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
        Sizes are read off every answer that is a linopy model or a `Program`; any other
        answer may have numbers of its own, e.g. `solves` or `nodes`, and a `note`.
    agree : callable
        Given all answers; raises AssertionError when they contradict each other. A fast
        wrong answer is no result.
    ratios : tuple[Ratio, ...]
        Comparisons to print.
    remark : str
        What is printed below them, e.g. which phases are left out and why.
    grows : str
        The size whose growth exponents are printed: by which power of it the seconds grow.
    long : bool
        Whether its larger sizes take many minutes: they run only when the case is named.
    """

    name: str
    title: str
    build: Callable[..., object]
    sizes: tuple[Mapping[str, int], ...]
    phases: Mapping[str, Phase]
    agree: Callable[[Answers], None]
    ratios: tuple[Ratio, ...] = field(default=())
    remark: str = ""
    grows: str = ""
    long: bool = False


def every_case() -> dict[str, Case]:
    """Return all cases by name."""
    from benchmarks import blocks, markets, strategic, studies

    cases = (*blocks.CASES, *markets.CASES, *strategic.CASES, *studies.CASES)
    return {case.name: case for case in cases}
