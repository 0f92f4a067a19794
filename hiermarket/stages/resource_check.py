"""Whether a clearing keeps what resources allow, and what they do in it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.errors import MarketWarning, some_labels
from hiermarket.labels import BID, BUS, PERIOD
from hiermarket.market.bids import MINIMUM
from hiermarket.market.resource_paths import KEPT, broken_limits, output_of, stored_energy
from hiermarket.schema import bare, labels_where, positions

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket

    Bools = NDArray[np.bool_]

#: A loss below this is rounding [EUR].
LEAST_LOSS = 1e-6


def kept_by_all(market: BalancingMarket, activation: xr.DataArray) -> Bools:
    """Return (feeder, period): where an activation keeps all limits of resources and minimum volumes of bids.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    activation : DataArray (bid, period)
        MW ≥ 0. NaN keeps nothing.
    """
    kept = kept_by_resources(market, activation)
    if market.bids.is_divisible:
        return kept
    data = market.bids.data
    least, a = (array.transpose(BID, PERIOD).values for array in (data[MINIMUM], activation))
    # (43)  a = 0 or a ≥ a̲                                                        every bid with a minimum   [MW]
    broken = (least > 0) & ~((a <= KEPT) | (a >= least - KEPT))
    np.logical_and.at(kept, positions(market.feeder_names, data.bid_feeder.values), ~broken)
    return kept


def kept_by_resources(market: BalancingMarket, activation: xr.DataArray) -> Bools:
    """Return (feeder, period): where an activation keeps every limit of every resource, by its true physics.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    activation : DataArray (bid, period)
        MW ≥ 0. NaN keeps nothing.

    Notes
    -----
    Limits over several periods count for all periods of the feeder.
    """
    kept: Bools = np.ones((len(market.feeder_names), len(market.periods)), dtype=bool)
    table = market.resources
    if table is None:
        return kept
    owner = positions(market.feeder_names, table.data.resource_feeder.values)
    for kind, broken in broken_limits(table, output_of(table, market.bids, activation), market.duration).items():
        wide = broken if kind == "joint_limit" else np.broadcast_to(broken.any(axis=1, keepdims=True), broken.shape)
        np.logical_and.at(kept, owner, ~wide)
    return kept


def whole_feeders(market: BalancingMarket, decided: Bools) -> Bools:
    """Return what is decided (feeder, period), where the periods of a feeder that hang together are all of them."""
    if market.resources is None:
        return decided
    coupled = positions(market.feeder_names, market.resources.coupled_feeders)
    found: Bools = decided.copy()
    found[coupled] = decided[coupled].all(axis=1, keepdims=True)
    return found


def make_whole(market: BalancingMarket, values: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return ``make_whole (bid, period)`` [EUR], and warn by label; nothing where any part of every bid may be taken.

    Parameters
    ----------
    market : BalancingMarket
        Bids with a minimum volume.
    values : Dataset
        ``activation, price`` (bid), ``nodal_price, reactive_price`` (bus).
    """
    if market.bids.is_divisible:
        return {}
    data = market.bids.data
    at = positions(values.indexes[BUS], data.bid_node.values)
    active, reactive = (
        bare(values[name]).transpose(BUS, PERIOD).values[at] for name in ("nodal_price", "reactive_price")
    )
    a, price = (bare(values[name]).transpose(BID, PERIOD) for name in ("activation", "price"))
    paid = active + data.reactive_ratio.transpose(BID, PERIOD).values * np.nan_to_num(reactive)
    # Δ σ (π − λ − τκ) a  of an accepted bid, where it is a loss                  every bid with a minimum   [EUR]
    loss = bare(market.duration) * bare(market.bids.sign) * (price - paid) * a
    held = bare(data[MINIMUM] > 0)
    lost = loss.where(held, 0.0).clip(min=0.0).transpose(BID, PERIOD)
    told = lost > LEAST_LOSS
    if bool(told.any()):
        names = labels_where(told)
        warnings.warn(
            f"Bids with a minimum volume are accepted at a loss at {some_labels(names)}: they need "
            f"{float(lost.sum()):.2f} EUR beside their price; see make_whole.",
            MarketWarning,
            stacklevel=3,
        )
    return {"make_whole": lost}


def resource_results(market: BalancingMarket, activation: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return ``resource_output, stored_energy (resource, period)`` of an activation; nothing without resources.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    activation : DataArray (bid, period)
        MW; NaN in feeders and periods without a clearing.
    """
    table = market.resources
    if table is None:
        return {}
    output = output_of(table, market.bids, activation)
    coords = table.data[["resource_feeder", "resource_name"]].coords
    found = {"resource_output": output}
    if table.is_storage.any():
        found["stored_energy"] = stored_energy(table, output, bare(market.duration))
    return {name: array.assign_coords(coords) for name, array in found.items()}
