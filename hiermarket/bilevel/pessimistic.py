"""The leader's value if an indifferent follower answers as badly for the leader as it may.

With (a*, y*) optimal for a follower, a feasible a is optimal exactly if it is complementary to
y*, and a feasible y exactly if it is complementary to a* (for a quadratic cost with Q a = Q a*
besides). Both faces together are one linear program over the KKT rows, with the leader fixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, vstack

from hiermarket.bilevel.places import positions
from hiermarket.solving.blocks import solve_blocks
from hiermarket.solving.solver import Outcome

if TYPE_CHECKING:
    from hiermarket.bilevel.canonical import System
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.problem import Problem
    from hiermarket.solving.program import Bools, Floats, Program
    from hiermarket.solving.solver import SolverOptions

#: By how much Q a may leave Q a*, relative to 1 + its size: what a QP solver leaves.
LEVEL = 1e-7


@dataclass(frozen=True, slots=True)
class Pessimistic:
    """The worst value at the leader's decision.

    Attributes
    ----------
    value : float or None
        The leader's objective; None where it was not computed.
    note : str
        Why not, or what the value leaves out.
    """

    value: float | None
    note: str


def pessimistic(
    mpec: Mpec, problem: Problem, x: Floats, pairs: tuple[Bools, Bools], options: SolverOptions
) -> Pessimistic:
    """Return the leader's worst value over the followers' optimal decisions and multipliers.

    Parameters
    ----------
    mpec : Mpec
        The problem.
    problem : Problem
        Its arrays.
    x : float array
        The solution.
    pairs : pair of bool arrays
        Which pairs have a slack, and which a multiplier, that is not zero.
    options : SolverOptions
        Of the LPs.
    """
    if mpec.objective is None or not mpec.objective.is_linear:
        return Pessimistic(None, "computed for linear objectives of the leader only")
    own = np.concatenate([system.columns for system in mpec.systems])
    if any(np.isin(system.others, own).any() for system in mpec.systems):
        return Pessimistic(None, "not computed: followers answer one another")
    program = problem.program
    followers = np.isin(program.columns, np.concatenate([own, mpec.multiplier_labels]))
    rows = np.concatenate([*(system.rows for system in mpec.systems), mpec.stationarity_labels])
    asked = np.isin(program.rows, rows)
    face = _face(mpec, program, x, followers, pairs)
    face = replace(
        face,
        row_lower=np.where(asked, face.row_lower, -np.inf),
        row_upper=np.where(asked, face.row_upper, np.inf),
    )
    for system in mpec.systems:
        face = face if system.is_linear else _with_level(face, system, x)
    # nothing outside the face moves, so that its value needs no bound
    answers = solve_blocks(replace(face, minimise=not program.minimise), options)
    if any(outcome is Outcome.UNBOUNDED for outcome in answers.outcome):
        return Pessimistic(float("inf") if program.minimise else float("-inf"), "")
    if not answers.optimal:
        return Pessimistic(None, "not computed: the followers' optimal faces were not found to the tolerance")
    left_out = abs(program.matrix[np.flatnonzero(~asked), :]) @ followers.astype(float)
    note = "the leader's rows on the followers' answer are not asked for" if (left_out > 0).any() else ""
    return Pessimistic(float(answers.objective.sum() + problem.constant), note)


def _face(mpec: Mpec, program: Program, x: Floats, followers: Bools, pairs: tuple[Bools, Bools]) -> Program:
    """Fix the leader, every slack whose multiplier is not zero, and every multiplier whose slack is not."""
    has_slack, has_multiplier = pairs
    lower, upper = program.lower.copy(), program.upper.copy()
    row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
    lower[~followers] = upper[~followers] = x[~followers]
    of = mpec.pairs
    silent = positions(of.multiplier[has_slack], program.columns)
    lower[silent] = upper[silent] = 0.0
    value = -of.constant / of.sign
    in_row = has_multiplier & (of.row >= 0)
    at = positions(of.row[in_row], program.rows)
    row_lower[at] = row_upper[at] = value[in_row]
    in_column = has_multiplier & (of.row < 0)
    at = positions(of.column[in_column], program.columns)
    lower[at] = upper[at] = value[in_column]
    return replace(
        program,
        lower=lower,
        upper=upper,
        row_lower=row_lower,
        row_upper=row_upper,
        integer=np.zeros(len(lower), dtype=bool),
    )


def _with_level(program: Program, system: System, x: Floats) -> Program:
    """Add Q a = Q a*."""
    curved = coo_array(system.hessian)
    at = positions(system.columns, program.columns)
    level = system.hessian @ x[at]
    rows = csr_array(coo_array((curved.data, (curved.row, at[curved.col])), shape=(len(at), program.shape[1])))
    margin = LEVEL * (1.0 + np.abs(level))
    return replace(
        program,
        matrix=csr_array(vstack([program.matrix, rows])),
        row_lower=np.concatenate([program.row_lower, level - margin]),
        row_upper=np.concatenate([program.row_upper, level + margin]),
        rows=np.arange(program.shape[0] + len(at)),
    )
