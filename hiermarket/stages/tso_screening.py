"""Periods of the TSO's market in which no line counts: the merit order is the optimum, without an LP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from hiermarket.labels import BID, BUS, PERIOD
from hiermarket.schema import positions
from hiermarket.stages.merit_order import LEAST_FACTOR, NO_VOLUME, Offers, merit_order
from hiermarket.stages.tso_model import grid_buses, offers_of_grid

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.network.grid import TransmissionGrid
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.stages.tso_sources import Sources

    Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ScreenedPeriods:
    """The market by merit order, island by island.

    Attributes
    ----------
    decided : bool array (period,)
        Whether this is the optimum; where it is not, the values mean nothing.
    taken : (source, period) array
        Activated volume [MW].
    values : mapping name → array
        ``grid_price, grid_unserved, grid_spilled`` (bus), ``grid_activation`` (grid_bid),
        ``line_flow`` (line), each by period.
    """

    decided: Bools
    taken: Floats
    values: dict[str, Floats]


def clear_grid_by_merit_order(side: TsoSide, need: xr.DataArray, sources: Sources) -> ScreenedPeriods:
    """Clear every island as if its lines had no limits, and find where they have none that count.

    Parameters
    ----------
    side : TsoSide
        The TSO's side, with bids.
    need : DataArray (bus, period)
        W [MW].
    sources : Sources
        The bids of the DSOs.

    Notes
    -----
    Without limits of lines and recourse, (18) is one balance for each island. Its optimum is
    one of (18) where the flows that it causes keep every limit: a relaxation whose optimum
    is feasible. Prices are equal in the island, by the rule of `merit_order`.
    """
    grid, island = side.transmission.grid, islands(side)
    bids = offers_of_grid(side)
    volume, price = (bids.data[name].transpose(BID, PERIOD).values for name in ("volume", "price"))
    at = positions(grid_buses(side), bids.data["bid_bus"].values)
    bus = np.repeat(np.arange(len(island)), np.diff(sources.first))
    required = need.transpose(BUS, PERIOD).values
    if grid is not None:
        required = required - grid.data["p_scheduled"].transpose(BUS, PERIOD).values
    decided = np.ones(required.shape[1], dtype=bool)
    taken, activation = np.zeros(sources.volume.shape), np.zeros(volume.shape)
    prices, supplied = np.zeros(required.shape), np.zeros(required.shape)
    for number in range(int(island.max()) + 1):
        here, own, theirs = (
            island == number,
            np.flatnonzero(island[bus] == number),
            np.flatnonzero(island[at] == number),
        )
        offers, usable = _stacked(sources, own, (volume[theirs], price[theirs], bids.sign.values[theirs]))
        balance = required[here].sum(axis=0)
        if not offers.cost.size:
            decided &= np.abs(balance) <= NO_VOLUME
            continue
        stack = merit_order(balance, offers)
        decided &= stack.decided & usable
        prices[here] = stack.price
        moved = stack.taken.T
        # a bid taken whole is taken exactly
        whole = moved[: len(own)] >= (offers.volume.T)[: len(own)]
        taken[own] = np.where(whole, sources.volume[own], moved[: len(own)] / offers.factor.T[: len(own)])
        activation[theirs] = np.minimum(moved[len(own) :], volume[theirs])
    supplied += sources.at_bus(sources.sign[:, None] * sources.factor * taken)
    np.add.at(supplied, at, bids.sign.values[:, None] * activation)
    none = np.zeros(required.shape)
    values = {"grid_price": prices, "grid_activation": activation, "grid_unserved": none, "grid_spilled": none.copy()}
    if grid is not None:
        values["line_flow"] = flows(grid, supplied - required)
        limit = grid.data["s_max"].values[:, None]
        decided &= (np.abs(values["line_flow"]) <= limit).all(axis=0)
    lost = side.rules.value_of_lost_load
    return ScreenedPeriods(decided & (np.abs(prices) <= lost).all(axis=0), taken, values)


def _stacked(sources: Sources, own: Ints, of_grid: tuple[Floats, Floats, Floats]) -> tuple[Offers, Bools]:
    """Return the stack of an island, its sources first, and in which periods all of them fit into it."""
    volume, price, sign = of_grid
    factor = sources.factor[own]
    bad = (sources.volume[own] > 0) & ~(factor > LEAST_FACTOR)
    factor = np.where(bad | (sources.volume[own] <= 0), 1.0, factor)
    value = np.where(np.isfinite(sources.value[own]), sources.value[own], 0.0)
    up = np.concatenate([sources.sign[own], sign]) > 0
    rank = np.concatenate([sources.rank[own], sources.count * 2 + np.arange(len(sign))]).astype(float)
    offers = Offers(
        cost=np.concatenate([value, price]).T,
        volume=np.concatenate([sources.volume[own] * factor, volume]).T,
        factor=np.concatenate([factor, np.ones(volume.shape)]).T,
        up=up,
        rank=rank,
    )
    return offers, np.logical_not(bad.any(axis=0))


def islands(side: TsoSide) -> Ints:
    """Return the number of the island of every bus."""
    grid = side.transmission.grid
    return np.zeros(1, dtype=np.int64) if grid is None else grid.island_of.to_numpy(dtype=np.int64)


def flows(grid: TransmissionGrid, injected: Floats) -> Floats:
    """Return the DC power flow of every line, (line, period) [MW].

    Parameters
    ----------
    grid : TransmissionGrid
        Lines with susceptances.
    injected : (bus, period) array
        Net injections [MW], balanced in every island.
    """
    data = grid.data
    buses, lines = data.sizes["bus"], data.sizes["line"]
    ends = [positions(data.indexes[BUS], data[end].values) for end in ("bus0", "bus1")]
    across = csc_array(
        (np.repeat([1.0, -1.0], lines), (np.tile(np.arange(lines), 2), np.concatenate(ends))), shape=(lines, buses)
    )
    susceptance = data["susceptance"].values[:, None]
    kept = np.setdiff1d(np.arange(buses), positions(data.indexes[BUS], grid.slack))
    angle = np.zeros(injected.shape)
    if len(kept):
        # Σ B_l (θ_0 − θ_1) = P at all buses but the slacks                               [MW]
        laplacian = csc_array(across.T @ across.multiply(susceptance))
        angle[kept] = splu(csc_array(laplacian[kept][:, kept])).solve(injected[kept])
    # f_l = B_l (θ_0 − θ_1)                                                               [MW]
    return np.asarray(susceptance * (across @ angle), dtype=float)
