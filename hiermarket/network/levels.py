"""Buses of many radial feeders by depth: what sweeps from the leaves to the roots and back walk along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermarket.labels import BUS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.network.feeders import Feeders

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Level:
    """The branches of one depth, of all feeders.

    Attributes
    ----------
    here : int array
        Positions of their buses.
    above : int array
        Positions of the parents.
    begins : int array
        Where, in `here`, the children of the next parent begin.
    """

    here: Ints
    above: Ints
    begins: Ints

    @property
    def parents(self) -> Ints:
        """Positions of the parents, each once, in the order of `begins`."""
        return self.above[self.begins]


def levels(feeders: Feeders) -> tuple[Level, ...]:
    """Return the branches of all feeders by depth, from the roots to the leaves."""
    data = feeders.data
    depth = data["depth"].values.astype(int)
    parent = data.indexes[BUS].get_indexer(pd.Index(data["parent"].values))
    found = []
    for number in range(1, int(depth.max(initial=0)) + 1):
        here = np.flatnonzero(depth == number)
        above = parent[here]
        # buses stand in depth order with siblings side by side, so each parent is one run
        found.append(Level(here=here, above=above, begins=np.flatnonzero(np.diff(above, prepend=-1))))
    return tuple(found)
