"""Where the buses of a radial feeder are drawn: the longest path straight, laterals in rows of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Free space between two stretches in the same row [buses].
GAP = 1.0


@dataclass(slots=True)
class _Rows:
    """Which stretches of which rows are taken."""

    taken: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def free(self, row: int, start: float, end: float, *, gap: float = GAP) -> bool:
        return all(end + gap <= low or high + gap <= start for low, high in self.taken.get(row, []))

    def take(self, row: int, start: float, end: float) -> None:
        self.taken.setdefault(row, []).append((start, end))


def layout(parents: Mapping[str, str], root: str) -> dict[str, tuple[float, int]]:
    """Place the buses of a tree.

    Parameters
    ----------
    parents : mapping bus → parent
        Every bus but the root.
    root : str
        Where the tree begins.

    Returns
    -------
    dict bus → (x, y)
        ``x`` is the number of branches between the bus and the root, ``y`` the row: 0 for
        the longest path, laterals above and below it, each in the nearest row in which
        nothing else lies. No two buses share a place.

    >>> layout({"2": "1", "3": "2", "4": "3", "5": "2"}, "1")
    {'1': (0.0, 0), '2': (1.0, 0), '3': (2.0, 0), '4': (3.0, 0), '5': (2.0, 1)}
    """
    children: dict[str, list[str]] = {root: []}
    for bus, parent in parents.items():
        children.setdefault(parent, []).append(bus)
        children.setdefault(bus, [])
    height = _heights(children, root)
    places: dict[str, tuple[float, int]] = {}
    rows = _Rows()
    # laterals that wait: (first bus, row and x of the bus it leaves). Those farthest from the root come first, with
    # all that hangs on them: what leaves the path before them then goes round them instead of through
    waiting = [(root, 0, -1.0)]
    while waiting:
        first, from_row, from_x = waiting.pop()
        path = _longest(children, height, first)
        start, end = from_x + 1, from_x + len(path)
        row = 0 if first == root else _nearest(rows, from_row, start, end)
        rows.take(row, start, end)
        for step in range(min(row, from_row) + 1, max(row, from_row)):
            rows.take(step, from_x, start)
        for k, bus in enumerate(path):
            places[bus] = (start + k, row)
        waiting += [
            (child, row, start + k) for k, bus in enumerate(path) for child in children[bus] if child not in places
        ]
    return places


def _heights(children: Mapping[str, Sequence[str]], root: str) -> dict[str, int]:
    """Count the buses on the longest path down from each bus."""
    order, height = [root], dict[str, int]()
    for bus in order:
        order.extend(children[bus])
    for bus in reversed(order):
        height[bus] = 1 + max((height[child] for child in children[bus]), default=0)
    return height


def _longest(children: Mapping[str, Sequence[str]], height: Mapping[str, int], first: str) -> list[str]:
    path = [first]
    while children[path[-1]]:
        path.append(max(children[path[-1]], key=lambda bus: height[bus]))
    return path


def _nearest(rows: _Rows, from_row: int, start: float, end: float) -> int:
    """Return the free row that a lateral reaches with the fewest crossings, then the nearest, then outwards."""
    outward = 1 if from_row >= 0 else -1
    farthest = max((abs(row) for row in rows.taken), default=0) + 1 + abs(from_row)
    choices = [from_row + side * distance for distance in range(1, farthest + 1) for side in (outward, -outward)]

    def crossings(row: int) -> int:
        between = range(min(row, from_row) + 1, max(row, from_row))
        return sum(not rows.free(step, start - 1, start, gap=0.0) for step in between)

    # beyond the farthest row in use everything is free
    return min((row for row in choices if rows.free(row, start, end)), key=crossings)
