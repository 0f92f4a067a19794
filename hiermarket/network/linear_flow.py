"""The linear grid solved for given injections: its state, and how the state answers to injections.

The rows (1)–(3) of a radial feeder are solved exactly by elimination along the tree: all that
a branch and everything below it need to know of the rest is w_m, the squared voltage of the
parent. From the leaves to the roots, every branch gets its flows as affine functions of it,

    (19)  P_n = A_n w_m + B_n,    Q_n = A'_n w_m + B'_n,

and from the roots to the leaves the voltages follow. All feeders and periods at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.network.levels import Level, levels
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LossTerms
    from hiermarket.network.per_unit import Floats
    from hiermarket.network.topology import Ints

#: The dimension of unit injections: the n-th resource of every feeder.
RANK = "rank"


class State(NamedTuple):
    """The state of the linear grid as arrays (bus, period).

    Attributes
    ----------
    w : array
        Squared voltages [p.u.²].
    p, q : array
        Sending-end flows of the branch into each bus [MW, Mvar]; 0 at roots.
    interface : array (feeder, period)
        Import of the roots [MW].
    """

    w: Floats
    p: Floats
    q: Floats
    interface: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LinearGrid:
    """The rows (1)–(3) of all feeders and periods, eliminated along the trees; made by `eliminate`.

    Attributes
    ----------
    levels : tuple of Level
        Branches by depth.
    roots, feeder : int arrays
        Position of each feeder's root; number of each bus's feeder.
    slope : array (2, bus, period)
        A_n and A'_n: ∂P_n/∂w_m and ∂Q_n/∂w_m with all below the branch eliminated.
    inverse : array (2, 2, bus, period)
        G_n: how (B_n, B'_n) answer to demand at n and below.
    constant : array (2, bus, period)
        Demand of the constant loss terms [MW, Mvar].
    drop : array (4, bus, period)
        w_n = drop_0 w_m + drop_1 + drop_2 P_n + drop_3 Q_n.
    g_root, w_root : arrays (feeder, 1), (feeder, period)
        Shunts and squared voltages of the roots.
    """

    levels: tuple[Level, ...]
    roots: Ints
    feeder: Ints
    slope: Floats
    inverse: Floats
    constant: Floats
    drop: Floats
    g_root: Floats
    w_root: Floats

    def state(self, p: Floats, q: Floats) -> State:
        """Return the state for net injections (bus, period) [MW, Mvar]."""
        below = self._upward(self.constant - np.stack([p, q]))
        w, flow_p, flow_q = self._downward(below, self.w_root, self.drop[1])
        return State(w, flow_p, flow_q, self.g_root * self.w_root - p[self.roots] + self._leaving(flow_p))

    def responses(self, place: Ints, ratio: Floats) -> State:
        """Return how the state answers to one MW of each resource, arrays (bus, rank, period).

        Parameters
        ----------
        place : int array (feeder, rank)
            Position of the bus of the n-th resource of every feeder; −1 where there is none.
        ratio : array (feeder, rank, period)
            Reactive per active injection τ [Mvar/MW].
        """
        feeder, rank = np.nonzero(place >= 0)
        at = place[feeder, rank]
        # feeders are independent: one set of unit injections serves the n-th resource of all of them
        demand = np.zeros((2, len(self.feeder), place.shape[1], self.w_root.shape[1]))
        demand[0, at, rank] = -1.0
        demand[1, at, rank] = -ratio[feeder, rank]
        at_root = demand[0, self.roots]
        w, p, q = self._downward(self._upward(demand), np.zeros(()), np.zeros(len(self.feeder)))
        return State(w, p, q, at_root + self._leaving(p))

    def factors(self) -> Floats:
        """Return (2, bus, period): MW that the interface flow falls per MW and per Mvar injected at each bus.

        1 and 0 at the roots.
        """
        # (20)  φ_root = (1, 0),  φ_n = G_n' φ_m
        found = np.zeros_like(self.slope)
        found[0, self.roots] = 1.0
        for level in self.levels:
            n, (p, q) = level.here, found[:, level.above]
            found[0, n] = self.inverse[0, 0, n] * p + self.inverse[1, 0, n] * q
            found[1, n] = self.inverse[0, 1, n] * p + self.inverse[1, 1, n] * q
        return found

    def _upward(self, demand: Floats) -> Floats:
        """Turn demand (2, bus, ..., period) into (B_n, B'_n), from the leaves to the roots; `demand` is used up."""
        inverse = self.inverse if demand.ndim == 3 else self.inverse[:, :, :, None]
        for level in reversed(self.levels):
            n = level.here
            p, q = demand[:, n]
            for k in (0, 1):
                demand[k, n] = inverse[k, 0, n] * p + inverse[k, 1, n] * q
                demand[k, level.parents] += np.add.reduceat(demand[k, n], level.begins, axis=0)
        return demand

    def _downward(self, below: Floats, w_root: Floats, constant: Floats) -> tuple[Floats, Floats, Floats]:
        """Return w, P and Q, from the roots to the leaves."""
        wide = below.ndim == 4
        slope, drop = (array[:, :, None] if wide else array for array in (self.slope, self.drop))
        w, p, q = (np.zeros(below.shape[1:]) for _ in range(3))
        w[self.roots] = w_root
        for level in self.levels:
            n, above = level.here, w[level.above]
            p[n] = slope[0, n] * above + below[0, n]
            q[n] = slope[1, n] * above + below[1, n]
            w[n] = drop[0, n] * above + drop[2, n] * p[n] + drop[3, n] * q[n]
            if not wide:
                w[n] += constant[n]
        return w, p, q

    def _leaving(self, flow: Floats) -> Floats:
        """Sum the flows of the branches at each root."""
        total = np.zeros((len(self.roots), *flow.shape[1:]))
        if self.levels:
            first = self.levels[0]
            total[self.feeder[first.parents]] = np.add.reduceat(flow[first.here], first.begins, axis=0)
        return total


def eliminate(feeders: Feeders, losses: LossTerms) -> LinearGrid:
    """Eliminate the rows (1)–(3) along the trees.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Linearised squared currents.

    Returns
    -------
    LinearGrid
        Not finite where the rows are singular: losses linearised beyond the collapse.
    """
    data = feeders.data
    buses = data.indexes[BUS]
    r, x, tap, g, b = (data[name].values[:, None] for name in ("r", "x", "tap", "g", "b"))
    l_0, l_p, l_q, l_w = (
        bare(term).reindex({BUS: buses}, fill_value=0.0).transpose(BUS, PERIOD).values
        for term in (losses.constant, losses.by_p, losses.by_q, losses.by_w)
    )
    z2 = r**2 + x**2
    # (3)  w_n = w_m/t_n² − 2 (r_n P_n + x_n Q_n) + (r_n² + x_n²) l_n,  l_n = l_0 + l_P P_n + l_Q Q_n + l_w w_m
    drop = np.stack([1 / tap**2 + z2 * l_w, z2 * l_0, z2 * l_p - 2 * r, z2 * l_q - 2 * x])
    slope, constant = np.zeros((2, *l_0.shape)), np.zeros((2, *l_0.shape))
    inverse = np.zeros((2, 2, *l_0.shape))
    # what the branches below n draw per p.u.² of w_n: children, and the shunts of n itself
    draw = np.stack([np.broadcast_to(g, l_0.shape), np.broadcast_to(-b, l_0.shape)]).copy()
    steps = levels(feeders)
    with np.errstate(all="ignore"):  # a singular row is reported as not finite
        for level in reversed(steps):
            n = level.here
            (e, f, c_p, c_q), (h_p, h_q) = drop[:, n], draw[:, n]
            r_n, x_n = r[n], x[n]
            # (1)  (1 − r l_P − h c_P) P − (r l_Q + h c_Q) Q = (r l_w + h e) w_m + r l_0 + h f + ΣB_k − p_n
            # (2)  −(x l_P + h' c_P) P + (1 − x l_Q − h' c_Q) Q = (x l_w + h' e) w_m + x l_0 + h' f + ΣB'_k − q_n
            m_pp, m_pq = 1 - r_n * l_p[n] - h_p * c_p, -r_n * l_q[n] - h_p * c_q
            m_qp, m_qq = -x_n * l_p[n] - h_q * c_p, 1 - x_n * l_q[n] - h_q * c_q
            determinant = m_pp * m_qq - m_pq * m_qp
            inverse[:, :, n] = np.stack([[m_qq, -m_pq], [-m_qp, m_pp]]) / determinant
            by_w = r_n * l_w[n] + h_p * e, x_n * l_w[n] + h_q * e
            constant[:, n] = r_n * l_0[n] + h_p * f, x_n * l_0[n] + h_q * f
            for k in (0, 1):
                slope[k, n] = inverse[k, 0, n] * by_w[0] + inverse[k, 1, n] * by_w[1]
                draw[k, level.parents] += np.add.reduceat(slope[k, n], level.begins, axis=0)
    roots = positions(buses, feeders.roots.to_numpy())
    owner = positions(feeders.roots.index, feeders.feeder_of.to_numpy())
    w_root = data["v_root"].transpose(FEEDER, PERIOD).values ** 2
    return LinearGrid(steps, roots, owner, slope, inverse, constant, drop, g[roots], w_root)


def linear_flow(feeders: Feeders, losses: LossTerms, p: xr.DataArray, q: xr.DataArray) -> xr.Dataset:
    """Solve the linear grid for given net injections.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Linearised squared currents.
    p, q : DataArray (bus, period)
        Net injections [MW, Mvar], > 0 into the grid.

    Returns
    -------
    Dataset
        ``v (bus, period)`` [p.u.], 0 where the linear model drops below it (then there is
        no power flow either); ``p_flow, q_flow (bus, period)`` (NaN at roots),
        ``p_interface (feeder, period)`` [MW], > 0 into the feeder: as of the AC power flow.
    """
    buses, periods = (feeders.data.indexes[dim] for dim in (BUS, PERIOD))
    grid = eliminate(feeders, losses)
    found = grid.state(*(bare(a).sel({BUS: buses}).transpose(BUS, PERIOD).values for a in (p, q)))
    for flow in (found.p, found.q):
        flow[grid.roots] = np.nan
    flows = {"v": np.sqrt(np.maximum(found.w, 0.0)), "p_flow": found.p, "q_flow": found.q}
    result = xr.Dataset(
        {name: ((BUS, PERIOD), values) for name, values in flows.items()}, coords={BUS: buses, PERIOD: periods}
    )
    names = {FEEDER: feeders.roots.index.rename(FEEDER), PERIOD: periods}
    return result.assign(p_interface=xr.DataArray(found.interface, coords=names, dims=(FEEDER, PERIOD)))
