"""Bids: who offers which volume where, in which direction, at what price."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import BID, DIRECTIONS, PERIOD, SEPARATOR, Direction, bid_label, flat_bus
from hiermarket.market.price_convention import PriceConvention, in_our_sign
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, fault_where, freeze, option_of, raise_together, unknown_names

if TYPE_CHECKING:
    from collections.abc import Hashable

#: Columns of a table of bids; those with a default may be left out.
LABEL_COLUMNS: Final = ("feeder", "bsp", "bus", "block", "direction")
VALUE_COLUMNS: Final = ("price", "volume", "cost", "reactive_ratio")

#: Of bids that are not taken in any part: the least volume of one that is accepted, and whether that is all of it.
MINIMUM: Final = "minimum"
WHOLE: Final = "all_or_nothing"

#: Every column that a table of bids may have.
KNOWN_COLUMNS: Final = (*LABEL_COLUMNS, *VALUE_COLUMNS, PERIOD, "resource", MINIMUM, WHOLE)

#: The feeder of bids of the transmission grid.
TRANSMISSION: Final = "transmission"


@dataclass(frozen=True, slots=True)
class Bids:
    """Bids as one checked, read-only Dataset.

    Parameters
    ----------
    data : Dataset
        Dims ``bid`` (unique labels) and ``period``, with

        - ``price (bid, period)`` [EUR/MWh] paid to the BSP for up, by the BSP for down,
        - ``volume (bid, period)`` [MW] ≥ 0,
        - ``cost (bid, period)`` [EUR/MWh] marginal cost (up) or saving (down),
        - ``reactive_ratio (bid, period)`` [Mvar/MW] reactive per active injection,
        - only where some bid has one, ``minimum (bid, period)`` [MW], the least volume of a bid
          that is accepted; 0 where any part will do,

        and the coordinates ``bid_feeder, bid_bsp, bid_bus, bid_block, bid_direction,
        bid_node, bid_resource`` along ``bid``; ``bid_node`` is the flat label of the bus.

    Raises
    ------
    DataError
        With every fault found: unknown directions, labels that occur twice, values
        that are missing, negative volumes.
    """

    data: xr.Dataset

    def __post_init__(self) -> None:
        raise_together(_faults(self.data))
        object.__setattr__(self, "data", freeze(describe(self.data)))

    @property
    def sign(self) -> xr.DataArray:
        """σ (bid): +1 for up, −1 for down."""
        signs = {d.value: float(d.sign) for d in Direction}
        return xr.DataArray([signs[str(d)] for d in self.data.bid_direction.values], coords=self.data[BID].coords)

    @property
    def node(self) -> pd.Series:
        """The flat bus label of every bid, as a Series named ``at`` for grouping."""
        return pd.Series(self.data.bid_node.values, index=self.data.indexes[BID], name="at")

    @property
    def is_divisible(self) -> bool:
        """Whether any part of every bid may be taken."""
        return MINIMUM not in self.data or not bool((self.data[MINIMUM] > 0).any())

    @property
    def bsps(self) -> list[str]:
        """The balance service providers, in order of appearance."""
        return [str(bsp) for bsp in pd.unique(pd.Series(self.data.bid_bsp.values))]

    def of(self, bsp: str) -> xr.DataArray:
        """Return a boolean array (bid) of the BSP's own bids."""
        owner = bare(self.data.bid_bsp)
        return owner.copy(data=owner.values == bsp)


def bids(
    source: pd.DataFrame | str | Path | xr.Dataset | Bids,
    periods: pd.DatetimeIndex,
    *,
    convention: PriceConvention = PriceConvention.PAID_AND_PAYS,
) -> Bids:
    """Read bids from a table, a CSV file or a labelled Dataset.

    Parameters
    ----------
    source : DataFrame, path of a CSV file, Dataset or Bids
        A table has a row for each bid, or for each bid and period: columns ``feeder,
        bsp, bus, direction, volume`` and ``price``; optional ``block`` (default 0),
        ``cost`` (default: the price), ``reactive_ratio`` (default 0), ``resource`` (a name),
        ``period`` (default: the row holds in every period), and ``minimum`` [MW] (default 0: any
        part may be taken) or ``all_or_nothing`` (True: the minimum is the volume). A Dataset has dims among (feeder,
        bsp, bus, block, direction, period); absent bids are NaN in ``volume``.
    periods : DatetimeIndex
        The periods of the market.
    convention : PriceConvention
        What prices and costs of down bids mean in a table.

    Returns
    -------
    Bids
        Checked bids; a bid without a row for some period has volume 0 there.

    Raises
    ------
    DataError
        With every fault found.
    """
    convention = option_of(PriceConvention, convention, "bids.convention")
    if isinstance(source, Bids):
        if convention is not PriceConvention.PAID_AND_PAYS:
            found = f"{convention!r} for bids that were read before"
            raise_together([Fault("bids.convention", found, "a table", "Name it where the table is read.")])
        return source
    if isinstance(source, xr.Dataset):
        table = _table_of(source)
    elif isinstance(source, pd.DataFrame):
        table = source
    else:
        table = pd.read_csv(Path(source), dtype={"feeder": str, "bsp": str, "bus": str})
    return _from_table(table, periods, convention)


def _table_of(dataset: xr.Dataset) -> pd.DataFrame:
    present = dataset.expand_dims([d for d in LABEL_COLUMNS if d not in dataset.dims and d in dataset.coords])
    faults = unknown_names("bids", dataset.data_vars, KNOWN_COLUMNS)
    raise_together(faults)
    frame = present.reset_coords(drop=True).to_dataframe().reset_index()
    return frame[frame["volume"].notna()] if "volume" in frame else frame


def _columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with every column, of numbers and strings; what is no number is NaN."""
    needed = [*LABEL_COLUMNS, "price", "volume"]
    missing = [column for column in needed if column not in table and column != "block"]
    faults = unknown_names("bids", table.columns, KNOWN_COLUMNS)
    if missing:
        expected = f"columns {', '.join(needed)}"
        faults.append(Fault("bids", f"no column {', '.join(missing)}", expected, "Add the columns."))
    raise_together(faults)
    defaults: dict[str, float | str | pd.Series] = {
        "block": 0,
        "cost": table["price"],
        "resource": "",
        "reactive_ratio": 0.0,
    }
    frame = table.assign(**{column: value for column, value in defaults.items() if column not in table})
    for column in VALUE_COLUMNS:
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    _add_minimum(frame)
    number = pd.to_numeric(frame["block"], errors="coerce")
    uneven = ~(number % 1 == 0)
    if uneven.any():
        found = some_labels([str(value) for value in frame.loc[uneven, "block"]])
        raise_together([Fault("bids.block", found, "an integer", "Number the blocks of a bid curve.")])
    nameless = [
        Fault(f"bids.{column}", f"no label in row {some_labels([str(row) for row in frame.index[gone]])}", "a label",
              "Fill or drop the row.")
        for column, gone in ((column, frame[column].isna()) for column in LABEL_COLUMNS) if gone.any()
    ]  # fmt: skip
    raise_together(nameless)
    return frame.astype({"block": int, "feeder": str, "bsp": str, "bus": str, "direction": str})


def _add_minimum(frame: pd.DataFrame) -> None:
    """Set the least volume of every bid, where a table tells of any."""
    if MINIMUM in frame and WHOLE in frame:
        found = f"both {MINIMUM} and {WHOLE}"
        raise_together([Fault("bids", found, "one of the two", f"{WHOLE} is a {MINIMUM} of the whole volume.")])
    if WHOLE in frame:
        strange = ~frame[WHOLE].isin([True, False])
        if strange.any():
            found = some_labels([str(value) for value in frame.loc[strange, WHOLE]])
            raise_together([Fault(f"bids.{WHOLE}", found, "True or False", "Say it for every row.")])
        frame[MINIMUM] = frame["volume"].where(frame.pop(WHOLE).astype(bool), 0.0)
    elif MINIMUM in frame:
        frame[MINIMUM] = pd.to_numeric(frame[MINIMUM], errors="coerce")


def _from_table(table: pd.DataFrame, periods: pd.DatetimeIndex, convention: PriceConvention) -> Bids:
    frame = in_our_sign(_columns(table), convention)
    keys = [bid_label(f, b, n, k, d) for f, b, n, k, d in frame[list(LABEL_COLUMNS)].itertuples(index=False)]
    frame[BID] = keys
    order = pd.Index(pd.unique(frame[BID]), name=BID)
    if PERIOD in frame:
        frame[PERIOD] = pd.to_datetime(frame[PERIOD])
        strangers = sorted(set(frame[PERIOD]) - set(periods))
        twice = frame.duplicated([BID, PERIOD])
    else:
        strangers, twice = [], frame.duplicated([BID])
    faults = []
    if strangers:
        expected = f"a period of the market ({periods[0]} … {periods[-1]})"
        faults.append(Fault("bids.period", some_labels(strangers), expected, "Correct or drop these rows."))
    if twice.any():
        found = some_labels(list(frame.loc[twice, BID]))
        faults.append(Fault("bids", f"more than one row for {found}", "one row", "Number the blocks of a bid curve."))
    owners = frame.astype({"resource": str}).groupby(BID, sort=False)["resource"].nunique()
    if (owners > 1).any():
        found = some_labels(list(owners.index[owners > 1]))
        remedy = "Name it in every row of the bid, or make two bids of it."
        faults.append(Fault("bids.resource", f"more than one for {found}", "one resource in all periods", remedy))
    raise_together(faults)
    values = {}
    for name in (*VALUE_COLUMNS, *([MINIMUM] if MINIMUM in frame else [])):
        wide = _wide(frame, name, order, periods)
        values[name] = ((BID, PERIOD), wide)
    first = frame.drop_duplicates(BID).set_index(BID).loc[order]
    nodes = [flat_bus(f, n) for f, n in zip(first["feeder"], first["bus"], strict=True)]
    coords: dict[Hashable, object] = {
        BID: order,
        PERIOD: pd.DatetimeIndex(periods, name=PERIOD),
        "bid_feeder": (BID, first["feeder"].to_numpy(dtype=object).astype(str)),
        "bid_bsp": (BID, first["bsp"].to_numpy(dtype=object).astype(str)),
        "bid_bus": (BID, first["bus"].to_numpy(dtype=object).astype(str)),
        "bid_block": (BID, first["block"].to_numpy(dtype=int)),
        "bid_direction": (BID, first["direction"].to_numpy(dtype=object).astype(str)),
        "bid_node": (BID, np.asarray(nodes, dtype=str)),
        "bid_resource": (BID, first["resource"].to_numpy(dtype=object).astype(str)),
    }
    return Bids(xr.Dataset(values, coords=coords))


def _wide(frame: pd.DataFrame, name: str, order: pd.Index, periods: pd.DatetimeIndex) -> np.ndarray:
    """Values (bid, period); a bid without a row for a period offers nothing there."""
    if PERIOD not in frame:
        column = frame.set_index(BID)[name].reindex(order).to_numpy(dtype=float)
        return np.repeat(column[:, None], len(periods), axis=1)
    wide = frame.pivot(index=BID, columns=PERIOD, values=name).reindex(index=order, columns=periods)
    present = (
        frame.assign(here=1.0).pivot(index=BID, columns=PERIOD, values="here").reindex(index=order, columns=periods)
    )
    values, absent = wide.to_numpy(dtype=float), present.isna().to_numpy()
    if name in ("volume", MINIMUM):
        return np.where(absent, 0.0, values)
    # the price of a volume of nothing: the bid's mean, so that no number is missing
    mean = np.array([row[~gone].mean() for row, gone in zip(values, absent, strict=True)])
    return np.where(absent, mean[:, None], values)


def _faults(data: xr.Dataset) -> list[Fault]:
    faults: list[Fault] = []
    unknown = ~data.bid_direction.isin(DIRECTIONS)
    expected = " or ".join(DIRECTIONS)
    faults += fault_where(unknown, data.bid_direction, name="bids.direction", expected=expected, remedy="Correct it.")
    for part in ("bid_feeder", "bid_bus", "bid_bsp"):
        slashed = xr.DataArray([SEPARATOR in str(v) for v in data[part].values], coords=data[BID].coords)
        if part != "bid_bus":
            remedy = f"Rename it without {SEPARATOR!r}, which separates the parts of a label."
            faults += fault_where(slashed, data[part], name=part, expected="a plain name", remedy=remedy)
    owners = pd.Series(pd.unique(pd.Series(data["bid_bsp"].values)), dtype=object).astype(str)
    twins = list(owners[owners.str.removeprefix("BSP ").duplicated(keep=False)])
    if twins:
        expected = "names that differ by more than the prefix 'BSP '"
        faults.append(Fault("bids.bsp", some_labels(twins), expected, "Rename one: their accounts would be the same."))
    for name in VALUE_COLUMNS:
        gone = ~(abs(data[name]) < np.inf)
        faults += fault_where(
            gone, data[name], name=f"bids.{name}", expected="a number", remedy="Fill or drop the bid."
        )
    if MINIMUM in data:
        wrong = ~((data[MINIMUM] >= 0) & (data[MINIMUM] <= data.volume))
        remedy = "Lower it: a bid is accepted with it, or not at all."
        faults += fault_where(wrong, data[MINIMUM], name=f"bids.{MINIMUM}", expected="0 … volume", remedy=remedy)
    negative = data.volume < 0
    remedy = "Give the direction as a label and the volume without sign."
    faults += fault_where(negative, data.volume, name="bids.volume", expected="≥ 0 MW", remedy=remedy)
    return faults
