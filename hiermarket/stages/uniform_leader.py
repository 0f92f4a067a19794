"""Where a leader's payment at a uniform price is a known multiple of what it is worth at nodal prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import ModelError, some_labels
from hiermarket.labels import BID, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.schema import bare, labels_where, positions
from hiermarket.stages.interface_balance import bid_factors

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.linear_flow import LinearGrid

#: Factors and multiples that differ by less are the same: rounding of the elimination along the tree [1].
SAME = 1e-9

_REMEDY = "Use Pricing.NODAL, LinDistFlow(loss_passes=0), or a leader with bids at one bus in one direction."


def multiples(
    market: BalancingMarket, own: xr.DataArray, grid: LinearGrid, free: xr.DataArray, limits: list[str]
) -> xr.DataArray:
    """Return k (feeder, period): what the leader is paid by what its energy is worth, uplift included.

    Parameters
    ----------
    market : BalancingMarket
        Bids and rules.
    own : bool DataArray (bid)
        The leader's bids.
    grid : LinearGrid
        Of the losses.
    free : bool DataArray (feeder, period)
        Where no limit counts, of `unlimited`.
    limits : list of str
        Those that may, for the message.

    Raises
    ------
    ModelError
        Where the leader has volumes in feeders and periods in which a limit can count, where its bids have
        multiples of their own, and where a multiple is not known: negative prices at the interface, and
        uplift that floor or cap cut off.

    Notes
    -----
    (27) of docs/model.md: without limits λ + τκ = φ λ_root, and a bid may be offered at it. A bid that is paid
    λ_root and the uplift is then paid the dearer of both for up, and pays the cheaper for down.
    """
    data, rules = market.bids.data, market.rules
    owner = xr.DataArray(data.bid_feeder.values, dims=BID, coords={BID: own.indexes[BID]})
    offers = (bare(own) & (bare(data.volume) > 0)).transpose(BID, PERIOD)
    limited = offers & ~free.sel({FEEDER: owner}).drop_vars(FEEDER)
    _refuse(
        limited,
        f"At a uniform price a payment is linear only where no limit can count; {some_labels(limits)} may",
        "Use Pricing.NODAL, or limits and volumes with room for whatever is activated.",
    )
    factor = bid_factors(market, grid.factors()).transpose(BID, PERIOD)
    factor = factor.where(abs(factor - 1.0) > SAME, 1.0).where(offers, 1.0)
    exchange = market.exchange_price.sel({FEEDER: owner}).drop_vars(FEEDER)
    up, down = (exchange.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    is_up = bare(market.bids.sign) > 0
    # the uplift is that of an offer at φ λ_root, which π^T_down ≤ λ_root ≤ π^T_up must leave within floor and cap
    cut = (is_up & (factor > 1) & (factor * up > rules.price_cap)) | (
        ~is_up & (factor < 1) & (factor * down < rules.price_floor)
    )
    _refuse(
        offers & (cut | ((factor != 1) & (down < 0))),
        "What a bid is paid beside the uniform price is not known where prices at the interface may be negative, or "
        "floor or cap may cut off the uplift",
        _REMEDY,
    )
    # (27)  k = max(1, 1/φ) for up,  min(1, 1/φ) for down                                        [1]
    inverse = 1.0 / factor
    each = inverse.clip(min=1.0).where(is_up, inverse.clip(max=1.0)).transpose(BID, PERIOD)
    place = positions(market.feeder_names, data.bid_feeder.values)
    most, least = np.full(free.shape, -np.inf), np.full(free.shape, np.inf)
    np.maximum.at(most, place, each.where(offers, -np.inf).values)
    np.minimum.at(least, place, each.where(offers, np.inf).values)
    unlike = free.copy(data=most - least > SAME).sel({FEEDER: owner}).drop_vars(FEEDER)
    _refuse(
        offers & unlike,
        "At a uniform price a payment is linear only for bids whose energy arrives at the interface alike",
        _REMEDY,
    )
    return free.copy(data=np.where(np.isfinite(most), most, 1.0))


def _refuse(where: xr.DataArray, what: str, remedy: str) -> None:
    if bool(where.any()):
        raise ModelError(what, where=some_labels(labels_where(where)), remedy=remedy)
