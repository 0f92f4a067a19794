"""The money of the distribution markets, whatever comes after them: bids, exchange, imbalance, what is not served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BSP, PERIOD
from hiermarket.market.rules import ImbalancePricing, Pricing
from hiermarket.schema import bare, positions
from hiermarket.stages.accounts import Account, Book, Item, Kind, bsp_account, of_feeder, of_kind, sums
from hiermarket.stages.paid_prices import dual_price, imbalance_price, paid_price, shortfall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.program import Floats

TSO, PRICING = of_kind(Kind.TSO), of_kind(Kind.PRICING)


@dataclass(frozen=True, eq=False)
class LocalAccounts:
    """Books what the DSOs, their BSPs and the payers of imbalance pay each other and the TSO.

    Parameters
    ----------
    book : Book
        Where it is booked.
    market : BalancingMarket
        The feeders, with their bids and imbalance.
    flat : Dataset
        What was cleared: ``activation`` (bid), ``nodal_price, reactive_price, unserved, spilled,
        reactive_shortage, reactive_surplus`` (bus), each by period.
    """

    book: Book
    market: BalancingMarket
    flat: xr.Dataset

    @property
    def names(self) -> list[str]:
        """The feeders."""
        return list(self.market.feeder_names)

    @property
    def dso(self) -> list[Account]:
        """The account of each DSO."""
        return [of_feeder(Kind.DSO, name) for name in self.names]

    @property
    def providers(self) -> list[Account]:
        """The account of each BSP."""
        return [Account(bsp_account(name), Kind.BSP) for name in self.market.bids.bsps]

    @cached_property
    def supplied(self) -> xr.DataArray:
        """σ a (bid, period) [MW]."""
        data = self.market.bids.data
        return bare(self.market.bids.sign) * bare(self.flat["activation"]).sel({BID: data.indexes[BID]})

    @cached_property
    def paid(self) -> xr.DataArray:
        """What one MWh of every bid is paid, (bid, period) [EUR/MWh]."""
        return paid_price(self.market, self.flat)

    def by_feeder(self, per_bid: Floats) -> Floats:
        """Sum values (bid, period) over the bids of each feeder."""
        return sums(
            per_bid, positions(self.market.feeder_names, self.market.bids.data["bid_feeder"].values), len(self.names)
        )

    def by_bsp(self, per_bid: Floats) -> Floats:
        """Sum values (bid, period) over the bids of each BSP."""
        bsps = self.market.bids.bsps
        return sums(per_bid, positions(pd.Index(bsps), self.market.bids.data["bid_bsp"].values), len(bsps))

    def to_providers(self, item: Item, payers: Sequence[Account], payment: Floats, paid: Floats) -> None:
        """Book payments (bsp, period) from accounts that pay (payer, period); nothing without BSPs."""
        if self.providers:
            self.book.book(item, [*payers, *self.providers], np.concatenate([-payment, paid]))

    def settle(self, energy: Item, bought: Floats) -> tuple[Floats, Floats]:
        """Book the distribution markets.

        Parameters
        ----------
        energy : Item
            What the exchange with the TSO is called.
        bought : array (feeder, period)
            What each DSO pays the TSO for it [EUR].

        Returns
        -------
        two arrays
            What each BSP is paid, (bsp, period), and what each DSO collects above what it pays,
            (feeder, period) [EUR].
        """
        market, book, dso = self.market, self.book, self.dso
        payers = [of_feeder(Kind.PAYERS, name) for name in self.names]
        # Δ σ p a,  p by the pricing rule                                               [EUR]
        received = by_label(BID, self.paid * self.supplied) * market.duration.values
        activated, earned = self.by_feeder(received), self.by_bsp(received)
        self.to_providers(Item.ACTIVATION, dso, activated, earned)
        book.book(energy, [*dso, TSO], np.concatenate([-bought, bought.sum(axis=0, keepdims=True)]))
        charged, back, penalty = self._imbalance()
        book.book(Item.IMBALANCE, [*payers, *dso], np.concatenate([-charged, charged]))
        book.book(Item.NOT_SERVED, [*dso, *payers], np.concatenate([-back, back]))
        if market.rules.imbalance_pricing is ImbalancePricing.DUAL:
            kept = of_kind(Kind.DUAL)
            book.book(Item.DUAL, [*payers, kept], np.concatenate([-penalty, penalty.sum(axis=0, keepdims=True)]))
        return earned, charged - back - activated - bought

    def short(self, price: xr.DataArray, supplied: xr.DataArray) -> Floats:
        """Return by how much bids would be paid less than their price, (bid, period) [EUR]; see `shortfall`."""
        found = shortfall(self.market.rules, bare(self.market.bids.data["price"]), price, supplied.fillna(0.0))
        short: Floats = by_label(BID, found.fillna(0.0)) * self.market.duration.values
        return short

    def uplift(self, short: Floats) -> Floats:
        """Book what bids would be paid too little with a uniform price; return it, (bsp, period) [EUR]."""
        added = self.by_bsp(short)
        if self.market.rules.pricing is Pricing.UNIFORM:
            self.to_providers(Item.UPLIFT, [PRICING], added.sum(axis=0, keepdims=True), added)
        return added

    def profit(self, earned: Floats, activation: xr.DataArray) -> xr.DataArray:
        """Return what BSPs earn less what their activation costs them, (bsp, period) [EUR]."""
        market = self.market
        # Δ σ c a                                                                       [EUR]
        cost = by_label(BID, bare(market.bids.sign) * bare(market.bids.data["cost"]) * activation.fillna(0.0))
        return xr.DataArray(
            earned - self.by_bsp(cost * market.duration.values),
            dims=(BSP, PERIOD),
            coords={BSP: pd.Index(market.bids.bsps, name=BSP, dtype=object), PERIOD: market.periods},
        )

    def _imbalance(self) -> tuple[Floats, Floats, Floats]:
        """Return what imbalance pays, gets back for energy not served, and pays more with dual prices [EUR]."""
        market, flat = self.market, self.flat
        duration = bare(market.duration)
        price = imbalance_price(market, flat)
        lost = bare(flat["unserved"]) - bare(flat["spilled"])
        owner = positions(market.feeder_names, market.feeders.feeder_of.loc[price["bus"].values].to_numpy())
        # π^T of (35) is the TBM's own price, whatever a DSO counts on at its interface
        dual = dual_price(market.rules, price, market.imbalance, market.tbm["tbm_price"])
        # Δ p I;  Δ [ p (s⁺ − s⁻) + κ (z⁺ − z⁻) ];  Δ (p_dual − p) I                     [EUR]
        charged = duration * price * market.imbalance
        back = duration * price * lost
        if market.rules.pricing is Pricing.NODAL:
            reactive = bare(flat["reactive_price"]).fillna(0.0)
            lost_reactive = (bare(flat["reactive_shortage"]) - bare(flat["reactive_surplus"])).fillna(0.0)
            back = back + duration * reactive * lost_reactive
        penalty = duration * (dual - price) * market.imbalance
        found = [sums(by_label("bus", amount), owner, len(self.names)) for amount in (charged, back, penalty)]
        return found[0], found[1], found[2]


def by_label(dim: str, array: xr.DataArray) -> Floats:
    """Return the values (dim, period)."""
    values: Floats = array.transpose(dim, PERIOD).values
    return values
