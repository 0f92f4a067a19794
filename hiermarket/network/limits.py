"""Every limit of the grid: its slack in a state, and itself as c'x ≤ h in further injections x."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hiermarket.labels import BUS, PERIOD
from hiermarket.network.linear_flow import State, eliminate
from hiermarket.network.rating_polygon import rating_polygon
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr
    from numpy.typing import NDArray

    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LossTerms
    from hiermarket.network.per_unit import Floats
    from hiermarket.network.topology import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """Where resources inject, numbered within each feeder; made by `sites`.

    Resources at one bus with one reactive ratio share a site: the grid cannot tell them apart.

    Attributes
    ----------
    place : int array (feeder, rank)
        Position of the bus of the n-th site of every feeder; −1 where a feeder has fewer.
    ratio : array (feeder, rank, period)
        τ [Mvar/MW].
    feeder, rank : int arrays (resource)
        The site of each resource.
    """

    place: Ints
    ratio: Floats
    feeder: Ints
    rank: Ints

    def of_periods(self, periods: NDArray[np.intp]) -> Sites:
        """Return the sites in some periods, by position."""
        return replace(self, ratio=self.ratio[..., periods])

    def total(self, of_resource: Floats) -> Floats:
        """Sum values (resource, period) at each site, (feeder, rank, period)."""
        total = np.zeros((*self.place.shape, of_resource.shape[-1]))
        np.add.at(total, (self.feeder, self.rank), of_resource)
        return total


class LimitRows(NamedTuple):
    """Limits of one kind as Σ_rank c x ≤ h, all of the feeder of the limit's bus.

    Attributes
    ----------
    kind : str
        ``low_voltage``, ``high_voltage`` or ``rating`` with the number of its side.
    bus : int array (limit)
        Position of the bus; of a rating, that of the bus that the branch feeds.
    coefficient : array (limit, rank, period)
        c [p.u.²/MW or MVA/MW].
    room : array (limit, period)
        h [p.u.² or MVA], ≥ 0: a limit that the state itself breaks admits nothing that
        makes it worse.
    """

    kind: str
    bus: Ints
    coefficient: Floats
    room: Floats


def sites(feeders: Feeders, node: pd.Series, ratio: xr.DataArray) -> Sites:
    """Find the site of every resource.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    node : Series resource label → flat bus label
        Where each resource is.
    ratio : DataArray (resource, period)
        τ [Mvar/MW]; its first dimension holds the labels of `node`.
    """
    buses = feeders.data.indexes[BUS]
    values = ratio.transpose(..., PERIOD).values
    place = np.asarray(positions(buses, node.to_numpy()), dtype=np.int64)
    owner = positions(feeders.roots.index, feeders.feeder_of.to_numpy())[place]
    key = pd.MultiIndex.from_arrays([place, [row.tobytes() for row in np.ascontiguousarray(values)]])
    code, unique = pd.factorize(key)
    first = np.full(len(unique), len(code))
    np.minimum.at(first, code, np.arange(len(code)))
    of_site = pd.Series(owner[first])
    rank = of_site.groupby(of_site).cumcount().to_numpy()
    shape = (len(feeders.roots), int(rank.max(initial=-1)) + 1)
    at, tau = np.full(shape, -1), np.zeros((*shape, values.shape[-1]))
    at[of_site, rank], tau[of_site, rank] = place[first], values[first]
    return Sites(at, tau, np.asarray(owner, dtype=np.int64), np.asarray(rank[code], dtype=np.int64))


class _Ratings:
    """The rows (4) of the rated branches, one side of the polygon after the other."""

    def __init__(self, feeders: Feeders, losses: LossTerms, sides: int) -> None:
        data, buses = feeders.data, feeders.data.indexes[BUS]
        rating = data["s_max"].values
        self.bus = np.flatnonzero(np.isfinite(rating) & (data["depth"].values > 0))
        self.above = positions(buses, data["parent"].values[self.bus])
        self._r, self._x = (data[name].values[self.bus, None] for name in ("r", "x"))
        self._polygon = rating_polygon(sides)
        self._most = rating[self.bus, None] * self._polygon.reach
        at = buses[self.bus]
        self._l_0, self._l_p, self._l_q, self._l_w = (
            bare(term).sel({BUS: at}).transpose(BUS, PERIOD).values if len(at) else np.zeros((0, 1))
            for term in (losses.constant, losses.by_p, losses.by_q, losses.by_w)
        )

    def sides(self, flow: State, answer: State | None = None) -> Iterator[tuple[Floats, Floats | None]]:
        """Yield the slack (branch, period) of each side, and how much of it each site takes (branch, rank, period)."""
        p, q = flow.p[self.bus], flow.q[self.bus]
        current = self._l_0 + self._l_p * p + self._l_q * q + self._l_w * flow.w[self.above]
        if answer is not None:
            by_p, by_q = answer.p[self.bus], answer.q[self.bus]
            l_p, l_q, l_w = (term[:, None] for term in (self._l_p, self._l_q, self._l_w))
            by_l = l_p * by_p + l_q * by_q + l_w * answer.w[self.above]
        for cos, sin in zip(self._polygon.cos, self._polygon.sin, strict=True):
            # the end of the branch that carries more: P − r l and Q − x l leave it
            far = np.maximum(-(cos * self._r + sin * self._x), 0.0)
            # (4)  α_j P_n + β_j Q_n + max(−α_j r_n − β_j x_n, 0) l_n ≤ S_n cos(π/J)      [MVA]
            slack = self._most - (cos * p + sin * q + far * current)
            yield slack, None if answer is None else cos * by_p + sin * by_q + far[:, :, None] * by_l


def smallest_slack(feeders: Feeders, losses: LossTerms, state: State, *, sides: int) -> Floats:
    """Return the smallest slack of the limits (4) and (5) in a state of the linear grid.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Squared currents of the same state.
    state : State
        Of `LinearGrid.state`.
    sides : int
        Sides of the rating polygon.

    Returns
    -------
    array (feeder, period)
        [p.u.² or MVA], < 0 where a limit is broken; not a number where the state is none.
    """
    data = feeders.data
    below_root = data["depth"].values[:, None] > 0
    lowest, highest = (data[name].values[:, None] ** 2 for name in ("v_min", "v_max"))
    # (5)  v̲² ≤ w_n ≤ v̄²  ∀ n ≠ root                                            [p.u.²]
    slack = np.where(below_root, np.minimum(state.w - lowest, highest - state.w), np.inf)
    ratings = _Ratings(feeders, losses, sides)
    for side, _ in ratings.sides(state):
        slack[ratings.bus] = np.minimum(slack[ratings.bus], side)
    starts = positions(data.indexes[BUS], feeders.roots.to_numpy())
    smallest: Floats = np.minimum.reduceat(slack, starts, axis=0)
    return smallest


def limit_rows(
    feeders: Feeders, losses: LossTerms, state: State, who: Sites, injected: Floats, *, sides: int
) -> Iterator[LimitRows]:
    """Linearise every limit around a state that holds `injected` already, kind by kind.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Squared currents linearised around the same state.
    state : State
        Squared voltages and flows; AC or linear.
    who : Sites
        Who may inject.
    injected : array (feeder, rank, period)
        The injections x̄ that the state holds [MW].
    sides : int
        Sides of the rating polygon.

    Yields
    ------
    LimitRows
        Every limit (4) and (5) of all feeders once.
    """
    data = feeders.data
    grid = eliminate(feeders, losses)
    answer = grid.responses(who.place, who.ratio)
    branch = np.flatnonzero(data["depth"].values > 0)
    held = injected[grid.feeder]
    # w(x) = w̄ + C (x − x̄), and the same for the slack of a rating
    by_w = answer.w[branch]
    w = state.w[branch] - (by_w * held[branch]).sum(axis=1)
    lowest, highest = (data[name].values[branch, None] ** 2 for name in ("v_min", "v_max"))
    yield LimitRows("low_voltage", branch, -by_w, np.maximum(w - lowest, 0.0))
    yield LimitRows("high_voltage", branch, by_w, np.maximum(highest - w, 0.0))
    ratings = _Ratings(feeders, losses, sides)
    at = held[ratings.bus]
    for side, (slack, taken) in enumerate(ratings.sides(state, answer)):
        if taken is not None and len(ratings.bus):
            room = np.maximum(slack + (taken * at).sum(axis=1), 0.0)
            yield LimitRows(f"rating {side}", ratings.bus, taken, room)
