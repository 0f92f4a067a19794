"""A linopy model as arrays: read once, written back with labels."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_array, csr_array, diags_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    import linopy
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Program:
    """min or max c'x + ½ x'Qx subject to L ≤ Ax ≤ U, l ≤ x ≤ u, some x integer.

    Parameters
    ----------
    cost : (n,) array
        c, in the model's own sense.
    quadratic : (n, n) sparse array or None
        Q, the symmetric Hessian; None for a linear objective.
    matrix : (m, n) sparse rows
        A.
    row_lower, row_upper : (m,) array
        L and U; ±inf where a side is open.
    lower, upper : (n,) array
        l and u.
    integer : (n,) bool array
        Which columns are integer or binary.
    columns, rows : (n,), (m,) int array
        The model's own labels of columns and rows.
    minimise : bool
        Sense of the objective.
    """

    cost: Floats
    quadratic: csc_array | None
    matrix: csr_array
    row_lower: Floats
    row_upper: Floats
    lower: Floats
    upper: Floats
    integer: Bools
    columns: Ints
    rows: Ints
    minimise: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self.rows), len(self.columns)

    def value(self, x: Floats) -> float:
        """Return the objective at a point."""
        linear = float(self.cost @ x)
        return linear if self.quadratic is None else linear + 0.5 * float(x @ (self.quadratic @ x))

    def part(self, columns: Ints, rows: Ints, matrix: csr_array) -> Program:
        """Return the program of some columns and rows, by position, with their part of the matrix."""
        return Program(
            cost=self.cost[columns],
            quadratic=None if self.quadratic is None else csc_array(self.quadratic[:, columns][columns, :]),
            matrix=matrix,
            row_lower=self.row_lower[rows],
            row_upper=self.row_upper[rows],
            lower=self.lower[columns],
            upper=self.upper[columns],
            integer=self.integer[columns],
            columns=self.columns[columns],
            rows=self.rows[rows],
            minimise=self.minimise,
        )


def program_of(model: linopy.Model, *, scaled: bool = True) -> Program:
    """Read a linopy model's matrices once.

    Parameters
    ----------
    model : linopy.Model
        Any model without indicator rows and semi-continuous variables.
    scaled : bool
        Whether to read the arrays as the solver would get them. False undoes the
        scaling factors of the model's variables, rows and objective.

    Returns
    -------
    Program
        The arrays, with the model's labels of columns and rows.
    """
    matrices = model.matrices
    columns = np.asarray(matrices.vlabels, dtype=np.int64)
    rows = np.asarray(matrices.clabels, dtype=np.int64)
    matrix = matrices.A
    matrix = csr_array((len(rows), len(columns))) if matrix is None else csr_array(matrix)
    # a sparse product or an absent term may leave explicit zeros: they would join blocks
    matrix.eliminate_zeros()
    rhs = np.asarray(matrices.b, dtype=float)
    sense = np.asarray(matrices.sense).astype("U1")
    quadratic = matrices.Q
    program = Program(
        cost=np.asarray(matrices.c, dtype=float),
        quadratic=None if quadratic is None or quadratic.nnz == 0 else csc_array(quadratic),
        matrix=matrix,
        row_lower=np.where(sense == "<", -np.inf, rhs),
        row_upper=np.where(sense == ">", np.inf, rhs),
        lower=np.asarray(matrices.lb, dtype=float),
        upper=np.asarray(matrices.ub, dtype=float),
        integer=matrices.vtypes != "C",
        columns=columns,
        rows=rows,
        minimise=model.objective.sense == "min",
    )
    return program if scaled else _unscaled(program, model, np.asarray(matrices.var_scaling, dtype=float))


def _unscaled(program: Program, model: linopy.Model, of_column: Floats) -> Program:
    """Undo the scaling factors of variables, rows and objective."""
    from linopy.scaling import constraint_scaling_lookup

    of_row = np.asarray(constraint_scaling_lookup(model)[program.rows], dtype=float)
    of_cost = float(model.objective.scaling)
    if (of_column == 1).all() and (of_row == 1).all() and of_cost == 1:
        return program
    quadratic = program.quadratic
    if quadratic is not None:
        quadratic = csc_array(diags_array(of_column) @ quadratic @ diags_array(of_column) / of_cost)
    return replace(
        program,
        cost=program.cost * of_column / of_cost,
        quadratic=quadratic,
        matrix=csr_array(diags_array(1 / of_row) @ program.matrix @ diags_array(of_column)),
        row_lower=program.row_lower / of_row,
        row_upper=program.row_upper / of_row,
        lower=program.lower / of_column,
        upper=program.upper / of_column,
    )


@contextmanager
def quiet(name: str, level: int = logging.WARNING) -> Iterator[None]:
    """Keep a library's note of every single solve out of the user's terminal."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def write_back(model: linopy.Model, program: Program, primal: Floats, dual: Floats | None, objective: float) -> None:
    """Write a solution into a linopy model, where its labels find it.

    Parameters
    ----------
    model : linopy.Model
        The model that the program was read from.
    program : Program
        The arrays that were solved.
    primal, dual : (n,), (m,) array
        Values by position of the program; NaN where a block failed. Duals are
        ∂(objective)/∂(right-hand side); None where there are none (integers).
    objective : float
        Value of the objective, in the model's own sense.
    """
    from linopy.constants import Result, Solution, Status, TerminationCondition

    full_primal = np.full(max((v.range[1] for _, v in model.variables.items()), default=0), np.nan)
    full_primal[program.columns] = primal
    full_dual = np.full(max((c.range[1] for _, c in model.constraints.items()), default=0), np.nan)
    if dual is not None:
        full_dual[program.rows] = dual
    status = Status.from_termination_condition(TerminationCondition.optimal)
    with quiet("linopy.constants"):
        model.assign_result(Result(status=status, solution=Solution(full_primal, full_dual, objective)))
