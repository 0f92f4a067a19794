"""Value at the follower's duals of what chosen variables put into chosen rows, as a linear expression.

With N the named rows and O the own variables, R = Σ_{i∈N} Σ_{j∈O} y_i A_ij a_j. It is a sum
of products, but at every KKT point it is linear:

* complementarity of a row:     y_i Σ_j A_ij a_j = y_i (b_i − B_i x)
* stationarity of a variable:   Σ_i y_i A_ij = ∂cost/∂a_j − s μ⁻_j + s μ⁺_j − s ρ_j, times a_j, and
  complementarity of its bounds: μ⁻_j a_j = μ⁻_j lower_j, μ⁺_j a_j = μ⁺_j upper_j

so with the rest J (the variables that are not own) and the other rows M of the rest::

    R = Σ_{i∈N∪M} y_i (b_i − B_i x) − Σ_{j∈J} [∂cost/∂a_j a_j − s μ⁻_j lower_j + s μ⁺_j upper_j − s ρ_j value_j]

Own volumes, own costs and rows with own variables only have dropped out, so the identity also
holds where the leader decides those; own variables may even be the leader's, B_iO x_O in the
place of A_iO a_O. It needs rows M without own variables, and no other variable of the leader in
the rows N∪M or in the cost of J.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hiermarket.bilevel.expression import row_names, scalar, scalar_quadratic, variable_names
from hiermarket.errors import ModelError, some_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.bilevel.canonical import System
    from hiermarket.bilevel.expression import Expression, ExpressionLike
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.solving.program import Bools, Floats, Ints


def dual_times_primal(
    mpec: Mpec, dual: str | Sequence[str], primal: ExpressionLike, *, states: ExpressionLike | None = None
) -> Expression:
    """Return Σ y_i A_ij a_j over the rows of some families and some own variables, exactly and without products.

    Parameters
    ----------
    mpec : Mpec
        The problem.
    dual : str or sequence of str
        Names of row families of one follower, e.g. the nodal balances.
    primal : linopy expression or variable
        The own variables as a plain sum; their coefficients in the rows count already.
        Variables of that follower, or of the leader where it decides volumes itself, all
        with the same coefficient, e.g. ``p.sel(unit="ours")``.
    states : linopy expression or variable, optional
        Further own variables as a sum, which stand in none of the named rows and which own
        variables alone move, e.g. the stored energy of an own storage: rows that tie them to own
        variables drop out.

    Returns
    -------
    linopy expression
        Linear; with a quadratic follower, quadratic in the rest's variables.

    Raises
    ------
    ModelError
        Where the value is not linear, with the terms that stand in the way.

    Notes
    -----
    The sign is that of the rows as they are written: own production in a balance
    *supply == demand* gives price × volume.
    """
    import linopy

    names = (dual,) if isinstance(dual, str) else tuple(str(name) for name in dual)
    own_labels, weight = _own(mpec, primal)
    sold = own_labels
    if states is not None:
        own_labels = np.union1d(own_labels, mpec.terms(states, "the own states' sum").labels)
    system = _system(mpec, names, own_labels)
    own, led = np.isin(system.columns, own_labels), np.isin(system.others, own_labels)
    named = np.zeros(len(system.rows), dtype=bool)
    for family in system.constraints:
        named[family.start : family.stop] |= family.name in names
    _check_stands(mpec, system, sold, named)
    with_own = _has(system.own[:, own]) | _has(system.other[:, led])
    rows, rest = _reached(system, own, named, with_own)
    _check(mpec, system, rows & ~named & with_own, rows & _has(system.other[:, ~led]), rest)
    with linopy.options as options:
        options.set_value(semantics="v1")
        return _expression(mpec, system, rows, rest, weight)


def _own(mpec: Mpec, primal: ExpressionLike) -> tuple[Ints, float]:
    """Return the own variables' labels and their common coefficient."""
    terms = mpec.terms(primal, "the own variables' sum")
    if not terms.is_linear or terms.constant != 0 or not len(terms.labels):
        raise ModelError(
            "The own variables must be a plain sum of variables",
            where="primal",
            remedy="Leave constants and products out of it.",
        )
    labels, place = np.unique(terms.labels, return_inverse=True)
    weights = np.bincount(place, weights=terms.coefficients)
    if not np.allclose(weights, weights[0], rtol=1e-12, atol=0):
        raise ModelError(
            "The own variables have different coefficients: the value is linear only for equal ones",
            where=some_labels(list(variable_names(mpec.model, labels[weights != weights[0]][:6]))),
            remedy="Give a plain sum: the coefficients of the rows (-1 for what draws power) count already. Or add up "
            "the values of groups with equal coefficients, if each of them is linear.",
        )
    return labels, float(weights[0])


def _system(mpec: Mpec, names: tuple[str, ...], own: Ints) -> System:
    """Return the one follower that owns the rows and the variables."""
    for system in mpec.systems:
        families = {family.name for family in system.constraints}
        if set(names) <= families and np.isin(own, np.concatenate([system.columns, system.others])).all():
            return system
    known = sorted(mpec.dual)
    unknown = [name for name in names if name not in mpec.dual]
    if unknown:
        raise ModelError(
            "No follower has row families of these names",
            where=some_labels(unknown),
            remedy=f"Row families with duals are: {some_labels(known)}.",
        )
    raise ModelError(
        "Rows and own variables must belong to one follower",
        where=f"dual={some_labels(names)}; primal={some_labels(list(variable_names(mpec.model, own[:6])))}",
        remedy=f"Row families with duals are: {some_labels(known)}; own variables must stand in its rows.",
    )


def _check_stands(mpec: Mpec, system: System, own: Ints, named: Bools) -> None:
    """Refuse own variables that stand in none of the named rows: their value would be zero by mistake."""
    here = [
        system.columns[np.unique(system.own[named, :].indices)],
        system.others[np.unique(system.other[named, :].indices)],
    ]
    absent = own[~np.isin(own, np.concatenate(here))]
    if len(absent):
        raise ModelError(
            "These own variables stand in none of the named rows",
            where=some_labels(list(variable_names(mpec.model, absent[:6]))),
            remedy="Name the rows that they stand in, or leave them out.",
        )


def _has(rows: csr_array) -> Bools:
    """Return which rows have an entry."""
    return np.asarray(np.diff(csr_array(rows).indptr) > 0)


def _reached(system: System, own: Bools, named: Bools, with_own: Bools) -> tuple[Bools, Bools]:
    """Return the rows N∪M and the rest J that the own part of N is connected with, not through own variables."""
    rows, columns = system.own.shape
    entries = coo_array(system.own)
    through = ~own[entries.col]
    curved = coo_array(system.hessian)
    ends = (
        np.concatenate([entries.row[through], curved.row + rows]),
        np.concatenate([entries.col[through] + rows, curved.col + rows]),
    )
    size = rows + columns
    component = connected_components(csr_array(coo_array((np.ones(len(ends[0])), ends), shape=(size, size))))[1]
    reached = np.zeros(size, dtype=bool)
    reached[np.unique(component[:rows][with_own & named])] = True
    rest = reached[component[rows:]] & ~own
    has_rest = np.zeros(rows, dtype=bool)
    has_rest[entries.row[through]] = True
    in_rows = reached[component[:rows]] & (named | has_rest)
    return in_rows, rest


def _check(mpec: Mpec, system: System, mixed: Bools, led: Bools, rest: Bools) -> None:
    """Refuse what would leave a product, and name it."""
    model = mpec.model
    if mixed.any():
        raise ModelError(
            "Rows that are not named hold own and other variables together: their part of the value stays a product",
            where=some_labels(list(row_names(model, system.rows[mixed][:6]))),
            remedy="Name these rows too, if their part is meant; or give the product itself to SOS1() with SCIP.",
        )
    if led.any():
        raise ModelError(
            "Rows whose dual stays in the value have a leader's variable: dual × leader's variable stays a product",
            where=some_labels(list(row_names(model, system.rows[led][:6]))),
            remedy="Count it among the own ones, or move it to a row of own variables only (a <= x).",
        )
    priced = rest & (np.diff(system.cross.indptr) > 0)
    if priced.any():
        raise ModelError(
            "The leader's variables multiply variables that are not own in the cost: those products stay",
            where=some_labels(list(variable_names(model, system.columns[priced][:6]))),
            remedy="Count these variables among the own ones.",
        )


def _expression(mpec: Mpec, system: System, rows: Bools, rest: Bools, weight: float) -> Expression:
    model = mpec.model
    duals = mpec.dual_labels(system)
    rows = rows & system.asks
    labels, values = [duals[rows], system.columns[rest]], [system.rhs[rows], -system.cost[rest]]
    for family in system.variables:
        here = slice(family.start, family.stop)
        place = np.flatnonzero(np.asarray(family.labels).ravel() != -1)
        for kept, sign, bound in (
            (mpec.lower, system.sense, system.lower),
            (mpec.upper, -system.sense, system.upper),
            (mpec.fixed, system.sense, system.lower),
        ):
            if family.name in kept:
                multiplier = np.asarray(kept[family.name].labels).ravel()[place]
                chosen = (multiplier != -1) & rest[here]
                labels.append(multiplier[chosen].astype(np.int64))
                values.append(sign * bound[here][chosen])
    linear = scalar(model, np.concatenate(labels), weight * np.concatenate(values))
    first, second, products = _curved(system, rest)
    if not len(products):
        return linear
    return linear + scalar_quadratic(model, first, second, -weight * products)


def _curved(system: System, rest: Bools) -> tuple[Ints, Ints, Floats]:
    """Return the terms a_j Q_jk a_k with j in the rest."""
    entries = coo_array(system.hessian)
    chosen = rest[entries.row]
    return system.columns[entries.row[chosen]], system.columns[entries.col[chosen]], entries.data[chosen]
