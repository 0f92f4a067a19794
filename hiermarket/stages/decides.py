"""What a strategic BSP decides: the prices of its offers, or their volumes too."""

from __future__ import annotations

from dataclasses import dataclass

from hiermarket.errors import Fault
from hiermarket.schema import raise_together


@dataclass(frozen=True, slots=True)
class PricesOnly:
    """A BSP decides the prices of its offers, and offers the whole volume of its bids."""


@dataclass(frozen=True, slots=True)
class PricesAndVolumes:
    """A BSP decides prices and volumes: it may offer less than its bids have, to move the price.

    Parameters
    ----------
    shade : float
        Part by which it offers less still than it expects to sell, where volumes are withheld, in
        [0, 1). With exactly what it expects the need is met by whole offers, and the price is one of
        an interval; with a little less somebody else sets the price that the BSP counts on.
    """

    shade: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.shade < 1:
            remedy = "Give the part of the volume, e.g. 1e-4."
            raise_together([Fault("decides.PricesAndVolumes.shade", repr(self.shade), "in [0, 1)", remedy)])


Decides = PricesOnly | PricesAndVolumes
#: All of them.
DECIDES = (PricesOnly, PricesAndVolumes)
