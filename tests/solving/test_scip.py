"""SCIP behind its door: what it raises is an outcome like any other."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from hiermarket.solving.extended import Extended
from hiermarket.solving.program import Program
from hiermarket.solving.scip import solve_scip
from hiermarket.solving.solver import Outcome, SolverOptions

pyscipopt = pytest.importorskip("pyscipopt")


def program(cost, upper=np.inf):
    """Two columns from zero on, x ≥ 1 + y."""
    return Program(
        cost=np.array(cost),
        quadratic=None,
        matrix=csr_array([[1.0, -1.0]]),
        row_lower=np.array([1.0]),
        row_upper=np.array([np.inf]),
        lower=np.zeros(2),
        upper=np.array([upper, np.inf]),
        integer=np.zeros(2, dtype=bool),
        columns=np.arange(2),
        rows=np.arange(1),
    )


def test_outcomes():
    options = SolverOptions()
    answer = solve_scip(Extended(program([1.0, 1.0])), options)
    assert (answer.outcome, answer.objective) == (Outcome.OPTIMAL, pytest.approx(1.0))
    assert answer.x == pytest.approx([1.0, 0.0])
    assert solve_scip(Extended(program([-1.0, 0.0])), options).outcome is Outcome.UNBOUNDED
    assert solve_scip(Extended(program([1.0, 1.0], upper=0.5)), options).outcome is Outcome.INFEASIBLE


class Broken(pyscipopt.Model):
    """A model whose solve ends in one of SCIP's errors, or in Python's."""

    error: BaseException = Exception("SCIP: error in LP solver!")

    def optimize(self):
        raise self.error


def test_an_error_of_scip_is_trouble(monkeypatch):
    monkeypatch.setattr(pyscipopt, "Model", Broken)
    answer = solve_scip(Extended(program([1.0, 1.0])), SolverOptions())
    assert answer.outcome is Outcome.TROUBLE
    assert "error in LP solver" in answer.status
    assert not answer.has_point


def test_other_errors_are_not_swallowed(monkeypatch):
    monkeypatch.setattr(pyscipopt, "Model", Broken)
    monkeypatch.setattr(Broken, "error", MemoryError("no room"))
    with pytest.raises(MemoryError):
        solve_scip(Extended(program([1.0, 1.0])), SolverOptions())
