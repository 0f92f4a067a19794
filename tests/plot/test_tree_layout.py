"""Where buses are drawn."""

import random

import pytest

from hiermarket.market.cases import load_case
from hiermarket.plot.tree_layout import layout


def crossings(parents: dict[str, str], places: dict[str, tuple[float, int]]) -> int:
    """Branches that cut another one strictly inside both."""

    def side(p, q, r):
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    lines = [(places[up], places[bus]) for bus, up in parents.items()]
    return sum(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for k, (a, b) in enumerate(lines)
        for c, d in lines[:k]
    )


def test_a_bus_alone():
    assert layout({}, "1") == {"1": (0.0, 0)}


def test_longest_path_is_straight():
    parents = {"2": "1", "3": "2", "4": "3", "5": "2"}
    places = layout(parents, "1")
    assert [places[bus][1] for bus in "1234"] == [0, 0, 0, 0]
    assert places["5"] == (2.0, 1)


def test_the_33_bus_feeder():
    feeders = load_case("m33").feeders
    parents = {str(bus): str(up) for bus, up in feeders.parents.items()}
    places = layout(parents, "m33/1")
    assert {y for _, y in places.values()} == {-1, 0, 1}
    assert crossings(parents, places) == 0


@pytest.mark.parametrize("seed", range(20))
def test_any_tree(seed: int):
    choose = random.Random(seed)
    parents = {str(k): str(choose.randrange(max(0, k - 6), k)) for k in range(1, 60)}
    places = layout(parents, "0")
    assert len(set(places.values())) == len(places) == 60
    assert all(places[bus][0] == places[up][0] + 1 for bus, up in parents.items())
    assert crossings(parents, places) <= 2
