"""Products of a leader's integer with a follower's variable in the follower's rows, exactly linear.

linopy has no products in rows. They are given beside a row and enter it through a variable of
the follower, w = b a for a binary b of the leader, which four rows pin for b = 0 and b = 1::

    l b ≤ w ≤ u b,    a − u (1 − b) ≤ w ≤ a − l (1 − b),    l = a̲ − 1,  u = ā + 1

With b fixed the follower stays a linear (or quadratic) program with the same optimum, so that
its KKT conditions and the duals of its own rows are those of the follower with the product.
An integer with more than two values is its least value and bits: z = z̲ + Σ_k 2^k b_k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array

from hiermarket.bilevel.bits import bits_of, pins
from hiermarket.bilevel.expression import variable_names
from hiermarket.bilevel.places import places
from hiermarket.errors import ModelError, some_labels
from hiermarket.solving.program import program_of
from hiermarket.solving.sparse_rows import labelled

if TYPE_CHECKING:
    import linopy
    from linopy.constraints import Constraint, ConstraintBase

    from hiermarket.bilevel.expression import ExpressionLike
    from hiermarket.bilevel.follower import Follower
    from hiermarket.solving.program import Floats, Ints, Program


def expanded(model: linopy.Model, followers: tuple[Follower, ...]) -> tuple[linopy.Model, tuple[Follower, ...]]:
    """Return a model and followers whose rows hold their products through variables of their own.

    Parameters
    ----------
    model : linopy.Model
        Not changed; returned as it is where no follower has products.
    followers : tuple[Follower, ...]
        Followers of that model.

    Raises
    ------
    ModelError
        Products that are not of a leader's bounded integer and a follower's bounded variable.
    """
    if not any(follower.products for follower in followers):
        return model, followers
    copy = model.copy()
    return copy, tuple(_expanded(copy, follower) for follower in followers)


@dataclass(frozen=True, slots=True)
class _Terms:
    """Terms coefficient · integer · own in the cells of one row family."""

    cell: Ints
    integer: Ints
    own: Ints
    coefficient: Floats


def _expanded(model: linopy.Model, follower: Follower) -> Follower:
    program = program_of(model, scaled=False)
    own = np.concatenate([np.asarray(v.labels).ravel() for v in follower.variables])
    families = {name: _terms(model, name, product, own) for name, product in follower.products.items()}
    _check(model, program, families)
    variables = [model.variables[v.name] for v in follower.variables]
    constraints: list[ConstraintBase] = [model.constraints[c.name] for c in follower.constraints]
    for name, terms in families.items():
        if not len(terms.cell):
            continue
        factors = _Factors(model, program, name, np.unique(terms.integer))
        w, rows = _products(model, program, name, *factors.pairs(terms))
        row, column, value = factors.in_rows(terms, w)
        constraint = model.constraints[name]
        width = max(variable.range[1] for _, variable in model.variables.items())
        count = int((np.asarray(constraint.labels) != -1).sum())
        extra = csr_array(coo_array((value, (row, column)), shape=(count, width)))
        constraint.update(lhs=constraint.lhs + labelled(model, extra, np.zeros(count), constraint.labels))
        variables.append(w)
        constraints.extend(rows)
    cost = _on(model, follower.cost)
    return replace(follower, variables=tuple(variables), constraints=tuple(constraints), cost=cost, products={})


def _on(model: linopy.Model, cost: ExpressionLike) -> ExpressionLike:
    """Return the same expression on a copy of its model."""
    from linopy import Variable

    if isinstance(cost, Variable):
        return model.variables[cost.name].to_linexpr() if cost.name in model.variables else cost
    return type(cost)(cost.data, model)


def _terms(model: linopy.Model, name: str, product: linopy.QuadraticExpression, own: Ints) -> _Terms:
    """Read the products of one row family, cell by cell."""
    labels = model.constraints[name].labels
    data = product.data
    if set(data["coeffs"].dims) - {"_term"} != set(labels.dims):
        raise ModelError(
            "Products must have the dimensions of the row that they belong to",
            where=f"{name}{tuple(labels.dims)}, products over {tuple(set(data['coeffs'].dims) - {'_term'})}",
            remedy="Sum the products over all other dimensions.",
        )
    order = (*labels.dims, "_term")
    aligned = data[["vars", "coeffs"]].reindex_like(labels.to_dataset(name="row"), fill_value={"vars": -1})
    both = aligned["vars"].transpose("_factor", *order).to_numpy().reshape(2, labels.size, -1)
    coefficient = aligned["coeffs"].transpose(*order).to_numpy().reshape(labels.size, -1)
    number = np.cumsum(np.asarray(labels).ravel() != -1) - 1
    there = (both != -1).all(axis=0) & (np.asarray(labels).ravel() != -1)[:, None] & (coefficient != 0)
    cell, term = np.nonzero(there)
    first, second = both[0, cell, term], both[1, cell, term]
    first_is_own = np.isin(first, own)
    return _Terms(
        cell=number[cell],
        integer=np.where(first_is_own, second, first),
        own=np.where(first_is_own, first, second),
        coefficient=coefficient[cell, term],
    )


def _check(model: linopy.Model, program: Program, families: dict[str, _Terms]) -> None:
    place = places(program.columns)
    kinds = {*model.integers, *model.binaries}
    wrong: dict[str, list[str]] = {}
    for terms in families.values():
        for integer, own in {*zip(terms.integer.tolist(), terms.own.tolist(), strict=True)}:
            z, a = (next(variable_names(model, np.array([label]))) for label in (integer, own))
            bounds = [program.lower[place[integer]], program.upper[place[integer]]]
            ends = [program.lower[place[own]], program.upper[place[own]]]
            if z.split("[")[0] not in kinds or a.split("[")[0] in kinds:
                wrong.setdefault("The products must be of a leader's integer with a follower's variable", []).append(
                    f"{z} × {a}"
                )
            elif not np.isfinite(bounds).all():
                wrong.setdefault("Integers in products need finite bounds", []).append(z)
            elif not np.isfinite(ends).all():
                wrong.setdefault("Followers' variables in products need finite bounds", []).append(a)
    for what, names in wrong.items():
        raise ModelError(what, where=some_labels(sorted(set(names))), remedy="Bound them, or reformulate the product.")


class _Factors:
    """Each integer as base + Σ factor · binary; integers of two values 0 and 1 are their own binary."""

    def __init__(self, model: linopy.Model, program: Program, name: str, integers: Ints) -> None:
        place = places(program.columns)
        self.base: dict[int, float] = {}
        self.bits: dict[int, list[tuple[int, float]]] = {}
        needed: list[tuple[int, float]] = []
        for label in integers.tolist():
            self.base[label], factors = bits_of(program.lower[place[label]], program.upper[place[label]])
            if (self.base[label], factors) == (0.0, (1.0,)):
                self.bits[label] = [(label, 1.0)]
            else:
                needed += [(label, factor) for factor in factors]
                self.bits[label] = []
        if not needed:
            return
        names = list(variable_names(model, np.array([label for label, _ in needed])))
        bits = [f"{z} bit {int(np.log2(factor))}" for z, (_, factor) in zip(names, needed, strict=True)]
        index = pd.Index(bits, name="bit")
        made = model.add_variables(coords=[index], binary=True, name=f"bits-{name}")
        for (label, factor), binary in zip(needed, np.asarray(made.labels).tolist(), strict=True):
            self.bits[label].append((binary, factor))
        whole = [label for label in integers.tolist() if self.bits[label] != [(label, 1.0)]]
        entries = [(row, label, 1.0) for row, label in enumerate(whole)]
        entries += [(row, binary, -factor) for row, label in enumerate(whole) for binary, factor in self.bits[label]]
        of = pd.Index(list(variable_names(model, np.array(whole))), name="integer")
        expression = _expression(model, entries, np.array([-self.base[label] for label in whole]), of)
        model.add_constraints(expression == 0, name=f"bits-{name}")

    def pairs(self, terms: _Terms) -> tuple[Ints, Ints]:
        """Return the distinct (binary, own) of some terms."""
        found = {
            (binary, own)
            for integer, own in zip(terms.integer.tolist(), terms.own.tolist(), strict=True)
            for binary, _ in self.bits[integer]
        }
        ordered = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
        return ordered[:, 0], ordered[:, 1]

    def in_rows(self, terms: _Terms, w: linopy.Variable) -> tuple[list[int], list[int], list[float]]:
        """Return row, column and value of what the terms are in products w = binary · own."""
        binaries, owns = self.pairs(terms)
        keys = zip(binaries.tolist(), owns.tolist(), strict=True)
        label_of = dict(zip(keys, np.asarray(w.labels).tolist(), strict=True))
        rows, columns, values = [], [], []
        for cell, integer, own, coefficient in zip(
            terms.cell.tolist(), terms.integer.tolist(), terms.own.tolist(), terms.coefficient.tolist(), strict=True
        ):
            parts = [(own, self.base[integer])]
            parts += [(label_of[binary, own], factor) for binary, factor in self.bits[integer]]
            for column, factor in parts:
                rows.append(cell)
                columns.append(column)
                values.append(coefficient * factor)
        return rows, columns, values


def _products(
    model: linopy.Model, program: Program, name: str, binary: Ints, own: Ints
) -> tuple[linopy.Variable, list[Constraint]]:
    """Add w = binary · own, labelled by the names of both, and the four rows that pin it."""
    place = places(program.columns)
    low, high = program.lower[place[own]], program.upper[place[own]]
    # wider than the bounds of a: a row that pins w must not stand in for one of them, nor take its multiplier
    low, high = low - 1.0, high + 1.0
    names = [f"{z} × {a}" for z, a in zip(variable_names(model, binary), variable_names(model, own), strict=True)]
    index = pd.Index(names, name="product")
    w = model.add_variables(coords=[index], name=f"product-{name}")
    at, labels = np.arange(len(index)), np.asarray(w.labels)
    made = []
    for pin in pins(low, high):
        entries = [*zip(at.tolist(), labels.tolist(), np.ones(len(at)).tolist(), strict=True)]
        entries += [*zip(at.tolist(), binary.tolist(), pin.of_binary.tolist(), strict=True)]
        entries += [(row, label, pin.of_own) for row, label in zip(at.tolist(), own.tolist(), strict=True)]
        expression = _expression(model, entries, -pin.limit, index)
        made.append(model.add_constraints(expression, pin.sign, 0.0, name=f"product-{name}-{pin.name}"))
    return w, made


def _expression(
    model: linopy.Model, entries: list[tuple[int, int, float]], constant: Floats, index: pd.Index
) -> linopy.LinearExpression:
    import xarray as xr

    row, column, value = (np.array(part) for part in zip(*entries, strict=True))
    width = max(variable.range[1] for _, variable in model.variables.items())
    rows = csr_array(coo_array((value, (row, column)), shape=(len(index), width)))
    rows.eliminate_zeros()
    return labelled(model, rows, constant, xr.DataArray(np.arange(len(index)), [index]))
