"""A session that goes on from one program to the next of the same structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.solving.solver import Session

if TYPE_CHECKING:
    from hiermarket.solving.program import Program
    from hiermarket.solving.solver import SolverOptions


class Relay(Session):
    """A session of linear programs whose basis is handed on.

    Parameters
    ----------
    program : Program
        The first one.
    options : SolverOptions
        Of all of them.
    """

    def __init__(self, program: Program, options: SolverOptions) -> None:
        super().__init__(program, options)
        self._matrix, self._is_linear = program.matrix, program.quadratic is None
        self._is_linear = self._is_linear and not program.integer.any()
        self._options = options

    def fits(self, program: Program, options: SolverOptions) -> bool:
        """Return whether a program has the entries of the last one in the same places."""
        matrix, last = program.matrix, self._matrix
        return (
            self._is_linear
            and program.quadratic is None
            and not program.integer.any()
            and options == self._options
            and matrix.shape == last.shape
            and np.array_equal(matrix.indptr, last.indptr)
            and np.array_equal(matrix.indices, last.indices)
        )
