"""What multipliers prove: never more than the truth, and all of it at the optimal ones."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_array

import hiermarket.bilevel as bl
from hiermarket.bilevel.safe_bound import least_proved, proves_empty, refined
from hiermarket.solving.program import Program
from tests.bilevel.case_models import mpec_of
from tests.bilevel.known_cases import CASES

SEEDS = st.integers(0, 10**6)


def program(seed):
    """A small LP with rows of all kinds and bounds that may be open."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 5), rng.integers(1, 5)
    matrix = rng.integers(-4, 5, (m, n)) * (rng.random((m, n)) < 0.8) * 1.0
    middle = rng.integers(-6, 7, m).astype(float)
    width = rng.choice([0.0, 2.0, 5.0], m)
    lower, upper = rng.integers(-4, 1, n).astype(float), rng.integers(1, 6, n).astype(float)
    cost = rng.integers(-5, 6, n).astype(float)
    return Program(
        cost=cost,
        quadratic=None,
        matrix=csr_array(matrix),
        row_lower=np.where(rng.random(m) < 0.3, -np.inf, middle),
        row_upper=np.where(rng.random(m) < 0.3, np.inf, middle + width),
        lower=np.where(rng.random(n) < 0.2, -np.inf, lower),
        upper=np.where(rng.random(n) < 0.2, np.inf, upper),
        integer=np.zeros(n, dtype=bool),
        columns=np.arange(n),
        rows=np.arange(m),
    )


def sides(given_program):
    """Rows as signs · A x ≤ signs · side, where there is a side: row numbers, signs, sides."""
    rows = np.arange(given_program.shape[0])
    both = (np.concatenate([rows, rows]), np.repeat([-1.0, 1.0], len(rows)))
    side = np.concatenate([given_program.row_lower, given_program.row_upper])
    there = np.isfinite(side)
    return both[0][there], both[1][there], side[there]


def solved(given_program):
    """The optimum by scipy, with ∂(least)/∂(right-hand side) by row."""
    row, sign, side = sides(given_program)
    answer = linprog(
        given_program.cost,
        A_ub=sign[:, None] * given_program.matrix.toarray()[row],
        b_ub=sign * side,
        bounds=np.column_stack([given_program.lower, given_program.upper]),
    )
    if answer.status != 0:
        return answer.status, None, None
    return 0, answer.fun, by_row(given_program, answer)


def by_row(given_program, answer):
    row, sign, _ = sides(given_program)
    return np.bincount(row, weights=sign * answer.ineqlin.marginals, minlength=given_program.shape[0])


@settings(max_examples=300, deadline=None)
@given(SEEDS, SEEDS)
def test_no_multipliers_prove_more_than_the_optimum(seed, other):
    given_program = program(seed)
    status, optimum, _ = solved(given_program)
    assume(status == 0)
    rng = np.random.default_rng(other)
    dual = rng.normal(size=given_program.shape[0]) * rng.choice([0.0, 0.1, 1.0, 100.0])
    assert least_proved(given_program, given_program.cost, dual) <= optimum + 1e-6 * (1 + abs(optimum))


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_the_optimal_multipliers_prove_the_optimum(seed):
    given_program = program(seed)
    status, optimum, dual = solved(given_program)
    assume(status == 0)
    proved = least_proved(given_program, given_program.cost, dual)
    assert abs(proved - optimum) <= 1e-6 * (1 + abs(optimum))


@settings(max_examples=300, deadline=None)
@given(SEEDS, SEEDS)
def test_no_ray_proves_a_feasible_program_empty(seed, other):
    given_program = program(seed)
    status, _, dual = solved(given_program)
    assume(status in (0, 3))
    rng = np.random.default_rng(other)
    rays = [rng.normal(size=given_program.shape[0]), rng.integers(-3, 4, given_program.shape[0]).astype(float)]
    assert not any(proves_empty(given_program, ray) for ray in (*rays, dual, None))


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_the_least_violation_gives_a_ray_that_proves_an_infeasible_program_empty(seed):
    """The multipliers of: break the rows as little as possible. They are a ray where that is not zero."""
    given_program = program(seed)
    m, n = given_program.shape
    row, sign, side = sides(given_program)
    elastic = np.hstack([given_program.matrix.toarray(), np.eye(m), -np.eye(m)])
    answer = linprog(
        np.concatenate([np.zeros(n), np.ones(2 * m)]),
        A_ub=sign[:, None] * elastic[row],
        b_ub=sign * side,
        bounds=[*zip(given_program.lower, given_program.upper, strict=True), *[(0, None)] * (2 * m)],
    )
    assume(answer.fun > 1e-6)
    ray = by_row(given_program, answer)
    assert proves_empty(given_program, ray)
    assert proves_empty(given_program, -ray)


def test_multipliers_that_are_not_numbers_prove_nothing():
    given_program = program(1)
    dual = np.full(given_program.shape[0], np.nan)
    assert least_proved(given_program, given_program.cost, dual) == -np.inf
    assert not proves_empty(given_program, dual)


def with_huge_bounds(given_program):
    return replace(
        given_program,
        lower=np.maximum(given_program.lower, -1e9),
        upper=np.minimum(given_program.upper, 1e9),
        row_lower=np.maximum(given_program.row_lower, -1e9),
        row_upper=np.minimum(given_program.row_upper, 1e9),
    )


@settings(max_examples=300, deadline=None)
@given(SEEDS, SEEDS)
def test_refined_multipliers_prove_the_optimum_and_no_more(seed, other):
    """Rounding of 1e-9 in the multipliers, times bounds of 1e9, is all there is of a proof without refining."""
    given_program = program(seed)
    status, optimum, dual = solved(given_program)
    assume(status == 0)
    huge = with_huge_bounds(given_program)
    rounding = np.random.default_rng(other).uniform(-1e-9, 1e-9, len(dual))
    better = refined(huge, np.zeros(huge.shape[1]), dual + rounding)
    assume(better is not None)
    proved = least_proved(huge, huge.cost, better[1])
    assert abs(proved - optimum) <= 1e-6 * (1 + abs(optimum))


def meaning_none(texts):
    return tuple(re.sub(r"\binf\b", "1e9", text) for text in texts)


@pytest.mark.parametrize("case", [case for case in CASES if case.optimum is not None], ids=lambda case: case.name)
def test_bounds_that_are_meant_as_none_cost_no_certificate(case):
    huge = replace(
        case,
        leader_variables=meaning_none(case.leader_variables),
        follower_variables=meaning_none(case.follower_variables),
    )
    solution = bl.solve(mpec_of(huge))
    assert solution.objective == pytest.approx(case.optimum, abs=case.tolerance * (1 + abs(case.optimum)))
    solution.certificate.require()
