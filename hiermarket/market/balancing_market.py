"""The market of a study: grids, bids, imbalance, prices and rules, checked against each other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, MarketWarning, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.market.bids import Bids
from hiermarket.market.bids import bids as read_bids
from hiermarket.market.imbalance import Table, imbalance_of, tbm_of
from hiermarket.network.feeder import Feeder
from hiermarket.network.feeders import Feeders, combine, select
from hiermarket.network.from_pypsa import feeder_from_pypsa
from hiermarket.network.grid import TransmissionGrid
from hiermarket.schema import bare, fault_where, freeze, raise_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pypsa


@dataclass(frozen=True, slots=True)
class MarketRules:
    """Prices that bound the market; both are required.

    Parameters
    ----------
    price_cap : float
        Highest price of a bid [EUR/MWh].
    value_of_lost_load : float
        Price of what cannot be balanced [EUR/MWh]; above the cap and every TBM price.
    price_floor : float
        Lowest price of a bid [EUR/MWh].
    """

    price_cap: float
    value_of_lost_load: float
    price_floor: float = 0.0


@dataclass(frozen=True, slots=True)
class Transmission:
    """What the TSO balances besides the feeders.

    Parameters
    ----------
    grid : TransmissionGrid or None
        The DC grid; None for one bus.
    interface : mapping feeder → bus of the grid
        Where each feeder hangs; not needed for one bus.
    bids : Bids or None
        Bids of the transmission grid, with ``feeder`` "transmission" and the grid's
        buses; None for one provider "TBM" at the TBM's prices and limits.
    imbalance : DataArray (bus, period) or None
        Imbalance of the transmission grid itself [MW], > 0 is a deficit.
    """

    grid: TransmissionGrid | None = None
    interface: Mapping[str, str] | None = None
    bids: Bids | None = None
    imbalance: xr.DataArray | None = None


@dataclass(frozen=True, slots=True)
class BalancingMarket:
    """Everything that the stages need, checked together and read-only.

    Parameters
    ----------
    feeders : Feeders
        The distribution grids.
    bids : Bids
        Bids in the distribution grids.
    imbalance : DataArray (bus, period)
        MW by flat bus label, > 0 is a deficit.
    tbm : Dataset
        ``tbm_price (direction, period)``, ``tbm_limit (feeder, direction, period)``.
    rules : MarketRules
        Price cap, floor and value of lost load.
    transmission : Transmission
        The TSO's side.

    Raises
    ------
    DataError
        With every fault found between the parts.
    """

    feeders: Feeders
    bids: Bids
    imbalance: xr.DataArray
    tbm: xr.Dataset
    rules: MarketRules
    transmission: Transmission

    def __post_init__(self) -> None:
        raise_together([*_rule_faults(self), *_label_faults(self), *_transmission_faults(self)])
        object.__setattr__(self, "tbm", freeze(self.tbm))
        _warn_of_trades_without_imbalance(self)

    @property
    def periods(self) -> pd.DatetimeIndex:
        """The market time units."""
        return pd.DatetimeIndex(self.feeders.data.indexes[PERIOD])

    @property
    def duration(self) -> xr.DataArray:
        """Δ (period) [h]."""
        return self.feeders.data["duration"]

    @property
    def feeder_names(self) -> pd.Index:
        """The feeders, in order."""
        return self.feeders.roots.index.rename(FEEDER)

    def with_bids(self, data: xr.Dataset) -> BalancingMarket:
        """Return the same market with other values of the same bids."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarketWarning)
            return replace(self, bids=Bids(data))

    def of_feeders(self, names: Sequence[str]) -> BalancingMarket:
        """Return the market of some feeders; the TSO's side stays whole."""
        feeders = select(self.feeders, names)
        mine = self.bids.data.bid_feeder.isin(list(names)).values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarketWarning)
            return replace(
                self,
                feeders=feeders,
                bids=Bids(self.bids.data.isel({BID: mine})),
                imbalance=self.imbalance.sel({BUS: feeders.data.indexes[BUS]}),
                tbm=self.tbm.sel({FEEDER: list(names)}),
            )

    def truthful(self) -> BalancingMarket:
        """Return the same market with every bid at its marginal cost."""
        return self.with_bids(self.bids.data.assign(price=self.bids.data.cost))


def balancing_market(
    feeders: Mapping[str, pypsa.Network | Feeder],
    *,
    bids: Bids | pd.DataFrame | str | xr.Dataset,
    imbalance: Table,
    tbm_prices: xr.Dataset | xr.DataArray | pd.DataFrame | Mapping[str, float | Sequence[float]],
    rules: MarketRules,
    transmission: Transmission | None = None,
) -> BalancingMarket:
    """Put a market together from PyPSA networks and tables.

    Parameters
    ----------
    feeders : mapping name → pypsa.Network or Feeder
        The radial grids under one TSO.
    bids : table, CSV file, Dataset or Bids
        See `hiermarket.market.bids.bids`.
    imbalance : table, CSV file or DataArray
        See `hiermarket.market.imbalance.imbalance_of` [MW, > 0 is a deficit].
    tbm_prices : DataArray, table or mapping
        EUR/MWh by direction and period; or a Dataset that `tbm_of` made, with limits.
    rules : MarketRules
        Price cap, floor and value of lost load.
    transmission : Transmission, optional
        The TSO's side; one bus and the TBM's prices by default.

    Returns
    -------
    BalancingMarket
        Checked and read-only.

    Raises
    ------
    DataError
        With every fault found.
    """
    one_by_one = {
        name: part if isinstance(part, Feeder) else feeder_from_pypsa(part, name=name) for name, part in feeders.items()
    }
    together = combine(one_by_one)
    tbm = tbm_prices if isinstance(tbm_prices, xr.Dataset) else tbm_of(tbm_prices, together)
    return BalancingMarket(
        feeders=together,
        bids=read_bids(bids, pd.DatetimeIndex(together.data.indexes[PERIOD])),
        imbalance=imbalance_of(imbalance, together),
        tbm=tbm,
        rules=rules,
        transmission=transmission or Transmission(),
    )


def _rule_faults(market: BalancingMarket) -> list[Fault]:
    rules, tbm = market.rules, market.tbm
    faults: list[Fault] = []
    if not rules.price_floor < rules.price_cap:
        found = f"{rules.price_floor} and {rules.price_cap}"
        faults.append(Fault("rules.price_floor, price_cap", found, "floor < cap", "Raise the cap."))
    highest = max(rules.price_cap, float(tbm.tbm_price.max()), float(market.bids.data.cost.max()))
    if not np.isfinite(rules.value_of_lost_load) or rules.value_of_lost_load <= highest:
        expected = f"more than every price and cost ({highest} EUR/MWh)"
        remedy = "Raise it: otherwise shedding load is cheaper than balancing."
        faults.append(Fault("rules.value_of_lost_load", str(rules.value_of_lost_load), expected, remedy))
    faults += fault_where(
        ~(abs(tbm.tbm_price) < np.inf),
        tbm.tbm_price,
        name="tbm_price",
        expected="a number in EUR/MWh",
        remedy="Give a price for every period.",
    )
    up, down = (tbm.tbm_price.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    remedy = "A TBM that buys dearer than it sells is an unlimited gain."
    faults += fault_where(up < down, up, name="tbm_price", expected="up ≥ down", remedy=remedy)
    price = market.bids.data.price
    outside = (price > rules.price_cap) | (price < rules.price_floor)
    expected = f"within [{rules.price_floor}, {rules.price_cap}] EUR/MWh"
    faults += fault_where(outside, price, name="bids.price", expected=expected, remedy="Change the bid or the rules.")
    return faults


def _label_faults(market: BalancingMarket) -> list[Fault]:
    data, nodes = market.bids.data, market.feeders.data.indexes[BUS]
    faults: list[Fault] = []
    strange = sorted(set(data.bid_node.values) - set(nodes))
    if strange:
        remedy = "Correct the feeder or the bus of these bids."
        faults.append(Fault("bids.bus", some_labels(strange), "a bus of a feeder of the market", remedy))
    for name, index in (("bids", data.indexes[PERIOD]), ("tbm", market.tbm.indexes[PERIOD])):
        if not index.equals(market.feeders.data.indexes[PERIOD]):
            found = f"{len(index)} periods from {index[0]}" if len(index) else "none"
            expected = f"the {len(market.periods)} periods of the feeders from {market.periods[0]}"
            faults.append(Fault(f"{name}.period", found, expected, "Use the same snapshots everywhere."))
    faults += fault_where(
        ~(abs(market.imbalance) < np.inf),
        market.imbalance,
        name="imbalance",
        expected="a number in MW",
        remedy="Fill it.",
    )
    return faults


def _transmission_faults(market: BalancingMarket) -> list[Fault]:
    side = market.transmission
    if side.grid is None:
        return []
    buses, faults = set(side.grid.data.indexes[BUS]), []
    if side.bids is None:
        remedy = "Give the bids of the providers in the transmission grid."
        faults.append(Fault("transmission.bids", "none", "bids where a grid is given", remedy))
    hung = dict(side.interface or {})
    missing = [name for name in market.feeder_names if name not in hung]
    if missing:
        faults.append(
            Fault("transmission.interface", f"no {some_labels(missing)}", "a bus for every feeder", "Add it.")
        )
    strange = sorted({bus for bus in hung.values() if bus not in buses})
    if side.imbalance is not None:
        strange += sorted(set(side.imbalance.indexes[BUS]) - buses)
    if side.bids is not None:
        strange += sorted(set(side.bids.data.bid_bus.values) - buses)
    if strange:
        faults.append(Fault("transmission", some_labels(strange), "a bus of the transmission grid", "Correct it."))
    schedule = side.grid.data.p_scheduled.sum(BUS)
    size = np.abs(side.grid.data.p_scheduled).sum(BUS)
    unbalanced = np.abs(schedule) > 1e-6 * np.maximum(size, 1.0)
    remedy = "Set the generators' p_set so that it meets the load; the imbalance is given apart."
    faults += fault_where(unbalanced, schedule, name="grid.p_scheduled", expected="a sum of 0 MW", remedy=remedy)
    return faults


def _warn_of_trades_without_imbalance(market: BalancingMarket) -> None:
    """Warn of an up bid below a down bid, or below the TBM's down price: it trades for nothing."""
    data = market.bids.data
    up = (data.bid_direction == Direction.UP.value) & (data.volume > 0)
    down = (data.bid_direction == Direction.DOWN.value) & (data.volume > 0)
    tbm_up, tbm_down = (market.tbm.tbm_price.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    price, owner = bare(data.price), data.bid_feeder.drop_vars([c for c in data.bid_feeder.coords if c != "bid"])
    lowest = price.where(bare(up), np.inf).groupby(owner).min().sel(bid_feeder=owner)
    highest = price.where(bare(down), -np.inf).groupby(owner).max().sel(bid_feeder=owner)
    up, down = bare(up), bare(down)
    crossing = (up & (price < np.maximum(highest, tbm_down))) | (down & (price > np.minimum(lowest, tbm_up)))
    if bool(crossing.any()):
        names = [str(label) for label in data[BID].values[crossing.any(PERIOD).values]]
        warnings.warn(
            f"Up bids below a down bid or below the TBM's down price (or the reverse) trade without any imbalance: "
            f"{some_labels(names)}. Check their prices.",
            MarketWarning,
            stacklevel=4,
        )
