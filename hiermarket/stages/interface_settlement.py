"""Settlement where the DSO buys at the price of its interface: one price there, and no market in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BSP, FEEDER, PERIOD
from hiermarket.market.rules import ImbalancePricing, Pricing
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, freeze, positions
from hiermarket.stages.accounts import Account, Book, Item, Kind, bsp_account, of_feeder, of_kind, sums
from hiermarket.stages.paid_prices import paid_price, shortfall
from hiermarket.stages.settlement import (
    PRICING,
    Settlement,
    imbalance_payments,
    join_settlements,
    rent_of_tso,
    settle_grid,
)

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

    # Δ σ p a                                                                           [EUR]
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

    charged, back, penalty = imbalance_payments(market, local)
    book.book(Item.IMBALANCE, [*payers, *dso], np.concatenate([-charged, charged]))
    book.book(Item.NOT_SERVED, [*dso, *payers], np.concatenate([-back, back]))
    rent = charged - back - activated - bought
    nodal = market.rules.pricing is Pricing.NODAL
    left, whose = (Item.BOTH, losses) if nodal else (Item.PRICING, [PRICING] * count)
    book.book(left, [*dso, *whose], np.concatenate([-rent, rent]))
    if market.rules.imbalance_pricing is ImbalancePricing.DUAL:
        kept = of_kind(Kind.DUAL)
        book.book(Item.DUAL, [*payers, kept], np.concatenate([-penalty, penalty.sum(axis=0, keepdims=True)]))
    if bsps and market.rules.pricing is Pricing.UNIFORM:
        supplied = bare(market.bids.sign) * bare(local["activation"]).fillna(0.0)
        short = shortfall(market.rules, bare(data["price"]), paid_price(market, local), supplied)
        uplift = sums(short.transpose(BID, PERIOD).values * duration, bsp, len(bsps))
        book.book(Item.UPLIFT, [PRICING, *providers], np.concatenate([-uplift.sum(axis=0, keepdims=True), uplift]))
        earned = earned + uplift
    item, account = rent_of_tso(market.rules)
    book.pay(item, tso, account, bought.sum(axis=0))

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
