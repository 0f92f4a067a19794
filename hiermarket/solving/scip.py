"""SCIP behind the same door as HiGHS: for SOS1 sets, indicators, products and non-convex objectives.

PySCIPOpt is an optional extra; SCIP under the Apache 2.0 licence comes with its wheel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, triu

from hiermarket.errors import ModelError
from hiermarket.solving.solver import Answer, Outcome

if TYPE_CHECKING:
    from hiermarket.solving.extended import Extended
    from hiermarket.solving.program import Program
    from hiermarket.solving.solver import SolverOptions

#: SCIP's word for each outcome; everything else is trouble.
_OUTCOMES = {
    "optimal": Outcome.OPTIMAL,
    "infeasible": Outcome.INFEASIBLE,
    "unbounded": Outcome.UNBOUNDED,
    "timelimit": Outcome.LIMIT,
    "nodelimit": Outcome.LIMIT,
    "gaplimit": Outcome.OPTIMAL,
}

#: Least gap, relative and absolute, of problems with products.
SPATIAL_GAP = 5e-7


def solve_scip(extended: Extended, options: SolverOptions) -> Answer:
    """Solve a program with SOS1 sets, indicators and products by SCIP.

    Parameters
    ----------
    extended : Extended
        The program.
    options : SolverOptions
        Tolerances and limits; SCIP's feasibility tolerance is not set below 1e-7.

    Raises
    ------
    ModelError
        PySCIPOpt is not installed.
    """
    try:
        import pyscipopt
    except ImportError:
        raise ModelError(
            "SOS1 sets, indicators and non-convex objectives need SCIP, which is not installed",
            where="pyscipopt",
            remedy="Install the extra, pip install 'hiermarket[scip]', or use Branching().",
        ) from None
    model, columns = _model(pyscipopt, extended, options)
    status = _run(model)
    if status == "inforunbd":
        # a point without an objective tells which of the two it is
        model, columns = _model(pyscipopt, extended, options, with_objective=False)
        status = _run(model)
        status = "unbounded" if model.getNSols() else status
    return _answer(extended.program, model, columns, _OUTCOMES.get(status, Outcome.TROUBLE), status)


def _run(model: Any) -> str:  # noqa: ANN401 (PySCIPOpt has no types)
    """Solve and return SCIP's word for the end, or for what stopped it."""
    try:
        model.optimize()
    except Exception as error:
        # PySCIPOpt raises plain exceptions, as of an LP in numerical trouble
        if type(error) is not Exception:
            raise
        return str(error).removeprefix("SCIP: ")
    return str(model.getStatus())


def _model(
    scip: Any,  # noqa: ANN401 (PySCIPOpt has no types)
    extended: Extended,
    options: SolverOptions,
    *,
    with_objective: bool = True,
) -> tuple[Any, list[Any]]:
    program = extended.program
    model = scip.Model()
    model.hideOutput()
    # SCIP hands a thousandth of it to its LP solver, which takes 1e-10 at best
    tolerance = max(options.feasibility, 1e-7)
    # products hold to that tolerance only: a gap below it never closes
    gap = SPATIAL_GAP if program.quadratic is not None or len(extended.products.row) else 0.0
    for name, value in {
        "numerics/feastol": tolerance,
        "numerics/dualfeastol": tolerance,
        "limits/gap": max(options.gap, gap),
        "limits/absgap": gap,
        "limits/time": min(options.time_limit, 1e20),
        "randomization/randomseedshift": options.seed,
        "presolving/maxrounds": -1 if options.presolve else 0,
    }.items():
        model.setParam(name, value)
    columns = [
        model.addVar(
            vtype="I" if whole else "C",
            lb=lower if math.isfinite(lower) else None,
            ub=upper if math.isfinite(upper) else None,
        )
        for whole, lower, upper in zip(
            program.integer.tolist(), program.lower.tolist(), program.upper.tolist(), strict=True
        )
    ]
    _add_rows(scip, model, columns, extended)
    for first, second in zip(extended.sets.first.tolist(), extended.sets.second.tolist(), strict=True):
        model.addConsSOS1([columns[first], columns[second]])
    _add_indicators(model, columns, extended)
    if with_objective:
        _set_objective(scip, model, columns, program)
    return model, columns


def _add_indicators(model: Any, columns: list[Any], extended: Extended) -> None:  # noqa: ANN401 (PySCIPOpt has no types)
    """Add each indicator as a SOS1 set of its column and the binary, or its complement.

    The column is not below zero in its sign, so that this says the same. SCIP's own
    indicator rows lost optima in presolve: its dual reductions called worse points optimal.
    """
    indicators = extended.indicators
    opposite: dict[int, Any] = {}
    for binary in np.unique(indicators.binary).tolist():
        opposite[binary] = model.addVar(vtype="I", lb=0, ub=1)
        model.addCons(columns[binary] + opposite[binary] == 1)
    for binary, value, column in zip(
        indicators.binary.tolist(), indicators.value.tolist(), indicators.column.tolist(), strict=True
    ):
        model.addConsSOS1([columns[binary] if value else opposite[binary], columns[column]])


def _add_rows(scip: Any, model: Any, columns: list[Any], extended: Extended) -> None:  # noqa: ANN401 (PySCIPOpt has no types)
    program, products = extended.program, extended.products
    matrix = program.matrix
    of_row: dict[int, list[Any]] = {}
    for row, first, second, coefficient in zip(
        products.row.tolist(),
        products.first.tolist(),
        products.second.tolist(),
        products.coefficient.tolist(),
        strict=True,
    ):
        of_row.setdefault(row, []).append(coefficient * columns[first] * columns[second])
    for row in range(program.shape[0]):
        here = slice(matrix.indptr[row], matrix.indptr[row + 1])
        pairs = zip(matrix.data[here].tolist(), matrix.indices[here].tolist(), strict=True)
        terms = [value * columns[column] for value, column in pairs] + of_row.get(row, [])
        lower, upper = float(program.row_lower[row]), float(program.row_upper[row])
        if not terms or not (math.isfinite(lower) or math.isfinite(upper)):
            continue
        left = scip.quicksum(terms)
        if lower == upper:
            model.addCons(left == lower)
            continue
        if math.isfinite(lower):
            model.addCons(left >= lower)
        if math.isfinite(upper):
            model.addCons(left <= upper)


def _set_objective(scip: Any, model: Any, columns: list[Any], program: Program) -> None:  # noqa: ANN401 (PySCIPOpt has no types)
    sense = "minimize" if program.minimise else "maximize"
    terms = [program.cost[column] * columns[column] for column in np.flatnonzero(program.cost)]
    if program.quadratic is None:
        model.setObjective(scip.quicksum(terms), sense)
        return
    # SCIP's objective is linear: ½ x'Qx goes below (or above) a variable of its own
    value = model.addVar(lb=None, ub=None)
    above = coo_array(triu(program.quadratic))
    factor = np.where(above.row == above.col, 0.5, 1.0) * above.data
    products = [
        coefficient * columns[first] * columns[second]
        for coefficient, first, second in zip(factor.tolist(), above.row.tolist(), above.col.tolist(), strict=True)
    ]
    curved = scip.quicksum(products)
    model.addCons(value >= curved if program.minimise else value <= curved)
    model.setObjective(scip.quicksum(terms) + value, sense)


def _answer(program: Program, model: Any, columns: list[Any], outcome: Outcome, status: str) -> Answer:  # noqa: ANN401 (PySCIPOpt has no types)
    # after an error SCIP is not to be asked
    ended = outcome in (Outcome.OPTIMAL, Outcome.LIMIT)
    has_point = ended and model.getNSols() > 0
    x = np.full(len(columns), np.nan)
    objective = float("nan")
    if has_point:
        best = model.getBestSol()
        x = np.array([best[column] for column in columns], dtype=float)
        objective = program.value(x)
    return Answer(
        outcome=outcome,
        status=f"SCIP: {status}",
        x=x,
        dual=np.full(program.shape[0], np.nan),
        reduced_cost=np.full(len(columns), np.nan),
        objective=objective,
        has_point=has_point,
        bound=float(model.getDualbound()) if ended else float("nan"),
    )
