"""A leader's problem with the followers replaced by their KKT conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.bilevel.expression import terms_of
from hiermarket.bilevel.follower import Sense
from hiermarket.bilevel.naming import family_names
from hiermarket.errors import ModelError, some_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import linopy
    import xarray as xr
    from linopy.constraints import Constraints
    from linopy.variables import Variables

    from hiermarket.bilevel.canonical import System
    from hiermarket.bilevel.complementarity import Pairs
    from hiermarket.bilevel.expression import ExpressionLike, Terms
    from hiermarket.solving.program import Ints


@dataclass(frozen=True, slots=True, repr=False)
class Mpec:
    """A mathematical program with equilibrium constraints, on a copy of the user's model.

    Attributes
    ----------
    origin : linopy.Model
        The user's model. Its variables have the same labels as in the copy, so that
        expressions of either will do.
    model : linopy.Model
        The copy, with the stationarity rows; leader rows may still be added to it, on
        the duals too.
    systems : tuple[System, ...]
        Each follower in canonical form.
    pairs : Pairs
        The complementarity pairs of all followers.
    dual : mapping
        For each row family of a follower the labelled variable of its duals,
        ∂(follower's optimal cost, in its own sense)/∂(right-hand side).
    lower, upper : mapping
        For each variable of a follower the magnitudes (≥ 0) of the multipliers of its
        finite bounds.
    fixed : mapping
        For each variable with equal bounds its free reduced cost.
    sense : Sense
        The leader's sense.
    objective : Terms or None
        The leader's objective; None for a leader that does nothing.
    ignored : bool
        Whether the user's model has an objective that is not the followers' cost: it plays no part.
    """

    origin: linopy.Model
    model: linopy.Model
    systems: tuple[System, ...]
    pairs: Pairs
    dual: Mapping[str, linopy.Variable]
    lower: Mapping[str, linopy.Variable]
    upper: Mapping[str, linopy.Variable]
    fixed: Mapping[str, linopy.Variable]
    sense: Sense = Sense.MIN
    objective: Terms | None = None
    ignored: bool = False

    def __repr__(self) -> str:
        followers = {f.name for system in self.systems for f in (*system.variables, *system.constraints)}
        made = {v.name for kept in (self.dual, self.lower, self.upper, self.fixed) for v in kept.values()}
        leaders = [(n, v.labels) for n, v in self.variables.items() if n not in followers | made]
        stationarity = {f"stationarity-{f.name}" for system in self.systems for f in system.variables}
        rows = [(n, c.labels) for n, c in self.constraints.items() if n not in followers | stationarity]
        count = 0 if self.objective is None else len(self.objective.labels) + len(self.objective.products)
        wants = "does nothing" if self.objective is None else f"{self.sense}imises {count} terms"
        several = f"{len(self.systems)} follower{'s' if len(self.systems) != 1 else ''}"
        lines = [f"Mpec: a leader that {wants}, {several}, {len(self.pairs)} pairs"]
        lines += [f"  leader      {family_names(leaders)}; rows: {family_names(rows)}"]
        for number, system in enumerate(self.systems, 1):
            decides = family_names((f.name, f.labels) for f in system.variables)
            asks = family_names((f.name, f.labels) for f in system.constraints)
            lines.append(f"  follower {number}  {decides}; rows: {asks}")
        lines.append(f"  pairs       {family_names((f.name, f.labels) for f in self.pairs.families)}")
        return "\n".join(lines)

    @property
    def variables(self) -> Variables:
        """The variables of the copy: those of the user's model, and the multipliers."""
        return self.model.variables

    @property
    def constraints(self) -> Constraints:
        """The rows of the copy: those of the user's model, and the stationarity rows."""
        return self.model.constraints

    def dual_labels(self, system: System) -> Ints:
        """Return the copy's label of the dual of each row of a follower."""
        return _flat([self.dual[family.name].labels for family in system.constraints])

    @property
    def stationarity_labels(self) -> Ints:
        """The copy's labels of all stationarity rows."""
        names = [f"stationarity-{family.name}" for system in self.systems for family in system.variables]
        return _flat([self.constraints[name].labels for name in names if name in self.constraints])

    @property
    def multiplier_labels(self) -> Ints:
        """The copy's labels of all duals and multipliers of bounds."""
        kept = (self.dual, self.lower, self.upper, self.fixed)
        return _flat([variable.labels for kind in kept for variable in kind.values()])

    def maximise(self, expression: ExpressionLike) -> Mpec:
        """Return the same problem with a leader who maximises an expression.

        Parameters
        ----------
        expression : linopy expression
            Of the user's variables, or of this problem's (`variables`, `dual`, ...); a
            constant is counted in the value.

        Raises
        ------
        ModelError
            An expression of another model, or with variables added to it after `kkt`.
        """
        return self._with(Sense.MAX, expression)

    def minimise(self, expression: ExpressionLike) -> Mpec:
        """Return the same problem with a leader who minimises an expression (see `maximise`)."""
        return self._with(Sense.MIN, expression)

    def check_origin(self) -> None:
        """Refuse a user's model that has grown since `kkt`: its new labels are those of duals here.

        Raises
        ------
        ModelError
            With the variables and rows that were added.
        """
        known = {*self.variables, *self.constraints}
        late = [name for name in (*self.origin.variables, *self.origin.constraints) if name not in known]
        if late:
            raise ModelError(
                "The model has variables or rows that it got after kkt",
                where=some_labels(late),
                remedy="Add them before kkt, or to the copy: mpec.model.",
            )

    def check_leader(self) -> None:
        """Refuse a leader without an objective where the user's model has one that is not the followers' cost.

        Raises
        ------
        ModelError
            As the leader would do nothing, and any of the followers' answers would be an optimum.
        """
        if self.objective is None and self.ignored:
            raise ModelError(
                "The leader has no objective: that of the model plays no part",
                where=f"model.objective, sense {self.origin.objective.sense}",
                remedy="Give it to the leader, mpec.maximise(model.objective.expression) or mpec.minimise(...); "
                "a leader that does nothing needs a model without it, model.remove_objective().",
            )

    def terms(self, expression: ExpressionLike, where: str) -> Terms:
        """Read an expression of the user's model or of the copy.

        Raises
        ------
        ModelError
            An expression of another model, or with variables added to it after `kkt`.
        """
        model = getattr(expression, "model", None)
        if model is not self.model and model is not self.origin:
            what = (
                "belongs to another model" if hasattr(expression, "vars") or model is not None else "is no expression"
            )
            raise ModelError(
                f"{where[0].upper()}{where[1:]} {what}",
                where=type(expression).__name__,
                remedy="Build it from the variables of the model that kkt was given, or from mpec.variables and dual.",
            )
        terms = terms_of(expression, where)
        self.check_origin()
        return terms

    def _with(self, sense: Sense, expression: ExpressionLike) -> Mpec:
        return replace(self, sense=sense, objective=self.terms(expression, "the leader's objective"))


def _flat(arrays: list[xr.DataArray]) -> Ints:
    """Return the labels of several arrays, in order, without masked ones."""
    every = np.concatenate([np.empty(0, dtype=np.int64), *(np.asarray(array).ravel() for array in arrays)])
    return np.asarray(every[every != -1], dtype=np.int64)
