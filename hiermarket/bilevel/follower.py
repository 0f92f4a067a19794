"""The follower: which variables, rows and cost of one shared model are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar, cast

from hiermarket.bilevel.naming import family_names
from hiermarket.errors import ModelError, some_labels

if TYPE_CHECKING:
    import linopy
    from linopy.constraints import ConstraintBase

    from hiermarket.bilevel.expression import ExpressionLike

_Item = TypeVar("_Item")


class Sense(StrEnum):
    """Whether a cost is minimised or a benefit maximised."""

    MIN = "min"
    MAX = "max"

    @property
    def sign(self) -> float:
        """Sign that turns the cost into one that is minimised."""
        return 1.0 if self is Sense.MIN else -1.0


@dataclass(frozen=True, slots=True, repr=False)
class Follower:
    """A follower names its variables, rows and cost in one shared linopy model.

    Everything else in the model is the leader's: variables that appear in the
    follower's rows and cost without being named are parameters to the follower, and
    rows that are not named bind the leader.

    Parameters
    ----------
    variables : sequence of linopy variables
        What the follower decides; whole arrays, continuous.
    constraints : sequence of linopy constraints
        The follower's rows; each must contain one of its variables.
    cost : linopy expression
        What the follower minimises (or maximises): linear, convex (concave) quadratic
        in its own variables, products of a leader's and a follower's variable. Terms
        without a variable of the follower, and a constant, do not move it.
    sense : "min" or "max"
        The follower's sense.
    products : mapping of linopy expressions, optional
        For names of the follower's rows, products of a leader's integer and a follower's
        variable that their left-hand sides hold besides, e.g. ``{"limit": built * flow}``;
        linopy has no products in rows. Both need finite bounds; they are linearised exactly.

    Raises
    ------
    ModelError
        Names that belong to different models; integer variables; a name given twice.

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> model = linopy.Model()
    >>> offer, volume = model.add_variables(0, 9, name="offer"), model.add_variables(0, 5, name="volume")
    >>> need = model.add_constraints(1 * volume >= 2, name="need")
    >>> follower = bl.Follower(variables=[volume], constraints=[need], cost=offer * volume)
    >>> follower.names
    ('volume', 'need')
    """

    variables: Sequence[linopy.Variable]
    constraints: Sequence[ConstraintBase]
    cost: ExpressionLike
    sense: str = Sense.MIN
    products: Mapping[str, linopy.QuadraticExpression] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # one object or a container of named ones (model.variables) will do as well
        object.__setattr__(self, "variables", _as_tuple(self.variables))
        object.__setattr__(self, "constraints", _as_tuple(self.constraints))
        if self.sense not in tuple(Sense):
            raise ModelError(
                "A follower either minimises or maximises",
                where=f"sense={self.sense!r}",
                remedy='Give "min" or "max".',
            )
        object.__setattr__(self, "sense", Sense(self.sense))
        if not self.variables:
            raise ModelError(
                "A follower without variables decides nothing",
                where="Follower(variables=[])",
                remedy="Name the variables that the follower decides.",
            )
        self._check_one_model()
        self._check_names()
        self._check_continuous()
        self._check_products()

    def __repr__(self) -> str:
        decides = family_names((v.name, v.labels) for v in self.variables)
        rows = family_names((c.name, c.labels) for c in self.constraints)
        products = f"\n  products   {', '.join(self.products)}" if self.products else ""
        return f"Follower ({self.sense}imises its cost)\n  variables  {decides}\n  rows       {rows}{products}"

    @property
    def model(self) -> linopy.Model:
        """The model that the follower is a part of."""
        return self.variables[0].model

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables, then of the rows."""
        return (*(v.name for v in self.variables), *(c.name for c in self.constraints))

    def _check_one_model(self) -> None:
        parts = [*((v.name, v.model) for v in self.variables), *((c.name, c.model) for c in self.constraints)]
        foreign = [name for name, model in parts if model is not self.model]
        if self.cost.model is not self.model:
            foreign.append("the cost")
        if foreign:
            raise ModelError(
                "A follower is a part of one model, but these belong to another",
                where=some_labels(foreign),
                remedy="Take variables, rows and cost from the same linopy model (a copy is another model).",
            )

    def _check_names(self) -> None:
        known = {*self.model.variables, *self.model.constraints}
        loose = [name for name in self.names if name not in known]
        if loose:
            raise ModelError(
                "The model does not hold these",
                where=some_labels(loose),
                remedy="Give what add_variables and add_constraints returned.",
            )
        for kind in (self.variables, self.constraints):
            names = [item.name for item in kind]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ModelError(
                    "A follower names these twice, or in parts",
                    where=some_labels(twice),
                    remedy="Name each whole array once; split the array if the leader decides a part of it.",
                )
        sizes = [(v.name, v.labels.size, self.model.variables[v.name].labels.size) for v in self.variables]
        sizes += [(c.name, c.labels.size, self.model.constraints[c.name].labels.size) for c in self.constraints]
        parts = [name for name, given, whole in sizes if given != whole]
        if parts:
            raise ModelError(
                "A follower decides whole arrays, but these are parts of one",
                where=some_labels(parts),
                remedy="Split the array into one of the follower and one of the leader.",
            )

    def _check_continuous(self) -> None:
        model = self.model
        integers = {*model.integers, *model.binaries, *model.semi_continuous}
        wrong = [v.name for v in self.variables if v.name in integers]
        if wrong:
            raise ModelError(
                "KKT conditions hold for continuous followers only, but these variables are integer or semi-continuous",
                where=some_labels(wrong),
                remedy="Relax them, or give them to the leader.",
            )

    def _check_products(self) -> None:
        rows = {c.name for c in self.constraints}
        foreign = [name for name, product in self.products.items() if product.model is not self.model]
        unknown = sorted({*self.products} - rows) + foreign
        if unknown:
            raise ModelError(
                "Products belong to rows of the follower, and to its model",
                where=some_labels(unknown),
                remedy=f"Name one of its rows: {some_labels(sorted(rows))}.",
            )


def _as_tuple(items: Sequence[_Item]) -> tuple[_Item, ...]:
    """Return a tuple of one item, of several, or of a linopy container of named ones."""
    # a container first: asking it for labels would align the arrays of all its members
    if hasattr(items, "items"):
        return tuple(item for _, item in items.items())
    if hasattr(items, "labels"):
        return (cast("_Item", items),)
    return tuple(items)
