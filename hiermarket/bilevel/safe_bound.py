"""What a solver's multipliers prove by themselves, whatever the solver claims.

For L ≤ Ax ≤ U, l ≤ x ≤ u and any y, with d = c − A'y::

    c'x = y'Ax + d'x  ≥  Σ_i y_i (L_i if y_i > 0 else U_i) + Σ_j d_j (l_j if d_j > 0 else u_j)

so y from a solver is a proof of this bound, good or bad, and not a claim. With c = 0 a bound
above zero proves that there is no point. A convex quadratic objective lies above its tangent.
See Neumaier and Shcherbina (2004), https://doi.org/10.1007/s10107-003-0433-3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hiermarket.solving.program import Floats, Program
    from hiermarket.solving.solver import Answer

#: A contradiction by less than this, with multipliers of size one, may be rounding.
EMPTY = 1e-11
#: A reduced cost of a column without bound, below this relative to its terms, is rounding:
#: what HiGHS leaves in LPs at their feasibility of 1e-9, and in QPs.
ROUNDING = 1e-8
ROUNDING_OF_QP = 1e-6


def least_proved(program: Program, cost: Floats, dual: Floats, rounding: float = ROUNDING) -> float:
    """Return the bound of cost'x over a program that row multipliers prove; −inf if they prove none.

    Parameters
    ----------
    program : Program
        Rows and bounds.
    cost : float array
        What is minimised.
    dual : float array
        Any multipliers of the rows, ∂(least)/∂(right-hand side).
    rounding : float
        See `ROUNDING`.
    """
    if not math.isfinite(dual.sum()):
        return float("-inf")
    # a multiplier that pushes to a side where the row is open proves nothing
    side = np.where(dual > 0, program.row_lower, program.row_upper)
    has_side = np.isfinite(side)
    y, side = np.where(has_side, dual, 0.0), np.where(has_side, side, 0.0)
    # y'A by hand: programs are small, and a transposed sparse array costs more than the product
    matrix = program.matrix
    weights = np.repeat(y, matrix.indptr[1:] - matrix.indptr[:-1]) * matrix.data
    reduced = cost - np.bincount(matrix.indices, weights=weights, minlength=len(cost))
    bound = np.where(reduced > 0, program.lower, program.upper)
    open_ = np.isinf(bound)
    if open_.any():
        size = 1.0 + np.abs(cost[open_]) + float(np.abs(y).max(initial=0.0))
        if (np.abs(reduced[open_]) > rounding * size).any():
            return float("-inf")
        bound[open_] = 0.0
    return float(y @ side + reduced @ bound)


def objective_proved(program: Program, answer: Answer) -> float:
    """Return the bound of a minimised objective that an optimal answer's multipliers prove."""
    if program.quadratic is None:
        return least_proved(program, program.cost, answer.dual)
    # the tangent at x:  f(z) ≥ f(x) + ∇f(x)'(z − x)
    slope = program.cost + program.quadratic @ answer.x
    return program.value(answer.x) - float(slope @ answer.x) + least_proved(program, slope, answer.dual, ROUNDING_OF_QP)


def proves_empty(program: Program, ray: Floats | None) -> bool:
    """Return whether a ray of multipliers proves that no point satisfies a program."""
    if (program.lower > program.upper).any() or (program.row_lower > program.row_upper).any():
        return True
    if ray is None or not np.isfinite(ray).all():
        return False
    nothing = np.zeros(program.shape[1])
    scaled = ray / max(float(np.abs(ray).max(initial=0.0)), 1e-300)
    return least_proved(program, nothing, scaled) > EMPTY or least_proved(program, nothing, -scaled) > EMPTY
