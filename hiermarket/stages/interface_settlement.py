"""Settlement where the DSO buys at the price of its interface: one price there, and no market in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BSP, BUS, FEEDER, PERIOD
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, freeze, positions
from hiermarket.stages.accounts import Account, Book, Item, Kind, bsp_account, of_feeder, of_kind, sums
from hiermarket.stages.bidding import paid_price
from hiermarket.stages.settlement import Settlement, join_settlements, settle_grid

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.program import Floats
    from hiermarket.stages.tso_clearing import TsoClearing


def settle_at_interfaces(market: BalancingMarket, local: xr.Dataset, cleared: TsoClearing) -> Settlement:
    """Settle a market in which the price of the interface is that of the transmission grid.

    Parameters
    ----------
    market : BalancingMarket
        Bids, imbalance.
    local : Dataset
        ``activation`` (bid), ``nodal_price, reactive_price, unserved, spilled,
        reactive_shortage, reactive_surplus`` (bus), ``interface_exchange, interface_price``
        (feeder), each by period.
    cleared : TsoClearing
        The transmission side: its bids are paid the price of their bus.

    Returns
    -------
    Settlement
        Bids, imbalance and what is not served at the price of their bus; each DSO pays λ^T for
        what it takes from the transmission grid. What it collects above that is congestion and
        losses; every item sums to zero.
    """
    names, bsps, data, duration = list(market.feeder_names), market.bids.bsps, market.bids.data, market.duration.values
    book, count = Book(market.periods), len(market.feeder_names)
    dso, payers, losses = ([of_feeder(kind, name) for name in names] for kind in (Kind.DSO, Kind.PAYERS, Kind.LOSSES))
    tso, providers = of_kind(Kind.TSO), [Account(bsp_account(name), Kind.BSP) for name in bsps]

    # Δ σ (λ + τκ) a                                                                    [EUR]
    activation = bare(local["activation"]).transpose(BID, PERIOD).values
    sign, paid = bare(market.bids.sign).values[:, None], paid_price(market, local).transpose(BID, PERIOD).values
    received = np.nan_to_num(sign * paid * activation * duration)
    feeder, bsp = (
        positions(index, data[label].values)
        for index, label in ((market.feeder_names, "bid_feeder"), (pd.Index(bsps), "bid_bsp"))
    )
    activated, earned = sums(received, feeder, count), sums(received, bsp, len(bsps))
    if bsps:
        book.book(Item.ACTIVATION, [*dso, *providers], np.concatenate([-activated, earned]))

    # Δ λ^T e                                                                           [EUR]
    exchange, price = (_by_feeder(local[name], names) for name in ("interface_exchange", "interface_price"))
    bought = price * exchange * duration
    book.book(Item.INTERFACE, [*dso, tso], np.concatenate([-bought, bought.sum(axis=0, keepdims=True)]))

    charged, back = _of_buses(market, local)
    book.book(Item.IMBALANCE, [*payers, *dso], np.concatenate([-charged, charged]))
    book.book(Item.NOT_SERVED, [*dso, *payers], np.concatenate([-back, back]))
    rent = charged - back - activated - bought
    book.book(Item.LOSSES, [*dso, *losses], np.concatenate([-rent, rent]))
    book.pay(Item.RENT, tso, of_kind(Kind.RENT), bought.sum(axis=0))

    # Δ σ c a                                                                           [EUR]
    spent = sums(sign * bare(data["cost"]).transpose(BID, PERIOD).values * activation * duration, bsp, len(bsps))
    profit = xr.DataArray(
        earned - spent,
        dims=(BSP, PERIOD),
        coords={BSP: pd.Index(bsps, name=BSP, dtype=object), PERIOD: market.periods},
    )
    feeders = Settlement(freeze(describe(xr.Dataset({"payment": book.array(), "profit": profit}))))
    return join_settlements([feeders, settle_grid(market.tso_side, cleared)])


def _by_feeder(array: xr.DataArray, names: list[str]) -> Floats:
    values: Floats = bare(array).sel({FEEDER: names}).transpose(FEEDER, PERIOD).values
    return values


def _of_buses(market: BalancingMarket, local: xr.Dataset) -> tuple[Floats, Floats]:
    """Return what imbalance pays, and what it gets back for energy not served, (feeder, period) [EUR]."""
    price, reactive = bare(local["nodal_price"]), bare(local["reactive_price"]).fillna(0.0)
    lost = bare(local["unserved"]) - bare(local["spilled"])
    lost_reactive = (bare(local["reactive_shortage"]) - bare(local["reactive_surplus"])).fillna(0.0)
    owner = positions(market.feeder_names, market.feeders.feeder_of.loc[price[BUS].values].to_numpy())
    # Δ λ I;  Δ [ λ (s⁺ − s⁻) + κ (z⁺ − z⁻) ]                                           [EUR]
    charged = bare(market.duration) * price * market.imbalance
    back = bare(market.duration) * (price * lost + reactive * lost_reactive)
    count = len(market.feeder_names)
    both = [sums(array.transpose(BUS, PERIOD).values, owner, count) for array in (charged, back)]
    return both[0], both[1]
