import numpy as np
import pytest

from hiermarket.errors import DataError
from hiermarket.network.topology import islands, tree


def grow(buses, edges, root="1"):
    start, end = zip(*edges, strict=True) if edges else ((), ())
    return tree(buses, (start, end), root, edges=[f"{a}-{b}" for a, b in edges], where="north")


def faults_of(buses, edges, root="1"):
    with pytest.raises(DataError) as error:
        grow(buses, edges, root)
    return error.value.faults


def test_parents_do_not_depend_on_the_direction_of_the_lines():
    #   1 ─ 2 ─ 3
    #       └─ 4 ─ 5
    buses = ["5", "4", "3", "2", "1"]
    one = grow(buses, [("1", "2"), ("2", "3"), ("2", "4"), ("4", "5")])
    other = grow(buses, [("2", "1"), ("3", "2"), ("2", "4"), ("5", "4")])
    assert one.parent.tolist() == other.parent.tolist() == [1, 3, 3, 4, -1]
    assert one.edge.tolist() == [3, 2, 1, 0, -1]
    assert one.depth.tolist() == [3, 2, 2, 1, 0]


def test_order_is_by_depth_with_siblings_side_by_side():
    rng = np.random.default_rng(1)
    buses = [str(bus) for bus in rng.permutation(60)]
    edges = [(buses[rng.integers(i)], buses[i]) for i in range(1, 60)]
    found = grow(buses, edges, root=buses[0])
    depth, parent = found.depth[found.order], found.parent[found.order]
    assert (np.diff(depth) >= 0).all()
    assert len(set(parent[1:])) == 1 + np.count_nonzero(np.diff(parent[1:]))
    assert sorted(found.order) == list(range(60))


def test_a_single_bus_is_a_tree():
    assert grow(["1"], []).order.tolist() == [0]


def test_unknown_bus():
    (fault,) = faults_of(["1", "2"], [("1", "2"), ("2", "7")])
    assert fault.where == "north, line 2-7"
    assert "'7'" in fault.found


def test_line_from_a_bus_to_itself():
    (fault,) = faults_of(["1", "2"], [("1", "2"), ("2", "2")])
    assert fault.where == "north, line 2-2"
    assert fault.found == "both ends at bus 2"


def test_parallel_branches():
    (fault,) = faults_of(["1", "2"], [("1", "2"), ("2", "1")])
    assert fault.where == "north, lines 1-2, 2-1"
    assert fault.found == "parallel branches"


def test_loop_names_the_line_that_closes_it_and_its_buses():
    (fault,) = faults_of(["1", "2", "3", "4"], [("1", "2"), ("2", "3"), ("1", "4"), ("4", "3")])
    assert fault.where == "north, line 4-3"
    assert fault.found == "a loop of buses 3, 2, 1, 4"


def test_island():
    (fault,) = faults_of(["1", "2", "3", "4"], [("1", "2"), ("3", "4")])
    assert fault.found == "buses without a path to root 1: 3, 4"


def test_missing_root():
    (fault,) = faults_of(["1", "2"], [("1", "2")], root="9")
    assert "'9'" in fault.found


def test_all_faults_are_named_together():
    edges = [("1", "2"), ("2", "3"), ("3", "1"), ("2", "1"), ("4", "5"), ("5", "6"), ("6", "4"), ("7", "9"), ("7", "7")]
    found = [fault.found for fault in faults_of([str(bus) for bus in range(1, 8)], edges)]
    assert found == [
        "ends at '9', which is no bus",
        "both ends at bus 7",
        "parallel branches",
        "a loop of buses 1, 2, 3",
        "a loop of buses 4, 5, 6",
        "buses without a path to root 1: 4, 5, 6, 7",
    ]


def test_islands():
    assert islands(5, np.array([0, 1]), np.array([1, 2])).tolist() == [0, 0, 0, 1, 2]
