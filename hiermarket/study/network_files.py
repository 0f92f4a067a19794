"""Feeders from files: PyPSA networks, tables of bids and imbalance, prices of the TBM."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, MarketWarning, meant, some_labels
from hiermarket.labels import BID, BSP, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.market.balancing_market import Transmission, balancing_market
from hiermarket.market.bids import TRANSMISSION
from hiermarket.market.bids import bids as read_bids
from hiermarket.market.imbalance import tbm_of
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeders import combine
from hiermarket.network.from_pypsa import feeder_from_pypsa, grid_from_pypsa, load_network
from hiermarket.schema import raise_together
from hiermarket.study.digest import digest, digest_of_file
from hiermarket.study.market_file import KeptMarket, keep_market, kept_market
from hiermarket.study.source import Extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.network.feeder import Feeder
    from hiermarket.network.from_pypsa import PypsaNetwork
    from hiermarket.network.grid import TransmissionGrid

#: Stands for the feeder's name in the path of a table that has a file for each feeder.
EACH: Final = "{feeder}"


@dataclass(frozen=True, slots=True)
class TransmissionFiles:
    """The TSO's side in files.

    Parameters
    ----------
    network : Path
        PyPSA network of the transmission grid (netCDF).
    bids : Path
        Table of its bids, with ``feeder`` "transmission".
    interface : mapping feeder → bus
        Where each feeder hangs.
    imbalance : Path, optional
        Table ``bus, imbalance`` and optionally ``period`` [MW, > 0 is a deficit].
    """

    network: Path
    bids: Path
    interface: Mapping[str, str]
    imbalance: Path | None = None


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """Feeders in files; networks are read once, here, and kept as arrays.

    Parameters
    ----------
    networks : mapping feeder → Path
        PyPSA networks (netCDF).
    bids, imbalance : Path
        CSV tables as in `hiermarket.balancing_market`: one for all feeders, or one for
        each where the path has ``{feeder}`` in it (the column ``feeder`` may then be
        left out).
    tbm_prices : Path or mapping direction → price
        CSV table ``period, up, down``, or prices that hold always [EUR/MWh].
    rules : MarketRules
        Price cap, floor and value of lost load.
    tbm_limit : float
        Most that a feeder may take from the TBM [MW].
    transmission : TransmissionFiles, optional
        The TSO's grid; one bus and the TBM's prices by default.

    Raises
    ------
    DataError
        With every table that cannot be read, every row of a feeder that has no network, and every
        feeder without an interface or interface without a feeder.
    """

    networks: Mapping[str, Path]
    bids: Path
    imbalance: Path
    tbm_prices: Path | Mapping[str, float]
    rules: MarketRules
    tbm_limit: float = np.inf
    transmission: TransmissionFiles | None = None

    def __post_init__(self) -> None:
        faults = [_missing(name, path) for name, path in self._files() if not path.is_file()]
        raise_together(faults)
        own = self.transmission
        if own is not None and set(own.interface) != set(self.networks):
            # its buses only now: that reads the network
            faults += _interface_faults(own, self.names, grid_from_pypsa(_network("transmission", own.network)))
        for name, path in (("bids", self.bids), ("imbalance", self.imbalance)):
            if EACH not in str(path):
                strange = sorted(set(_by_feeder(path)) - set(self.networks))
                if strange:
                    remedy = "Give its network, or drop its rows."
                    faults.append(
                        Fault(f"{name} ({path.name})", some_labels(strange), "feeders with a network", remedy)
                    )
        raise_together(faults)

    @property
    def names(self) -> tuple[str, ...]:
        """Every feeder, in order."""
        return tuple(self.networks)

    @property
    def extent(self) -> Extent:
        """The size of the first feeder."""
        name = self.names[0]
        feeder = _feeder(name, self.networks[name])
        periods = pd.DatetimeIndex(feeder.data.indexes[PERIOD])
        bids = read_bids(self._rows(self.bids, [name]), periods)
        return Extent(feeder.data.sizes[BUS], bids.data.sizes[BID], len(periods))

    @property
    def bsps(self) -> tuple[str, ...]:
        """Who bids in some feeder; nobody where the tables do not say."""
        rows = self._rows(self.bids, self.names)
        return tuple(map(str, rows[BSP].dropna().unique())) if BSP in rows else ()

    def side(self) -> TsoSide:
        """Return the TSO's side, of all feeders.

        Raises
        ------
        DataError
            With every fault of the TSO's files, and every interface at a bus that the grid does not have.
        """
        one = self._market(self.names[:1])
        limit = np.full((len(self.names), len(DIRECTIONS), len(one.periods)), self.tbm_limit)
        labels = {FEEDER: list(self.names), DIRECTION: list(DIRECTIONS), PERIOD: one.periods}
        tbm = xr.Dataset({"tbm_price": one.tbm["tbm_price"], "tbm_limit": ((FEEDER, DIRECTION, PERIOD), limit)}, labels)
        own, faults = self._transmission(one), []
        first = own
        if own.grid is not None and self.transmission is not None:
            faults += _interface_faults(self.transmission, self.names, own.grid)
            # the rest is checked with the first feeder, whose periods are those of all, at any bus
            first = replace(own, interface={self.names[0]: own.grid.data.indexes[BUS][0]})
        try:
            whole = replace(one, transmission=first).tso_side
        except DataError as error:
            raise DataError([*faults, *error.faults]) from None
        raise_together(faults)
        return replace(whole, tbm=tbm, transmission=own)

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a digest of the networks' bytes, the rows of the tables, prices and rules."""
        prices = self.tbm_prices
        common = (digest_of_file(prices) if isinstance(prices, Path) else prices, self.rules, self.tbm_limit)
        own = [(n, digest_of_file(self.networks[n]), self._rows(self.bids, [n])) for n in names]
        return digest(common, own, self._rows(self.imbalance, names))

    def parcel(self, names: Sequence[str], kept: Path) -> KeptMarket:
        """Return the file of the batch's arrays; networks are read if it is not there, or of other inputs."""
        made_of = self.fingerprint(names)
        return kept_market(kept, made_of) or keep_market(self._market(names), kept, made_of)

    def _files(self) -> list[tuple[str, Path]]:
        """Every file, and what it is."""
        files = [(f"network of {name}", path) for name, path in self.networks.items()]
        for what, path in (("bids", self.bids), ("imbalance", self.imbalance)):
            one_for_all = EACH not in str(path)
            files += [(what, path)] if one_for_all else [(f"{what} of {n}", _of(path, n)) for n in self.networks]
        if isinstance(self.tbm_prices, Path):
            files.append(("TBM prices", self.tbm_prices))
        own = self.transmission
        if own is not None:
            files += [("transmission network", own.network), ("transmission bids", own.bids)]
            files += [] if own.imbalance is None else [("transmission imbalance", own.imbalance)]
        return files

    def _rows(self, path: Path, names: Sequence[str]) -> pd.DataFrame:
        """Return the rows of some feeders in a table, or in their tables."""
        if EACH in str(path):
            each = (_read(_of(path, name)) for name in names)
            parts = [t if FEEDER in t else t.assign(feeder=name) for t, name in zip(each, names, strict=True)]
        else:
            tables = _by_feeder(path)
            empty = next(iter(tables.values())).iloc[:0]
            parts = [tables.get(name, empty) for name in names]
        return pd.concat(parts, ignore_index=True)

    def _market(self, names: Sequence[str]) -> BalancingMarket:
        """Read networks and tables of some feeders."""
        feeders = {name: _feeder(name, self.networks[name]) for name in names}
        prices = self.tbm_prices
        table = _read(prices) if isinstance(prices, Path) else {str(d): float(p) for d, p in prices.items()}
        with warnings.catch_warnings():
            # the batch tells of it
            warnings.simplefilter("ignore", MarketWarning)
            return balancing_market(
                feeders,
                bids=self._rows(self.bids, names),
                imbalance=self._rows(self.imbalance, names),
                tbm_prices=tbm_of(table, combine(feeders), self.tbm_limit),
                rules=self.rules,
            )

    def _transmission(self, market: BalancingMarket) -> Transmission:
        """Read the TSO's files."""
        own = self.transmission
        if own is None:
            return Transmission()
        imbalance = None if own.imbalance is None else _by_bus(_read(own.imbalance), market.periods)
        return Transmission(
            grid=grid_from_pypsa(_network("transmission", own.network)),
            interface=dict(own.interface),
            bids=read_bids(_read(own.bids).assign(feeder=TRANSMISSION), market.periods),
            imbalance=imbalance,
        )


def _of(path: Path, name: str) -> Path:
    return Path(str(path).replace(EACH, name))


def _missing(what: str, path: Path) -> Fault:
    found = "a folder" if path.is_dir() else "no such file"
    return Fault(f"{what} ({path})", found, "a file that can be read", "Correct the path.")


def _interface_faults(own: TransmissionFiles, feeders: Sequence[str], grid: TransmissionGrid) -> list[Fault]:
    """Name feeders that hang nowhere or at no bus of the grid, and interfaces of no feeder."""
    where, buses = "transmission.interface", [str(bus) for bus in grid.data.indexes[BUS]]
    faults = [
        Fault(where, repr(name), "feeders with a network", meant(name, feeders))
        for name in own.interface
        if name not in feeders
    ]
    missing = [name for name in feeders if name not in own.interface]
    if missing:
        expected = "a bus of the transmission grid for every feeder"
        faults.append(Fault(where, f"none for {some_labels(missing)}", expected, "Add it."))
    known = set(buses)
    for bus in dict.fromkeys(bus for bus in own.interface.values() if bus not in known):
        hung = [name for name, at in own.interface.items() if at == bus]
        expected, remedy = "a bus of the transmission grid", meant(bus, buses, otherwise="Correct it.")
        faults.append(Fault(f"{where} of {some_labels(hung)}", repr(bus), expected, remedy))
    return faults


def _network(name: str, path: Path) -> PypsaNetwork:
    try:
        return load_network(path)
    except (OSError, ValueError, KeyError) as error:
        found = f"{type(error).__name__}: {error}"
        remedy = "Write it with network.export_to_netcdf(path)."
        raise DataError([Fault(f"network of {name} ({path.name})", found, "a PyPSA network", remedy)]) from error


def _feeder(name: str, path: Path) -> Feeder:
    return feeder_from_pypsa(_network(name, path), name=name)


def _read(path: Path) -> pd.DataFrame:
    """Read a table; nobody changes it."""
    state = path.stat()
    return _table(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=8)
def _table(path: Path, changed: int, size: int) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(("feeder", "bsp", "bus", "resource", "direction"), str))
    except (ValueError, OSError) as error:
        remedy = "Write it with commas, and names of columns in the first line."
        raise DataError([Fault(path.name, str(error), "a CSV table", remedy)]) from error
    return table.assign(**{PERIOD: pd.to_datetime(table[PERIOD])}) if PERIOD in table else table


def _by_feeder(path: Path) -> dict[str, pd.DataFrame]:
    state = path.stat()
    return _parts(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=8)
def _parts(path: Path, changed: int, size: int) -> dict[str, pd.DataFrame]:
    table = _table(path, changed, size)
    if FEEDER not in table:
        expected = f"a column {FEEDER}, or {EACH} in the path"
        raise DataError(
            [Fault(path.name, f"columns {', '.join(map(str, table))}", expected, "Say whose rows they are.")]
        )
    return {str(name): rows for name, rows in table.groupby(FEEDER, sort=False)}


def _by_bus(table: pd.DataFrame, periods: pd.DatetimeIndex) -> xr.DataArray:
    """Return the transmission grid's own imbalance (bus, period); what is not named is 0."""
    if PERIOD in table:
        wide = table.pivot(index=BUS, columns=PERIOD, values="imbalance").fillna(0.0)
        strangers = sorted(set(wide.columns) - set(periods))
        if strangers:
            expected = f"a period of the market ({periods[0]} … {periods[-1]})"
            fault = Fault("transmission imbalance", some_labels(strangers), expected, "Correct or drop these rows.")
            raise DataError([fault])
        values = wide.reindex(columns=periods, fill_value=0.0)
    else:
        column = table.set_index(BUS)["imbalance"]
        values = pd.DataFrame(dict.fromkeys(periods, column)).rename_axis(BUS)
    return xr.DataArray(
        values.to_numpy(dtype=float), dims=(BUS, PERIOD), coords={BUS: list(values.index), PERIOD: periods}
    )
