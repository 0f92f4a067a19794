"""Copies of a shipped case, each with loads, imbalance and bids of its own: studies of any size from a seed."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault
from hiermarket.labels import BID, BUS, FEEDER, PERIOD, bid_label, flat_bus
from hiermarket.market.balancing_market import BalancingMarket, Transmission
from hiermarket.market.bids import Bids
from hiermarket.market.cases import load_case
from hiermarket.network.feeders import Feeders
from hiermarket.network.grid import TransmissionGrid
from hiermarket.schema import bare, raise_together
from hiermarket.study.digest import digest
from hiermarket.study.source import Extent, local

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hiermarket.market.tso_side import TsoSide

#: Digits in the name of a copy: the same names, whatever their number.
DIGITS: Final = 5

#: A case of one period is stretched over a day [h].
DAY: Final = 24.0

#: Lowest and highest factor of a copy.
LOAD, IMBALANCE, VOLUME, PRICE = (0.75, 1.05), (0.6, 1.4), (0.7, 1.3), (0.95, 1.05)

#: Standard deviation of the imbalance of each bus and period around the copy's factor.
NOISE: Final = 0.25


@dataclass(frozen=True, slots=True)
class ReplicatedCase:
    """Many unlike copies of a shipped case of one feeder, for benchmarks, tests and trials.

    Parameters
    ----------
    case : str
        The case: see `hiermarket.load_case`.
    copies : int
        How many feeders.
    periods : int, optional
        The day of the case in so many periods, interpolated between those that it has; as
        many as it has by default.
    seed : int
        Of the generator, together with the name of each copy.

    Raises
    ------
    DataError
        For an unknown case, one of several feeders, and numbers below one.

    Notes
    -----
    A copy is made from the case, the seed and its own name: a batch can be made on any
    machine, in any order, and the whole needs to exist nowhere. The transmission grid
    grows with the copies: its limits, schedule, bids and imbalance are so many times those
    of the case.
    """

    case: str
    copies: int
    periods: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        count = self.periods
        faults = [
            Fault(f"replicated case, {name}", str(number), "1 or more", "Correct it.")
            for name, number in (("copies", self.copies), ("periods", 1 if count is None else count))
            if number < 1
        ]
        raise_together(faults)

    @property
    def names(self) -> tuple[str, ...]:
        """Every feeder, in order."""
        return tuple(f"{self.case}-{number:0{DIGITS}d}" for number in range(1, self.copies + 1))

    @property
    def extent(self) -> Extent:
        """The size of a feeder."""
        base = self._base()
        return Extent(base.feeders.data.sizes[BUS], base.bids.data.sizes[BID], len(base.periods))

    @property
    def bsps(self) -> tuple[str, ...]:
        """Who bids in some feeder."""
        return tuple(self._base().bids.bsps)

    def side(self) -> TsoSide:
        """Return the TSO's side, of all feeders."""
        base = self._base()
        own = base.transmission
        hung = None if own.interface is None else dict.fromkeys(self.names, next(iter(own.interface.values())))
        grown = replace(
            own,
            grid=None if own.grid is None else _grown(own.grid, self.copies),
            interface=hung,
            bids=None if own.bids is None else Bids(own.bids.data.assign(volume=own.bids.data["volume"] * self.copies)),
            imbalance=None if own.imbalance is None else own.imbalance * self.copies,
        )
        tbm = _limits(base.tbm, self.names)
        return replace(base.tso_side, tbm=tbm, transmission=grown)

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a digest of the case, the seed and the names."""
        return digest(_case_digest(self.case, self.periods), self.seed, list(names))

    def parcel(self, names: Sequence[str], kept: Path) -> Copies:
        """Return the case, and the names of the copies."""
        return Copies(local(self._base()), tuple(names), self.seed)

    def _base(self) -> BalancingMarket:
        return _case(self.case, self.periods)


@dataclass(frozen=True, slots=True)
class Copies:
    """The case itself, and the names of the copies to be made of it."""

    base: BalancingMarket
    names: tuple[str, ...]
    seed: int

    def market(self) -> BalancingMarket:
        """Return the market of the batch's feeders, without the TSO's side."""
        base, names = self.base, self.names
        draws = [np.random.default_rng([self.seed, zlib.crc32(name.encode())]) for name in names]
        load = [draw.uniform(*LOAD) for draw in draws]
        feeders = _feeders(base.feeders.data, names, load)
        shape = base.imbalance.shape
        scaled = [draw.uniform(*IMBALANCE) * draw.normal(1.0, NOISE, shape) for draw in draws]
        imbalance = np.concatenate([base.imbalance.values * factor for factor in scaled])
        labels = {BUS: feeders.data.indexes[BUS], PERIOD: base.periods}
        return BalancingMarket(
            feeders=feeders,
            bids=_bids(base.bids.data, names, draws),
            imbalance=xr.DataArray(imbalance, dims=(BUS, PERIOD), coords=labels),
            tbm=_limits(base.tbm, names),
            rules=base.rules,
            transmission=Transmission(),
        )


@functools.lru_cache(maxsize=4)
def _case(name: str, periods: int | None) -> BalancingMarket:
    """Return a case of one feeder, stretched."""
    base = load_case(name)
    if len(base.feeder_names) != 1 or base.resources is not None:
        expected = "a case of one feeder, without a table of resources"
        raise_together([Fault("replicated case", name, expected, "Choose another case.")])
    return base if periods is None or periods == len(base.periods) else stretched(base, periods)


@functools.lru_cache(maxsize=4)
def _case_digest(name: str, periods: int | None) -> str:
    base = _case(name, periods)
    return digest(base.feeders.data, base.bids.data, base.imbalance, base.tbm, base.rules)


def stretched(market: BalancingMarket, periods: int) -> BalancingMarket:
    """Return a market whose time is cut into another number of periods of one length.

    Parameters
    ----------
    market : BalancingMarket
        A day, or any other time; one period stands for a day.
    periods : int
        How many; powers, volumes and prices are interpolated between the middles of the
        market's own periods, the end going over into the beginning.
    """
    old = market.duration.values
    hours = float(old.sum()) if len(old) > 1 else DAY
    length = hours / periods
    at = (np.arange(periods) + 0.5) * length
    middles = np.cumsum(old) - old / 2
    index = pd.date_range(market.periods[0], periods=periods, freq=pd.Timedelta(hours=length), name=PERIOD)

    def along(array: xr.DataArray) -> xr.DataArray:
        last = array.transpose(..., PERIOD)
        rows = last.values.reshape(-1, len(old)).astype(float)
        values = np.array([np.interp(at, middles, row, period=hours) for row in rows])
        values = values.reshape(*last.shape[:-1], periods)
        kept = {name: c for name, c in last.coords.items() if PERIOD not in c.dims}
        stretch = xr.DataArray(values, dims=last.dims, coords={**kept, PERIOD: index}, attrs=array.attrs)
        return stretch.transpose(*array.dims)

    def over(data: xr.Dataset) -> xr.Dataset:
        arrays = {
            str(name): along(a) if PERIOD in a.dims else bare(a) for name, a in data.items() if name != "duration"
        }
        if "duration" in data:
            arrays["duration"] = xr.DataArray(np.full(periods, length), dims=PERIOD, coords={PERIOD: index})
        labels = {name: c for name, c in data.coords.items() if PERIOD not in c.dims}
        return xr.Dataset(arrays, coords={**labels, PERIOD: index})

    side = market.transmission
    return BalancingMarket(
        feeders=Feeders(over(market.feeders.data)),
        bids=Bids(over(market.bids.data)),
        imbalance=along(market.imbalance),
        tbm=over(market.tbm),
        rules=market.rules,
        transmission=replace(
            side,
            grid=None if side.grid is None else TransmissionGrid(over(side.grid.data)),
            bids=None if side.bids is None else Bids(over(side.bids.data)),
            imbalance=None if side.imbalance is None else along(side.imbalance),
        ),
    )


def _grown(grid: TransmissionGrid, copies: int) -> TransmissionGrid:
    larger = {name: grid.data[name] * copies for name in ("susceptance", "s_max", "p_scheduled")}
    return TransmissionGrid(grid.data.assign(larger))


def _limits(tbm: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Return the TBM's prices, and for every copy the limits and prices of the case's feeder."""
    return tbm.isel({FEEDER: np.zeros(len(names), dtype=int)}).assign_coords({FEEDER: list(names)})


def _feeders(one: xr.Dataset, names: Sequence[str], load: Sequence[float]) -> Feeders:
    count = len(names)
    buses = [str(bus) for bus in one["bus_name"].values]
    parents = [str(parent).partition("/")[2] for parent in one["parent"].values]
    arrays: dict[Hashable, object] = {}
    for name, array in one.data_vars.items():
        values = array.values
        if name == "parent":
            labels = [flat_bus(copy, parent) if parent else "" for copy in names for parent in parents]
            arrays[name] = BUS, np.array(labels, dtype=object)
        elif name == "root":
            bus = str(values[0]).partition("/")[2]
            arrays[name] = FEEDER, np.array([flat_bus(copy, bus) for copy in names], dtype=object)
        elif name in {"p_scheduled", "q_scheduled"}:
            arrays[name] = array.dims, np.concatenate([values * factor for factor in load])
        elif BUS in array.dims or FEEDER in array.dims:
            arrays[name] = array.dims, np.tile(values, (count, *[1] * (array.ndim - 1)))
        else:
            arrays[name] = array.dims, values
    coords = {
        BUS: np.array([flat_bus(copy, bus) for copy in names for bus in buses], dtype=object),
        "bus_feeder": (BUS, np.repeat(np.array(names, dtype=object), len(buses))),
        "bus_name": (BUS, np.tile(np.array(buses, dtype=object), count)),
        FEEDER: np.array(names, dtype=object),
        PERIOD: one[PERIOD].values,
    }
    return Feeders(xr.Dataset(arrays, coords=coords))


def _bids(one: xr.Dataset, names: Sequence[str], draws: Sequence[np.random.Generator]) -> Bids:
    count, bids = len(names), one.sizes[BID]
    volume = np.concatenate([np.full(bids, draw.uniform(*VOLUME)) for draw in draws])[:, None]
    # a resource's prices up and down move together
    price = np.concatenate([np.full(bids, draw.uniform(*PRICE)) for draw in draws])[:, None]

    def tiled(name: str) -> NDArray[np.float64]:
        return np.tile(one[name].values, (count, 1))

    values = {
        "price": tiled("price") * price,
        "volume": tiled("volume") * volume,
        "cost": tiled("cost") * price,
        "reactive_ratio": tiled("reactive_ratio"),
    }
    same = {
        name: (BID, np.tile(one[name].values, count))
        for name in ("bid_bsp", "bid_bus", "bid_block", "bid_direction", "bid_resource")
        if name in one.coords
    }
    owner = np.repeat(np.array(names), bids)
    parts = [owner, *(same[f"bid_{part}"][1] for part in ("bsp", "bus", "block", "direction"))]
    labels = [bid_label(f, b, n, int(k), d) for f, b, n, k, d in zip(*parts, strict=True)]
    nodes = [flat_bus(feeder, bus) for feeder, bus in zip(owner, same["bid_bus"][1], strict=True)]
    coords = {
        BID: np.array(labels, dtype=object), "bid_feeder": (BID, owner), **same,
        "bid_node": (BID, np.array(nodes)), PERIOD: one[PERIOD].values,
    }  # fmt: skip
    return Bids(xr.Dataset({name: ((BID, PERIOD), array) for name, array in values.items()}, coords=coords))
