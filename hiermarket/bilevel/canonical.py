"""The follower in canonical form: labelled families of rows and bounds, and their arrays.

min s·(½ a'Qa + (c + Cx)'a)   s.t.   Aa + Bx ≤, =, ≥ b,   lower ≤ a ≤ upper

with a the follower's variables, x whatever else stands in its rows and cost, and
s = +1 for a follower that minimises, −1 for one that maximises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hiermarket.bilevel.convexity import concave
from hiermarket.bilevel.expression import Terms, row_names, terms_of, variable_names
from hiermarket.bilevel.places import places, positions
from hiermarket.errors import ModelError, some_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    import linopy
    import xarray as xr

    from hiermarket.bilevel.follower import Follower
    from hiermarket.solving.program import Floats, Ints, Program


@dataclass(frozen=True, slots=True)
class Family:
    """One labelled array of variables or rows, and its place in the flat arrays.

    Attributes
    ----------
    name : str
        Its name in the model.
    labels : DataArray
        The model's labels, −1 where masked.
    start, stop : int
        Place of its unmasked elements in the follower's arrays.
    """

    name: str
    labels: xr.DataArray
    start: int
    stop: int

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return tuple(str(dim) for dim in self.labels.dims)

    def spread(self, values: Floats, fill: float) -> xr.DataArray:
        """Lay values of the flat arrays out as a labelled array."""
        flat = np.full(self.labels.size, fill)
        flat[np.asarray(self.labels).ravel() != -1] = values[self.start : self.stop]
        return self.labels.copy(data=flat.reshape(self.labels.shape))


@dataclass(frozen=True, slots=True)
class System:
    """One follower as arrays; positions refer to `columns`, `others` and `rows`.

    Attributes
    ----------
    sense : float
        s: +1 for a minimum, −1 for a maximum.
    columns, others, rows : int arrays
        The model's labels of the follower's variables (a), of the other variables in
        its rows and cost (x), and of its rows.
    own, other : sparse arrays
        A (rows × columns) and B (rows × others).
    rhs : float array
        b.
    kind : int array
        −1 for ≤, 0 for =, +1 for ≥.
    lower, upper : float arrays
        Bounds of a.
    cost : float array
        c.
    hessian, cross : sparse arrays
        Q (columns × columns, symmetric) and C (columns × others).
    variables, constraints : tuple[Family, ...]
        The labelled families that the flat arrays consist of.
    """

    sense: float
    columns: Ints
    others: Ints
    rows: Ints
    own: csr_array
    other: csr_array
    rhs: Floats
    kind: Ints
    lower: Floats
    upper: Floats
    cost: Floats
    hessian: csr_array
    cross: csr_array
    variables: tuple[Family, ...]
    constraints: tuple[Family, ...]

    @property
    def is_linear(self) -> bool:
        """Whether the follower's problem is an LP once the leader has decided."""
        return self.hessian.nnz == 0

    @property
    def asks(self) -> np.ndarray:
        """Which of the follower's rows ask for something: a row ``<= inf`` does not."""
        return np.isfinite(self.rhs)

    @property
    def fixed(self) -> np.ndarray:
        """Which of the follower's variables have equal bounds."""
        return np.asarray(self.lower == self.upper)


def canonical(follower: Follower, program: Program) -> System:
    """Bring a follower into canonical form.

    Parameters
    ----------
    follower : Follower
        Names in the model.
    program : Program
        The model's arrays, in user units.

    Raises
    ------
    ModelError
        Rows without a variable of the follower; a cost that is not convex.
    """
    model = follower.model
    variables = _families((v.name, v.labels) for v in follower.variables)
    constraints = _families((c.name, c.labels) for c in follower.constraints)
    columns = _labels(variables)
    rows = _labels(constraints)
    at, here = positions(columns, program.columns), positions(rows, program.rows)

    terms = terms_of(follower.cost, "the follower's cost")
    part = csr_array(program.matrix[here, :])
    others = _others(terms, program, part, columns)
    own = csr_array(part[:, at])
    empty = np.diff(own.indptr) == 0
    if empty.any():
        raise ModelError(
            "These rows of the follower contain none of its variables",
            where=some_labels(list(row_names(model, rows[empty][:6]))),
            remedy="Leave them to the leader: only the leader can satisfy them.",
        )
    cost, hessian, cross = _cost(terms, columns, others)
    sense = 1.0 if follower.sense == "min" else -1.0
    _check_convex(model, columns, hessian, sense)
    lower_side, upper_side = program.row_lower[here], program.row_upper[here]
    # a row without a finite side (<= inf) asks for nothing: it keeps an infinite right-hand side
    kind = np.where(lower_side == upper_side, 0, np.where(np.isfinite(lower_side), 1, -1))
    return System(
        sense=sense,
        columns=columns,
        others=others,
        rows=rows,
        own=own,
        other=csr_array(part[:, positions(others, program.columns)]),
        rhs=np.where(kind == 1, lower_side, upper_side),
        kind=kind.astype(np.int64),
        lower=program.lower[at],
        upper=program.upper[at],
        cost=cost,
        hessian=hessian,
        cross=cross,
        variables=variables,
        constraints=constraints,
    )


def _families(arrays: Iterable[tuple[str, xr.DataArray]]) -> tuple[Family, ...]:
    families, start = [], 0
    for name, labels in arrays:
        stop = start + int((np.asarray(labels) != -1).sum())
        families.append(Family(name, labels, start, stop))
        start = stop
    return tuple(families)


def _labels(families: tuple[Family, ...]) -> Ints:
    flat = [np.asarray(family.labels).ravel() for family in families]
    every = np.concatenate(flat) if flat else np.empty(0)
    return np.asarray(every[every != -1], dtype=np.int64)


def _others(terms: Terms, program: Program, part: csr_array, columns: Ints) -> Ints:
    """Return the labels in the follower's rows and cost products that it does not decide."""
    in_rows = program.columns[np.unique(part.indices)]
    pairs = np.isin(np.array([terms.first, terms.second]), columns)
    mixed = pairs[0] != pairs[1]
    in_cost = np.where(pairs[0], terms.second, terms.first)[mixed]
    found: Ints = np.setdiff1d(np.concatenate([in_rows, in_cost]), columns)
    return found


def _cost(terms: Terms, columns: Ints, others: Ints) -> tuple[Floats, csr_array, csr_array]:
    """Return c, Q and C of the follower's cost."""
    count = len(columns)
    last = max(int(array.max(initial=-1)) for array in (terms.labels, terms.first, terms.second))
    mine, theirs = places(columns, last), places(others, last)
    place = mine[terms.labels]
    own = place != -1
    cost = np.bincount(place[own], weights=terms.coefficients[own], minlength=count).astype(np.float64)
    first, second = mine[terms.first], mine[terms.second]
    both = (first != -1) & (second != -1)
    # ½ a'Qa: a term k·a_i·a_j puts k at (i, j) and at (j, i), so 2k on the diagonal
    ends = (np.concatenate([first[both], second[both]]), np.concatenate([second[both], first[both]]))
    hessian = csr_array(coo_array((np.tile(terms.products[both], 2), ends), shape=(count, count)))
    hessian.eliminate_zeros()
    mixed = (first != -1) != (second != -1)
    row = np.where(first != -1, first, second)[mixed]
    leader = np.where(first != -1, theirs[terms.second], theirs[terms.first])[mixed]
    cross = csr_array(coo_array((terms.products[mixed], (row, leader)), shape=(count, len(others))))
    cross.eliminate_zeros()
    return cost, hessian, cross


def _check_convex(model: linopy.Model, columns: Ints, hessian: csr_array, sense: float) -> None:
    """Refuse a cost that is not convex, with an eigenvalue as witness."""
    if hessian.nnz == 0:
        return
    component = connected_components(hessian, directed=False)[1]
    size = np.bincount(component)[component]
    order = np.lexsort((component, size))
    for length in np.unique(size):
        members = order[size[order] == length].reshape(-1, length)
        blocks = np.zeros((len(members), length, length))
        if length == 1:
            blocks[:, 0, 0] = hessian.diagonal()[members[:, 0]]
        else:
            for number, member in enumerate(members):
                blocks[number] = hessian[member, :][:, member].toarray()
        wrong_ones = np.flatnonzero(concave(sense * blocks))
        if len(wrong_ones):
            worst = int(wrong_ones[0])
            least = float(np.linalg.eigvalsh(sense * blocks[worst])[0])
            wrong = "convex" if sense > 0 else "concave"
            names = list(variable_names(model, columns[members[worst]][:6]))
            raise ModelError(
                f"The follower's cost is not {wrong}: its Hessian has the eigenvalue {sense * least:.6g}",
                where=some_labels(names),
                remedy="KKT conditions of such a follower do not mean optimality. Convexify the cost; or, if one of "
                "these is the leader's, do not name it in Follower(variables=...).",
            )
