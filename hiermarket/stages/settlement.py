"""Settlement: who pays whom, pay-as-cleared at nodal prices; every item sums to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BSP, BUS, DIRECTION, FEEDER, PERIOD
from hiermarket.market.rules import ImbalancePricing, Pricing
from hiermarket.nomenclature import describe
from hiermarket.schema import bare, direction_sign, freeze, positions
from hiermarket.stages.accounts import (
    ACCOUNT,
    ITEM,
    Account,
    Book,
    Item,
    Kind,
    join_payments,
    of_feeder,
    of_kind,
    sums,
    together,
)
from hiermarket.stages.congestion import cost_of_losses
from hiermarket.stages.local_accounts import PRICING, TSO, LocalAccounts, by_label
from hiermarket.stages.paid_prices import dual_price, grid_bid_price, grid_paid_price
from hiermarket.stages.tso_model import GRID_BID, GRID_BUS, TBM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.rules import MarketRules
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats
    from hiermarket.stages.disaggregation import Disaggregation
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing


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
    market: BalancingMarket,
    clearing: DsoClearing,
    cleared: TsoClearing,
    disaggregation: Disaggregation,
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
    names, bids, book = list(market.feeder_names), market.bids.data.indexes[BID], Book(market.periods)
    local = LocalAccounts(book, market, clearing.flat)
    dso, losses = local.dso, [of_feeder(Kind.LOSSES, name) for name in names]
    bought, exchange = _exchanged(market, clearing)
    earned, rent = local.settle(Item.TBM_ENERGY, bought)
    lost = cost_of_losses(market, clearing, rent)
    nodal = market.rules.pricing is Pricing.NODAL
    left, whose = (Item.CONGESTION, losses) if nodal else (Item.PRICING, [PRICING] * len(names))
    book.book(Item.LOSSES, [*dso, *losses], np.concatenate([-lost, lost]))
    book.book(left, [*dso, *whose], np.concatenate([lost - rent, rent - lost]))

    # Δ σ p z                                                                           [EUR]
    forwarded = local.by_bsp(by_label(BID, change_payment(market, disaggregation)))
    local.to_providers(Item.FORWARDED, [TSO], forwarded.sum(axis=0, keepdims=True), forwarded)
    price = by_label(FEEDER, cleared.flat["interface_price"].sel({FEEDER: names}))
    worth = np.nan_to_num(price * exchange * market.duration.values, nan=0.0).sum(axis=0)
    book.pay(Item.DIFFERENCE, TSO, of_kind(Kind.DIFFERENCE), bought.sum(axis=0) - worth)
    item, account = rent_of_tso(market.rules)
    book.pay(item, TSO, account, worth - forwarded.sum(axis=0))

    final = bare(disaggregation.flat["final_activation"]).sel({BID: bids}).fillna(0.0)
    moved = bare(market.bids.sign) * final - local.supplied.fillna(0.0)
    short = local.short(local.paid, local.supplied) + local.short(_change_price(market, disaggregation), moved)
    # Δ σ c (a + z)                                                                     [EUR]
    profit = local.profit(earned + forwarded + local.uplift(short), final)
    return Settlement(freeze(describe(xr.Dataset({"payment": book.array(), "profit": profit}))))


def _exchanged(market: BalancingMarket, clearing: DsoClearing) -> tuple[Floats, Floats]:
    """Return what each DSO pays for energy from the TBM [EUR], and its exchange [MW], (feeder, period)."""
    volume = bare(clearing.flat["tbm_volume"]).sel({FEEDER: market.feeder_names}).fillna(0.0)
    direction = direction_sign()
    # Δ (π^E_up g_up − π^E_down g_down)                                                 [EUR]
    energy = bare(market.duration) * (direction * market.exchange_price * volume).sum(DIRECTION)
    return by_label(FEEDER, energy), by_label(FEEDER, (direction * volume).sum(DIRECTION))


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
    # Δ σ p y,  p by the pricing rule                                                   [EUR]
    sign, rules, activated = offers.sign.values[:, None], side.rules, by_label(GRID_BID, flat["grid_activation"])
    at_bus = grid_paid_price(side, cleared)
    bid_price, paid = by_label(BID, offers.data["price"]), grid_bid_price(side, cleared)
    provider = positions(pd.Index(offers.bsps), offers.data["bid_bsp"].values)
    by_provider = sums(sign * paid * activated * duration, provider, len(offers.bsps))
    accounts = [Account(TBM if name == TBM else f"{Kind.PROVIDER} {name}", Kind.PROVIDER) for name in offers.bsps]
    total = by_provider.sum(axis=0)
    if accounts:
        book.book(Item.GRID_ACTIVATION, [TSO, *accounts], np.concatenate([-total[None], by_provider]))
    if accounts and rules.pricing is Pricing.UNIFORM:
        # (34)  Δ max(0, σ (π − p) y)                                                      [EUR]
        short = np.maximum(sign * (bid_price - paid) * np.nan_to_num(activated), 0.0)
        uplift = sums(short * duration, provider, len(offers.bsps))
        book.book(Item.UPLIFT, [PRICING, *accounts], np.concatenate([-uplift.sum(axis=0)[None], uplift]))
    own = side.transmission.imbalance
    charged = np.zeros(len(duration))
    if own is not None:
        of_bus = own.copy(data=at_bus[positions(price.indexes[GRID_BUS], own[BUS].values)])
        charged = np.nan_to_num(by_label(BUS, of_bus * own) * duration, nan=0.0).sum(axis=0)
        if rules.imbalance_pricing is ImbalancePricing.DUAL:
            dual = dual_price(rules, of_bus, own, side.tbm["tbm_price"])
            penalty = np.nan_to_num(by_label(BUS, (dual - of_bus) * own) * duration, nan=0.0).sum(axis=0)
            book.pay(Item.DUAL, payers, of_kind(Kind.DUAL), penalty)
    lost = by_label(GRID_BUS, flat["grid_unserved"] - flat["grid_spilled"])
    back = np.nan_to_num(at_bus * lost * duration, nan=0.0).sum(axis=0)
    book.pay(Item.GRID_IMBALANCE, payers, TSO, charged)
    book.pay(Item.GRID_NOT_SERVED, TSO, payers, back)
    item, account = rent_of_tso(rules)
    book.pay(item, TSO, account, charged - back - total)
    nobody = xr.DataArray(
        np.zeros((0, len(duration))),
        dims=(BSP, PERIOD),
        coords={BSP: pd.Index([], name=BSP, dtype=object), PERIOD: side.periods},
    )
    return Settlement(freeze(describe(xr.Dataset({"payment": book.array(), "profit": nobody}))))


def rent_of_tso(rules: MarketRules) -> tuple[Item, Account]:
    """Return what the TSO collects above what it pays is called, and whose it is."""
    if rules.pricing is Pricing.NODAL:
        return Item.RENT, of_kind(Kind.RENT)
    return Item.PRICING, PRICING


def change_payment(market: BalancingMarket, disaggregation: Disaggregation) -> xr.DataArray:
    """Return what every bid receives for its change, (bid, period) [EUR]: σ z times what one MWh is paid, Δ."""
    change = bare(disaggregation.flat["change"]).sel({BID: market.bids.data.indexes[BID]})
    # Δ σ p z                                                                           [EUR]
    paid = _change_price(market, disaggregation)
    return (bare(market.duration) * bare(market.bids.sign) * paid * change).transpose(BID, PERIOD)


def _change_price(market: BalancingMarket, disaggregation: Disaggregation) -> xr.DataArray:
    return bare(disaggregation.flat["change_price"]).sel({BID: market.bids.data.indexes[BID]})
