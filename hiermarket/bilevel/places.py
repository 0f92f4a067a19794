"""Where labels of a linopy model stand in the arrays that were read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hiermarket.solving.program import Ints


def places(labels: Ints, last: int = -1) -> Ints:
    """Return the position of each label; −1 for labels that are not there.

    Parameters
    ----------
    labels : int array
        Distinct labels, in the order of the array that they stand for.
    last : int
        The largest label that will be looked up, where that may not be among them.
    """
    place = np.full(max(int(labels.max(initial=-1)), last) + 1, -1, dtype=np.int64)
    place[labels] = np.arange(len(labels))
    return place


def positions(labels: Ints, among: Ints) -> Ints:
    """Return the positions of labels among others; −1 for labels that are not there."""
    return np.asarray(places(among, int(labels.max(initial=-1)))[labels], dtype=np.int64)
