"""The whole reformulated problem as a linopy model with labelled binaries: to read, to export, for any solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array

from hiermarket.bilevel.complementarity import slack_rows
from hiermarket.bilevel.encoded import choices_of
from hiermarket.bilevel.encoding import Way
from hiermarket.bilevel.expression import scalar, scalar_quadratic
from hiermarket.bilevel.problem import problem_of
from hiermarket.bilevel.sides import Side
from hiermarket.errors import InfeasibleError, ModelError
from hiermarket.solving.program import program_of
from hiermarket.solving.solver import SolverOptions
from hiermarket.solving.sparse_rows import labelled

if TYPE_CHECKING:
    import linopy
    import xarray as xr

    from hiermarket.bilevel.complementarity import PairFamily
    from hiermarket.bilevel.encoded import Plan
    from hiermarket.bilevel.expression import Expression
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Bools, Floats, Ints


class Planned(Protocol):
    """A reformulation that writes pairs into a model: `BigM`, `SOS1`, `Indicator`, `Mixed`."""

    def plan(self, part: Part) -> Plan:
        """Return how each pair of a part is written."""
        ...


def reformulated(mpec: Mpec, reformulation: Planned, *, options: SolverOptions | None = None) -> linopy.Model:
    """Return a bilevel problem as one linopy model: KKT rows, and every pair as the reformulation writes it.

    Parameters
    ----------
    mpec : Mpec
        The problem, with its leader's objective.
    reformulation : BigM, SOS1, Indicator or Mixed
        How pairs are written.
    options : SolverOptions, optional
        Of the LPs that prove bounds.

    Returns
    -------
    linopy.Model
        A model of its own. For a family of pairs ``need``: the binary ``free-need`` (1 where
        the slack may be positive, 0 where the dual may), the rows ``slack-need`` and
        ``multiplier-need``; with SOS1 the sets ``pair-need``; rows ``tight-need`` and
        ``silent-need`` for pairs that bounds have decided.

    Raises
    ------
    ModelError
        A reformulation that writes no pairs: Auto, Branching, StrongDuality.
    UnboundedPairError
        Pairs by big-M without a proved or a declared bound.
    InfeasibleError
        No point satisfies the bounds already.

    Notes
    -----
    `solve` does not go this way: it solves the independent parts one by one, and certifies
    what it finds. The model is for reading, for files and for solvers of the user's own.

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> model = linopy.Model()
    >>> volume = model.add_variables(0, 5, name="volume")
    >>> need = model.add_constraints(1 * volume >= 2, name="need")
    >>> mpec = bl.kkt(model, bl.Follower(variables=[volume], constraints=[need], cost=3 * volume))
    >>> milp = bl.reformulated(mpec, bl.BigM())
    >>> sorted(milp.binaries), [name for name in milp.constraints if "lower" in name or "upper" in name]
    ([], ['silent-lower-volume', 'silent-upper-volume'])
    >>> milp.constraints["tight-need"]
    Constraint `tight-need`
    -----------------------
    +1 volume = 2.0
    """
    import linopy

    if not hasattr(reformulation, "plan") or isinstance(reformulation, type):
        raise ModelError(
            "This writes no pairs into a model",
            where=repr(reformulation),
            remedy="Use BigM(), SOS1(), Indicator() or Mixed(...).",
        )
    written = _written(mpec, reformulation, options or SolverOptions())
    with linopy.options as settings:
        settings.set_value(semantics="v1")
        model = mpec.model.copy()
        matrix = program_of(mpec.model, scaled=False)
        slack = _slacks(mpec, matrix.matrix, matrix.rows, matrix.columns)
        for family in mpec.pairs.families:
            _add_family(model, mpec, family, written, slack)
        _add_objective(model, mpec)
    return model


@dataclass(frozen=True, slots=True)
class _Written:
    """How every pair of the whole problem is written."""

    sides: Ints
    ways: Ints
    slack: Floats
    multiplier: Floats


def _written(mpec: Mpec, reformulation: Planned, options: SolverOptions) -> _Written:
    count = len(mpec.pairs)
    written = _Written(
        np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64), np.full(count, np.inf), np.full(count, np.inf)
    )
    for part in problem_of(mpec).parts:
        if not len(part.pairs):
            continue
        found = choices_of(part, reformulation.plan(part), options, None)
        if found is None:
            raise InfeasibleError(
                "The bilevel problem",
                where=f"part {part.number}",
                status="no point satisfies the bounds of its pairs",
                remedy="Solve it for the reason: bilevel.solve names the rows.",
            )
        choices = found[1]
        written.sides[part.pairs] = choices.sides
        written.ways[part.pairs] = choices.ways
        written.slack[part.pairs], written.multiplier[part.pairs] = choices.slack, choices.multiplier
    return written


def _slacks(mpec: Mpec, matrix: csr_array, rows: Ints, columns: Ints) -> csr_array:
    """Return sign·activity (or sign·value) of every pair as rows over the model's labels."""
    pairs = mpec.pairs
    entries = coo_array(matrix)
    width = 1 + max(variable.range[1] for _, variable in mpec.model.variables.items())
    height = int(rows.max(initial=-1)) + 1
    by_label = csr_array(
        coo_array((entries.data, (rows[entries.row], columns[entries.col])), shape=(max(height, 1), width))
    )
    return slack_rows(by_label, pairs.row, pairs.column, pairs.sign)


def _add_family(model: linopy.Model, mpec: Mpec, family: PairFamily, written: _Written, slacks: csr_array) -> None:
    here = slice(family.start, family.stop)
    sides, ways = written.sides[here], written.ways[here]
    pairs = mpec.pairs

    def labels(chosen: Bools) -> xr.DataArray:
        """Return the family's labels, −1 where not chosen."""
        flat = np.asarray(family.labels).ravel().copy()
        place = np.flatnonzero(flat != -1)
        flat[place[~chosen]] = -1
        bare = family.labels.drop_vars([name for name in family.labels.coords if name not in family.labels.dims])
        return bare.copy(data=flat.reshape(family.labels.shape))

    def slack(chosen: Bools) -> linopy.LinearExpression:
        at = np.flatnonzero(chosen) + family.start
        return labelled(model, csr_array(slacks[at, :]), pairs.constant[at], labels(chosen))

    def multiplier(chosen: Bools) -> linopy.LinearExpression:
        at = np.flatnonzero(chosen) + family.start
        entries = (pairs.multiplier_sign[at], (np.arange(len(at)), pairs.multiplier[at]))
        rows = csr_array(coo_array(entries, shape=(len(at), slacks.shape[1])))
        return labelled(model, rows, np.zeros(len(at)), labels(chosen))

    def value(numbers: Floats, chosen: Bools) -> xr.DataArray:
        """Lay numbers of the chosen pairs out over the family's dimensions."""
        mask = labels(chosen)
        flat = np.ones(mask.size)
        flat[np.asarray(mask).ravel() != -1] = numbers[here][chosen]
        return mask.copy(data=flat.reshape(mask.shape))

    tight, silent = sides == Side.SLACK_ZERO, sides == Side.MULTIPLIER_ZERO
    if tight.any():
        model.add_constraints(slack(tight) == 0, name=f"tight-{family.name}")
    if silent.any():
        model.add_constraints(multiplier(silent) == 0, name=f"silent-{family.name}")
    open_ = sides == Side.OPEN
    binary = open_ & (ways != Way.SOS1)
    if binary.any():
        mask = labels(binary) != -1
        free = model.add_variables(coords=mask.coords, mask=mask, binary=True, name=f"free-{family.name}")
    by_m = open_ & (ways == Way.BIG_M)
    if by_m.any():
        most, largest = value(written.slack, by_m), value(written.multiplier, by_m)
        model.add_constraints(slack(by_m) - most * free <= 0, name=f"slack-{family.name}")
        model.add_constraints(multiplier(by_m) + largest * free <= largest, name=f"multiplier-{family.name}")
    by_indicator = open_ & (ways == Way.INDICATOR)
    if by_indicator.any():
        model.add_indicator_constraints(free, 0, slack(by_indicator), "<=", 0.0, name=f"slack-{family.name}")
        model.add_indicator_constraints(free, 1, multiplier(by_indicator), "<=", 0.0, name=f"multiplier-{family.name}")
    in_set = open_ & (ways == Way.SOS1)
    if in_set.any():
        _add_sets(model, family.name, labels(in_set) != -1, slack(in_set), multiplier(in_set))


def _add_sets(
    model: linopy.Model,
    name: str,
    mask: xr.DataArray,
    slack: linopy.LinearExpression,
    multiplier: linopy.LinearExpression,
) -> None:
    """Add a SOS1 set of slack and multiplier for each cell."""
    side = pd.Index(["slack", "multiplier"], name="side")
    both = mask.expand_dims(side=side).transpose(*mask.dims, "side")
    members = model.add_variables(0, coords=both.coords, mask=both, name=f"pair-{name}")
    for which, expression in (("slack", slack), ("multiplier", multiplier)):
        member = members.sel(side=which, drop=True)
        model.add_constraints(member - expression == 0, name=f"{which}-{name}")
    model.add_sos_constraints(members, sos_type=1, sos_dim="side")


def _add_objective(model: linopy.Model, mpec: Mpec) -> None:
    terms = mpec.objective
    if terms is None:
        return
    expression: Expression = scalar(model, terms.labels, terms.coefficients)
    if not terms.is_linear:
        expression = expression + scalar_quadratic(model, terms.first, terms.second, terms.products)
    # linopy's objectives have no constant: Mpec.objective.constant is added by `solve`
    model.add_objective(expression, sense=str(mpec.sense), overwrite=True)
