"""Solve a bilevel problem, part by part, and certify the solution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.auto import Auto
from hiermarket.bilevel.checking import certify
from hiermarket.bilevel.diagnosis import diagnose
from hiermarket.bilevel.naming import part_name
from hiermarket.bilevel.precedent import Precedent, in_order
from hiermarket.bilevel.problem import problem_of
from hiermarket.bilevel.sides import decided
from hiermarket.errors import LimitReachedError, ModelError
from hiermarket.solving.solver import Outcome, SolverOptions, failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    import linopy
    import xarray as xr

    from hiermarket.bilevel.certificate import Certificate
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.problem import Part, Problem
    from hiermarket.bilevel.reformulation import PartAnswer, Reformulation
    from hiermarket.errors import InfeasibleError, SolveError
    from hiermarket.solving.program import Floats


@dataclass(frozen=True, slots=True, repr=False)
class Solution:
    """The leader's optimum with the followers' answer to it.

    Attributes
    ----------
    variables : mapping of DataArray
        Values of the leader's and followers' variables, by name; NaN where masked. A
        mapping, not one Dataset: arrays may use one dimension with different labels.
    duals : mapping of DataArray
        ∂(follower's optimal cost, in its own sense)/∂(right-hand side), by row family.
    multipliers : mapping of DataArray
        Of bounds: ``lower-p``, ``upper-p`` (magnitudes) and ``fixed-p`` (reduced cost).
    objective : float
        The leader's value, with the constant of its objective.
    status : str
        ``"optimal"``; ``"limit reached"`` for the incumbent that a `LimitReachedError` carries,
        whose certificate then does not hold.
    certificate : Certificate
        What was checked; `Certificate.require` raises if a check fails.
    """

    variables: Mapping[str, xr.DataArray]
    duals: Mapping[str, xr.DataArray]
    multipliers: Mapping[str, xr.DataArray]
    objective: float
    status: str
    certificate: Certificate

    def __getitem__(self, name: str) -> xr.DataArray:
        return self.variables[name]

    def __repr__(self) -> str:
        shown = [f"{name}({', '.join(map(str, array.dims))})" for name, array in self.variables.items()]
        holds = "holds" if self.certificate.ok else "DOES NOT HOLD"
        head = f"Solution: {self.status}, objective {self.objective:.9g}; the certificate {holds}"
        return f"{head}\n  variables  {', '.join(shown)}\n  duals      {', '.join(self.duals)}"


def solve(mpec: Mpec, reformulation: Reformulation | None = None, *, options: SolverOptions | None = None) -> Solution:
    """Solve a bilevel problem: every independent part on its own, then a certificate for the whole.

    Parameters
    ----------
    mpec : Mpec
        The problem, with its leader's objective.
    reformulation : Reformulation, optional
        How to treat the complementarity pairs; `Auto` by default.
    options : SolverOptions, optional
        Tolerances and limits of each part.

    Returns
    -------
    Solution
        An optimistic optimum: where the follower is indifferent, it suits the leader.

    Raises
    ------
    InfeasibleError, UnboundedError, LimitReachedError, NumericalError
        With the labels of the first part that has no optimum; a limit reached carries the
        best decision so far as `incumbent`.
    ModelError
        A reformulation that cannot treat the problem exactly.

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> model = linopy.Model()
    >>> x = model.add_variables(0, 2, name="x")
    >>> y = model.add_variables(0, name="y")
    >>> need = model.add_constraints(y - 100 * x >= -100, name="need")
    >>> mpec = bl.kkt(model, bl.Follower(variables=[y], constraints=[need], cost=1 * y))
    >>> solution = bl.solve(mpec.maximise(mpec.variables["x"] + mpec.variables["y"]))
    >>> round(solution.objective, 6), float(solution["y"]), solution.certificate.ok
    (102.0, 100.0, True)
    """
    options = options or SolverOptions()
    _check_arguments(mpec, reformulation)
    problem = problem_of(mpec)
    found = _answers(problem, reformulation or Auto(), options)
    _refuse(mpec, problem, found, options)
    answers = list(found.values())
    x = np.full(len(problem.program.columns), np.nan)
    for part, answer in zip(problem.parts, answers, strict=True):
        x[part.columns] = answer.x
    limited = [part for part, answer in enumerate(answers) if answer.outcome is Outcome.LIMIT]
    certificate = certify(mpec, problem, x, answers, options)
    status = "limit reached" if limited else "optimal"
    solution = _solution(mpec, problem, x, sum(answer.objective for answer in answers), certificate, status)
    if limited:
        raise _failure(mpec, problem, answers[limited[0]], limited[0], incumbent=solution)
    return solution


def _check_arguments(mpec: object, reformulation: object) -> None:
    if not hasattr(mpec, "pairs"):
        raise ModelError(
            "Only what kkt returns can be solved", where=type(mpec).__name__, remedy="Solve kkt(model, follower)."
        )
    if reformulation is not None and (isinstance(reformulation, type) or not hasattr(reformulation, "solve")):
        raise ModelError(
            "A reformulation is an object", where=repr(reformulation), remedy="Give Auto(), BigM(), SOS1(), ..."
        )


def _answers(problem: Problem, reformulation: Reformulation, options: SolverOptions) -> dict[int, PartAnswer]:
    """Solve the parts one by one, each with what the last one of its structure has taught.

    From an infeasible part on, only those before it are solved: the first one is reported.
    """
    answers: dict[int, PartAnswer] = {}
    precedent, of = None, b""
    end = len(problem.parts)
    for part, structure in in_order(problem.parts):
        if part.number >= end:
            continue
        # structures come one after the other: a precedent of another one, and its session, are done with
        precedent, of = (precedent if of == structure else None), structure
        answer = reformulation.solve(replace(part, precedent=precedent), options)
        answers[part.number] = replace(answer, leaves=(), session=None)
        if answer.outcome is Outcome.INFEASIBLE:
            end = part.number
        if answer.outcome is Outcome.OPTIMAL:
            precedent = Precedent(answer.x, decided(part, answer.x), answer.leaves, answer.session)
    return dict(sorted(answers.items()))


def _refuse(mpec: Mpec, problem: Problem, answers: dict[int, PartAnswer], options: SolverOptions) -> None:
    """Raise the error of the part that has no answer: one infeasible part makes the whole infeasible."""
    order = (Outcome.INFEASIBLE, Outcome.TROUBLE, Outcome.LIMIT, Outcome.UNBOUNDED)
    for outcome in order:
        for number, answer in answers.items():
            # a limit reached with a point is an incumbent; a point that a second proof refutes is none
            if answer.outcome is outcome and not (outcome is Outcome.LIMIT and np.isfinite(answer.x).all()):
                if outcome is Outcome.INFEASIBLE:
                    raise _infeasible(mpec, problem.parts[number], options)
                raise _failure(mpec, problem, answer, number)


def _infeasible(mpec: Mpec, part: Part, options: SolverOptions) -> InfeasibleError:
    found = diagnose(mpec, part, options)
    where = part_name(mpec.model, part.program.columns)
    return found.error("The bilevel problem", where=where, status=found.status, remedy=found.remedy)


def _failure(
    mpec: Mpec, problem: Problem, answer: PartAnswer, number: int, incumbent: Solution | None = None
) -> SolveError:
    part = problem.parts[number]
    where = part_name(mpec.model, part.program.columns)
    error = failure(answer.outcome, what="The bilevel problem", where=where, status=answer.status)
    if isinstance(error, LimitReachedError):
        error.incumbent = incumbent
    return error


def _solution(
    mpec: Mpec, problem: Problem, x: Floats, objective: float, certificate: Certificate, status: str
) -> Solution:
    width = 1 + max((variable.range[1] for _, variable in mpec.model.variables.items()), default=0)
    values = np.full(width, np.nan)
    values[problem.program.columns] = x

    def read(variable: linopy.Variable, name: str) -> xr.DataArray:
        labels = variable.labels
        data = np.where(np.asarray(labels) == -1, np.nan, values[np.asarray(labels)])
        data.flags.writeable = False
        return labels.copy(data=data).rename(name)

    multipliers = {
        variable.name: variable for kept in (mpec.lower, mpec.upper, mpec.fixed) for variable in kept.values()
    }
    own = {variable.name for variable in mpec.dual.values()} | set(multipliers)
    return Solution(
        variables=MappingProxyType({n: read(v, n) for n, v in mpec.variables.items() if n not in own}),
        duals=MappingProxyType({name: read(variable, name) for name, variable in mpec.dual.items()}),
        multipliers=MappingProxyType({name: read(variable, name) for name, variable in multipliers.items()}),
        objective=float(objective + problem.constant),
        status=status,
        certificate=certificate,
    )
