"""Replace followers by their KKT conditions: duals, stationarity, complementarity pairs.

With s = +1 for a follower that minimises and −1 for one that maximises, y in linopy's
sign ∂(optimal cost)/∂(right-hand side), and μ⁻, μ⁺ ≥ 0::

    s (Q a + C x + c) − s A'y − μ⁻ + μ⁺ − ρ = 0        stationarity, one row per variable
    s y ≥ 0 on rows ≥,   s y ≤ 0 on rows ≤,   y free on rows =
    0 ≤ slack ⟂ s|y| ≥ 0,   0 ≤ a − lower ⟂ μ⁻ ≥ 0,   0 ≤ upper − a ⟂ μ⁺ ≥ 0

A variable with equal bounds has one free reduced cost ρ and no pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array

from hiermarket.bilevel.canonical import canonical
from hiermarket.bilevel.complementarity import Kind, Pairs, bound_pairs, joined, row_pairs
from hiermarket.bilevel.expression import terms_of, variable_names
from hiermarket.bilevel.follower import Follower
from hiermarket.bilevel.gradient import by_label, gradient_rows
from hiermarket.bilevel.mpec import Mpec
from hiermarket.bilevel.products import expanded
from hiermarket.errors import ModelError, some_labels
from hiermarket.solving.program import program_of
from hiermarket.solving.sparse_rows import labelled

if TYPE_CHECKING:
    import linopy
    import xarray as xr

    from hiermarket.bilevel.canonical import Family, System
    from hiermarket.solving.program import Ints


@dataclass
class _Multipliers:
    """The variables that one call of `kkt` adds."""

    dual: dict[str, linopy.Variable] = field(default_factory=dict)
    lower: dict[str, linopy.Variable] = field(default_factory=dict)
    upper: dict[str, linopy.Variable] = field(default_factory=dict)
    fixed: dict[str, linopy.Variable] = field(default_factory=dict)
    pairs: list[Pairs] = field(default_factory=list)


def kkt(model: linopy.Model, followers: Follower | Sequence[Follower]) -> Mpec:
    """Replace one or several followers by their KKT conditions, on a copy of the model.

    Parameters
    ----------
    model : linopy.Model
        The model that leader and followers share; it is not changed. Its own objective
        plays no part: the leader's is given to `Mpec.maximise` or `Mpec.minimise`, and a
        leader without one is refused if the model has one that is not the followers' cost.
    followers : Follower or sequence of Follower
        Each with variables and rows of its own; what another follower decides is a
        parameter, as what the leader decides.

    Returns
    -------
    Mpec
        The copy with labelled duals and stationarity rows, and the pairs.

    Raises
    ------
    ModelError
        A follower of another model; rows or variables named by two followers; rows
        without a variable of their follower; costs that are not convex; model features
        without KKT conditions (indicator rows, SOS).

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> model = linopy.Model()
    >>> volume = model.add_variables(0, 5, name="volume")
    >>> need = model.add_constraints(1 * volume >= 2, name="need")
    >>> mpec = bl.kkt(model, bl.Follower(variables=[volume], constraints=[need], cost=3 * volume))
    >>> sorted(mpec.dual), sorted(mpec.constraints)
    (['need'], ['need', 'stationarity-volume'])
    >>> float(bl.solve(mpec).duals["need"])
    3.0
    """
    import linopy

    several = (followers,) if isinstance(followers, Follower) else tuple(followers)
    _check(model, several)
    with linopy.options as options:
        options.set_value(semantics="v1")
        whole, several = expanded(model, several)
        program = program_of(whole, scaled=False)
        systems = tuple(canonical(follower, program) for follower in several)
        copy = whole.copy()
        copy.remove_objective()
        made = _Multipliers()
        for number, system in enumerate(systems):
            _add_conditions(copy, system, number, made)
    return Mpec(
        origin=model,
        model=copy,
        systems=systems,
        pairs=joined(made.pairs),
        dual=MappingProxyType(made.dual),
        lower=MappingProxyType(made.lower),
        upper=MappingProxyType(made.upper),
        fixed=MappingProxyType(made.fixed),
        ignored=_has_objective(model, tuple(several)),
    )


def _has_objective(model: linopy.Model, followers: tuple[Follower, ...]) -> bool:
    """Return whether a model has an objective that is neither a follower's cost nor the sum of all of them."""
    own = terms_of(model.objective.expression, "the model's objective").summed()
    costs = [terms_of(follower.cost, "the follower's cost").summed() for follower in followers]
    total: dict[tuple[int, int], float] = {}
    for cost in costs:
        for key, value in cost.items():
            total[key] = total.get(key, 0.0) + value
    return bool(own) and own not in (*costs, total)


def _check(model: linopy.Model, followers: tuple[Follower, ...]) -> None:
    foreign = [str(number) for number, follower in enumerate(followers, 1) if follower.model is not model]
    if foreign or not followers:
        raise ModelError(
            "Every follower must be a part of the model" if followers else "A bilevel problem needs a follower",
            where=f"follower {some_labels(foreign)}" if foreign else "kkt(model, [])",
            remedy="Build the follower from this model's variables and rows.",
        )
    names = [name for follower in followers for name in follower.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(
            "Two followers cannot own the same variables or rows",
            where=some_labels(twice),
            remedy="Give each row and variable to one follower; the others see it as a parameter.",
        )
    wrong = [name for name, _ in model.constraints.indicator.items()]
    wrong += [name for name, variable in model.variables.items() if "sos_type" in variable.attrs]
    wrong += list(model.semi_continuous)
    if wrong:
        raise ModelError(
            "Indicator rows, SOS and semi-continuous variables are not supported",
            where=some_labels(wrong),
            remedy="Write them with binaries of the leader.",
        )


def _add_conditions(model: linopy.Model, system: System, number: int, made: _Multipliers) -> None:
    dual_labels = [np.empty(0, dtype=np.int64)]
    for family in system.constraints:
        dual = _add_duals(model, system, family)
        made.dual[family.name] = dual
        flat = np.asarray(dual.labels).ravel()
        dual_labels.append(flat[flat != -1])
        made.pairs.append(row_pairs(system, family, dual.labels, number))
    bounds = [_add_bound_multipliers(model, system, family, number, made) for family in system.variables]
    _add_stationarity(model, system, np.concatenate(dual_labels), bounds)


def _add_duals(model: linopy.Model, system: System, family: Family) -> linopy.Variable:
    """Add the duals of one row family, with the signs that its rows give them."""
    pushes = system.sense * system.kind
    lower = family.spread(np.where((pushes > 0) | ~system.asks, 0.0, -np.inf), fill=0.0)
    upper = family.spread(np.where((pushes < 0) | ~system.asks, 0.0, np.inf), fill=0.0)
    return _add(model, f"dual-{family.name}", lower, upper, family.labels != -1)


def _add(
    model: linopy.Model, name: str, lower: xr.DataArray, upper: xr.DataArray, mask: xr.DataArray
) -> linopy.Variable:
    if name in model.variables:
        raise ModelError(
            "The model already has a variable of a name that a multiplier needs",
            where=name,
            remedy="Rename the model's variable.",
        )
    bare = [array.drop_vars([c for c in array.coords if c not in array.dims]) for array in (lower, upper, mask)]
    return model.add_variables(lower=bare[0], upper=bare[1], mask=bare[2], name=name)


def _add_bound_multipliers(
    model: linopy.Model, system: System, family: Family, number: int, made: _Multipliers
) -> list[tuple[float, Ints, Ints]]:
    """Add μ⁻, μ⁺ and ρ of one variable; return (sign, rows, labels) of their terms in stationarity."""
    terms = []
    free = ~system.fixed
    kinds = [
        (Kind.LOWER, "lower", -1.0, np.isfinite(system.lower) & free, made.lower),
        (Kind.UPPER, "upper", 1.0, np.isfinite(system.upper) & free, made.upper),
        (None, "fixed", -1.0, system.fixed, made.fixed),
    ]
    here = slice(family.start, family.stop)
    for kind, prefix, sign, chosen, kept in kinds:
        if not chosen[here].any():
            continue
        mask = family.spread(chosen.astype(float), fill=0.0).astype(bool)
        zero = mask.astype(float) * 0.0
        lowest = zero if kind else zero - np.inf
        variable = _add(model, f"{prefix}-{family.name}", lowest, zero + np.inf, mask)
        kept[family.name] = variable
        if kind:
            made.pairs.append(bound_pairs(system, family, variable.labels, kind, number))
        flat = np.asarray(variable.labels).ravel()
        terms.append((sign, np.flatnonzero(chosen[here]) + family.start, flat[flat != -1].astype(np.int64)))
    return terms


def _add_stationarity(
    model: linopy.Model, system: System, duals: Ints, bounds: list[list[tuple[float, Ints, Ints]]]
) -> None:
    """Add s (Q a + C x + c) − s A'y − μ⁻ + μ⁺ − ρ = 0, one labelled family per variable."""
    width = 1 + max(variable.range[1] for _, variable in model.variables.items())
    count = len(system.columns)
    total = system.sense * gradient_rows(system, width)
    total = total - system.sense * by_label(csr_array(system.own.T), duals, width)
    parts = [part for of_variable in bounds for part in of_variable]
    if parts:
        data = np.concatenate([np.full(len(rows), sign) for sign, rows, _ in parts])
        ends = (np.concatenate([rows for _, rows, _ in parts]), np.concatenate([labels for *_, labels in parts]))
        total = total + csr_array(coo_array((data, ends), shape=(count, width)))
    rows = csr_array(total)
    rows.eliminate_zeros()
    empty = np.diff(rows.indptr) == 0
    loose = empty & (system.cost != 0)
    if loose.any():
        raise ModelError(
            "The follower is unbounded: these variables have a cost, but no bound and no row",
            where=some_labels(list(variable_names(model, system.columns[loose][:6]))),
            remedy="Bound them, or tie them to a row.",
        )
    constant = np.where(empty, np.nan, system.sense * system.cost)
    for family in system.variables:
        here = slice(family.start, family.stop)
        if empty[here].all():
            continue
        expression = labelled(model, csr_array(rows[here, :]), constant[here], family.labels)
        name = f"stationarity-{family.name}"
        if name in model.constraints:
            raise ModelError(
                "The model already has rows of a name that stationarity needs", where=name, remedy="Rename those rows."
            )
        model.add_constraints(expression == 0, name=name)
