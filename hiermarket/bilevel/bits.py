"""An integer as bits, and a binary times a bounded variable as four rows: exact, not a relaxation.

With z an integer and b binary::

    z = z̲ + Σ_k 2^k b_k
    w = b a:   l b ≤ w ≤ u b,   a − u (1 − b) ≤ w ≤ a − l (1 − b)        for l ≤ a ≤ u
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hiermarket.solving.program import Floats


@dataclass(frozen=True, slots=True)
class Pin:
    """One row of each product: w + of_own·a + of_binary·b ≥ limit, or ≤ it.

    Attributes
    ----------
    name : str
        ``least``, ``most``, ``on`` or ``off``.
    of_own : float
        Coefficient of the variable.
    of_binary, limit : float arrays
        Coefficient of the binary, and right-hand side, of each product.
    sign : str
        ``">="`` or ``"<="``.
    """

    name: str
    of_own: float
    of_binary: Floats
    limit: Floats
    sign: str


def pins(low: Floats, high: Floats) -> tuple[Pin, Pin, Pin, Pin]:
    """Return the four rows that make w = b a for variables within [low, high]."""
    zero = np.zeros(len(low))
    return (
        # w − l b ≥ 0
        Pin("least", 0.0, -low, zero, ">="),
        # w − u b ≤ 0
        Pin("most", 0.0, -high, zero, "<="),
        # w − a − u b ≥ −u
        Pin("on", -1.0, -high, -high, ">="),
        # w − a − l b ≤ −l
        Pin("off", -1.0, -low, -low, "<="),
    )


def bits_of(lower: float, upper: float) -> tuple[float, tuple[float, ...]]:
    """Return an integer's least value, and the factors of its bits."""
    least, most = float(np.ceil(lower)), float(np.floor(upper))
    return least, tuple(2.0**bit for bit in range(int(most - least).bit_length()))
