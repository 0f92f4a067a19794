"""A session goes on from one program to the next of the same structure, with its basis."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array

from hiermarket.solving.program import Program
from hiermarket.solving.relay import Relay
from hiermarket.solving.solver import SolverOptions

OPTIONS = SolverOptions()


def program(need=5.0, weight=1.0):
    """min 2a + 3b, weight·a + b ≥ need, a ≤ 4: for weight 1 and need 5, a = 4 and b = 1."""
    return Program(
        cost=np.array([2.0, 3.0]),
        quadratic=None,
        matrix=csr_array(np.array([[weight, 1.0]])),
        row_lower=np.array([need]),
        row_upper=np.array([np.inf]),
        lower=np.zeros(2),
        upper=np.array([4.0, np.inf]),
        integer=np.zeros(2, dtype=bool),
        columns=np.arange(2),
        rows=np.arange(1),
    )


def test_the_next_program_has_values_and_a_sense_of_its_own():
    """Need 8 with 2a + b: a = 4. The largest of −2a − 3b is the least of 2a + 3b, with the other sign."""
    session = Relay(program(), OPTIONS)
    assert session.solve().objective == pytest.approx(11.0)
    session.replace(program(need=8.0, weight=2.0))
    assert session.solve().objective == pytest.approx(8.0)
    session.replace(replace(program(need=6.0), cost=np.array([-2.0, -3.0]), minimise=False))
    answer = session.solve()
    assert answer.objective == pytest.approx(-14.0)
    assert answer.dual == pytest.approx([-3.0])


def test_an_infeasible_program_leaves_a_session_that_goes_on():
    session = Relay(program(), OPTIONS)
    session.replace(replace(program(), upper=np.array([1.0, 1.0])))
    assert not session.solve().optimal
    session.replace(program())
    assert session.solve().objective == pytest.approx(11.0)


def test_what_fits():
    session = Relay(program(), OPTIONS)
    assert session.fits(program(need=8.0, weight=2.0), OPTIONS)
    assert not session.fits(replace(program(), integer=np.array([True, False])), OPTIONS)
    assert not session.fits(replace(program(), quadratic=csc_array(np.eye(2))), OPTIONS)
    assert not session.fits(replace(program(), matrix=csr_array(np.array([[1.0, 0.0]]))), OPTIONS)
    assert not session.fits(program(), SolverOptions(seed=1))
    assert not Relay(replace(program(), quadratic=csc_array(np.eye(2))), OPTIONS).fits(program(), OPTIONS)
