"""The meshed transmission grid in the DC approximation, as one checked, read-only dataset."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermarket.errors import DataError, Fault
from hiermarket.labels import BUS, LINE, PERIOD
from hiermarket.network.quantities import GridQuantity, duration_faults, index_faults, sealed, value_faults
from hiermarket.network.topology import islands
from hiermarket.schema import labels_where

if TYPE_CHECKING:
    import xarray as xr


class Susceptance(StrEnum):
    """What the DC approximation takes for the susceptance of a branch."""

    REACTANCE = "reactance"
    """1/x, and 1/(x × tap ratio) of transformers: that of PyPSA."""
    SERIES = "series"
    """x/(r² + x²) without tap ratios, the imaginary part of the series admittance: that of PGLib-OPF's figures."""


#: Every array of a transmission grid.
QUANTITIES = (
    GridQuantity("bus0", (LINE,), "1", "bus at the start of the line", kind=str),
    GridQuantity("bus1", (LINE,), "1", "bus at the end of the line", kind=str),
    GridQuantity("susceptance", (LINE,), "MW/rad", "flow per difference of angles", minimum=0.0, positive=True),
    GridQuantity("s_max", (LINE,), "MW", "limit of the flow, both ways", minimum=0.0, positive=True, infinite=True),
    GridQuantity("p_scheduled", (BUS, PERIOD), "MW", "scheduled net active injection, > 0 into the grid"),
    GridQuantity("duration", (PERIOD,), "h", "length of the period", minimum=0.0, positive=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class TransmissionGrid:
    """A meshed grid of lines and transformers; the flow of each is susceptance × (θ_bus0 − θ_bus1).

    Parameters
    ----------
    data : xarray.Dataset
        Dimensions ``bus`` and ``line`` (strings; lines and transformers together) and
        ``period`` (timestamps without a time zone), with the arrays of `QUANTITIES`.
        Parallel lines and several islands are allowed. Copied and read-only.

    Raises
    ------
    DataError
        With every fault of the data.

    >>> import xarray as xr
    >>> grid = TransmissionGrid(xr.Dataset(
    ...     {
    ...         "bus0": ("line", ["T1"]), "bus1": ("line", ["T2"]), "susceptance": ("line", [1000.0]),
    ...         "s_max": ("line", [400.0]), "p_scheduled": (("bus", "period"), [[100.0], [-100.0]]),
    ...         "duration": ("period", [1.0]),
    ...     },
    ...     coords={"bus": ["T1", "T2"], "line": ["T1-T2"], "period": pd.to_datetime(["2026-01-01"])},
    ... ))
    >>> list(grid.slack)
    ['T1']
    """

    data: xr.Dataset

    def __post_init__(self) -> None:
        faults = check(self.data)
        if faults:
            raise DataError(faults)
        object.__setattr__(self, "data", sealed(self.data, QUANTITIES))

    @property
    def island_of(self) -> pd.Series:
        """Bus → number of its island, in the order of their first buses."""
        buses = pd.Index(self.data[BUS].values, dtype=object, name=BUS)
        ends = (buses.get_indexer(self.data[end].values).astype(np.int64) for end in ("bus0", "bus1"))
        return pd.Series(pd.factorize(islands(len(buses), *ends))[0], index=buses, name="island")

    @property
    def slack(self) -> pd.Index:
        """The first bus of each island: its angle is zero."""
        island = self.island_of
        return island.index[~island.duplicated().to_numpy()]


def check(data: xr.Dataset) -> list[Fault]:
    """Return every fault of a transmission grid's dataset, with labels.

    Parameters
    ----------
    data : xarray.Dataset
        See `TransmissionGrid`.

    Returns
    -------
    list[Fault]
        Empty if there is none.
    """
    owner = "grid"
    faults = index_faults(owner, data, (BUS, LINE, PERIOD)) + value_faults(owner, data, QUANTITIES)
    if faults:
        return faults
    faults += duration_faults(owner, data)
    for end in ("bus0", "bus1"):
        unknown = ~data[end].isin(data[BUS].values)
        for label, name in zip(labels_where(unknown), data[end].values[unknown.values], strict=True):
            remedy = "Correct the name of the bus."
            faults.append(
                Fault(f"{owner}.{end} at {label}", f"{str(name)!r}, which is no bus", "a bus of the grid", remedy)
            )
    for label in labels_where(data["bus0"] == data["bus1"]):
        found = "the same bus at both ends"
        faults.append(Fault(f"{owner} at {label}", found, "two different buses", "Remove the line."))
    return faults
