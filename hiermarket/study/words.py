"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, one: str, *, of: int | None = None) -> str:
    """Return a number of things, or so many of all of them; the last number decides on the plural.

    >>> counted(1, "batch"), counted(2, "batch"), counted(0, "feeder"), counted(1, "batch", of=3)
    ('1 batch', '2 batches', '0 feeders', '1 of 3 batches')
    """
    last = number if of is None else of
    many = f"{one}es" if one.endswith("ch") else f"{one}s"
    return f"{number}{'' if of is None else f' of {of}'} {one if last == 1 else many}"
