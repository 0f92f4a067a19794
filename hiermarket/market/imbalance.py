"""Imbalance at the buses and prices of the transmission balancing market, read from what users have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD, flat_bus
from hiermarket.schema import raise_together

if TYPE_CHECKING:
    from hiermarket.network.feeders import Feeders

Table = pd.DataFrame | str | Path | xr.DataArray


def imbalance_of(source: Table, feeders: Feeders) -> xr.DataArray:
    """Read the imbalance of every bus and period.

    Parameters
    ----------
    source : DataFrame, path of a CSV file, or DataArray
        A table with columns ``feeder, bus, imbalance`` [MW, > 0 is a deficit] and
        optionally ``period`` (default: the same in every period); or an array with
        dims among (feeder, bus, period). Buses that are not named have none.
    feeders : Feeders
        The grids, whose buses and periods are known.

    Returns
    -------
    DataArray (bus, period)
        MW by flat bus label.

    Raises
    ------
    DataError
        With every unknown bus or period and every missing value.
    """
    frame = _frame(source)
    periods = feeders.data.indexes[PERIOD]
    missing = [column for column in (FEEDER, BUS, "imbalance") if column not in frame]
    if missing:
        raise_together([Fault("imbalance", f"no column {', '.join(missing)}", "feeder, bus, imbalance", "Add them.")])
    nodes = [flat_bus(str(f), str(b)) for f, b in zip(frame[FEEDER], frame[BUS], strict=True)]
    frame = frame.assign(node=nodes, value=pd.to_numeric(frame["imbalance"], errors="coerce"))
    return _placed(frame, feeders.data.indexes[BUS], pd.DatetimeIndex(periods), "imbalance")


def _frame(source: Table) -> pd.DataFrame:
    if isinstance(source, xr.DataArray):
        array = source if FEEDER in source.dims else source.expand_dims(FEEDER)
        frame = array.rename("imbalance").to_dataframe().reset_index()
        return frame[frame["imbalance"].notna()]
    if isinstance(source, pd.DataFrame):
        return source
    return pd.read_csv(Path(source), dtype={FEEDER: str, BUS: str})


def _placed(frame: pd.DataFrame, nodes: pd.Index, periods: pd.DatetimeIndex, name: str) -> xr.DataArray:
    """Put a table with columns node, value and maybe period into an array (bus, period)."""
    faults: list[Fault] = []
    unknown = sorted(set(frame["node"]) - set(nodes))
    if unknown:
        faults.append(Fault(f"{name}.bus", some_labels(unknown), "a bus of the grid", "Correct the name."))
    if frame["value"].isna().any():
        found = some_labels(list(frame.loc[frame["value"].isna(), "node"]))
        faults.append(Fault(name, f"no number at {found}", "a number in MW", "Fill it or drop the row."))
    keys = ["node"]
    if PERIOD in frame:
        frame = frame.assign(**{PERIOD: pd.to_datetime(frame[PERIOD])})
        strangers = sorted(set(frame[PERIOD]) - set(periods))
        if strangers:
            expected = f"a period of the market ({periods[0]} … {periods[-1]})"
            faults.append(Fault(f"{name}.period", some_labels(strangers), expected, "Correct or drop these rows."))
        keys.append(PERIOD)
    twice = frame.duplicated(keys)
    if twice.any():
        found = some_labels(list(frame.loc[twice, "node"]))
        faults.append(Fault(name, f"more than one row for {found}", "one row for a bus and period", "Add them up."))
    raise_together(faults)
    values = np.zeros((len(nodes), len(periods)))
    rows = nodes.get_indexer(pd.Index(frame["node"]))
    if PERIOD in frame:
        values[rows, periods.get_indexer(pd.DatetimeIndex(frame[PERIOD]))] = frame["value"]
    else:
        values[rows, :] = frame["value"].to_numpy()[:, None]
    return xr.DataArray(values, dims=(BUS, PERIOD), coords={BUS: nodes, PERIOD: periods})


def tbm_of(
    prices: xr.DataArray | pd.DataFrame | Mapping[str, float | Sequence[float]],
    feeders: Feeders,
    limit: xr.DataArray | float = np.inf,
) -> xr.Dataset:
    """Read the prices and limits of the transmission balancing market (TBM).

    Parameters
    ----------
    prices : DataArray (direction, period), DataFrame (period × direction) or mapping
        EUR/MWh for ``up`` and ``down``; a number holds in every period.
    feeders : Feeders
        The grids, whose names and periods are known.
    limit : DataArray with dims among (feeder, direction, period), or float
        Most that a feeder may take [MW].

    Returns
    -------
    Dataset
        ``tbm_price (direction, period)`` and ``tbm_limit (feeder, direction, period)``.

    Raises
    ------
    DataError
        When a direction or period is missing.
    """
    periods = feeders.data.indexes[PERIOD]
    if isinstance(prices, xr.DataArray):
        columns = {str(d): prices.sel({DIRECTION: d}).to_series() for d in prices.indexes[DIRECTION]}
    elif isinstance(prices, pd.DataFrame):
        columns = {str(c): prices[c] for c in prices}
    else:
        columns = {
            str(d): pd.Series(p if isinstance(p, Sequence) else [p] * len(periods), index=periods)
            for d, p in prices.items()
        }
    missing = [d for d in DIRECTIONS if d not in columns]
    if missing:
        raise_together([Fault("tbm_price", f"no {', '.join(missing)}", "prices for up and down", "Add them.")])
    values = np.stack([columns[d].reindex(periods).to_numpy(dtype=float) for d in DIRECTIONS])
    coords = {DIRECTION: list(DIRECTIONS), PERIOD: periods}
    price = xr.DataArray(values, dims=(DIRECTION, PERIOD), coords=coords)
    names = {FEEDER: feeders.roots.index.rename(FEEDER)}
    most = xr.DataArray(limit).broadcast_like(xr.DataArray(np.zeros(len(names[FEEDER])), coords=names, dims=FEEDER))
    most = most.broadcast_like(price).transpose(FEEDER, DIRECTION, PERIOD).astype(float)
    return xr.Dataset({"tbm_price": price, "tbm_limit": most})
