"""Whether a clearing keeps what resources allow, and what they do in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.market.resource_paths import broken_limits, output_of, stored_energy
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket

    Bools = NDArray[np.bool_]


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
