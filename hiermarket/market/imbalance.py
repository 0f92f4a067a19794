"""Imbalance at the buses and prices of the transmission balancing market, read from what users have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD, SCENARIO, flat_bus
from hiermarket.market.scenario_inputs import at_scenario, common_scenarios, scenarios_in
from hiermarket.schema import raise_together, unknown_names

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
        dims among (feeder, bus, period), NaN where a feeder has no such bus. Buses that
        are not named have none.
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
    columns = (FEEDER, BUS, "imbalance")
    missing = [column for column in columns if column not in frame]
    # an array brings its other coordinates along
    faults = [] if isinstance(source, xr.DataArray) else unknown_names("imbalance", frame.columns, (*columns, PERIOD))
    if missing:
        faults.append(Fault("imbalance", f"no column {', '.join(missing)}", ", ".join(columns), "Add them."))
    raise_together(faults)
    nodes = [flat_bus(str(f), str(b)) for f, b in zip(frame[FEEDER], frame[BUS], strict=True)]
    frame = frame.assign(node=nodes, value=pd.to_numeric(frame["imbalance"], errors="coerce"))
    if isinstance(source, xr.DataArray):
        # an array over feeders with unlike buses has gaps where there is no such bus
        frame = frame[frame["value"].notna() | frame["node"].isin(feeders.data.indexes[BUS])]
    return _placed(frame, feeders.data.indexes[BUS], pd.DatetimeIndex(periods), "imbalance")


def _frame(source: Table) -> pd.DataFrame:
    if isinstance(source, xr.DataArray):
        array = source if FEEDER in source.dims else source.expand_dims(FEEDER)
        return array.rename("imbalance").to_dataframe().reset_index()
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
    prices: xr.DataArray | pd.DataFrame | Mapping[str, float | Sequence[float] | pd.Series],
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
        ``tbm_price (direction, period)`` and ``tbm_limit (feeder, direction, period)``, both
        with a leading dimension ``scenario`` where prices or limits carry scenarios.

    Raises
    ------
    DataError
        When a direction, or a label of the limit, is missing or unknown, or a row of
        prices has another length than the periods.
    """
    scenarios = common_scenarios({"tbm_price": scenarios_in(prices), "tbm_limit": scenarios_in(limit)})
    if scenarios:
        parts = [tbm_of(at_scenario(prices, name), feeders, at_scenario(limit, name)) for name in scenarios]
        return xr.concat(parts, dim=pd.Index(scenarios, name=SCENARIO))
    periods = pd.DatetimeIndex(feeders.data.indexes[PERIOD])
    columns: dict[str, object]
    if isinstance(prices, xr.DataArray):
        columns = {str(d): prices.sel({DIRECTION: d}, drop=True).to_series() for d in prices.indexes[DIRECTION]}
    elif isinstance(prices, pd.DataFrame):
        table = prices.set_index(PERIOD) if PERIOD in prices else prices
        table = table.set_axis(pd.to_datetime(table.index))
        columns = {str(c): table[c] for c in table}
    else:
        columns = {str(d): p for d, p in prices.items()}
    missing = [d for d in DIRECTIONS if d not in columns]
    faults = unknown_names("tbm_price", columns, DIRECTIONS)
    if missing:
        faults.append(Fault("tbm_price", f"no {', '.join(missing)}", "prices for up and down", "Add them."))
    rows = {d: _by_period(columns[d], periods) for d in DIRECTIONS if d in columns}
    for d, row in rows.items():
        if row.shape != periods.shape:
            found, expected = f"{row.size} values for {d}", f"one number, or {len(periods)}: one for each period"
            faults.append(Fault("tbm_price", found, expected, "Give a price for every period."))
    wanted = {FEEDER: feeders.roots.index.rename(FEEDER), DIRECTION: pd.Index(DIRECTIONS), PERIOD: periods}
    array = xr.DataArray(limit)
    faults += _label_faults(array, wanted)
    raise_together(faults)
    price = xr.DataArray(
        np.stack([rows[d] for d in DIRECTIONS]),
        dims=(DIRECTION, PERIOD),
        coords={DIRECTION: list(DIRECTIONS), PERIOD: periods},
    )
    array = array.sel({dim: wanted[str(dim)] for dim in array.dims}).astype(float)
    every = xr.DataArray(np.zeros([len(index) for index in wanted.values()]), coords=wanted, dims=list(wanted))
    return xr.Dataset({"tbm_price": price, "tbm_limit": array.broadcast_like(every).transpose(*wanted)})


def _by_period(prices: object, periods: pd.DatetimeIndex) -> np.ndarray:
    """Return prices by period; NaN where a series has none, another length where a sequence does not fit."""
    if isinstance(prices, pd.Series):
        return np.asarray(pd.to_numeric(prices.reindex(periods), errors="coerce"), dtype=float)
    values = np.asarray(prices, dtype=float)
    return np.full(len(periods), float(values)) if values.ndim == 0 else values


def _label_faults(limit: xr.DataArray, wanted: Mapping[str, pd.Index]) -> list[Fault]:
    """Report dimensions and labels of a limit that are unknown, and labels that are missing."""
    faults = []
    for dim in limit.dims:
        if dim not in wanted or dim not in limit.indexes:
            expected = f"labelled dims among {tuple(wanted)}"
            faults.append(Fault("tbm_limit", f"dim {dim!r}", expected, "Rename or label the dimension."))
            continue
        apart = list(limit.indexes[dim].symmetric_difference(wanted[str(dim)]))
        if apart:
            expected = f"the {len(wanted[str(dim)])} labels of the market"
            remedy = "Give one limit for every label."
            faults.append(Fault(f"tbm_limit.{dim}", f"missing or unknown: {some_labels(apart)}", expected, remedy))
    return faults
