"""Settlement where the DSO buys at the price of its interface: one price there, and no market in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import FEEDER
from hiermarket.market.rules import Pricing
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, freeze
from hiermarket.stages.accounts import Book, Item, Kind, of_feeder
from hiermarket.stages.local_accounts import PRICING, TSO, LocalAccounts, by_label
from hiermarket.stages.settlement import Settlement, join_settlements, rent_of_tso, settle_grid

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
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
    names, book = list(market.feeder_names), Book(market.periods)
    accounts = LocalAccounts(book, market, local)
    # Δ λ^T e                                                                           [EUR]
    exchange, price = (
        by_label(FEEDER, bare(local[name]).sel({FEEDER: names})) for name in ("interface_exchange", "interface_price")
    )
    bought = price * exchange * market.duration.values
    earned, rent = accounts.settle(Item.INTERFACE, bought)
    nodal, losses = market.rules.pricing is Pricing.NODAL, [of_feeder(Kind.LOSSES, name) for name in names]
    left, whose = (Item.BOTH, losses) if nodal else (Item.PRICING, [PRICING] * len(names))
    book.book(left, [*accounts.dso, *whose], np.concatenate([-rent, rent]))
    item, account = rent_of_tso(market.rules)
    book.pay(item, TSO, account, bought.sum(axis=0))
    uplift = accounts.uplift(accounts.short(accounts.paid, accounts.supplied))
    profit = accounts.profit(earned + uplift, bare(local["activation"]))
    feeders = Settlement(freeze(describe(xr.Dataset({"payment": book.array(), "profit": profit}))))
    return join_settlements([feeders, settle_grid(market.tso_side, cleared)])
