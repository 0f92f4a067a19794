"""Complementarity pairs: a slack ≥ 0 and a multiplier ≥ 0 of which one is zero."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array

if TYPE_CHECKING:
    import xarray as xr

    from hiermarket.bilevel.canonical import Family, System
    from hiermarket.solving.program import Floats, Ints


class Kind(StrEnum):
    """What a pair's slack is the slack of."""

    ROW = "row"
    LOWER = "lower bound"
    UPPER = "upper bound"


@dataclass(frozen=True, slots=True)
class PairFamily:
    """A labelled family of pairs and its place in the flat arrays.

    Attributes
    ----------
    name : str
        The row family (``need``), or the bound of a variable (``lower-p``, ``upper-p``).
    kind : Kind
        Row, lower bound or upper bound.
    of : str
        The name of the row or variable.
    multiplier : str
        The name of the multiplier's variable.
    labels : DataArray
        The model's labels of the rows or variables; −1 where there is no pair.
    start, stop : int
        Place in the flat arrays.
    follower : int
        Number of the follower.
    """

    name: str
    kind: Kind
    of: str
    multiplier: str
    labels: xr.DataArray
    start: int
    stop: int
    follower: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """All pairs as flat arrays: slack = constant + sign·(activity of the row, or value of the column).

    Attributes
    ----------
    row, column : int arrays
        The model's label of the slack's row, or of its variable; −1 for the other.
    sign, constant : float arrays
        Of the slack.
    multiplier : int array
        The model's label of the multiplier's variable.
    multiplier_sign : float array
        Sign that makes the multiplier ≥ 0.
    families : tuple[PairFamily, ...]
        The labelled families, in order.
    """

    row: Ints
    column: Ints
    sign: Floats
    constant: Floats
    multiplier: Ints
    multiplier_sign: Floats
    families: tuple[PairFamily, ...]

    def __len__(self) -> int:
        return len(self.multiplier)

    def family_of(self, pair: int) -> PairFamily:
        """Return the family that a pair belongs to."""
        return next(family for family in self.families if family.start <= pair < family.stop)

    def name(self, pair: int) -> str:
        """Name a pair by its family and labels, e.g. ``upper-p[unit=ours]``."""
        from hiermarket.bilevel.expression import element_name

        family = self.family_of(pair)
        label = self.row[pair] if family.kind is Kind.ROW else self.column[pair]
        return element_name(family.name, family.labels, int(label))


def slack_rows(matrix: csr_array, row: Ints, column: Ints, sign: Floats) -> csr_array:
    """Return sign·(activity of a row, or value of a column) of some pairs as rows over the columns of a matrix.

    Parameters
    ----------
    matrix : sparse rows
        The rows whose activities are meant.
    row, column : int arrays
        A row of the matrix, or a column; −1 for the other.
    sign : float array
        Of each pair.
    """
    by_row, by_column = np.flatnonzero(row >= 0), np.flatnonzero(row < 0)
    count, (height, width) = len(row), matrix.shape
    pick = csr_array(coo_array((sign[by_row], (by_row, row[by_row])), shape=(count, height)))
    direct = csr_array(coo_array((sign[by_column], (by_column, column[by_column])), shape=(count, width)))
    return csr_array(pick @ matrix + direct)


def row_pairs(system: System, family: Family, multiplier: xr.DataArray, follower: int) -> Pairs:
    """Return the pairs of the inequality rows of one family."""
    here = slice(family.start, family.stop)
    kind, rhs = system.kind[here], system.rhs[here]
    chosen = (kind != 0) & system.asks[here]
    labels = np.asarray(multiplier).ravel()
    labels = labels[labels != -1]
    count = int(chosen.sum())
    masked = family.spread(np.concatenate([np.zeros(family.start), chosen]), fill=0.0).astype(bool)
    # ≥: slack = activity − b, s·y ≥ 0;   ≤: slack = b − activity, −s·y ≥ 0
    sign = kind[chosen].astype(float)
    return Pairs(
        row=system.rows[here][chosen],
        column=np.full(count, -1, dtype=np.int64),
        sign=sign,
        constant=-sign * rhs[chosen],
        multiplier=labels[chosen].astype(np.int64),
        multiplier_sign=system.sense * sign,
        families=(
            PairFamily(
                name=family.name,
                kind=Kind.ROW,
                of=family.name,
                multiplier=f"dual-{family.name}",
                labels=family.labels.where(masked, -1),
                start=0,
                stop=count,
                follower=follower,
            ),
        ),
    )


def bound_pairs(system: System, family: Family, multiplier: xr.DataArray, kind: Kind, follower: int) -> Pairs:
    """Return the pairs of the finite lower or upper bounds of one variable."""
    here = slice(family.start, family.stop)
    flat = np.asarray(multiplier).ravel()
    place = np.flatnonzero(np.asarray(family.labels).ravel() != -1)
    chosen = flat[place] != -1
    lower = kind is Kind.LOWER
    bound = (system.lower if lower else system.upper)[here][chosen]
    count = int(chosen.sum())
    sign = np.full(count, 1.0 if lower else -1.0)
    prefix = "lower" if lower else "upper"
    return Pairs(
        row=np.full(count, -1, dtype=np.int64),
        column=system.columns[here][chosen],
        sign=sign,
        constant=-sign * bound,
        multiplier=flat[place][chosen].astype(np.int64),
        multiplier_sign=np.ones(count),
        families=(
            PairFamily(
                name=f"{prefix}-{family.name}",
                kind=kind,
                of=family.name,
                multiplier=f"{prefix}-{family.name}",
                labels=family.labels.where(multiplier != -1, -1),
                start=0,
                stop=count,
                follower=follower,
            ),
        ),
    )


def joined(parts: list[Pairs]) -> Pairs:
    """Join pairs into one set of arrays; families without a pair are left out."""
    families: list[PairFamily] = []
    start = 0
    for part in parts:
        for family in part.families:
            count = family.stop - family.start
            if count:
                moved = {field.name: getattr(family, field.name) for field in fields(family)}
                families.append(PairFamily(**(moved | {"start": start, "stop": start + count})))
                start += count
    ints = np.empty(0, dtype=np.int64)
    names = ("row", "column", "sign", "constant", "multiplier", "multiplier_sign")
    empty = dict.fromkeys(names, ints) | dict.fromkeys(("sign", "constant", "multiplier_sign"), np.empty(0))
    arrays = {name: np.concatenate([empty[name], *(getattr(part, name) for part in parts)]) for name in names}
    return Pairs(**arrays, families=tuple(families))
