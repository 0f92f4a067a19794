"""Strategic offers: a seller of N/5 of N units against the clearing of T hours, in four ways side by side.

`kkt`, `dual_times_primal` and `solve` of this package; the same MILP by hand in linopy and
in Pyomo; and Pyomo's own transformations from the clearing to a MILP. Each answer is held
against an enumeration of the prices that suit the seller.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from benchmarks import strategic_by_hand
from benchmarks.registry import Answers, Case, Phase, Ratio
from benchmarks.strategic_market import AGREEMENT, CAP, Market, Solved, best_profit, market

if TYPE_CHECKING:
    import linopy

    import hiermarket.bilevel as bl
    from benchmarks.strategic_pyomo import Built

#: Our phases and those of the competitors: name → (build, solve).
OURS = ("hiermarket build", "hiermarket solve")
LINOPY = ("linopy build", "linopy solve")
PYOMO = ("pyomo build", "pyomo solve")
PYOMO_KKT = ("pyomo-kkt build", "pyomo-kkt solve")


def mpec_of(given: Market) -> bl.Mpec:
    """Write the clearing down; the package derives the conditions and the linear revenue."""
    import linopy

    import hiermarket.bilevel as bl

    model = linopy.Model()
    most = given.capacity.broadcast_like(given.demand * given.capacity)
    volume = model.add_variables(lower=0, upper=most, name="volume")
    offer = model.add_variables(lower=0, upper=CAP, coords=[given.own, given.demand.indexes["hour"]], name="offer")
    balance = model.add_constraints(volume.sum("unit") == given.demand, name="balance")
    rivals = (given.cost.sel(unit=given.rivals) * volume.sel(unit=given.rivals)).sum()
    cost = rivals + (offer * volume.sel(unit=given.own)).sum()
    mpec = bl.kkt(model, bl.Follower(variables=[volume], constraints=[balance], cost=cost))
    own = mpec.variables["volume"].sel(unit=given.own)
    revenue = bl.dual_times_primal(mpec, dual="balance", primal=own)
    return mpec.maximise(revenue - (given.cost.sel(unit=given.own) * own).sum())


def build_ours(answers: Answers) -> bl.Mpec:
    return mpec_of(answers["build"])


def solve_ours(answers: Answers) -> Solved:
    import hiermarket.bilevel as bl

    solution = bl.solve(answers[OURS[0]])
    certificate = solution.certificate.require()
    return Solved(solution.objective, binaries=certificate.binaries, nodes=certificate.nodes)


def build_linopy(answers: Answers) -> linopy.Model:
    return strategic_by_hand.build(answers["build"])


def solve_linopy(answers: Answers) -> Solved:
    return strategic_by_hand.solve(answers[LINOPY[0]])


def build_pyomo(answers: Answers) -> Built:
    from benchmarks import strategic_pyomo

    return strategic_pyomo.build_by_hand(answers["build"])


def solve_pyomo(answers: Answers) -> Solved:
    from benchmarks import strategic_pyomo

    return strategic_pyomo.solve(answers[PYOMO[0]])


def build_pyomo_kkt(answers: Answers) -> Built:
    from benchmarks import strategic_pyomo

    return strategic_pyomo.build_from_clearing(answers["build"])


def solve_pyomo_kkt(answers: Answers) -> Solved:
    from benchmarks import strategic_pyomo

    return strategic_pyomo.solve(answers[PYOMO_KKT[0]])


def agree(answers: Answers) -> None:
    """Hold every proved answer against the enumeration, and say which one is wrong."""
    expected = best_profit(answers["build"])
    found = {phase: answer for phase, answer in answers.items() if isinstance(answer, Solved)}
    wrong = [
        f"{phase} says {answer.objective:.9g}"
        for phase, answer in found.items()
        if answer.proved and not abs(answer.objective - expected) <= AGREEMENT * abs(expected)
    ]
    assert not wrong, f"by enumeration the profit is {expected:.9g}; wrong: {', '.join(wrong)}"


def has_pyomo() -> bool:
    """Whether Pyomo is there, with the transformation `core.kkt`."""
    try:
        return tuple(int(part) for part in version("pyomo").split(".")[:3]) >= (6, 10, 1)
    except PackageNotFoundError:
        return False


HAS_PYOMO = has_pyomo()

_PHASES: dict[str, Phase] = {
    OURS[0]: build_ours,
    OURS[1]: solve_ours,
    LINOPY[0]: build_linopy,
    LINOPY[1]: solve_linopy,
}
_PYOMO_PHASES: dict[str, Phase] = {
    PYOMO[0]: build_pyomo,
    PYOMO[1]: solve_pyomo,
    PYOMO_KKT[0]: build_pyomo_kkt,
    PYOMO_KKT[1]: solve_pyomo_kkt,
}

CASES = (
    Case(
        name="strategic",
        title="Strategic offers for N units × T hours: kkt and solve against MILPs by hand and by Pyomo",
        build=market,
        sizes=(
            {"units": 5, "hours": 24},
            {"units": 20, "hours": 96},
            {"units": 50, "hours": 96},
            {"units": 20, "hours": 672},
        ),
        phases=_PHASES | (_PYOMO_PHASES if HAS_PYOMO else {}),
        agree=agree,
        ratios=(
            Ratio(OURS[:1], LINOPY[:1]),
            *(Ratio(other, OURS) for other in ((LINOPY, PYOMO, PYOMO_KKT) if HAS_PYOMO else (LINOPY,))),
        ),
        remark="" if HAS_PYOMO else "No Pyomo >= 6.10.1: its phases are left out (pip install 'hiermarket[bench]')",
    ),
)
