"""Settlement: who pays whom, pay-as-cleared at nodal prices; every item sums to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BSP, BUS, DIRECTION, FEEDER, PERIOD
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, direction_sign, freeze, positions
from hiermarket.stages.accounts import (
    ACCOUNT,
    ITEM,
    Account,
    Book,
    Item,
    Kind,
    bsp_account,
    join_payments,
    of_feeder,
    of_kind,
    sums,
    together,
)
from hiermarket.stages.bidding import paid_price
from hiermarket.stages.tso_model import GRID_BID, GRID_BUS, TBM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats
    from hiermarket.stages.disaggregation import Disaggregation
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing

TSO = of_kind(Kind.TSO)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The accounts of everybody, by item and period.

    Parameters
    ----------
    data : Dataset
        ``payment (account, item, period)`` [EUR], > 0 is received: every item sums to
        zero over the accounts; ``profit (bsp, period)`` [EUR] of the local providers,
        payment less true cost. The coordinates ``account_kind`` and ``account_feeder``
        say what an account is, and whose feeder's ("" for none).
    """

    data: xr.Dataset

    @property
    def balance(self) -> xr.DataArray:
        """Total of every account over items and periods [EUR]; sums to zero."""
        return self.data["payment"].sum([ITEM, PERIOD])

    @property
    def imbalance_of_money(self) -> float:
        """Largest |Σ accounts| over items and periods [EUR]: rounding only."""
        return float(np.abs(self.data["payment"].sum(ACCOUNT)).max())

    @property
    def together(self) -> Settlement:
        """The same with one account for the DSOs, the imbalance payers, and the losses of all feeders.

        Its size does not grow with the feeders.
        """
        return Settlement(freeze(describe(self.data.drop_dims(ACCOUNT).assign(payment=together(self.data["payment"])))))


def settle(
    market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing, disaggregation: Disaggregation
) -> Settlement:
    """Settle both markets, pay-as-cleared at nodal prices.

    Parameters
    ----------
    market : BalancingMarket
        Bids, imbalance, prices.
    clearing : DsoClearing
        The distribution markets: every bid is paid σ (λ + τκ) a Δ, imbalance pays λ I Δ,
        and what is not served is paid back at λ.
    cleared : TsoClearing
        The transmission market: its bids are paid the price of their bus.
    disaggregation : Disaggregation
        What the local bids change for it, and at which prices.

    Returns
    -------
    Settlement
        Accounts of local and transmission providers, DSOs, TSO and imbalance payers.
        What an operator collects above what it pays is moved to an account of its own:
        congestion and losses, and for the TSO the difference between the price π^T at
        which DSOs buy and the price of the interface.
    """
    return join_settlements(
        [settle_feeders(market, clearing, cleared, disaggregation), settle_grid(market.tso_side, cleared)]
    )


def join_settlements(parts: Sequence[Settlement]) -> Settlement:
    """Add the settlements of parts up: of batches of feeders, and of the transmission grid.

    Parameters
    ----------
    parts : sequence of Settlement
        Each holds its share of every account; an account is the sum over the parts.
    """
    profits = [part.data["profit"] for part in parts]
    names = pd.Index(dict.fromkeys(bsp for profit in profits for bsp in profit[BSP].values), name=BSP, dtype=object)
    total = np.zeros((len(names), profits[0].sizes[PERIOD]))
    for profit in profits:
        total[positions(names, profit[BSP].values)] += profit.transpose(BSP, PERIOD).values
    profit = xr.DataArray(total, dims=(BSP, PERIOD), coords={BSP: names, PERIOD: profits[0].indexes[PERIOD]})
    payment = join_payments([part.data["payment"] for part in parts])
    return Settlement(freeze(describe(xr.Dataset({"payment": payment, "profit": profit}))))


def settle_feeders(
    market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing, disaggregation: Disaggregation
) -> Settlement:
    """Settle the distribution markets of some feeders and what they exchange with the TSO.

    Parameters
    ----------
    market : BalancingMarket
        The feeders, with their bids and imbalance.
    clearing : DsoClearing
        Their cleared markets.
    cleared : TsoClearing
        What the transmission market says of these feeders (`TsoClearing.of_feeders`).
    disaggregation : Disaggregation
        What their bids change for it, and at which prices.

    Returns
    -------
    Settlement
        Their share of every account, additive over batches of feeders; every item sums
        to zero in each.
    """
    names, bsps, data, duration = list(market.feeder_names), market.bids.bsps, market.bids.data, market.duration.values
    book = Book(market.periods)
    feeder = positions(market.feeder_names, data["bid_feeder"].values)
    bsp = positions(pd.Index(bsps), data["bid_bsp"].values)
    dso, payers, losses = ([of_feeder(kind, name) for name in names] for kind in (Kind.DSO, Kind.PAYERS, Kind.LOSSES))
    providers = [Account(bsp_account(name), Kind.BSP) for name in bsps]

    # Δ σ (λ + τκ) a                                                                    [EUR]
    activation = bare(clearing.flat["activation"]).sel({BID: data.indexes[BID]})
    received = _by(BID, bare(market.bids.sign) * paid_price(market, clearing.flat) * activation) * duration
    activated = sums(received, feeder, len(names))
    earned = sums(received, bsp, len(bsps))
    if bsps:
        book.book(Item.ACTIVATION, [*dso, *providers], np.concatenate([-activated, earned]))

    bought, exchange = _exchanged(market, clearing)
    book.book(Item.TBM_ENERGY, [*dso, TSO], np.concatenate([-bought, bought.sum(axis=0, keepdims=True)]))

    charged, back = _of_buses(market, clearing)
    book.book(Item.IMBALANCE, [*payers, *dso], np.concatenate([-charged, charged]))
    book.book(Item.NOT_SERVED, [*dso, *payers], np.concatenate([-back, back]))
    rent = charged - back - activated - bought
    book.book(Item.LOSSES, [*dso, *losses], np.concatenate([-rent, rent]))

    changed = _by(BID, change_payment(market, disaggregation))
    forwarded = sums(changed, bsp, len(bsps))
    if bsps:
        book.book(Item.FORWARDED, [TSO, *providers], np.concatenate([-forwarded.sum(axis=0, keepdims=True), forwarded]))
    price = _by(FEEDER, cleared.flat["interface_price"].sel({FEEDER: names}))
    worth = np.nan_to_num(price * exchange * duration, nan=0.0).sum(axis=0)
    book.pay(Item.DIFFERENCE, TSO, of_kind(Kind.DIFFERENCE), bought.sum(axis=0) - worth)
    book.pay(Item.RENT, TSO, of_kind(Kind.RENT), worth - forwarded.sum(axis=0))

    # Δ σ c (a + z)                                                                     [EUR]
    final = bare(disaggregation.flat["final_activation"]).sel({BID: data.indexes[BID]}).fillna(0.0)
    spent = sums(_by(BID, bare(market.bids.sign) * bare(data["cost"]) * final) * duration, bsp, len(bsps))
    profit = xr.DataArray(
        earned + forwarded - spent,
        dims=(BSP, PERIOD),
        coords={BSP: pd.Index(bsps, name=BSP, dtype=object), PERIOD: market.periods},
    )
    return Settlement(freeze(describe(xr.Dataset({"payment": book.array(), "profit": profit}))))


def _by(dim: str, array: xr.DataArray) -> Floats:
    """Return the values (dim, period)."""
    values: Floats = array.transpose(dim, PERIOD).values
    return values


def _exchanged(market: BalancingMarket, clearing: DsoClearing) -> tuple[Floats, Floats]:
    """Return what each DSO pays for energy from the TBM [EUR], and its exchange [MW], (feeder, period)."""
    volume = bare(clearing.flat["tbm_volume"]).sel({FEEDER: market.feeder_names}).fillna(0.0)
    direction = direction_sign()
    # Δ (π^T_up g_up − π^T_down g_down)                                                 [EUR]
    energy = bare(market.duration) * (direction * bare(market.tbm["tbm_price"]) * volume).sum(DIRECTION)
    return _by(FEEDER, energy), _by(FEEDER, (direction * volume).sum(DIRECTION))


def _of_buses(market: BalancingMarket, clearing: DsoClearing) -> tuple[Floats, Floats]:
    """Return what imbalance pays and what it gets back for energy not served, (feeder, period) [EUR]."""
    flat, duration = clearing.flat, bare(market.duration)
    price, reactive = bare(flat["nodal_price"]), bare(flat["reactive_price"]).fillna(0.0)
    lost = bare(flat["unserved"]) - bare(flat["spilled"])
    lost_reactive = (bare(flat["reactive_shortage"]) - bare(flat["reactive_surplus"])).fillna(0.0)
    owner = positions(market.feeder_names, market.feeders.feeder_of.loc[price[BUS].values].to_numpy())
    # Δ λ I;  Δ [ λ (s⁺ − s⁻) + κ (z⁺ − z⁻) ]                                           [EUR]
    charged = duration * price * market.imbalance
    back = duration * (price * lost + reactive * lost_reactive)
    count = len(market.feeder_names)
    return sums(_by(BUS, charged), owner, count), sums(_by(BUS, back), owner, count)


def settle_grid(side: TsoSide, cleared: TsoClearing) -> Settlement:
    """Settle what belongs to the transmission grid itself: its providers and its imbalance.

    Parameters
    ----------
    side : TsoSide
        The TSO's side of the whole market.
    cleared : TsoClearing
        The transmission market.

    Returns
    -------
    Settlement
        The grid's share of every account: added to those of all feeders once.
    """
    duration, flat, offers = side.duration.values, cleared.flat, cleared.grid_bids
    book, payers = Book(side.periods), of_kind(Kind.GRID_PAYERS)
    price = flat["grid_price"].transpose(GRID_BUS, PERIOD)
    at = positions(price.indexes[GRID_BUS], offers.data["bid_bus"].values)
    # Δ σ λ^T y                                                                         [EUR]
    supplied = offers.sign.values[:, None] * price.values[at] * _by(GRID_BID, flat["grid_activation"]) * duration
    by_provider = sums(supplied, positions(pd.Index(offers.bsps), offers.data["bid_bsp"].values), len(offers.bsps))
    accounts = [Account(TBM if name == TBM else f"{Kind.PROVIDER} {name}", Kind.PROVIDER) for name in offers.bsps]
    total = by_provider.sum(axis=0)
    if accounts:
        book.book(Item.GRID_ACTIVATION, [TSO, *accounts], np.concatenate([-total[None], by_provider]))
    own = side.transmission.imbalance
    charged = np.zeros(len(duration))
    if own is not None:
        of_bus = price.values[positions(price.indexes[GRID_BUS], own[BUS].values)]
        charged = np.nan_to_num(of_bus * _by(BUS, own) * duration, nan=0.0).sum(axis=0)
    lost = _by(GRID_BUS, flat["grid_unserved"] - flat["grid_spilled"])
    back = np.nan_to_num(price.values * lost * duration, nan=0.0).sum(axis=0)
    book.pay(Item.GRID_IMBALANCE, payers, TSO, charged)
    book.pay(Item.GRID_NOT_SERVED, TSO, payers, back)
    book.pay(Item.RENT, TSO, of_kind(Kind.RENT), charged - back - total)
    nobody = xr.DataArray(
        np.zeros((0, len(duration))),
        dims=(BSP, PERIOD),
        coords={BSP: pd.Index([], name=BSP, dtype=object), PERIOD: side.periods},
    )
    return Settlement(freeze(describe(xr.Dataset({"payment": book.array(), "profit": nobody}))))


def change_payment(market: BalancingMarket, disaggregation: Disaggregation) -> xr.DataArray:
    """Return what every bid receives for its change, (bid, period) [EUR]: σ z times what one MWh is paid, Δ."""
    data = market.bids.data
    change, price = (
        bare(disaggregation.flat[name]).sel({BID: data.indexes[BID]}) for name in ("change", "change_price")
    )
    # Δ σ λ z                                                                           [EUR]
    return (bare(market.duration) * bare(market.bids.sign) * price * change).transpose(BID, PERIOD)
