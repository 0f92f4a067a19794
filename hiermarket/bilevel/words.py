"""One row or one pair of a bilevel problem in words, with the role of everything that stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.complementarity import Kind
from hiermarket.bilevel.expression import element_name, variable_names
from hiermarket.errors import ModelError, some_labels

if TYPE_CHECKING:
    import xarray as xr

    from hiermarket.bilevel.complementarity import PairFamily
    from hiermarket.bilevel.mpec import Mpec

_SIGNS = {"=": "=", "<=": "<=", ">=": ">=", "≤": "<=", "≥": ">="}


def in_words(mpec: Mpec, name: str, **labels: object) -> str:
    """Say one row of a bilevel problem, or the two sides of a pair, in words.

    Parameters
    ----------
    mpec : Mpec
        The problem.
    name : str
        A row family of leader or follower, ``stationarity-p``, or a bound ``lower-p``, ``upper-p``.
    **labels
        The element's label in each of its dimensions, e.g. ``unit="ours", hour=2``.

    Returns
    -------
    str
        The row with the role of each variable, and for inequalities of a follower the pair.

    Raises
    ------
    ModelError
        A name or a label that does not exist.

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> model = linopy.Model()
    >>> offer, volume = model.add_variables(0, 9, name="offer"), model.add_variables(0, 5, name="volume")
    >>> need = model.add_constraints(1 * volume >= 2, name="need")
    >>> mpec = bl.kkt(model, bl.Follower(variables=[volume], constraints=[need], cost=offer * volume))
    >>> print(bl.in_words(mpec, "need"))
    need: volume >= 2, a row of follower 1
      volume  decided by follower 1
      either the row is tight or dual-need is zero
    >>> print(bl.in_words(mpec, "stationarity-volume"))
    stationarity-volume: offer - dual-need - lower-volume + upper-volume = 0, follower 1 decides volume optimally
      offer         decided by the leader
      dual-need     dual of need
      lower-volume  multiplier of the lower bound of volume
      upper-volume  multiplier of the upper bound of volume
    >>> print(bl.in_words(mpec, "upper-volume"))
    upper-volume: either volume is at its upper bound 5 or upper-volume is zero
    """
    family = next((f for f in mpec.pairs.families if f.name == name), None)
    if name in mpec.constraints:
        return _row(mpec, name, labels, family)
    if family is not None:
        return _bound(mpec, family, labels)
    known = [*mpec.constraints, *(f.name for f in mpec.pairs.families if f.kind is not Kind.ROW)]
    raise ModelError(
        "The problem has no row or bound of this name",
        where=name,
        remedy=f"Names are: {', '.join(known)}.",
    )


def _row(mpec: Mpec, name: str, labels: dict[str, object], family: PairFamily | None) -> str:
    constraint = mpec.constraints[name]
    label = _label(constraint.labels, name, labels)
    terms = constraint.to_polars().to_dict(as_series=False)
    here = [at for at, of in enumerate(terms["labels"]) if of == label]
    sums: dict[int, float] = {}
    for at in here:
        if terms["vars"][at] != -1:
            sums[terms["vars"][at]] = sums.get(terms["vars"][at], 0.0) + terms["coeffs"][at]
    names = dict(zip(sums, variable_names(mpec.model, np.array(list(sums))), strict=True))
    left = " ".join(_term(value, names[column]) for column, value in sums.items()).removeprefix("+ ")
    sign = _SIGNS[str(terms["sign"][here[0]])]
    side = _number(float(terms["rhs"][here[0]]))
    element = element_name(name, constraint.labels, label)
    lines = [f"{element}: {left} {sign} {side}, {_whose(mpec, name, element)}"]
    width = max((len(shown) for shown in names.values()), default=0)
    lines += [f"  {names[column]:<{width}}  {_role(mpec, column)}" for column in sums]
    if family is not None and (np.asarray(family.labels) == label).any():
        dual = element_name(family.multiplier, constraint.labels, label)
        lines.append(f"  either the row is tight or {dual} is zero")
    return "\n".join(lines)


def _bound(mpec: Mpec, family: PairFamily, labels: dict[str, object]) -> str:
    label = _label(family.labels, family.name, labels)
    pair = family.start + int(np.flatnonzero(np.asarray(mpec.pairs.column[family.start : family.stop]) == label)[0])
    value = -mpec.pairs.constant[pair] / mpec.pairs.sign[pair]
    own, multiplier = (element_name(name, family.labels, label) for name in (family.of, family.multiplier))
    return f"{multiplier}: either {own} is at its {family.kind} {_number(value)} or {multiplier} is zero"


def _label(array: xr.DataArray, name: str, labels: dict[str, object]) -> int:
    missing = [str(dim) for dim in array.dims if dim not in labels]
    strange = sorted(set(labels) - {str(dim) for dim in array.dims})
    if missing or strange:
        raise ModelError(
            f"{name!r} has the dimensions {tuple(array.dims)}",
            where=some_labels([*(f"no label for {m}" for m in missing), *(f"unknown: {s}" for s in strange)]),
            remedy="Give one label for each of its dimensions.",
        )
    try:
        label = int(array.sel({str(dim): labels[str(dim)] for dim in array.dims}))
    except KeyError as error:
        raise ModelError(
            f"{name!r} has no element of this label", where=str(error).strip("'\""), remedy="Look at its coordinates."
        ) from None
    if label == -1:
        raise ModelError(
            f"This element of {name!r} is masked, or no inequality", where=str(labels), remedy="Take another."
        )
    return label


def _term(value: float, name: str) -> str:
    sign = "+" if value >= 0 else "-"
    size = "" if abs(value) == 1 else f"{_number(abs(value))} "
    return f"{sign} {size}{name}"


def _number(value: float) -> str:
    return f"{value + 0.0:.9g}"


def _whose(mpec: Mpec, name: str, element: str) -> str:
    for number, system in enumerate(mpec.systems, 1):
        if name in {family.name for family in system.constraints}:
            return f"a row of follower {number}"
        for family in system.variables:
            if name == f"stationarity-{family.name}":
                own = element.removeprefix("stationarity-")
                return f"follower {number} decides {own} optimally"
    return "a row of the leader"


def _role(mpec: Mpec, column: int) -> str:
    variable = next(v for _, v in mpec.model.variables.items() if v.range[0] <= column < v.range[1])
    kinds = (
        (mpec.lower, "multiplier of the lower bound of", "lower-"),
        (mpec.upper, "multiplier of the upper bound of", "upper-"),
        (mpec.fixed, "reduced cost of", "fixed-"),
        (mpec.dual, "dual of", "dual-"),
    )
    element = element_name(variable.name, variable.labels, column)
    for kept, words, prefix in kinds:
        if any(one.name == variable.name for one in kept.values()):
            return f"{words} {element.removeprefix(prefix)}"
    for number, system in enumerate(mpec.systems, 1):
        if (system.columns == column).any():
            return f"decided by follower {number}"
    return "decided by the leader"
