"""What the TSO's stage knows of a market: all but the distribution grids and their bids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import FEEDER, PERIOD
from hiermarket.schema import freeze, raise_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import Transmission
    from hiermarket.market.rules import MarketRules


@dataclass(frozen=True, slots=True)
class TsoSide:
    """The TSO's side of a market, or of some of its feeders; made by `BalancingMarket.tso_side`.

    Parameters
    ----------
    tbm : Dataset
        ``tbm_price (direction, period)`` [EUR/MWh], ``tbm_limit (feeder, direction,
        period)`` [MW].
    duration : DataArray (period)
        Δ [h].
    rules : MarketRules
        Price cap, floor and value of lost load.
    transmission : Transmission
        The grid, where the feeders hang, bids and imbalance of the grid itself.
    """

    tbm: xr.Dataset
    duration: xr.DataArray
    rules: MarketRules
    transmission: Transmission

    @property
    def periods(self) -> pd.DatetimeIndex:
        """The market time units."""
        return pd.DatetimeIndex(self.duration.indexes[PERIOD])

    @property
    def feeder_names(self) -> pd.Index:
        """The feeders, in order."""
        names: pd.Index = pd.Index(self.tbm[FEEDER].values, dtype=object, name=FEEDER)
        return names

    def of_periods(self, periods: slice | NDArray[np.intp]) -> TsoSide:
        """Return the side in some periods, by position."""
        at, side = {PERIOD: periods}, self.transmission
        part = replace(
            side,
            grid=None if side.grid is None else replace(side.grid, data=side.grid.data.isel(at)),
            bids=None if side.bids is None else replace(side.bids, data=side.bids.data.isel(at)),
            imbalance=None if side.imbalance is None else side.imbalance.isel(at),
        )
        return replace(self, tbm=self.tbm.isel(at), duration=self.duration.isel(at), transmission=part)


def join_sides(parts: Sequence[TsoSide]) -> TsoSide:
    """Put the TSO's sides of different feeders together.

    Parameters
    ----------
    parts : sequence of TsoSide
        Each of other feeders, all of one market: prices, durations, rules, grid, bids and
        imbalance of the transmission grid are taken from the first.

    Returns
    -------
    TsoSide
        With the feeders in the order of the parts.

    Raises
    ------
    DataError
        When a feeder is in more than one part, or periods differ.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    names = pd.Index([name for part in parts for name in part.feeder_names])
    faults = []
    twice = list(names[names.duplicated()])
    if twice:
        faults.append(Fault("feeders", f"{some_labels(twice)} in several parts", "each in one part", "Drop them."))
    apart = [part for part in parts if not part.periods.equals(first.periods)]
    if apart:
        found = f"other periods in {len(apart)} of {len(parts)} parts"
        faults.append(Fault("periods", found, "the same in every part", "Split one market."))
    raise_together(faults)
    limit = xr.concat([part.tbm["tbm_limit"] for part in parts], dim=FEEDER)
    hung = {name: bus for part in parts for name, bus in (part.transmission.interface or {}).items()}
    side = first.transmission
    return replace(
        first,
        tbm=freeze(first.tbm.drop_dims(FEEDER).assign(tbm_limit=limit)),
        transmission=side if side.interface is None else replace(side, interface=hung),
    )
