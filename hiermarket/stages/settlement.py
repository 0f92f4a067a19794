"""Settlement: who pays whom, pay-as-cleared at nodal prices; every item sums to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BSP, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, direction_sign, freeze
from hiermarket.stages.bidding import paid_price
from hiermarket.stages.tso_clearing import TBM

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing

ACCOUNT, ITEM = "account", "item"


def bsp_account(bsp: str) -> str:
    """Return the account of a local provider."""
    return f"BSP {bsp}" if not bsp.startswith("BSP") else bsp


@dataclass(frozen=True, slots=True)
class Settlement:
    """The accounts of everybody, by item and period.

    Parameters
    ----------
    data : Dataset
        ``payment (account, item, period)`` [EUR], > 0 is received: every item sums to
        zero over the accounts; ``profit (bsp, period)`` [EUR] of the local providers,
        payment less true cost.
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


class _Ledger:
    """Transfers between two accounts, each booked twice."""

    def __init__(self, periods: pd.DatetimeIndex) -> None:
        self._periods = periods
        self._rows: dict[tuple[str, str], np.ndarray] = {}

    def pay(self, giver: str, taker: str, item: str, amount: xr.DataArray) -> None:
        """Book a payment (period) from one account to another."""
        values = np.asarray(amount.transpose(PERIOD).fillna(0.0).values, dtype=float)
        for account, sign in ((giver, -1.0), (taker, 1.0)):
            row = self._rows.setdefault((account, item), np.zeros(len(self._periods)))
            row += sign * values

    def array(self) -> xr.DataArray:
        """Return payment (account, item, period)."""
        accounts = list(dict.fromkeys(account for account, _ in self._rows))
        items = list(dict.fromkeys(item for _, item in self._rows))
        values = np.zeros((len(accounts), len(items), len(self._periods)))
        for (account, item), row in self._rows.items():
            values[accounts.index(account), items.index(item)] = row
        coords = {ACCOUNT: accounts, ITEM: items, PERIOD: self._periods}
        return xr.DataArray(values, dims=(ACCOUNT, ITEM, PERIOD), coords=coords)


def settle(market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing) -> Settlement:
    """Settle both markets, pay-as-cleared at nodal prices.

    Parameters
    ----------
    market : BalancingMarket
        Bids, imbalance, prices.
    clearing : DsoClearing
        The distribution markets: every bid is paid σ (λ + τκ) a Δ, imbalance pays λ I Δ,
        and what is not served is paid back at λ.
    cleared : TsoClearing
        The transmission market: changes are paid at the interface's price times their
        interface factor, transmission bids at the price of their bus.

    Returns
    -------
    Settlement
        Accounts of local and transmission providers, DSOs, TSO and imbalance payers.
        What an operator collects above what it pays is moved to an account of its own:
        congestion and losses, and for the TSO the difference between the price π^T at
        which DSOs buy and the price of the interface.
    """
    ledger = _Ledger(market.periods)
    _settle_distribution(ledger, market, clearing)
    _settle_transmission(ledger, market, clearing, cleared)
    payment = ledger.array()
    data = xr.Dataset({"payment": payment, "profit": _profit(market, clearing, cleared, payment)})
    return Settlement(freeze(describe(data)))


def _settle_distribution(ledger: _Ledger, market: BalancingMarket, clearing: DsoClearing) -> None:
    duration, bids, flat = bare(market.duration), market.bids, clearing.flat
    received = duration * bare(bids.sign) * paid_price(market, flat) * bare(flat.activation)
    direction = direction_sign()
    energy = duration * (direction * bare(market.tbm.tbm_price) * bare(flat.tbm_volume)).sum(DIRECTION)
    owner = market.feeders.feeder_of
    price, reactive = bare(flat.nodal_price), bare(flat.reactive_price).fillna(0.0)
    of_bus = {
        "imbalance": duration * price * bare(market.imbalance),
        "not served": duration
        * (
            price * (bare(flat.unserved) - bare(flat.spilled))
            + reactive * (bare(flat.reactive_shortage) - bare(flat.reactive_surplus)).fillna(0.0)
        ),
    }
    for feeder in market.feeder_names:
        dso, payers, rent = f"DSO {feeder}", f"imbalance payers {feeder}", f"congestion and losses {feeder}"
        mine = bids.data.bid_feeder.values == feeder
        total = xr.zeros_like(duration)
        for bsp in bids.bsps:
            amount = received.isel({BID: mine & (bids.data.bid_bsp.values == bsp)}).sum(BID)
            ledger.pay(dso, bsp_account(bsp), "local activation", amount)
            total = total - amount
        bought = energy.sel({FEEDER: feeder}, drop=True)
        ledger.pay(dso, "TSO", "energy from the TBM", bought)
        here = {BUS: owner.index[(owner == feeder).to_numpy()].to_numpy()}
        charged, back = (of_bus[item].sel(here).sum(BUS) for item in of_bus)
        ledger.pay(payers, dso, "local imbalance", charged)
        ledger.pay(dso, payers, "energy not served", back)
        ledger.pay(dso, rent, "congestion and losses", total - bought + charged - back)


def _settle_transmission(ledger: _Ledger, market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing) -> None:
    duration, flat, offers = bare(market.duration), cleared.flat, cleared.grid_bids
    paid = change_payment(market, cleared)
    grid_price = bare(flat.grid_price)
    total = xr.zeros_like(duration)
    for bsp in market.bids.bsps:
        amount = paid.isel({BID: market.bids.data.bid_bsp.values == bsp}).sum(BID)
        ledger.pay("TSO", bsp_account(bsp), "forwarded activation", amount)
        total = total - amount
    at = xr.DataArray(offers.data.bid_bus.values, dims="grid_bid")
    price = grid_price.sel(grid_bus=at).drop_vars("grid_bus")
    sign = bare(offers.sign).rename({BID: "grid_bid"}).drop_vars("grid_bid")
    supplied = duration * sign * price * bare(flat.grid_activation).drop_vars("grid_bid")
    for bsp in offers.bsps:
        amount = supplied.isel(grid_bid=offers.data.bid_bsp.values == bsp).sum("grid_bid")
        ledger.pay("TSO", f"transmission provider {bsp}" if bsp != TBM else TBM, "transmission activation", amount)
        total = total - amount
    at_interface = bare(flat.interface_price)
    up, down = (bare(clearing.flat.tbm_volume.sel({DIRECTION: d.value}, drop=True)) for d in Direction)
    bought = xr.zeros_like(duration)
    exchange = (up - down).fillna(0.0)
    for d, volume in zip(Direction, (up, down), strict=True):
        at_pi = market.tbm.tbm_price.sel({DIRECTION: d.value}, drop=True)
        bought = bought + d.sign * duration * at_pi * volume.fillna(0.0).sum(FEEDER)
    worth = duration * (at_interface * exchange).sum(FEEDER)
    own = market.transmission.imbalance
    charged = xr.zeros_like(duration)
    if own is not None:
        charged = duration * (grid_price.rename(grid_bus=BUS).sel({BUS: own.indexes[BUS]}) * own).sum(BUS)
    back = duration * (grid_price * (bare(flat.grid_unserved) - bare(flat.grid_spilled))).sum("grid_bus")
    ledger.pay("imbalance payers transmission", "TSO", "transmission imbalance", charged)
    ledger.pay("TSO", "imbalance payers transmission", "transmission energy not served", back)
    ledger.pay("TSO", "price difference at the interfaces", "price difference", bought - worth)
    ledger.pay("TSO", "congestion rent transmission", "congestion rent", total + worth + charged - back)


def change_payment(market: BalancingMarket, cleared: TsoClearing) -> xr.DataArray:
    """Return what every bid receives for its change, (bid, period) [EUR]: σ λ^T φ z Δ."""
    flat = cleared.flat
    hung = xr.DataArray(market.bids.data.bid_feeder.values, dims=BID, coords={BID: market.bids.data.indexes[BID]})
    price = bare(flat.interface_price).sel({FEEDER: hung}).drop_vars(FEEDER)
    return (
        bare(market.duration) * bare(market.bids.sign) * price * bare(flat.interface_factor) * bare(flat.change)
    ).transpose(BID, PERIOD)


def _profit(
    market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing, payment: xr.DataArray
) -> xr.DataArray:
    """Payment less true cost of every local provider, (bsp, period) [EUR]."""
    final = bare(clearing.flat.activation).fillna(0.0) + bare(cleared.flat.change).fillna(0.0)
    cost = bare(market.duration) * bare(market.bids.sign) * bare(market.bids.data.cost) * final
    names = pd.Index(market.bids.bsps, name=BSP, dtype=object)
    values = np.zeros((len(names), cost.sizes[PERIOD]))
    for row, bsp in enumerate(names):
        spent = cost.isel({BID: market.bids.data.bid_bsp.values == bsp}).sum(BID)
        values[row] = (payment.sel({ACCOUNT: bsp_account(bsp)}, drop=True).sum(ITEM) - spent).values
    return xr.DataArray(values, dims=(BSP, PERIOD), coords={BSP: names, PERIOD: market.periods})
