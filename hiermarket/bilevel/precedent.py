"""What one part teaches the next of the same structure: hours of a day, feeders of one kind.

Parts whose rows, columns and pairs have the same places are lined up, so that neighbours have
nearly the same costs and bounds. A part then starts from what its neighbour ended with: its
optimum, for a first incumbent, and the leaves of its tree, in the place of the root's children.
Both are guesses only. An incumbent is solved as any node is; the leaves cover every way to
decide the pairs whatever the figures are, and each is proved anew with the part's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.solving.relay import Relay

#: Steps of the power iteration that finds the direction in which parts differ most.
STEPS = 10
#: Figures of one group of parts that are compared at most; larger groups keep their order.
COMPARED = 10_000_000


@dataclass(frozen=True, slots=True)
class Precedent:
    """How a part of the same structure was solved.

    Attributes
    ----------
    x : float array
        Its optimum.
    sides : int array
        A `Side` for each pair there.
    leaves : tuple of int arrays
        The sides of each leaf of the tree that proved it; every way to decide the pairs lies
        in one of them. Empty if it was not by branching, or if a shorter tree is likely.
    session : Relay or None
        With which its nodes were solved; whoever takes it over has it alone.
    """

    x: Floats
    sides: Ints
    leaves: tuple[Ints, ...]
    session: Relay | None


def in_order(parts: Sequence[Part]) -> Iterator[tuple[Part, bytes]]:
    """Give the parts so that those of one structure follow one another, like next to like.

    Parameters
    ----------
    parts : sequence of Part
        Independent parts.

    Yields
    ------
    tuple[Part, bytes]
        A part and its structure.
    """
    groups: dict[bytes, list[Part]] = {}
    for part in parts:
        groups.setdefault(_structure(part), []).append(part)
    for structure, group in groups.items():
        for place in _lined_up([_figures(part) for part in group]).tolist():
            yield group[place], structure


def _structure(part: Part) -> bytes:
    """Return what is equal for parts whose rows, columns and pairs have the same places."""
    matrix = part.program.matrix
    arrays = (matrix.indptr, matrix.indices, part.row, part.column, part.multiplier, part.program.integer)
    sizes = np.array([*matrix.shape, len(part.pairs)])
    return b"".join(np.ascontiguousarray(array, dtype=np.int64).tobytes() for array in (sizes, *arrays))


def _figures(part: Part) -> Floats:
    program = part.program
    sides = (program.cost, program.lower, program.upper, program.row_lower, program.row_upper)
    every = np.concatenate(sides)
    return np.where(np.isfinite(every), every, 0.0)


def _lined_up(figures: list[Floats]) -> Ints:
    """Return an order in which neighbours differ little: along the direction of the largest spread."""
    count = len(figures)
    if count < 3 or count * len(figures[0]) > COMPARED:
        return np.arange(count)
    table = np.array(figures)
    spread = np.ptp(table, axis=0)
    varies = spread > 0
    if not varies.any():
        return np.arange(count)
    table = (table[:, varies] - table[:, varies].mean(axis=0)) / spread[varies]
    direction = table[int(np.argmax((table**2).sum(axis=1)))]
    for _ in range(STEPS):
        direction = table.T @ (table @ direction)
        direction = direction / np.linalg.norm(direction)
    return np.argsort(table @ direction, kind="stable")
