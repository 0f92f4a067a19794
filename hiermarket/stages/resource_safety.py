"""Offered volumes that no activation can turn against a resource, and what needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import ModelError, some_labels
from hiermarket.labels import BID, PERIOD
from hiermarket.network.limits import sites
from hiermarket.schema import bare, positions
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.clearing_model import no_activation
from hiermarket.stages.largest_box import CountingRows, Volumes, largest
from hiermarket.stages.resource_box import forwardable, resource_box
from hiermarket.stages.resource_rows import needs_mode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket

_REMEDY = "Offer volumes that are safe whatever is activated: market = safe_volumes(market)."


def safe_volumes(market: BalancingMarket, *, solver: SolverOptions | None = None) -> BalancingMarket:
    """Return a market whose offered volumes keep every limit of their resources, whatever is activated of them.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    BalancingMarket
        With volumes cut; its resources never bind, so that its periods are independent.

    Raises
    ------
    ModelError
        Where bids have minimum volumes: they cannot be cut.

    Notes
    -----
    Equation (44) of docs/model.md around the schedule, without the grid: the largest volumes,
    those that are cheapest, then the earlier ones. Bids of a resource with a rebound, or with an
    end level as an equality, have no safe volume. `energy_safe` shares a storage out by weights.
    """
    if market.resources is None:
        return market
    if not market.bids.is_divisible:
        remedy = "Leave the minimum volumes out, or the resources."
        raise ModelError("Bids with a minimum volume cannot be cut", where="bids.minimum", remedy=remedy)
    nothing, most = _whole(market)
    most = forwardable(market, nothing, most)
    box = resource_box(market, nothing, most, every_point=True)
    if box is not None:
        empty, none = np.zeros((0, 0)), np.zeros(0, dtype=np.int64)
        rows = CountingRows(np.zeros(0, dtype=str), none, none, none, empty, empty, np.zeros(0), box)
        data = market.bids.data
        who = sites(market.feeders, market.bids.node, bare(data.reactive_ratio))
        most, _ = largest(market, most, rows, who, bare(data.price), solver or SolverOptions())
    return market.with_bids(market.bids.data.assign(volume=most.own.transpose(BID, PERIOD)))


def _whole(market: BalancingMarket) -> tuple[xr.DataArray, Volumes]:
    """Return no activation, and all offered volumes."""
    nothing = no_activation(market)
    return nothing, Volumes(bare(market.bids.data.volume).transpose(BID, PERIOD), nothing)


def held_by_resources(market: BalancingMarket) -> xr.DataArray:
    """Return (bid,): whose resource has a limit that some activation of all bids would break."""
    index = market.bids.data.indexes[BID]
    found = xr.DataArray(np.zeros(len(index), dtype=bool), coords={BID: index}, dims=BID)
    table = market.resources
    if table is None:
        return found
    nothing, most = _whole(market)
    box = resource_box(market, nothing, most, every_point=True)
    counts = table.has_rebound | (np.zeros(len(table.labels), dtype=bool) if box is None else box.counts.any(axis=1))
    owner = table.owner_of(market.bids)
    return found.copy(data=(owner >= 0) & counts[owner])


def uncoupled(market: BalancingMarket, what: str) -> BalancingMarket:
    """Return a market in which every bid stands for itself, where its resources allow whatever is activated.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    what : str
        Who takes any part of any bid, for the message.

    Raises
    ------
    ModelError
        Where bids have minimum volumes, or some activation would break a limit of a resource.
    """
    if not market.bids.is_divisible:
        remedy = "Leave the minimum volumes out (market.with_bids)."
        raise ModelError(f"{what} takes any part of a bid", where="bids.minimum", remedy=remedy)
    if market.resources is None:
        return market
    held = held_by_resources(market)
    if bool(held.any()):
        names = [str(label) for label in market.bids.data.indexes[BID][held.values]]
        raise ModelError(
            f"{what} does not look at what resources hold together", where=some_labels(names), remedy=_REMEDY
        )
    return market.without_resource_limits()


def feeders_of(market: BalancingMarket, bids: xr.DataArray) -> NDArray[np.bool_]:
    """Return (feeder, period): the feeders of some bids, in all periods."""
    found = np.zeros((len(market.feeder_names), len(market.periods)), dtype=bool)
    found[positions(market.feeder_names, market.bids.data.bid_feeder.values[bids.values])] = True
    return found


def is_convex(market: BalancingMarket) -> bool:
    """Whether the DSO's clearing is a linear program: no minimum volumes, and no storage's rows need a binary."""
    table = market.resources
    return market.bids.is_divisible and (table is None or not bool(needs_mode(market, table).any()))


def require_convex(market: BalancingMarket) -> None:
    """Require that the DSO's clearing is a linear program, as optimality conditions need it.

    Raises
    ------
    ModelError
        Where bids have minimum volumes, or a storage's rows need a binary.
    """
    if not market.bids.is_divisible:
        raise ModelError(
            "A clearing with minimum volumes has no optimality conditions: a leader needs a convex one",
            where="bids.minimum",
            remedy="Leave the minimum volumes out (market.with_bids).",
        )
    table = market.resources
    if table is None:
        return
    modes = np.asarray(needs_mode(market, table).any(axis=1))
    if modes.any():
        raise ModelError(
            "A storage that may charge or discharge below a bound that it can reach is not convex: a leader "
            "needs a convex clearing",
            where=some_labels(list(table.labels[modes])),
            remedy=_REMEDY,
        )
