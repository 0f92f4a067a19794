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
    bsp_account,
    join_payments,
    of_feeder,
    of_kind,
    sums,
    together,
)
from hiermarket.stages.congestion import cost_of_losses
from hiermarket.stages.paid_prices import (
    dual_price,
    grid_bid_price,
    grid_paid_price,
    imbalance_price,
    paid_price,
    shortfall,
)
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

TSO, PRICING = of_kind(Kind.TSO), of_kind(Kind.PRICING)


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
    names, bsps, data, duration = list(market.feeder_names), market.bids.bsps, market.bids.data, market.duration.values
    book = Book(market.periods)
    feeder = positions(market.feeder_names, data["bid_feeder"].values)
    bsp = positions(pd.Index(bsps), data["bid_bsp"].values)
    dso, payers, losses = ([of_feeder(kind, name) for name in names] for kind in (Kind.DSO, Kind.PAYERS, Kind.LOSSES))
    providers = [Account(bsp_account(name), Kind.BSP) for name in bsps]

    # Δ σ p a,  p by the pricing rule                                                   [EUR]
    activation = bare(clearing.flat["activation"]).sel({BID: data.indexes[BID]})
    supplied, paid = bare(market.bids.sign) * activation, paid_price(market, clearing.flat)
    received = _by(BID, paid * supplied) * duration
    activated = sums(received, feeder, len(names))
    earned = sums(received, bsp, len(bsps))
    if bsps:
        book.book(Item.ACTIVATION, [*dso, *providers], np.concatenate([-activated, earned]))

    bought, exchange = _exchanged(market, clearing)
    book.book(Item.TBM_ENERGY, [*dso, TSO], np.concatenate([-bought, bought.sum(axis=0, keepdims=True)]))

    charged, back, penalty = imbalance_payments(market, clearing.flat)
    book.book(Item.IMBALANCE, [*payers, *dso], np.concatenate([-charged, charged]))
    book.book(Item.NOT_SERVED, [*dso, *payers], np.concatenate([-back, back]))
    if market.rules.imbalance_pricing is ImbalancePricing.DUAL:
        kept = of_kind(Kind.DUAL)
        book.book(Item.DUAL, [*payers, kept], np.concatenate([-penalty, penalty.sum(axis=0, keepdims=True)]))
    rent = charged - back - activated - bought
    lost = cost_of_losses(market, clearing, rent)
    nodal = market.rules.pricing is Pricing.NODAL
    left, whose = (Item.CONGESTION, losses) if nodal else (Item.PRICING, [PRICING] * len(names))
    book.book(Item.LOSSES, [*dso, *losses], np.concatenate([-lost, lost]))
    book.book(left, [*dso, *whose], np.concatenate([lost - rent, rent - lost]))

    # Δ σ p z                                                                           [EUR]
    changed = _by(BID, change_payment(market, disaggregation))
    forwarded = sums(changed, bsp, len(bsps))
    if bsps:
        book.book(Item.FORWARDED, [TSO, *providers], np.concatenate([-forwarded.sum(axis=0, keepdims=True), forwarded]))
    price = _by(FEEDER, cleared.flat["interface_price"].sel({FEEDER: names}))
    worth = np.nan_to_num(price * exchange * duration, nan=0.0).sum(axis=0)
    book.pay(Item.DIFFERENCE, TSO, of_kind(Kind.DIFFERENCE), bought.sum(axis=0) - worth)
    item, account = rent_of_tso(market.rules)
    book.pay(item, TSO, account, worth - forwarded.sum(axis=0))

    final = bare(disaggregation.flat["final_activation"]).sel({BID: data.indexes[BID]}).fillna(0.0)
    if bsps and market.rules.pricing is Pricing.UNIFORM:
        change, price_of_change = final - activation.fillna(0.0), _change_price(market, disaggregation)
        moved = bare(market.bids.sign) * change
        short = shortfall(market.rules, bare(data.price), paid, supplied.fillna(0.0))
        short = short + shortfall(market.rules, bare(data.price), price_of_change, moved).fillna(0.0)
        uplift = sums(_by(BID, short) * duration, bsp, len(bsps))
        book.book(Item.UPLIFT, [PRICING, *providers], np.concatenate([-uplift.sum(axis=0, keepdims=True), uplift]))
        earned = earned + uplift

    # Δ σ c (a + z)                                                                     [EUR]
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
    # Δ (π^E_up g_up − π^E_down g_down)                                                 [EUR]
    energy = bare(market.duration) * (direction * market.exchange_price * volume).sum(DIRECTION)
    return _by(FEEDER, energy), _by(FEEDER, (direction * volume).sum(DIRECTION))


def imbalance_payments(market: BalancingMarket, flat: xr.Dataset) -> tuple[Floats, Floats, Floats]:
    """Return what imbalance pays, gets back for energy not served, and pays more with dual prices.

    Parameters
    ----------
    market : BalancingMarket
        Imbalance and rules.
    flat : Dataset
        ``nodal_price, reactive_price, unserved, spilled, reactive_shortage, reactive_surplus
        (bus, period)``.

    Returns
    -------
    three arrays (feeder, period)
        EUR.
    """
    duration = bare(market.duration)
    price = imbalance_price(market, flat)
    lost = bare(flat["unserved"]) - bare(flat["spilled"])
    owner = positions(market.feeder_names, market.feeders.feeder_of.loc[price[BUS].values].to_numpy())
    # π^T of (35) is the TBM's own price, whatever a DSO counts on at its interface
    dual = dual_price(market.rules, price, market.imbalance, market.tbm["tbm_price"])
    # Δ p I;  Δ [ p (s⁺ − s⁻) + κ (z⁺ − z⁻) ];  Δ (p_dual − p) I                         [EUR]
    charged = duration * price * market.imbalance
    back = duration * price * lost
    if market.rules.pricing is Pricing.NODAL:
        reactive = bare(flat["reactive_price"]).fillna(0.0)
        lost_reactive = (bare(flat["reactive_shortage"]) - bare(flat["reactive_surplus"])).fillna(0.0)
        back = back + duration * reactive * lost_reactive
    penalty = duration * (dual - price) * market.imbalance
    count = len(market.feeder_names)
    found = [sums(_by(BUS, amount), owner, count) for amount in (charged, back, penalty)]
    return found[0], found[1], found[2]


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
    sign, rules, activated = offers.sign.values[:, None], side.rules, _by(GRID_BID, flat["grid_activation"])
    at_bus = grid_paid_price(side, cleared)
    bid_price, paid = _by(BID, offers.data["price"]), grid_bid_price(side, cleared)
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
        charged = np.nan_to_num(_by(BUS, of_bus * own) * duration, nan=0.0).sum(axis=0)
        if rules.imbalance_pricing is ImbalancePricing.DUAL:
            dual = dual_price(rules, of_bus, own, side.tbm["tbm_price"])
            penalty = np.nan_to_num(_by(BUS, (dual - of_bus) * own) * duration, nan=0.0).sum(axis=0)
            book.pay(Item.DUAL, payers, of_kind(Kind.DUAL), penalty)
    lost = _by(GRID_BUS, flat["grid_unserved"] - flat["grid_spilled"])
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
