"""What is decided about complementarity pairs, and a program in which it is so through bounds."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program


class Side(IntEnum):
    """What is decided about a pair."""

    OPEN = 0
    SLACK_ZERO = 1
    MULTIPLIER_ZERO = 2


def decided(part: Part, x: Floats, sides: Ints | None = None) -> Ints:
    """Decide every open pair as a point has it.

    Parameters
    ----------
    part : Part
        The part.
    x : float array
        A point; its first columns are the part's.
    sides : int array, optional
        What is decided already.
    """
    own = x[: part.program.shape[1]]
    guess = np.where(part.slack(own) <= part.magnitude(own), Side.SLACK_ZERO, Side.MULTIPLIER_ZERO)
    return guess if sides is None else np.where(sides == Side.OPEN, guess, sides)


def with_sides(part: Part, program: Program, sides: Ints) -> Program:
    """Return a program with the decided sides fixed through bounds.

    Parameters
    ----------
    part : Part
        The part.
    program : Program
        The part's program, or one whose first columns and rows are the part's.
    sides : int array
        A `Side` for each pair.

    Returns
    -------
    Program
        A lower and an upper bound at once leave it empty: its bounds cross.
    """
    lower, upper = program.lower.copy(), program.upper.copy()
    row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
    silent = part.multiplier[sides == Side.MULTIPLIER_ZERO]
    lower[silent] = upper[silent] = 0.0
    tight = np.flatnonzero(sides == Side.SLACK_ZERO)
    row, column, sign = part.row[tight], part.column[tight], part.sign[tight]
    # the value at which the slack is zero
    value = -part.constant[tight] / sign
    in_row = row >= 0
    row_lower[row[in_row]] = row_upper[row[in_row]] = value[in_row]
    # the bound of the other side stays
    below, above = ~in_row & (sign > 0), ~in_row & (sign < 0)
    upper[column[below]] = value[below]
    lower[column[above]] = np.maximum(lower[column[above]], value[above])
    return replace(program, lower=lower, upper=upper, row_lower=row_lower, row_upper=row_upper)
