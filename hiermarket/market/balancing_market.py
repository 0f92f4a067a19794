"""The market of a study: grids, bids, imbalance, prices and rules, checked against each other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, MarketWarning, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.market.bids import Bids
from hiermarket.market.bids import bids as read_bids
from hiermarket.market.imbalance import Table, imbalance_of, tbm_of
from hiermarket.market.market_faults import market_faults
from hiermarket.market.resources import Resources
from hiermarket.market.resources import resources as read_resources
from hiermarket.market.tso_side import TsoSide
from hiermarket.network.feeder import Feeder
from hiermarket.network.feeders import Feeders, combine, select
from hiermarket.network.from_pypsa import feeder_from_pypsa
from hiermarket.network.grid import TransmissionGrid
from hiermarket.schema import bare, freeze, freeze_array, raise_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hiermarket.market.rules import MarketRules
    from hiermarket.market.scenarios import Probabilities, ScenarioMarket
    from hiermarket.network.from_pypsa import PypsaNetwork

    BidSource = Bids | pd.DataFrame | str | xr.Dataset
    PriceSource = xr.Dataset | xr.DataArray | pd.DataFrame | Mapping[str, float | Sequence[float]]


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
        buses ("transmission" is the only bus without a grid); None for one provider
        "TBM" at the TBM's prices and limits.
    imbalance : DataArray (bus, period) or None
        Imbalance of the transmission grid itself [MW], > 0 is a deficit; buses that are
        not named have none.
    """

    grid: TransmissionGrid | None = None
    interface: Mapping[str, str] | None = None
    bids: Bids | None = None
    imbalance: xr.DataArray | None = None


@dataclass(frozen=True, slots=True, repr=False)
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
        ``tbm_price (direction, period)``, ``tbm_limit (feeder, direction, period)``; where the
        DSOs count on other prices than the TBM's, ``exchange_price (feeder, direction, period)``.
    rules : MarketRules
        Price cap, floor and value of lost load.
    transmission : Transmission
        The TSO's side.
    resources : Resources or None
        What the bids of one resource may do together; None where every bid stands for itself.

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
    resources: Resources | None = None

    def __post_init__(self) -> None:
        raise_together(market_faults(self))
        side, own = self.transmission, self.transmission.imbalance
        object.__setattr__(self, "tbm", freeze(self.tbm))
        object.__setattr__(self, "imbalance", freeze_array(self.imbalance.transpose(BUS, PERIOD)))
        if own is not None:
            object.__setattr__(self, "transmission", replace(side, imbalance=freeze_array(own.transpose(BUS, PERIOD))))
        warn_of_trades_without_imbalance(self)

    def __repr__(self) -> str:
        names, data, own = list(self.feeder_names), self.bids.data, self.resources
        sizes = [
            f"feeder: {len(names)} ({some_labels(names)})",
            f"bus: {self.feeders.data.sizes[BUS]}",
            f"bid: {data.sizes[BID]}, bsp: {len(self.bids.bsps)}",
            f"period: {len(self.periods)} from {self.periods[0]}",
        ]
        if own is not None:
            sizes.append(f"resource: {len(own.labels)}")
        return f"<BalancingMarket ({', '.join(sizes)})>"

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

    def _with(self, **changes: object) -> BalancingMarket:
        """Return the same market with other parts, whose bids were warned of already."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarketWarning)
            return replace(self, **changes)  # type: ignore[arg-type]  # the parts of a market, by name

    def with_bids(self, data: xr.Dataset) -> BalancingMarket:
        """Return the same market with other values of the same bids."""
        return self._with(bids=Bids(data))

    def without_resources(self) -> BalancingMarket:
        """Return the same market in which every bid stands for itself."""
        return self._with(resources=None)

    def without_resource_limits(self) -> BalancingMarket:
        """Return the same market in which every bid stands for itself; resources keep their reactive support."""
        return self._with(resources=self.resources and self.resources.without_limits())

    @property
    def exchange_price(self) -> xr.DataArray:
        """What a DSO counts on paying for energy from the TBM, and on being paid for energy to it [EUR/MWh].

        ``(feeder, direction, period)``: the TBM's own price π^T, or that of `with_exchange_price`.
        """
        price = self.tbm["exchange_price"] if "exchange_price" in self.tbm else self.tbm["tbm_price"]
        every = bare(self.tbm["tbm_limit"]).sel({FEEDER: self.feeder_names})
        return bare(price).broadcast_like(every).transpose(FEEDER, DIRECTION, PERIOD)

    def with_exchange_price(self, price: xr.DataArray | Mapping[str, float] | float) -> BalancingMarket:
        """Return the same market in which the DSOs count on other prices of the TBM; its own offers stay.

        Parameters
        ----------
        price : DataArray with dims among (feeder, direction, period), mapping direction → price, or one price
            EUR/MWh; up (what the DSO takes) not below down (what it delivers).

        Raises
        ------
        DataError
            When a label is unknown or missing, or up is below down.
        """
        if isinstance(price, Mapping):
            price = xr.DataArray([*price.values()], coords={DIRECTION: [*price]}, dims=DIRECTION)
        given, limit = bare(xr.DataArray(price)).astype(float), bare(self.tbm["tbm_limit"])
        faults = []
        for dim in given.dims:
            known = limit.indexes.get(dim)
            labels = given.indexes.get(dim)
            if known is None or labels is None or set(labels) != set(known):
                found = "no labels" if labels is None else some_labels(list(labels))
                expected = f"dims of {tuple(limit.dims)}" if known is None else some_labels(list(known))
                faults.append(Fault(f"exchange_price.{dim}", found, expected, "Give a price for every label."))
        raise_together(faults)
        every = given.broadcast_like(limit).transpose(FEEDER, DIRECTION, PERIOD)
        return self._with(tbm=self.tbm.assign(exchange_price=every))

    @property
    def tso_side(self) -> TsoSide:
        """All that the TSO's stage needs, without any distribution grid."""
        return TsoSide(self.tbm[["tbm_price", "tbm_limit"]], bare(self.duration), self.rules, self.transmission)

    def of_feeders(self, names: Sequence[str]) -> BalancingMarket:
        """Return the market of some feeders; grid, bids and imbalance of the TSO stay whole."""
        feeders = select(self.feeders, names)
        side = self.transmission
        if side.interface is not None:
            side = replace(side, interface={name: side.interface[name] for name in names if name in side.interface})
        mine = self.bids.data.bid_feeder.isin(list(names)).values
        return self._with(
            feeders=feeders,
            bids=Bids(self.bids.data.isel({BID: mine})),
            imbalance=self.imbalance.sel({BUS: feeders.data.indexes[BUS]}),
            tbm=self.tbm.sel({FEEDER: list(names)}),
            transmission=side,
            resources=self.resources and self.resources.of_feeders(names),
        )

    def of_periods(self, periods: NDArray[np.intp]) -> BalancingMarket:
        """Return the market in some periods, by position in `periods`; the TSO's side too."""
        at = {PERIOD: periods}
        side = self.tso_side.of_periods(periods)
        return self._with(
            feeders=Feeders(self.feeders.data.isel(at)),
            bids=Bids(self.bids.data.isel(at)),
            imbalance=self.imbalance.isel(at),
            tbm=self.tbm.isel(at),
            transmission=side.transmission,
            resources=self.resources and self.resources.of_periods(periods),
        )

    def truthful(self) -> BalancingMarket:
        """Return the same market with every bid at its marginal cost."""
        return self.with_bids(self.bids.data.assign(price=self.bids.data.cost))


@overload
def balancing_market(
    feeders: Mapping[str, PypsaNetwork | Feeder],
    *,
    bids: BidSource,
    imbalance: Table,
    tbm_prices: PriceSource,
    rules: MarketRules,
    transmission: Transmission | None = None,
    resources: Resources | pd.DataFrame | str | None = None,
    probabilities: None = None,
) -> BalancingMarket: ...


@overload
def balancing_market(
    feeders: Mapping[str, PypsaNetwork | Feeder],
    *,
    bids: BidSource,
    imbalance: Table,
    tbm_prices: PriceSource,
    rules: MarketRules,
    transmission: Transmission | Mapping[str, Transmission] | None = None,
    resources: Resources | pd.DataFrame | str | None = None,
    probabilities: Probabilities,
) -> ScenarioMarket: ...


def balancing_market(  # noqa: PLR0913  (the parts of a market, each by its name)
    feeders: Mapping[str, PypsaNetwork | Feeder],
    *,
    bids: BidSource,
    imbalance: Table,
    tbm_prices: PriceSource,
    rules: MarketRules,
    transmission: Transmission | Mapping[str, Transmission] | None = None,
    resources: Resources | pd.DataFrame | str | None = None,
    probabilities: Probabilities | None = None,
) -> BalancingMarket | ScenarioMarket:
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
    transmission : Transmission, or mapping scenario → Transmission, optional
        The TSO's side; one bus and the TBM's prices by default.
    resources : table, CSV file or Resources, optional
        See `hiermarket.market.resources.resources`; by default every bid stands for itself.
    probabilities : mapping scenario → probability, optional
        > 0, with sum 1; equal ones, or those of a stochastic PyPSA network, by default.

    Returns
    -------
    BalancingMarket or ScenarioMarket
        Checked and read-only. A `ScenarioMarket` where an input carries scenarios: a table
        with a column, an array with a dimension ``scenario``, a PyPSA network with
        `set_scenarios`, a mapping of TSO's sides. A type checker knows it where
        ``probabilities`` are given.

    Raises
    ------
    DataError
        With every fault found.
    """
    from hiermarket.market.scenario_reader import Inputs, read_scenarios

    inputs = Inputs(feeders, bids, imbalance, tbm_prices, transmission, resources)
    scenarios = read_scenarios(inputs, rules, probabilities)
    if scenarios is not None:
        return scenarios
    if isinstance(transmission, Mapping):
        raise DataError([Fault("transmission", "an empty mapping", "a side", "Leave it out for one bus.")])
    one_by_one = {
        name: part if isinstance(part, Feeder) else feeder_from_pypsa(part, name=name) for name, part in feeders.items()
    }
    together = combine(one_by_one)
    tbm = tbm_prices if isinstance(tbm_prices, xr.Dataset) else tbm_of(tbm_prices, together)
    periods = pd.DatetimeIndex(together.data.indexes[PERIOD])
    return BalancingMarket(
        feeders=together,
        bids=read_bids(bids, periods),
        imbalance=imbalance_of(imbalance, together),
        tbm=tbm,
        rules=rules,
        transmission=transmission or Transmission(),
        resources=None if resources is None else read_resources(resources, periods),
    )


def warn_of_trades_without_imbalance(market: BalancingMarket) -> None:
    """Warn of an up bid below a down bid, or below the down price that its DSO counts on: it trades for nothing."""
    data = market.bids.data
    if not data.sizes[BID]:
        return
    up = (data.bid_direction == Direction.UP.value) & (data.volume > 0)
    down = (data.bid_direction == Direction.DOWN.value) & (data.volume > 0)
    price, owner = bare(data.price), data.bid_feeder.drop_vars([c for c in data.bid_feeder.coords if c != "bid"])
    exchange = market.exchange_price.sel({FEEDER: owner}).drop_vars(FEEDER)
    tbm_up, tbm_down = (exchange.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    lowest = price.where(bare(up), np.inf).groupby(owner).min().sel(bid_feeder=owner)
    highest = price.where(bare(down), -np.inf).groupby(owner).max().sel(bid_feeder=owner)
    up, down = bare(up), bare(down)
    crossing = (up & (price < np.maximum(highest, tbm_down))) | (down & (price > np.minimum(lowest, tbm_up)))
    if bool(crossing.any()):
        names = [str(label) for label in data[BID].values[crossing.any(PERIOD).values]]
        warnings.warn(
            f"Up bids below a down bid or below the price of energy to the TBM (or the reverse) trade without any "
            f"imbalance: {some_labels(names)}. Check their prices.",
            MarketWarning,
            stacklevel=4,
        )
