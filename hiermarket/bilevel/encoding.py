"""Complementarity pairs inside a program: by big-M rows, SOS1 sets or indicators, each pair its own way.

With slack s ≥ 0 and multiplier m ≥ 0 of a pair, and z binary::

    big-M       s ≤ M_s z,   m ≤ M_m (1 − z)
    indicator   z = 0 ⇒ s ≤ 0,   z = 1 ⇒ m ≤ 0
    SOS1        at most one of s and m is not zero
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array, vstack

from hiermarket.bilevel.complementarity import slack_rows
from hiermarket.bilevel.sides import Side, with_sides
from hiermarket.solving.extended import Extended, Indicators, Sets

if TYPE_CHECKING:
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Floats, Ints, Program


class Way(IntEnum):
    """How a pair is written."""

    BIG_M = 0
    SOS1 = 1
    INDICATOR = 2


@dataclass(frozen=True, slots=True)
class Choices:
    """What is decided about the pairs of a part, and how each open one is written.

    Attributes
    ----------
    sides : int array
        A `Side` for each pair.
    ways : int array
        A `Way` for each pair.
    slack, multiplier : float arrays
        Bounds M_s and M_m: big-M needs finite ones; an explicit slack is bounded by M_s.
    """

    sides: Ints
    ways: Ints
    slack: Floats
    multiplier: Floats

    @property
    def binaries(self) -> int:
        """How many pairs get a binary."""
        return int(((self.sides == Side.OPEN) & (self.ways != Way.SOS1)).sum())


def encode(part: Part, base: Program, choices: Choices) -> Extended:
    """Write the open pairs of a part into a program.

    Parameters
    ----------
    part : Part
        The part, with the leader's objective.
    base : Program
        The part's program, or a relaxation whose first columns and rows are the part's.
    choices : Choices
        Decided sides, and the way of each open pair.

    Returns
    -------
    Extended
        Columns: those of `base`, an explicit slack for each pair by SOS1 or indicator, a
        binary for each pair by big-M or indicator.
    """
    open_ = choices.sides == Side.OPEN
    by_m = np.flatnonzero(open_ & (choices.ways == Way.BIG_M))
    explicit = np.flatnonzero(open_ & (choices.ways != Way.BIG_M))
    by_indicator = np.flatnonzero(open_ & (choices.ways == Way.INDICATOR))
    base = with_sides(part, base, choices.sides)
    width, first_slack = base.shape[1], base.shape[1]
    first_binary = first_slack + len(explicit)
    size = first_binary + len(by_m) + len(by_indicator)
    z_m = first_binary + np.arange(len(by_m))
    z_indicator = first_binary + len(by_m) + np.arange(len(by_indicator))
    s = first_slack + np.arange(len(explicit))

    # constant + sign·activity ≤ M_s z,   m ≤ M_m (1 − z),   s − sign·activity = constant
    slack = _wide(_slacks(part, base, by_m), size) + _unit(z_m, -choices.slack[by_m], size)
    multiplier = _unit(part.multiplier[by_m], part.multiplier_sign[by_m], size)
    multiplier = multiplier + _unit(z_m, choices.multiplier[by_m], size)
    defined = _unit(s, np.ones(len(s)), size) - _wide(_slacks(part, base, explicit), size)
    rows = [_wide(base.matrix, size), csr_array(slack), csr_array(multiplier), csr_array(defined)]
    least = np.full(2 * len(by_m), -np.inf)
    most = np.concatenate([-part.constant[by_m], choices.multiplier[by_m]])
    program = replace(
        base,
        cost=np.concatenate([part.program.cost, np.zeros(size - part.program.shape[1])]),
        quadratic=_padded(part.program, size),
        matrix=csr_array(vstack(rows)),
        row_lower=np.concatenate([base.row_lower, least, part.constant[explicit]]),
        row_upper=np.concatenate([base.row_upper, most, part.constant[explicit]]),
        lower=np.concatenate([base.lower, np.zeros(size - width)]),
        upper=np.concatenate([base.upper, choices.slack[explicit], np.ones(size - first_binary)]),
        integer=np.concatenate(
            [
                part.program.integer,
                np.zeros(first_binary - part.program.shape[1], dtype=bool),
                np.ones(size - first_binary, dtype=bool),
            ]
        ),
        columns=np.arange(size),
        rows=np.arange(base.shape[0] + 2 * len(by_m) + len(explicit)),
        minimise=part.program.minimise,
    )
    place = np.full(len(part.pairs), -1, dtype=np.int64)
    place[explicit] = s
    in_set = np.flatnonzero(open_ & (choices.ways == Way.SOS1))
    zero, one = np.zeros_like(z_indicator), np.ones_like(z_indicator)
    return Extended(
        program=program,
        sets=Sets(place[in_set], part.multiplier[in_set]),
        indicators=Indicators(
            binary=np.concatenate([z_indicator, z_indicator]),
            value=np.concatenate([zero, one]),
            column=np.concatenate([place[by_indicator], part.multiplier[by_indicator]]),
            sign=np.concatenate([np.ones(len(by_indicator)), part.multiplier_sign[by_indicator]]),
        ),
    )


def _slacks(part: Part, base: Program, pairs: Ints) -> csr_array:
    return slack_rows(base.matrix, part.row[pairs], part.column[pairs], part.sign[pairs])


def _unit(columns: Ints, values: Floats, width: int) -> csr_array:
    """Return a row with one entry for each column."""
    return csr_array(coo_array((values, (np.arange(len(columns)), columns)), shape=(len(columns), width)))


def _wide(rows: csr_array, width: int) -> csr_array:
    """Return rows with further, empty columns."""
    return csr_array((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], width))


def _padded(program: Program, width: int) -> csc_array | None:
    """Return the Hessian with further, empty columns and rows."""
    if program.quadratic is None:
        return None
    entries = coo_array(program.quadratic)
    return csc_array(coo_array((entries.data, (entries.row, entries.col)), shape=(width, width)))
