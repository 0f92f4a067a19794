"""Every problem × the ways beside branching and big-M: the right optimum, or a refusal with its reason."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isinf

import linopy
import pytest

import hiermarket.bilevel as bl
from hiermarket.errors import InfeasibleError, LimitReachedError, ModelError, NumericalError, UnboundedError
from hiermarket.solving.solver import SolverOptions
from tests.bilevel import known_cases, more_cases
from tests.bilevel.case_models import mpec_of

#: Those at which SCIP's presolve has lost optima to its own indicator rows.
LOST = {"binary_switch_coupled", "value_of_withheld_volume", "trap_chained_multipliers", "elastic_demand_offer"}

CASES = [
    *known_cases.CASES,
    *(case if case.name in LOST else pytest.param(case, marks=pytest.mark.nightly) for case in more_cases.CASES),
]

#: Spatial branching may take for ever where nothing bounds a factor of a product.
BRIEF = SolverOptions(time_limit=4.0)

#: Products with a factor that nothing bounds, or of very unlike size: SCIP comes to no end.
ENDLESS = {
    "sos1": {"scale1", "qp_max_concave"},
    "indicator": {"scale1"},
    "mixed": {"scale1"},
    "strong duality": {
        "bard_5_3_1",
        "one_minimises_one_maximises",
        "dual_floor_and_difference",
        "least_price",
        "scarcity_rent",
        "unbounded_price",
    },
}

problem_of = functools.cache(mpec_of)


def mixed_of(mpec):
    """Every family its own way, in turn."""
    ways = (bl.BigM(dual=1e4, primal=1e4), bl.SOS1(), bl.Indicator())
    return bl.Mixed({family.name: ways[i % 3] for i, family in enumerate(mpec.pairs.families)}, bl.SOS1())


@dataclass(frozen=True)
class Way:
    name: str
    reformulation: Callable[[bl.Mpec], object]

    def __str__(self):
        return self.name


WAYS = (
    Way("sos1", lambda mpec: bl.SOS1()),
    Way("indicator", lambda mpec: bl.Indicator()),
    Way("mixed", mixed_of),
)


def by_name(item):
    return getattr(item, "name", None)


def check(case, mpec, reformulation, options=BRIEF):
    """Solve a case and compare; errors of cases with an optimum are the caller's."""
    if case.optimum is None or isinf(case.optimum):
        with pytest.raises(InfeasibleError if case.optimum is None else UnboundedError):
            bl.solve(mpec, reformulation, options=options)
        return
    solution = bl.solve(mpec, reformulation, options=options)
    assert solution.objective == pytest.approx(case.optimum, abs=case.tolerance * (1 + abs(case.optimum)))
    solution.certificate.require()


def right(case):
    """An optimum without end may be found as one: whether SCIP does depends on its release."""
    return (UnboundedError,) if case.optimum is not None and isinf(case.optimum) else ()


#: Declared bounds of 1e4 cut the optimum off, or a product is too inexact: told, not answered.
UNTRUSTED = {
    "mixed": {"fanzeres_2017_withholding", "shimizu_aiyoshi_1981_ex1", "unbounded_leader"},
    "strong duality": {"badly_scaled_units", "unbounded_leader", "unbounded_answer"},
}


@pytest.mark.parametrize("way", WAYS, ids=by_name)
@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_pairs_written_for_scip(case, way):
    pytest.importorskip("pyscipopt")
    mpec = problem_of(case)
    if case.name in ENDLESS[way.name]:
        with pytest.raises(LimitReachedError) as stopped:
            bl.solve(mpec, way.reformulation(mpec), options=SolverOptions(time_limit=0.5))
        assert "SCIP" in stopped.value.status
    elif case.name in UNTRUSTED.get(way.name, ()):
        with pytest.raises((NumericalError, *right(case))):
            bl.solve(mpec, way.reformulation(mpec), options=BRIEF)
    else:
        check(case, mpec, way.reformulation(mpec))


#: Why a strong-duality row is refused; SCIP takes products.
REFUSALS = {
    "highs": ("quadratic row", "linear leader's objective", "cannot be linearised"),
    "scip": ("quadratic row", "linear leader's objective"),
}


@pytest.mark.parametrize("solver", REFUSALS)
@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_strong_duality(case, solver):
    if solver == "scip":
        pytest.importorskip("pyscipopt")
    mpec = problem_of(case)
    reformulation = bl.StrongDuality(solver=solver)
    if solver == "scip" and case.name in ENDLESS["strong duality"]:
        with pytest.raises((LimitReachedError, *right(case))):
            bl.solve(mpec, reformulation, options=SolverOptions(time_limit=0.5))
        return
    if solver == "scip" and case.name in UNTRUSTED["strong duality"]:
        with pytest.raises((NumericalError, *right(case))):
            bl.solve(mpec, reformulation, options=BRIEF)
        return
    try:
        check(case, mpec, reformulation)
    except ModelError as refused:
        if not any(reason in refused.what for reason in REFUSALS[solver]):
            raise


def test_strong_duality_with_an_integer_leader_is_a_milp():
    """Lots of 3 into a need of 10 that g serves at 2 up to 4, and 20 a unit pays for what lacks.

    n lots leave 10 - 3n to g: the price is 20 up to n = 1, anything from 2 to 20 at n = 2, 2 at n = 3 and
    0 at n = 4, where there is too much. Price + 9 n is 29 at n = 1, at most 38 at n = 2, 29, and 36.
    """
    model = linopy.Model()
    n = model.add_variables(0, 4, integer=True, name="n")
    g, lack, spill = (
        model.add_variables(0, most, name=name) for name, most in (("g", 4), ("lack", inf), ("spill", inf))
    )
    need = model.add_constraints(g + lack - spill + 3 * n == 10, name="need")
    mpec = bl.kkt(model, bl.Follower(variables=[g, lack, spill], constraints=[need], cost=2 * g + 20 * lack))
    solution = bl.solve(mpec.maximise(mpec.dual["need"] + 9 * mpec.variables["n"]), bl.StrongDuality())
    solution.certificate.require()
    assert solution.certificate.methods == {"strong duality": 1}
    assert (solution.objective, float(solution["n"])) == pytest.approx((38.0, 2.0))
