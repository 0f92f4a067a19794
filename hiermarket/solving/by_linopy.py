"""Any solver that linopy knows (Gurobi, CPLEX, Xpress, ...) behind the same door, through a plain linopy model."""

from __future__ import annotations

import logging
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import csr_array

from hiermarket.errors import ModelError, some_labels
from hiermarket.solving.program import quiet
from hiermarket.solving.solver import Answer, Outcome
from hiermarket.solving.sparse_rows import labelled

if TYPE_CHECKING:
    import linopy

    from hiermarket.solving.extended import Extended
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.solving.solver import SolverOptions

_OUTCOMES = {
    "optimal": Outcome.OPTIMAL,
    "infeasible": Outcome.INFEASIBLE,
    "unbounded": Outcome.UNBOUNDED,
    "time_limit": Outcome.LIMIT,
    "iteration_limit": Outcome.LIMIT,
}
#: The solvers' own names of their tolerances and limits.
_OPTIONS = {
    "gurobi": {
        "FeasibilityTol": "feasibility",
        "OptimalityTol": "feasibility",
        "IntFeasTol": "feasibility",
        "MIPGap": "gap",
        "TimeLimit": "time_limit",
        "Seed": "seed",
    },
}


def solve_by_linopy(extended: Extended, options: SolverOptions, solver: str) -> Answer:
    """Solve a program with SOS1 sets and indicators by a solver that linopy knows.

    Parameters
    ----------
    extended : Extended
        The program, without products in rows; its objective is linear.
    options : SolverOptions
        Tolerances and limits, passed on where the solver's names for them are known here.
    solver : str
        linopy's name of the solver.

    Raises
    ------
    ModelError
        A solver that is not installed; products, which linopy has no rows for.
    """
    import linopy

    if solver not in linopy.available_solvers:
        raise ModelError(
            f"linopy does not find the solver {solver!r}",
            where=f"installed: {some_labels(list(linopy.available_solvers))}",
            remedy="Install it, or use SCIP: pip install 'hiermarket[scip]'.",
        )
    if len(extended.products.row) or extended.program.quadratic is not None:
        raise ModelError(
            "linopy passes no products in rows and no quadratic objective beside binaries",
            where=f"solver={solver!r}",
            remedy='Use solver="scip".',
        )
    with linopy.options as settings:
        settings.set_value(semantics="v1")
        model = _model(extended)
        chosen = {name: getattr(options, ours) for name, ours in _OPTIONS.get(solver, {}).items()}
        if solver == "gurobi":
            # the least that Gurobi takes
            chosen |= {name: max(chosen[name], 1e-9) for name in ("FeasibilityTol", "OptimalityTol", "IntFeasTol")}
        status, condition = _quietly(model, solver, chosen)
    program = extended.program
    found = status == "ok"
    x: Floats = np.asarray(model.variables["x"].solution, dtype=float) if found else np.full(program.shape[1], np.nan)
    return Answer(
        outcome=_OUTCOMES.get(condition, Outcome.TROUBLE),
        status=f"{solver}: {condition}",
        x=x,
        dual=np.full(program.shape[0], np.nan),
        reduced_cost=np.full(program.shape[1], np.nan),
        objective=program.value(x) if found else float("nan"),
        has_point=found,
        bound=float("nan"),
    )


def _quietly(model: linopy.Model, solver: str, chosen: dict[str, Any]) -> tuple[str, str]:
    """Solve without linopy's log: the outcome says what there is to say."""
    with quiet("linopy", logging.ERROR), redirect_stdout(StringIO()):
        status, condition = model.solve(solver, io_api="direct", progress=False, **chosen)
    return str(status), str(condition)


def _model(extended: Extended) -> linopy.Model:
    """Return the program as a linopy model over one dimension of columns and one of rows."""
    import linopy

    program = extended.program
    model = linopy.Model()
    column = pd.RangeIndex(program.shape[1], name="column")
    lower, upper = (xr.DataArray(side, [column]) for side in (program.lower, program.upper))
    x = model.add_variables(lower, upper, name="x")
    _add_rows(model, program)
    whole = np.flatnonzero(program.integer)
    if len(whole):
        # linopy's variables are integer by the array: those columns get a twin
        own = pd.RangeIndex(len(whole), name="whole")
        bounds = (xr.DataArray(side[whole], [own]) for side in (program.lower, program.upper))
        binary = bool(((program.lower[whole] == 0) & (program.upper[whole] == 1)).all())
        kind = {"binary": True} if binary else dict(zip(("lower", "upper"), bounds, strict=True)) | {"integer": True}
        twin = model.add_variables(coords=[own], name="integers", **kind)
        model.add_constraints(_picked(x, whole, "whole") - twin == 0, name="twins")
    sets = extended.sets
    if len(sets.first):
        of_set = pd.RangeIndex(len(sets.first), name="set")
        side = pd.Index(["first", "second"], name="side")
        members = model.add_variables(coords=[of_set, side], name="members")
        at = np.stack([sets.first, sets.second], axis=1)
        for name in side:
            place = at[:, list(side).index(name)]
            model.add_constraints(members.sel(side=name, drop=True) - _picked(x, place, "set") == 0, name=f"set-{name}")
        model.add_sos_constraints(members, sos_type=1, sos_dim="side")
    indicators = extended.indicators
    for value in (0, 1):
        chosen = np.flatnonzero(indicators.value == value)
        if len(chosen):
            name = f"indicator_{value}"
            number = pd.RangeIndex(len(chosen), name=name)
            switch = model.add_variables(coords=[number], binary=True, name=f"switch_{value}")
            original = _picked(x, indicators.binary[chosen], name)
            model.add_constraints(1 * switch - original == 0, name=f"switches_{value}")
            held = xr.DataArray(indicators.sign[chosen], [number]) * _picked(x, indicators.column[chosen], name)
            model.add_indicator_constraints(switch, value, held, "<=", 0.0, name=name)
    objective = (xr.DataArray(program.cost, [column]) * x).sum()
    model.add_objective(objective, sense="min" if program.minimise else "max")
    return model


def _picked(x: linopy.Variable, at: Ints, dim: str) -> linopy.LinearExpression:
    """Return some columns of x along a dimension of another name."""
    rows = csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=(len(at), x.size))
    return _over(x, rows, np.zeros(len(at)), dim)


def _over(x: linopy.Variable, rows: csr_array, constant: Floats, dim: str) -> linopy.LinearExpression:
    number = pd.RangeIndex(rows.shape[0], name=dim)
    return labelled(x.model, rows, constant, xr.DataArray(np.arange(rows.shape[0]), [number]))


def _add_rows(model: linopy.Model, program: Program) -> None:
    x = model.variables["x"]
    equal = program.row_lower == program.row_upper
    for name, side, sign in (
        ("equal", program.row_lower, "="),
        ("low", program.row_lower, ">="),
        ("high", program.row_upper, "<="),
    ):
        rows = np.flatnonzero(equal if sign == "=" else np.isfinite(side) & ~equal)
        # a row without entries holds or not whatever x is: the caller has looked
        rows = rows[np.diff(program.matrix.indptr)[rows] > 0]
        if len(rows):
            left = _over(x, csr_array(program.matrix[rows, :]), -side[rows], name)
            model.add_constraints(left, sign, 0.0, name=name)
