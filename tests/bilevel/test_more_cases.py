"""Every problem: its optimum proved by enumeration, and found by every reformulation."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import hiermarket.bilevel as bl
from hiermarket.bilevel.reformulation import Reformulation
from hiermarket.errors import InfeasibleError, ModelError, UnboundedError, UnboundedPairError
from tests.bilevel import known_cases, more_cases
from tests.bilevel.case import Case
from tests.bilevel.case_models import mpec_of
from tests.bilevel.enumeration import enumerate_optimum


@dataclass(frozen=True)
class Way:
    name: str
    reformulation: Reformulation
    refusals: Callable[[Case], tuple[type[Exception], ...]] = lambda case: ()  # errors that are legitimate for a case
    needs: str = ""  # an optional package
    curved: bool = True  # whether to try quadratic leaders: spatial branching may take minutes on them


def refusals_of_big_m(case):
    return (UnboundedPairError, ModelError) if case.is_quadratic else (UnboundedPairError,)


WAYS = (
    Way("auto", bl.Auto()),
    Way("branching", bl.Branching()),
    Way("big-m", bl.BigM(), refusals_of_big_m),
    Way("sos1", bl.SOS1(), needs="pyscipopt", curved=False),
    Way("strong-duality", bl.StrongDuality(), lambda case: (ModelError,)),
)


#: Built once for all ways: solving leaves a problem as it is.
problem_of = functools.cache(mpec_of)


def by_name(item):
    return item.name


def outcome(mpec, reformulation):
    """Return the leader's value (None: infeasible, inf: unbounded) and the solution."""
    try:
        solution = bl.solve(mpec, reformulation)
    except InfeasibleError:
        return None, None
    except UnboundedError:
        return math.inf, None
    return solution.objective, solution


def assert_same(found, case):
    if case.optimum is None or math.isinf(case.optimum):
        assert found == case.optimum
    else:
        assert found == pytest.approx(case.optimum, abs=case.tolerance * (1 + abs(case.optimum)))


@pytest.mark.parametrize("case", [*known_cases.CASES, *more_cases.CASES], ids=by_name)
def test_enumeration_proves_the_stated_optimum(case):
    found, _ = enumerate_optimum(case)
    assert_same(found, case)


@pytest.mark.parametrize(
    ("way", "case"),
    [(way, case) for way in WAYS for case in more_cases.CASES if way.curved or not case.is_quadratic],
    ids=by_name,
)
def test_every_way_finds_it(way, case):
    if way.needs:
        pytest.importorskip(way.needs)
    try:
        found, solution = outcome(problem_of(case), way.reformulation)
    except way.refusals(case):
        return
    if solution is None:
        sign = 1.0 if case.leader.startswith("max") else -1.0
        assert (found if found is None else sign * found) == case.optimum
        return
    assert_same(found, case)
    solution.certificate.require()
    # around its optimum a quadratic objective is flat: the point is found less exactly than the value
    near = 1e-3 if case.is_quadratic else 1e-5
    for name, value in case.solution:
        assert float(solution[name]) == pytest.approx(value, abs=near * (1 + abs(value)))


def test_names_are_unique():
    names = [case.name for case in (*known_cases.CASES, *more_cases.CASES)]
    assert len(names) == len(set(names))
