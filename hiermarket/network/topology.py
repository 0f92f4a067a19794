"""From the edges of a grid to its tree: parents, depth order, and everything that is not radial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from hiermarket.errors import DataError, Fault, some_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tree:
    """A radial grid, seen from its root.

    Attributes
    ----------
    order : (bus,) int array
        Positions of the buses, parents before children, the children of a bus side by side.
    parent : (bus,) int array
        Position of the parent of each bus; −1 at the root.
    edge : (bus,) int array
        Position of the edge into each bus; −1 at the root.
    depth : (bus,) int array
        Number of edges between each bus and the root.
    """

    order: Ints
    parent: Ints
    edge: Ints
    depth: Ints


def _graph(size: int, bus0: Ints, bus1: Ints, weight: NDArray[np.float64]) -> csr_array:
    return csr_array(coo_array((weight, (bus0, bus1)), shape=(size, size)))


def islands(size: int, bus0: Ints, bus1: Ints) -> Ints:
    """Return the number of the island of each bus, by position.

    Parameters
    ----------
    size : int
        Number of buses.
    bus0, bus1 : (edge,) int array
        Positions of the ends of each edge.

    >>> islands(4, np.array([0, 3]), np.array([1, 2])).tolist()
    [0, 0, 1, 1]
    """
    graph = _graph(size, bus0, bus1, np.ones(len(bus0)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def tree(
    buses: Sequence[str], ends: tuple[Sequence[str], Sequence[str]], root: str, *, edges: Sequence[str], where: str
) -> Tree:
    """Return the tree of a radial grid.

    Parameters
    ----------
    buses : sequence of str
        Labels of the buses.
    ends : pair of sequences of str
        Labels of both ends of each edge.
    root : str
        Label of the root.
    edges : sequence of str
        Names of the edges, for messages.
    where : str
        Name of the grid, for messages.

    Returns
    -------
    Tree
        Parents and depth order, by position in `buses`.

    Raises
    ------
    DataError
        Naming every unknown bus, missing root, edge from a bus to itself, pair of parallel
        edges, closed loop and island.

    >>> tree(["1", "2", "3"], (["2", "2"], ["1", "3"]), "1", edges=["a", "b"], where="north").parent.tolist()
    [-1, 0, 1]
    """
    faults, kept, bus0, bus1 = _simple_edges(buses, ends, edges, where)
    size = len(buses)
    weight = np.asarray(kept + 1.0, dtype=np.float64)  # of a loop, the edge that comes last is the one to open
    forest = coo_array(minimum_spanning_tree(_graph(size, bus0, bus1, weight)))
    in_forest = np.isin(kept, np.asarray(forest.data, dtype=np.int64) - 1)
    graph = csr_array(forest)
    for edge, start, end in zip(kept[~in_forest], bus0[~in_forest], bus1[~in_forest], strict=True):
        path = [buses[bus] for bus in _path(graph, start, end)]
        remedy = "Open one of its lines (active=False) or leave it out."
        faults.append(Fault(f"{where}, line {edges[edge]}", f"a loop of buses {', '.join(path)}", "no loop", remedy))
    if root not in buses:
        remedy = "Name a bus that feeds the others."
        faults.append(Fault(where, f"root {root!r}, which is no bus", f"one of {some_labels(buses)}", remedy))
        raise DataError(faults)
    start = list(buses).index(root)
    order, above = breadth_first_order(graph, start, directed=False, return_predecessors=True)
    if len(order) < size:
        apart = [bus for position, bus in enumerate(buses) if position not in set(order.tolist())]
        remedy = "Connect them, or leave them out with `buses`."
        faults.append(Fault(where, f"buses without a path to root {root}: {some_labels(apart)}", "one island", remedy))
    if faults:
        raise DataError(faults)
    parent = np.where(above < 0, -1, above).astype(np.int64)
    edge_of = {frozenset(pair): int(edge) for edge, *pair in zip(kept, bus0.tolist(), bus1.tolist(), strict=True)}
    into = np.array([-1 if up < 0 else edge_of[frozenset((bus, up))] for bus, up in enumerate(parent.tolist())])
    depth = np.zeros(size, dtype=np.int64)
    for bus in order[1:]:
        depth[bus] = depth[parent[bus]] + 1
    return Tree(order=np.asarray(order, dtype=np.int64), parent=parent, edge=into, depth=depth)


def _simple_edges(
    buses: Sequence[str], ends: tuple[Sequence[str], Sequence[str]], edges: Sequence[str], where: str
) -> tuple[list[Fault], Ints, Ints, Ints]:
    """Report edges that no tree can have, and return the positions of the others and of their ends."""
    faults = []
    index = pd.Index(list(buses), dtype=object)
    bus0, bus1 = (index.get_indexer(pd.Index(list(end), dtype=object)) for end in ends)
    for label, one, other, at0, at1 in zip(edges, *ends, bus0, bus1, strict=True):
        unknown = [end for end, at in ((one, at0), (other, at1)) if at < 0]
        if unknown:
            found = f"ends at {some_labels([repr(end) for end in unknown])}, which is no bus"
            faults.append(Fault(f"{where}, line {label}", found, "buses of the grid", "Correct the name of the bus."))
        elif at0 == at1:
            found = f"both ends at bus {one}"
            faults.append(Fault(f"{where}, line {label}", found, "two different buses", "Remove the line."))
    known = (bus0 >= 0) & (bus1 >= 0) & (bus0 != bus1)
    pairs = pd.DataFrame({"low": np.minimum(bus0, bus1), "high": np.maximum(bus0, bus1)})[known]
    for _, group in pairs.groupby(["low", "high"]):
        if len(group) > 1:
            names = some_labels([edges[edge] for edge in group.index])
            remedy = "Merge them into one (r and x divided by their number, ratings added)."
            faults.append(Fault(f"{where}, lines {names}", "parallel branches", "one branch between two buses", remedy))
    kept = pairs.drop_duplicates().index.to_numpy(dtype=np.int64)
    return faults, kept, np.asarray(bus0[kept], dtype=np.int64), np.asarray(bus1[kept], dtype=np.int64)


def _path(forest: csr_array, start: int, end: int) -> list[int]:
    """Return the buses on the path of a forest from one bus to another."""
    above = breadth_first_order(forest, start, directed=False, return_predecessors=True)[1]
    path = [int(end)]
    while path[-1] != start:
        path.append(int(above[path[-1]]))
    return path
