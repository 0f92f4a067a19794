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
    from hiermarket.solving.program import Bools, Floats, Program
    from hiermarket.solving.solver import Answer

#: A contradiction by less than this, with multipliers of size one, may be rounding.
EMPTY = 1e-11
#: A reduced cost of a column without bound, below this relative to its terms, is rounding:
#: what HiGHS leaves in LPs at their feasibility of 1e-9, and in QPs.
ROUNDING = 1e-8
ROUNDING_OF_QP = 1e-6
#: A bound beyond this turns the rounding of reduced costs into figures that count.
HUGE = 1e6
#: A proof that misses the objective by less than this, relative to 1 + its size, needs no better multipliers.
TIGHT = 1e-9
#: How often multipliers that change their sign on the way are left out and the rest is moved again.
ROUNDS = 5


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
    proved = _proved_at(program, answer.x, answer.dual)
    if proved >= answer.objective - TIGHT * (1.0 + abs(answer.objective)):
        return proved
    better = refined(program, answer.x, answer.dual)
    return proved if better is None else max(proved, _proved_at(program, *better))


def _proved_at(program: Program, x: Floats, dual: Floats) -> float:
    if program.quadratic is None:
        return least_proved(program, program.cost, dual)
    # the tangent at any point x:  f(z) ≥ f(x) + ∇f(x)'(z − x)
    slope = program.cost + program.quadratic @ x
    return program.value(x) - float(slope @ x) + least_proved(program, slope, dual, ROUNDING_OF_QP)


def refined(program: Program, x: Floats, dual: Floats) -> tuple[Floats, Floats] | None:
    """Return a point and multipliers near those given that ask nothing of huge bounds; None where none is huge.

    A bound of 1e9 that was meant as none turns a reduced cost of 1e-10, a solver's rounding,
    into 0.1. Any point and any multipliers prove a bound, so they are moved to where these
    reduced costs vanish: (Q Δx − A'Δy)_j = −d_j, the smallest change that does it.

    Parameters
    ----------
    program : Program
        Minimised.
    x, dual : float arrays
        A solver's point and multipliers.
    """
    side = np.maximum(np.abs(program.lower), np.abs(program.upper))
    sides = np.concatenate([side, np.abs(program.row_lower), np.abs(program.row_upper)])
    if not (np.isfinite(sides) & (sides >= HUGE)).any() or not math.isfinite(dual.sum()):
        return None
    far = _far(program, dual)
    slope = program.cost if program.quadratic is None else program.cost + program.quadratic @ x
    size = 1.0 + float(np.abs(dual).max())
    y, silent = dual.copy(), np.zeros(len(dual), dtype=bool)
    for _ in range(ROUNDS):
        # a multiplier of rounding size that pushes to a far side of its row is none
        silent |= far & (np.abs(y) <= ROUNDING_OF_QP * size)
        y[silent] = 0.0
        reduced = slope - program.matrix.T @ y
        loose = np.flatnonzero((side >= HUGE) & (np.abs(reduced) <= ROUNDING_OF_QP * (size + np.abs(slope))))
        held = np.flatnonzero(((y != 0) | (program.row_lower == program.row_upper)) & ~silent)
        change = -program.matrix[held, :][:, loose].toarray().T
        if program.quadratic is not None:
            change = np.hstack([change, program.quadratic[loose, :].toarray()])
        step = np.linalg.lstsq(change, -reduced[loose], rcond=None)[0]
        y[held] += step[: len(held)]
        if program.quadratic is not None:
            x = x + step[len(held) :]
            slope = program.cost + program.quadratic @ x
        far = _far(program, y)
        if not (far & (np.abs(y) <= ROUNDING_OF_QP * size)).any():
            break
    return x, y


def _far(program: Program, dual: Floats) -> Bools:
    """Return which multipliers push to a side of their row that is huge or open."""
    of_row = np.where(dual > 0, program.row_lower, program.row_upper)
    return np.asarray((np.abs(of_row) >= HUGE) & (dual != 0))


def proves_empty(program: Program, ray: Floats | None) -> bool:
    """Return whether a ray of multipliers proves that no point satisfies a program."""
    if (program.lower > program.upper).any() or (program.row_lower > program.row_upper).any():
        return True
    if ray is None or not np.isfinite(ray).all():
        return False
    nothing = np.zeros(program.shape[1])
    scaled = ray / max(float(np.abs(ray).max(initial=0.0)), 1e-300)
    return least_proved(program, nothing, scaled) > EMPTY or least_proved(program, nothing, -scaled) > EMPTY
