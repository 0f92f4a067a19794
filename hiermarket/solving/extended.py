"""A program with what HiGHS does not know: SOS1 sets, indicators, products in rows, any quadratic objective."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hiermarket.solving.program import Floats, Ints, Program


def _no_ints() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Sets:
    """SOS1 sets of two: at most one of two columns is not zero.

    Attributes
    ----------
    first, second : int arrays
        Columns by position.
    """

    first: Ints = field(default_factory=_no_ints)
    second: Ints = field(default_factory=_no_ints)


@dataclass(frozen=True, slots=True)
class Indicators:
    """Each says: binary = value implies sign·column ≤ 0, for a column whose bounds say sign·column ≥ 0.

    Attributes
    ----------
    binary, value, column : int arrays
        Columns by position, and 0 or 1.
    sign : float array
        +1 or −1.
    """

    binary: Ints = field(default_factory=_no_ints)
    value: Ints = field(default_factory=_no_ints)
    column: Ints = field(default_factory=_no_ints)
    sign: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class Products:
    """Terms coefficient·first·second that rows hold beside their linear ones.

    Attributes
    ----------
    row, first, second : int arrays
        Positions.
    coefficient : float array
        Of each product.
    """

    row: Ints = field(default_factory=_no_ints)
    first: Ints = field(default_factory=_no_ints)
    second: Ints = field(default_factory=_no_ints)
    coefficient: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class Extended:
    """A program with sets, indicators and products.

    Attributes
    ----------
    program : Program
        Columns, rows and objective; a quadratic objective need not be convex.
    sets : Sets
        SOS1 sets.
    indicators : Indicators
        Indicator rows.
    products : Products
        Products in rows.
    """

    program: Program
    sets: Sets = field(default_factory=Sets)
    indicators: Indicators = field(default_factory=Indicators)
    products: Products = field(default_factory=Products)

    @property
    def is_plain(self) -> bool:
        """Whether HiGHS can take it."""
        extra = len(self.sets.first) + len(self.indicators.binary) + len(self.products.row)
        return extra == 0 and (self.program.quadratic is None or not self.program.integer.any())
