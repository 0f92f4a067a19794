"""Every known problem × every reformulation: the right optimum, or a refusal with its reason."""

import pytest

import hiermarket.bilevel as bl
from hiermarket.errors import InfeasibleError, ModelError, NumericalError, UnboundedPairError
from tests.bilevel.case_models import mpec_of
from tests.bilevel.known_cases import CASES

#: Where no bound of a pair can be proved, so that a MILP alone is refused.
UNPROVED = {"two_line_vertex", "dempe_8_1", "dempe_8_1_int_leader", "bard_5_3_1", "htp_9_2_6"}


def by_name(case):
    return case.name


def check(case, solution):
    assert solution.objective == pytest.approx(case.optimum, abs=case.tolerance * (1 + abs(case.optimum)))
    solution.certificate.require()
    for name, value in case.solution:
        assert float(solution[name]) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("reformulation", [bl.Branching(), bl.Auto()], ids=["branching", "auto"])
@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_exact_reformulations_solve_every_case(case, reformulation):
    mpec = mpec_of(case)
    if case.optimum is None:
        with pytest.raises(InfeasibleError) as raised:
            bl.solve(mpec, reformulation)
        assert "the part with" in raised.value.where
        return
    check(case, bl.solve(mpec, reformulation))


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_big_m_with_proved_bounds(case):
    mpec = mpec_of(case)
    if "*" in case.leader:
        with pytest.raises(ModelError) as raised:
            bl.solve(mpec, bl.BigM())
        assert "Branching" in raised.value.remedy
    elif case.optimum is None:
        with pytest.raises(InfeasibleError):
            bl.solve(mpec, bl.BigM())
    elif case.name in UNPROVED:
        with pytest.raises(UnboundedPairError) as refused:
            bl.solve(mpec, bl.BigM())
        families = {family.name for family in mpec.pairs.families}
        assert set(refused.value.pairs) <= families
        assert refused.value.side in refused.value.remedy
    else:
        check(case, bl.solve(mpec, bl.BigM()))


@pytest.mark.parametrize("case", [c for c in CASES if "*" not in c.leader and c.optimum is not None], ids=by_name)
def test_big_m_with_declared_bounds(case):
    solution = bl.solve(mpec_of(case), bl.BigM(dual=1e4, primal=1e4))
    check(case, solution)
    assert bool(solution.certificate.assumed) == (case.name in UNPROVED)


@pytest.mark.parametrize(("dual", "primal"), [(0.5, 0.5), (0.1, 9.0), (0.01, None)])
def test_a_declared_bound_that_is_too_small_gives_no_answer(dual, primal):
    """Bounds that cut the optimum off end in an error that says so, never in a worse optimum or "infeasible"."""
    case = next(c for c in CASES if c.name == "bard_5_3_1")
    with pytest.raises(NumericalError) as raised:
        bl.solve(mpec_of(case), bl.BigM(dual=dual, primal=primal))
    assert raised.value.status
