"""The certificate sees what is wrong with an answer, and says where."""

from dataclasses import replace

import linopy
import numpy as np
import pytest

import hiermarket.bilevel as bl
from hiermarket.bilevel.certificate import Check
from hiermarket.bilevel.checking import certify
from hiermarket.bilevel.problem import problem_of
from hiermarket.errors import CertificateError
from hiermarket.solving.solver import SolverOptions


@pytest.fixture
def solved():
    """Cover 3 from p at 1 (at most 2) and q at 5: p = 2, q = 1, price 5, μ⁺ of p = 4."""
    model = linopy.Model()
    p = model.add_variables(lower=0, upper=2, name="p")
    q = model.add_variables(lower=0, name="q")
    need = model.add_constraints(p + q >= 3, name="need")
    mpec = bl.kkt(model, bl.Follower(variables=[p, q], constraints=[need], cost=p + 5 * q))
    mpec = mpec.minimise(1 * mpec.variables["p"])
    problem = problem_of(mpec)
    answers = [bl.Branching().solve(part, SolverOptions()) for part in problem.parts]
    x = np.concatenate([answer.x for answer in answers])
    assert len(problem.parts) == 1
    return mpec, problem, x, answers


def certificate_with(solved, **changes):
    mpec, problem, x, answers = solved
    x = x.copy()
    for name, value in changes.items():
        label = int(mpec.variables[name.replace("__", "-")].labels)
        x[list(problem.program.columns).index(label)] = value
    return certify(mpec, problem, x, answers, SolverOptions())


def failing(certificate):
    return {check.name for check in certificate.checks if not check.ok}


def test_a_right_answer_has_a_certificate(solved):
    certificate = certificate_with(solved)
    assert certificate.require() is certificate
    assert certificate.unique
    assert certificate.ties == 0
    assert str(certificate).startswith("Certificate holds")


def test_a_dearer_decision_shows_as_regret(solved):
    certificate = certificate_with(solved, p=1.0, q=2.0)
    assert failing(certificate) == {"complementarity", "follower's regret"}
    assert certificate["follower's regret"].value == pytest.approx((11 - 7) / (1 + 7))
    assert certificate["complementarity"].where == "upper-p"
    with pytest.raises(CertificateError) as raised:
        certificate.require()
    assert len(raised.value.failures) == 2
    assert "upper-p" in raised.value.failures[0]
    assert str(certificate).startswith("Certificate DOES NOT HOLD")


def test_a_wrong_dual_shows_as_stationarity(solved):
    certificate = certificate_with(solved, dual__need=4.0)
    assert failing(certificate) == {"stationarity"}
    assert certificate["stationarity"].where.startswith("stationarity-")


def test_a_wrong_sign_of_a_multiplier_is_seen(solved):
    certificate = certificate_with(solved, lower__p=-1.0)
    assert "signs of multipliers" in failing(certificate)
    assert certificate["signs of multipliers"].where == "lower-p"


def test_a_broken_row_and_a_broken_bound_are_seen(solved):
    assert "rows of leader and follower" in failing(certificate_with(solved, q=0.0))
    assert "bounds of leader and follower" in failing(certificate_with(solved, p=2.5, q=0.5))


def test_a_value_that_is_not_a_number_fails():
    assert not Check("x", float("nan"), 1.0, "", "").ok


def test_a_second_proof_that_differs_is_seen(solved):
    mpec, problem, x, answers = solved
    worse = [replace(answer, crosscheck=0.5, nearest_assumed=(1.0, 0, "dual")) for answer in answers]
    certificate = certify(mpec, problem, x, worse, SolverOptions())
    assert failing(certificate) == {"second proof's objective", "value near an assumed bound"}


def test_several_optimal_decisions_are_told():
    model = linopy.Model()
    p = model.add_variables(lower=0, upper=2, name="p")
    q = model.add_variables(lower=0, upper=2, name="q")
    need = model.add_constraints(p + q >= 3, name="need")
    mpec = bl.kkt(model, bl.Follower(variables=[p, q], constraints=[need], cost=p + q))
    solution = bl.solve(mpec.minimise(1 * mpec.variables["p"]))
    assert float(solution["p"]) == pytest.approx(1.0)
    assert not solution.certificate.unique
    assert "p, q" in solution.certificate.several_at
    assert "not unique" in str(solution.certificate)


def test_results_cannot_be_written_to():
    model = linopy.Model()
    p = model.add_variables(lower=1, name="p")
    solution = bl.solve(bl.kkt(model, bl.Follower(variables=[p], constraints=[], cost=1 * p)))
    with pytest.raises(ValueError, match="read-only"):
        solution["p"].values[...] = 3.0
    with pytest.raises(TypeError):
        solution.variables["p"] = 3.0
