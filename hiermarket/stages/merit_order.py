"""Clearing without limits of the grid: one stack of offers for every case, all cases at once.

Where no limit of the grid binds, a market is one balance: Σ σ x = need over offers with a
volume and a cost each. All offers stand in one stack by their cost: as the price rises,
down offers are given back and up offers are taken. No solver is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

#: Volumes below this are none [MW]: the feasibility tolerance of the LPs.
NO_VOLUME = 1e-9
#: A bid of which no more arrives at the balance stands in no stack: its case is left to an LP [MW/MW].
LEAST_FACTOR = 1e-3
#: Costs closer than this, but not equal, are left to an LP [EUR/MWh].
NEAR = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Offers:
    """What one balance can draw on; arrays (case, offer).

    Attributes
    ----------
    cost : array
        Per MW of the balance [EUR/MWh]; a down offer saves it.
    volume : array
        The most of it [MW of the balance], ≥ 0; infinite where there is no limit.
    factor : array
        MW of the balance per MW activated, > 0; ties between unlike factors are not decided.
    up : bool array, (offer,) or (case, offer)
        Whether it is an up offer.
    rank : array (offer,)
        Of equal offers the one with the lower rank is activated first.
    """

    cost: Floats
    volume: Floats
    factor: Floats
    up: Bools
    rank: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The cleared balance of every case.

    Attributes
    ----------
    taken : array (case, offer)
        Activated volume [MW of the balance].
    price : array (case,)
        Of the balance [EUR/MWh], by the rule of `price_of`.
    decided : bool array (case,)
        Whether the offers can serve the need and the tie rule leaves no doubt. Where it
        does not, the other values mean nothing.
    """

    taken: Floats
    price: Floats
    decided: Bools


def merit_order(need: Floats, offers: Offers) -> Stack:
    """Serve a need at least cost, ties by rank.

    Parameters
    ----------
    need : array (case,)
        Σ up − Σ down [MW of the balance].
    offers : Offers
        The stack.

    Returns
    -------
    Stack
        The optimum of every case: minimum cost, then the least activated volume, then the
        lower rank.

    Notes
    -----
    A case is not decided where offers of unlike factor, or of nearly but not quite the same
    cost, meet at the margin: who is activated then is a question of the tie rule's fine
    print, which the LP answers. Of offers of one cost and factor, down offers are given back
    before up offers are taken: no volume is activated against another one.

    Examples
    --------
    Two up offers at 30 and 50, a down offer at 20; a deficit of 3 MW, then a surplus of 1.

    >>> both = np.ones((2, 1))
    >>> offers = Offers(both * [30, 50, 20], both * [2, 2, 2], both * [1, 1, 1], np.array([1, 1, 0]) > 0, np.arange(3))
    >>> stack = merit_order(np.array([3.0, -1.0]), offers)
    >>> stack.taken.tolist(), stack.price.tolist()
    ([[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [50.0, 20.0])
    """
    real = offers.volume > 0
    finite = np.where(np.isfinite(offers.volume) & real, offers.volume, 0.0).sum(axis=1)
    most = (np.abs(need) + finite + 1.0)[:, None]
    volume = np.where(real, np.minimum(offers.volume, most), 0.0)
    cost = np.where(real, offers.cost, np.inf)
    # at a low price every down offer is active; as it rises they are given back, last ranks first
    tie = np.where(offers.up, offers.rank, -offers.rank)
    order = np.lexsort((np.broadcast_to(tie, cost.shape), cost), axis=1)
    depth = np.take_along_axis(volume, order, axis=1)
    top = np.cumsum(depth, axis=1)
    target = (need + np.where(offers.up, 0.0, volume).sum(axis=1))[:, None]
    filled = np.clip(target - (top - depth), 0.0, depth)
    filled = np.where(target >= top - NO_VOLUME, depth, np.where(filled <= NO_VOLUME, 0.0, filled))
    moved = np.empty_like(filled)
    np.put_along_axis(moved, order, filled, axis=1)
    taken = np.where(offers.up, moved, volume - moved)
    served = (target[:, 0] >= -NO_VOLUME) & (target[:, 0] <= top[:, -1] + NO_VOLUME)
    lowest, highest = _margin(taken, volume, cost, offers.up)
    return Stack(taken, middle(lowest, highest), served & _is_clear(lowest, highest, cost, offers))


def price_of(taken: Floats, offers: Offers) -> Floats:
    """Return the price of a balance from what is activated, (case,) [EUR/MWh].

    The cost of the offer that is taken in part. Where there is none, any price between the
    last offer taken and the next one not taken clears the market: the middle of both; the
    one that there is where the other is missing, and 0 where nobody offers anything.

    Parameters
    ----------
    taken : array (case, offer)
        MW of the balance, at an optimum.
    offers : Offers
        The stack.
    """
    real = offers.volume > 0
    return middle(*_margin(taken, np.where(real, offers.volume, 0.0), offers.cost, offers.up))


def price_bounds(taken: Floats, volume: Floats, cost: Floats, up: Bools) -> tuple[Floats, Floats]:
    """Return the cost of each offer as a bound of the price from below, and from above; ∓∞ where it is none."""
    active, spare = taken > NO_VOLUME, volume - taken > NO_VOLUME
    # an up offer that is taken, a down offer that is not, would be so at any higher price
    below, above = np.where(up, active, spare), np.where(up, spare, active)
    return np.where(below, cost, -np.inf), np.where(above, cost, np.inf)


def _margin(taken: Floats, volume: Floats, cost: Floats, up: Bools) -> tuple[Floats, Floats]:
    """Return the dearest cost on this side of the margin, and the cheapest beyond it; ∓∞ where there is none."""
    below, above = price_bounds(taken, volume, cost, up)
    return below.max(axis=1), above.min(axis=1)


def middle(lowest: Floats, highest: Floats) -> Floats:
    """Return the middle of a price's bounds, the one that there is, or 0."""
    # no offer at all: any price from −VOLL to VOLL, and 0 is the middle
    one = np.where(np.isfinite(lowest), lowest, np.where(np.isfinite(highest), highest, 0.0))
    return (one + np.where(np.isfinite(highest), highest, one)) / 2


def _is_clear(lowest: Floats, highest: Floats, cost: Floats, offers: Offers) -> Bools:
    """Return the cases whose marginal offers are all alike: one cost, one factor."""
    apart = highest - lowest > NEAR
    margin = np.where(np.isfinite(lowest), lowest, highest)[:, None]
    with np.errstate(invalid="ignore"):
        group = np.isfinite(cost) & (np.abs(cost - margin) <= NEAR)
    alike = np.ones(len(lowest), dtype=bool)
    for values in (cost, offers.factor):
        smallest, largest = np.where(group, values, np.inf).min(axis=1), np.where(group, values, -np.inf).max(axis=1)
        alike &= smallest >= largest
    return apart | alike
