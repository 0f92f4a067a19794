"""The same problem written differently has the same optimum, and its values and duals follow.

An optimum may be attained at several points, so that a solution is not compared with another
one: carried back to the first way of writing, it must satisfy the first problem's conditions
with the same value.
"""

from dataclasses import dataclass, replace

import linopy
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import hiermarket.bilevel as bl
from hiermarket.errors import InfeasibleError, ModelError, UnboundedError
from tests.bilevel.random_problems import SIGNS, draw

COPIES = 3


@dataclass(frozen=True)
class Block:
    """One array: its name, its dimension, and which positions of the problem it holds, in order."""

    name: str
    dimension: str
    positions: tuple[int, ...]

    @property
    def index(self):
        return pd.Index([f"{self.dimension}{position}" for position in self.positions], name=self.dimension)

    def array(self, values):
        return xr.DataArray(np.asarray(values)[list(self.positions)], [self.index])


@dataclass(frozen=True)
class Layout:
    """Which arrays the leader's variables, the follower's variables and the rows are in."""

    x: tuple[Block, ...]
    a: tuple[Block, ...]
    rows: tuple[Block, ...]
    copies: int = 0


@dataclass(frozen=True)
class Found:
    status: str
    value: float = np.nan
    points: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...] = ()  # x, a, y of every copy


def sizes(data):
    return data.B.shape[1], data.A.shape[1], data.A.shape[0]


def plain(data):
    blocks = (
        (Block(name, dimension, tuple(range(size))),)
        for name, dimension, size in zip(("x", "a", "row"), "kji", sizes(data), strict=True)
    )
    return Layout(*blocks)


def mpec_of(data, layout):
    model = linopy.Model()
    copy = pd.RangeIndex(layout.copies, name="copy")

    def spread(array):
        return array.expand_dims(copy=copy) if layout.copies else array

    def add(block, lower, upper):
        return model.add_variables(spread(block.array(lower)), spread(block.array(upper)), name=block.name)

    x = [add(block, data.x_lower, data.x_upper) for block in layout.x]
    a = [add(block, data.lower, data.upper) for block in layout.a]
    rows = []
    for row in layout.rows:
        left = 0.0
        for blocks, arrays, matrix in ((layout.a, a, data.A), (layout.x, x, data.B)):
            for block, array in zip(blocks, arrays, strict=True):
                entries = matrix[np.ix_(row.positions, block.positions)]
                left = left + (xr.DataArray(entries, [row.index, block.index]) * array).sum(block.dimension)
        sign = row.array([SIGNS[int(kind)] for kind in data.kind])
        rows.append(model.add_constraints(left, sign, spread(row.array(data.rhs)), name=row.name))
    own, theirs = at_position(layout.a, a), at_position(layout.x, x)
    cost = sum((block.array(data.cost) * array).sum() for block, array in zip(layout.a, a, strict=True))
    for first, second in np.argwhere(data.C):
        cost = cost + (data.C[first, second] * (own[first] * theirs[second])).sum()
    for first, second in np.argwhere(data.Q):
        cost = cost + (0.5 * data.Q[first, second] * (own[first] * own[second])).sum()
    mpec = bl.kkt(model, bl.Follower(a, rows, cost, "min" if data.follower > 0 else "max"))
    k, n, _ = sizes(data)
    weights = np.split(data.objective, [k, k + n])
    value = sum(
        (block.array(weight) * find[block.name]).sum()
        for blocks, weight, find in zip(
            (layout.x, layout.a, layout.rows), weights, (mpec.variables, mpec.variables, mpec.dual), strict=True
        )
        for block in blocks
    )
    return mpec.minimise(value) if data.leader > 0 else mpec.maximise(value)


def at_position(blocks, arrays):
    return {
        position: array.isel({block.dimension: place}, drop=True)
        for block, array in zip(blocks, arrays, strict=True)
        for place, position in enumerate(block.positions)
    }


def solved(data, layout=None, reformulation=None):
    layout = layout or plain(data)
    try:
        mpec = mpec_of(data, layout)
    except ModelError:
        return Found("refused")  # a free variable with a cost and without a row
    try:
        solution = bl.solve(mpec, reformulation)
    except InfeasibleError:
        return Found("infeasible")
    except UnboundedError:
        return Found("unbounded")
    solution.certificate.require()

    def gathered(blocks, found, number):
        parts = [found[block.name].isel(copy=number) if layout.copies else found[block.name] for block in blocks]
        values = np.concatenate(
            [part.sel({b.dimension: b.index}).values for part, b in zip(parts, blocks, strict=True)]
        )
        return values[np.argsort(np.concatenate([block.positions for block in blocks]))]

    kinds = ((layout.x, solution.variables), (layout.a, solution.variables), (layout.rows, solution.duals))
    points = (tuple(gathered(blocks, found, number) for blocks, found in kinds) for number in range(layout.copies or 1))
    return Found("optimal", solution.objective, tuple(points))


def assert_solves(data, point, value):
    """Conditions of leader and follower at a point, from the data alone."""
    x, a, y = point
    s, near = data.follower, 1e-6 * (1 + max(np.abs(part).max(initial=0.0) for part in point))
    slack = data.A @ a + data.B @ x - data.rhs
    reduced = s * (data.Q @ a + data.C @ x + data.cost - data.A.T @ y)
    assert np.where(data.kind == 0, np.abs(slack), np.maximum(-data.kind * slack, 0.0)).max() <= near
    assert np.maximum(-s * data.kind * y, 0.0).max() <= near
    assert np.minimum(np.abs(slack), np.abs(y))[data.kind != 0].max(initial=0.0) <= near
    for values, lower, upper in ((x, data.x_lower, data.x_upper), (a, data.lower, data.upper)):
        assert (values >= lower - near).all()
        assert (values <= upper + near).all()
    away = np.where(reduced > 0, a - data.lower, data.upper - a)
    assert np.minimum(np.abs(reduced), away).max() <= near
    assert data.objective @ np.concatenate(point) == pytest.approx(value, abs=1e-5 * (1 + abs(value)))


def assert_follows(data, changed, back=lambda x, a, y: (x, a, y), sign=1.0, copies=1):
    first = solved(data)
    assert changed.status == first.status
    if first.status != "optimal":
        return
    assert sign * changed.value == pytest.approx(copies * first.value, abs=1e-5 * (1 + abs(copies * first.value)))
    for point in changed.points:
        assert_solves(data, back(*point), first.value)


def with_weights_on_duals(data, factor):
    k, n, r = sizes(data)
    return np.concatenate([data.objective[: k + n], data.objective[k + n :] * np.broadcast_to(factor, r)])


problems = st.builds(draw, st.integers(0, 10**6), st.booleans())
few = settings(max_examples=4, deadline=None)


def test_the_check_itself_refuses_a_wrong_point():
    data = next(data for data in (draw(seed, quadratic=False) for seed in range(99)) if solved(data).points)
    found = solved(data)
    assert_solves(data, found.points[0], found.value)
    with pytest.raises(AssertionError):
        assert_solves(data, tuple(part + 1.5 for part in found.points[0]), found.value)


@given(problems, st.randoms(use_true_random=False))
@few
def test_labels_in_another_order(data, random):
    def shuffled(blocks):
        return tuple(replace(b, positions=tuple(random.sample(b.positions, len(b.positions)))) for b in blocks)

    layout = plain(data)
    other = replace(layout, x=shuffled(layout.x), a=shuffled(layout.a), rows=shuffled(layout.rows))
    assert_follows(data, solved(data, other))


@given(problems)
@few
def test_other_names_of_variables_rows_and_dimensions(data):
    names = (("offer", "zone"), ("volume", "unit"), ("Balance of all", "hour"))
    blocks = (
        (Block(name, dimension, tuple(range(size))),)
        for (name, dimension), size in zip(names, sizes(data), strict=True)
    )
    assert_follows(data, solved(data, Layout(*blocks)))


@given(problems)
@few
def test_copies_along_a_new_dimension_add_up(data):
    layout = replace(plain(data), copies=COPIES)
    assert_follows(data, solved(data, layout), copies=COPIES)


@given(problems)
@few
def test_an_array_split_into_two(data):
    def halves(block):
        first, second = block.positions[::2], block.positions[1::2]
        parts = (
            Block(f"{block.name}1", f"{block.dimension}_even", first),
            Block(f"{block.name}2", f"{block.dimension}_odd", second),
        )
        return tuple(part for part in parts if part.positions)

    layout = plain(data)
    other = Layout(*(halves(block) for (block,) in (layout.x, layout.a, layout.rows)))
    assert_follows(data, solved(data, other))


@given(problems)
@few
def test_least_cost_is_most_benefit(data):
    other = replace(
        data,
        follower=-data.follower,
        cost=-data.cost,
        C=-data.C,
        Q=-data.Q,
        objective=with_weights_on_duals(data, -1.0),
    )
    assert_follows(data, solved(other), lambda x, a, y: (x, a, -y))


@given(problems)
@few
def test_a_leader_of_the_other_sense(data):
    other = replace(data, leader=-data.leader, objective=-data.objective)
    assert_follows(data, solved(other), sign=-1.0)


@given(problems, st.lists(st.sampled_from([0.01, 0.5, 3.0, 400.0]), min_size=3, max_size=3))
@few
def test_rows_times_a_positive_constant(data, factors):
    factor = np.array(factors[: len(data.rhs)])
    other = replace(
        data,
        A=factor[:, None] * data.A,
        B=factor[:, None] * data.B,
        rhs=factor * data.rhs,
        objective=with_weights_on_duals(data, factor),
    )
    assert_follows(data, solved(other), lambda x, a, y: (x, a, factor * y))


@given(problems, st.sampled_from([0.01, 7.0, 1000.0]))
@few
def test_cost_times_a_positive_constant(data, factor):
    other = replace(
        data,
        cost=factor * data.cost,
        C=factor * data.C,
        Q=factor * data.Q,
        objective=with_weights_on_duals(data, 1 / factor),
    )
    assert_follows(data, solved(other), lambda x, a, y: (x, a, y / factor))


@given(problems)
@few
def test_at_most_is_minus_at_least(data):
    other = replace(
        data,
        A=-data.A,
        B=-data.B,
        rhs=-data.rhs,
        kind=-data.kind,
        objective=with_weights_on_duals(data, -1.0),
    )
    assert_follows(data, solved(other, reformulation=bl.Branching()), lambda x, a, y: (x, a, -y))
