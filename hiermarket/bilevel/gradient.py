"""The derivative of a follower's cost with respect to its own variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array

from hiermarket.bilevel.canonical import canonical
from hiermarket.solving.program import program_of
from hiermarket.solving.sparse_rows import labelled

if TYPE_CHECKING:
    import linopy

    from hiermarket.bilevel.canonical import System
    from hiermarket.bilevel.follower import Follower


def by_label(matrix: csr_array, labels: np.ndarray, width: int) -> csr_array:
    """Return a sparse array whose columns are the model's labels instead of positions."""
    entries = coo_array(matrix)
    return csr_array(coo_array((entries.data, (entries.row, labels[entries.col])), shape=(matrix.shape[0], width)))


def gradient_rows(system: System, width: int) -> csr_array:
    """Return the part of ∂cost/∂a that depends on variables: Q a + C x, by label."""
    return csr_array(by_label(system.hessian, system.columns, width) + by_label(system.cross, system.others, width))


def gradient(follower: Follower) -> dict[str, linopy.LinearExpression]:
    """Return ∂(cost)/∂(variable) for every variable of a follower.

    Parameters
    ----------
    follower : Follower
        Its cost may hold quadratic terms and products of its own with the leader's
        variables: the derivative is then linear in those.

    Returns
    -------
    dict[str, linopy.LinearExpression]
        One labelled expression for each variable, with the variable's dims and mask.

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> from hiermarket.bilevel.gradient import gradient
    >>> model = linopy.Model()
    >>> x, a = model.add_variables(0, 9, name="x"), model.add_variables(0, 5, name="a")
    >>> follower = bl.Follower(variables=[a], constraints=[], cost=3 * a + x * a + a * a)
    >>> expression = gradient(follower)["a"]
    >>> expression.coeffs.values.tolist(), float(expression.const)
    ([1.0, 2.0], 3.0)
    """
    import linopy

    with linopy.options as options:
        options.set_value(semantics="v1")
        program = program_of(follower.model, scaled=False)
        system = canonical(follower, program)
        width = int(program.columns.max(initial=-1)) + 1
        rows = gradient_rows(system, width)
        return {
            family.name: labelled(
                follower.model,
                csr_array(rows[family.start : family.stop, :]),
                system.cost[family.start : family.stop],
                family.labels,
            )
            for family in system.variables
        }
