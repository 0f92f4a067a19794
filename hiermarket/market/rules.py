"""The rules of a market: what bounds its prices, what a bid is paid, what imbalance pays."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hiermarket.errors import Fault
from hiermarket.schema import raise_together


class Pricing(StrEnum):
    """What an activated bid is paid, or pays."""

    NODAL = "nodal"
    """Pay-as-cleared at the nodal price λ + τκ of its bus."""
    UNIFORM = "uniform"
    """Pay-as-cleared at one price for all: λ_root in a feeder, the mean of λ^T by need in the TSO's grid."""
    PAY_AS_BID = "pay-as-bid"
    """Its own price."""


class ImbalancePricing(StrEnum):
    """What whoever is out of balance pays, or is paid."""

    SINGLE = "single"
    """The same price for deficits and for surpluses."""
    DUAL = "dual"
    """A deficit pays the dearer of the balancing price and π^T_up, a surplus is paid the cheaper of it and π^T_down."""


@dataclass(frozen=True, slots=True)
class MarketRules:
    """What bounds the prices of the market, and what is paid; the first two are required.

    Parameters
    ----------
    price_cap : float
        Highest price of a bid [EUR/MWh].
    value_of_lost_load : float
        Price of what cannot be balanced [EUR/MWh]; above the size of every price and cost.
    price_floor : float
        Lowest price of a bid [EUR/MWh].
    pricing : Pricing
        What an activated bid is paid, in the DSOs' markets and in the TSO's.
    imbalance_pricing : ImbalancePricing
        What imbalance pays.

    Raises
    ------
    DataError
        When a way of pricing is not known.
    """

    price_cap: float
    value_of_lost_load: float
    price_floor: float = 0.0
    pricing: Pricing = Pricing.NODAL
    imbalance_pricing: ImbalancePricing = ImbalancePricing.SINGLE

    def __post_init__(self) -> None:
        faults = []
        for name, kind in (("pricing", Pricing), ("imbalance_pricing", ImbalancePricing)):
            given = getattr(self, name)
            known = [str(way) for way in kind]
            if given in known:
                object.__setattr__(self, name, kind(given))
            else:
                faults.append(Fault(f"rules.{name}", repr(given), f"one of {', '.join(known)}", "Choose a known way."))
        raise_together(faults)
