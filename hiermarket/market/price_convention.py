"""Who pays whom for a down bid: conventions of published tables, read into the one of this package."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from hiermarket.labels import Direction

if TYPE_CHECKING:
    import pandas as pd


class PriceConvention(StrEnum):
    """What a price in a table of bids means."""

    PAID_AND_PAYS = "paid and pays"
    """A provider is paid the price for up energy, and pays it for down energy: that of this package."""
    PAID_FOR_BOTH = "paid for both"
    """A provider is paid the price for energy in either direction."""


def in_our_sign(frame: pd.DataFrame, convention: PriceConvention) -> pd.DataFrame:
    """Return a table of bids with prices and costs that a provider is paid for up and pays for down.

    Parameters
    ----------
    frame : DataFrame
        Columns ``direction, price`` and ``cost`` [EUR/MWh].
    convention : PriceConvention
        That of the table.

    Notes
    -----
    To be paid p for down energy is to pay −p.
    """
    if convention is PriceConvention.PAID_AND_PAYS:
        return frame
    down = frame["direction"] == Direction.DOWN.value
    return frame.assign(**{name: frame[name].where(~down, -frame[name]) for name in ("price", "cost")})
