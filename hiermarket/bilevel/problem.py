"""The bilevel problem as arrays, split into independent parts.

A part is a connected component of rows, pairs and the leader's quadratic terms: a
period without rows that couple periods, a feeder. Parts are solved one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array, vstack

from hiermarket.bilevel.expression import variable_names
from hiermarket.bilevel.places import positions
from hiermarket.solving.blocks import components, split
from hiermarket.solving.program import program_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import linopy

    from hiermarket.bilevel.canonical import System
    from hiermarket.bilevel.complementarity import Pairs
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.precedent import Precedent
    from hiermarket.solving.program import Floats, Ints, Program


@dataclass(frozen=True, slots=True)
class Duality:
    """Strong duality of one follower: Σ coefficient·column + Σ product·first·second = 0 (≥ 0 for a QP).

    It is s (dual objective − cost) with the quadratic terms of the cost left out, which
    are ≥ 0 by convexity.

    Attributes
    ----------
    columns, coefficients : arrays
        Linear terms, by position.
    first, second, products : arrays
        Products of a leader's column (`first`) with a follower's column or dual (`second`).
    is_equation : bool
        Whether it holds with =.
    """

    columns: Ints
    coefficients: Floats
    first: Ints
    second: Ints
    products: Floats
    is_equation: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One independent part of a bilevel problem; positions are the part's own.

    Attributes
    ----------
    number : int
        Its number.
    columns, rows : int arrays
        Positions in the whole program.
    program : Program
        Rows, bounds and the leader's objective.
    pairs : int array
        The numbers of its pairs.
    row, column : int arrays
        Position of each pair's slack row or slack column; −1 for the other.
    sign, constant : float arrays
        slack = constant + sign·(activity or value).
    multiplier : int array
        Position of each pair's multiplier.
    multiplier_sign : float array
        Sign that makes the multiplier ≥ 0.
    dualities : tuple[Duality, ...]
        Strong duality of each follower that takes part.
    names : Pairs
        The labelled pairs of the whole problem, for messages.
    model : linopy.Model
        The copy, for the names of columns.
    precedent : Precedent or None
        How a part of the same structure was solved: worth a first try.
    """

    number: int
    columns: Ints
    rows: Ints
    program: Program
    pairs: Ints
    row: Ints
    column: Ints
    sign: Floats
    constant: Floats
    multiplier: Ints
    multiplier_sign: Floats
    dualities: tuple[Duality, ...]
    names: Pairs
    model: linopy.Model
    precedent: Precedent | None = None

    def name(self, pair: int) -> str:
        """Name a pair of this part by its family and labels."""
        return self.names.name(int(self.pairs[pair]))

    @property
    def sense(self) -> float:
        """+1 where the leader minimises, −1 where it maximises."""
        return 1.0 if self.program.minimise else -1.0

    def column_name(self, column: int) -> str:
        """Name a column of this part by its variable and labels."""
        return next(variable_names(self.model, self.program.columns[[column]]))

    def slack(self, x: Floats) -> Floats:
        """Return the slack of each pair at a point."""
        activity = self.program.matrix @ x
        value = np.where(self.row >= 0, activity[self.row] if len(activity) else 0.0, x[self.column])
        return self.constant + self.sign * value

    def magnitude(self, x: Floats) -> Floats:
        """Return the multiplier, ≥ 0, of each pair at a point."""
        return np.asarray(self.multiplier_sign * x[self.multiplier])


@dataclass(frozen=True, slots=True)
class Problem:
    """The whole bilevel problem as arrays.

    Attributes
    ----------
    program : Program
        The copy's rows and bounds in user units, with the leader's objective.
    part_of_column : int array
        The part of each column.
    parts : tuple[Part, ...]
        The independent parts.
    constant : float
        Of the leader's objective.
    """

    program: Program
    part_of_column: Ints
    parts: tuple[Part, ...]
    constant: float


def problem_of(mpec: Mpec) -> Problem:
    """Read a bilevel problem as arrays and split it into independent parts."""
    import linopy

    mpec.check_origin()
    mpec.check_leader()
    with linopy.options as options:
        options.set_value(semantics="v1")
        program = _with_objective(program_of(mpec.model, scaled=False), mpec)
    pairs = mpec.pairs
    multiplier = positions(pairs.multiplier, program.columns)
    row = np.where(pairs.row >= 0, positions(np.maximum(pairs.row, 0), program.rows), -1) if len(pairs) else pairs.row
    column = np.where(pairs.column >= 0, positions(np.maximum(pairs.column, 0), program.columns), -1)
    part_of_column = _parts(program, *_links(mpec, program))
    dualities = [_duality(system, mpec, program.columns) for system in mpec.systems]
    of_pair = part_of_column[multiplier]
    order = np.argsort(of_pair, kind="stable")
    count = int(part_of_column.max(initial=-1)) + 1
    ends = np.cumsum(np.bincount(of_pair, minlength=count)) if len(order) else np.zeros(count, dtype=np.int64)
    cut = np.split(order, ends[:-1]) if count else []
    shared = list(_split_dualities(dualities, part_of_column, count))
    parts = []
    for number, block in enumerate(split(program, part_of_column)):
        chosen = cut[number]
        parts.append(
            Part(
                number=number,
                columns=block.columns,
                rows=block.rows,
                program=block.program,
                pairs=chosen,
                row=np.where(row[chosen] >= 0, np.searchsorted(block.rows, row[chosen]), -1),
                column=np.where(column[chosen] >= 0, np.searchsorted(block.columns, column[chosen]), -1),
                sign=pairs.sign[chosen],
                constant=pairs.constant[chosen],
                multiplier=np.searchsorted(block.columns, multiplier[chosen]),
                multiplier_sign=pairs.multiplier_sign[chosen],
                dualities=tuple(_localised(duality, block.columns) for duality in shared[number]),
                names=pairs,
                model=mpec.model,
            )
        )
    constant = 0.0 if mpec.objective is None else mpec.objective.constant
    return Problem(program, part_of_column, tuple(parts), constant)


def _with_objective(program: Program, mpec: Mpec) -> Program:
    count = len(program.columns)
    terms = mpec.objective
    if terms is None:
        return replace(program, cost=np.zeros(count), quadratic=None, minimise=True)
    cost = np.bincount(positions(terms.labels, program.columns), weights=terms.coefficients, minlength=count).astype(
        np.float64
    )
    quadratic = None
    if not terms.is_linear:
        first, second = positions(terms.first, program.columns), positions(terms.second, program.columns)
        ends = (np.concatenate([first, second]), np.concatenate([second, first]))
        quadratic = csc_array(coo_array((np.tile(terms.products, 2), ends), shape=(count, count)))
        quadratic.eliminate_zeros()
        quadratic = quadratic if quadratic.nnz else None
    return replace(program, cost=cost, quadratic=quadratic, minimise=mpec.sense == "min")


def _links(mpec: Mpec, program: Program) -> tuple[Ints, Ints]:
    """Return pairs of columns that belong together beyond the rows: what strong duality adds up.

    Each row of a follower with its dual, each variable with its own multipliers and with
    the leader's variables that its cost multiplies it by.
    """
    first, second = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    starts = program.matrix.indptr[:-1]
    for system in mpec.systems:
        first.append(program.matrix.indices[starts[positions(system.rows, program.rows)]].astype(np.int64))
        second.append(positions(mpec.dual_labels(system), program.columns))
        crossed = coo_array(system.cross)
        first.append(positions(system.columns, program.columns)[crossed.row])
        second.append(positions(system.others, program.columns)[crossed.col])
        for family in system.variables:
            for kept in (mpec.lower, mpec.upper, mpec.fixed):
                if family.name in kept:
                    labels = np.asarray(kept[family.name].labels).ravel()
                    own = np.asarray(family.labels).ravel()[labels != -1]
                    first.append(positions(own.astype(np.int64), program.columns))
                    second.append(positions(labels[labels != -1].astype(np.int64), program.columns))
    return np.concatenate(first), np.concatenate(second)


def _parts(program: Program, first: Ints, second: Ints) -> Ints:
    """Return the part of each column; columns that nothing links form one part together."""
    count = len(first)
    ends = (np.tile(np.arange(count), 2), np.concatenate([first, second]))
    links = coo_array((np.ones(2 * count), ends), shape=(count, len(program.columns)))
    matrix = csr_array(vstack([program.matrix, links])) if count else program.matrix
    linked = replace(program, matrix=matrix, rows=np.arange(matrix.shape[0]))
    part = components(linked)
    touched = np.bincount(matrix.indices, minlength=len(part)) > 0
    if program.quadratic is not None:
        touched |= np.diff(program.quadratic.indptr) > 0
    lone = ~touched
    if lone.any():
        part = np.where(lone, np.iinfo(np.int64).max, part)
        part = np.unique(part, return_inverse=True)[1]
    return np.asarray(part, dtype=np.int64)


def _duality(system: System, mpec: Mpec, columns: Ints) -> Duality:
    """Return s(b − Bx)'y + lower'μ⁻ − upper'μ⁺ + ρ·value − s(c + Cx)'a by position."""
    own, others = positions(system.columns, columns), positions(system.others, columns)
    duals = positions(mpec.dual_labels(system), columns)
    rhs = np.where(system.asks, system.rhs, 0.0)
    at, coefficients = [duals, own], [system.sense * rhs, -system.sense * system.cost]
    for family in system.variables:
        here = slice(family.start, family.stop)
        place = np.flatnonzero(np.asarray(family.labels).ravel() != -1)
        for kept, sign, bound in (
            (mpec.lower, 1.0, system.lower),
            (mpec.upper, -1.0, system.upper),
            (mpec.fixed, 1.0, system.lower),
        ):
            if family.name in kept:
                labels = np.asarray(kept[family.name].labels).ravel()[place]
                chosen = labels != -1
                at.append(positions(labels[chosen].astype(np.int64), columns))
                coefficients.append(sign * bound[here][chosen])
    rows, costs = coo_array(system.other), coo_array(system.cross)
    return Duality(
        columns=np.concatenate(at),
        coefficients=np.concatenate(coefficients),
        first=np.concatenate([others[rows.col], others[costs.col]]),
        second=np.concatenate([duals[rows.row], own[costs.row]]),
        products=np.concatenate([-system.sense * rows.data, -system.sense * costs.data]),
        is_equation=system.is_linear,
    )


def _split_dualities(dualities: list[Duality], part: Ints, count: int) -> Iterator[list[Duality]]:
    """Give each part its share of every follower's strong duality."""
    pieces: list[list[Duality]] = [[] for _ in range(count)]
    for duality in dualities:
        of_term, of_product = part[duality.columns], part[duality.second]
        by_term, by_product = np.argsort(of_term, kind="stable"), np.argsort(of_product, kind="stable")
        terms = np.split(by_term, np.cumsum(np.bincount(of_term, minlength=count))[:-1])
        products = np.split(by_product, np.cumsum(np.bincount(of_product, minlength=count))[:-1])
        for number in np.unique(of_term):
            mine, both = terms[number], products[number]
            pieces[number].append(
                replace(
                    duality,
                    columns=duality.columns[mine],
                    coefficients=duality.coefficients[mine],
                    first=duality.first[both],
                    second=duality.second[both],
                    products=duality.products[both],
                )
            )
    yield from pieces


def _localised(duality: Duality, columns: Ints) -> Duality:
    return replace(
        duality,
        columns=np.searchsorted(columns, duality.columns),
        first=np.searchsorted(columns, duality.first),
        second=np.searchsorted(columns, duality.second),
    )
