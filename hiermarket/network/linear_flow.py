"""The linear grid solved for given injections: its state, and how the state answers to injections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import splu

from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    from scipy.sparse.linalg import SuperLU

    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LossTerms
    from hiermarket.network.per_unit import Floats
    from hiermarket.network.topology import Ints

#: The dimension of unit injections: the n-th resource of every feeder.
RANK = "rank"


class _System:
    """The rows (1)–(3) as one sparse system per period: unknowns P, Q and w of every branch."""

    def __init__(self, feeders: Feeders, losses: LossTerms) -> None:
        data, self.branches = feeders.data, feeders.branches
        self.buses, self.periods = data.indexes[BUS], data.indexes[PERIOD]
        self.feeders = feeders
        n = len(self.branches)
        self.n = n
        parents = feeders.parents.loc[self.branches]
        # −1 where the parent is a root, whose voltage is known
        self.parent: Ints = np.asarray(positions(self.branches, parents.to_numpy()), dtype=np.int64)
        self.root_parent = self.parent < 0
        self.here = positions(self.buses, self.branches)
        at = {name: data[name].values[self.here] for name in ("r", "x", "tap", "g", "b")}
        self.r, self.x, self.tap, self.g, self.b = (at[k] for k in ("r", "x", "tap", "g", "b"))
        order = (BUS, PERIOD)
        self.by_p, self.by_q, self.by_w, self.constant = (
            bare(term).sel({BUS: self.branches}).transpose(*order).values
            for term in (losses.by_p, losses.by_q, losses.by_w, losses.constant)
        )
        owner = feeders.feeder_of.loc[self.branches].to_numpy()
        self.feeder_number = positions(feeders.roots.index, owner)
        self.v_root = bare(data.v_root).transpose(FEEDER, PERIOD).values

    def factor(self, t: int) -> SuperLU:
        n, every = self.n, np.arange(self.n)
        child = np.flatnonzero(~self.root_parent)
        above = self.parent[child]
        r, x, z2 = self.r, self.x, self.r**2 + self.x**2
        lp, lq, lw = self.by_p[:, t], self.by_q[:, t], self.by_w[:, t]
        P, Q, W = 0, n, 2 * n
        entries = [
            # (1)  P_n − r_n l_n − Σ_k P_k − g_n w_n
            (every, P + every, 1 - r * lp),
            (every, Q + every, -r * lq),
            (child, W + above, -(r * lw)[child]),
            (above, P + child, -np.ones(len(child))),
            (every, W + every, -self.g),
            # (2)  Q_n − x_n l_n − Σ_k Q_k + b_n w_n
            (n + every, P + every, -x * lp),
            (n + every, Q + every, 1 - x * lq),
            (n + child, W + above, -(x * lw)[child]),
            (n + above, Q + child, -np.ones(len(child))),
            (n + every, W + every, self.b),
            # (3)  w_n − w_m/t_n² + 2 (r_n P_n + x_n Q_n) − (r_n² + x_n²) l_n
            (2 * n + every, W + every, np.ones(n)),
            (2 * n + child, W + above, -(1 / self.tap**2 + z2 * lw)[child]),
            (2 * n + every, P + every, 2 * r - z2 * lp),
            (2 * n + every, Q + every, 2 * x - z2 * lq),
        ]
        rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return splu(csc_array(coo_array((values, (rows, columns)), shape=(3 * n, 3 * n))))

    def known(self, t: int, p: Floats, q: Floats) -> Floats:
        """Right-hand sides for net injections p, q (branch) [MW, Mvar]."""
        z2, l0, lw = self.r**2 + self.x**2, self.constant[:, t], self.by_w[:, t]
        w_root = np.where(self.root_parent, self.v_root[self.feeder_number, t] ** 2, 0.0)
        return np.concatenate(
            [
                -p + self.r * (l0 + lw * w_root),
                -q + self.x * (l0 + lw * w_root),
                z2 * l0 + (1 / self.tap**2 + z2 * lw) * w_root,
            ]
        )


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
    system = _System(feeders, losses)
    shape = (len(system.buses), len(system.periods))
    w, P, Q = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    p_all, q_all = (bare(a).sel({BUS: system.buses}).transpose(BUS, PERIOD).values for a in (p, q))
    root_at = positions(system.buses, feeders.roots.to_numpy())
    w[root_at] = system.v_root**2
    interface = -p_all[root_at] + feeders.data.g.values[root_at][:, None] * w[root_at]
    first = np.flatnonzero(system.root_parent)
    for t in range(shape[1]):
        known = system.known(t, p_all[system.here, t], q_all[system.here, t])
        P[system.here, t], Q[system.here, t], w[system.here, t] = np.split(system.factor(t).solve(known), 3)
        np.add.at(interface[:, t], system.feeder_number[first], P[system.here[first], t])
    coords = {BUS: system.buses, PERIOD: system.periods}
    v = np.sqrt(np.maximum(w, 0.0))
    flows = {name: ((BUS, PERIOD), values) for name, values in (("v", v), ("p_flow", P), ("q_flow", Q))}
    result = xr.Dataset(flows, coords=coords)
    names = {FEEDER: feeders.roots.index.rename(FEEDER), PERIOD: system.periods}
    return result.assign(p_interface=xr.DataArray(interface, coords=names, dims=(FEEDER, PERIOD)))


def sensitivities(feeders: Feeders, losses: LossTerms, at: xr.DataArray, ratio: xr.DataArray) -> xr.Dataset:
    """Return how the linear grid answers to one MW injected by each resource.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Linearised squared currents.
    at : DataArray (feeder, rank)
        Flat bus label of the n-th resource of every feeder; "" where there is none.
    ratio : DataArray (feeder, rank, period)
        Reactive per active injection τ [Mvar/MW].

    Returns
    -------
    Dataset
        ``w (bus, rank, period)`` [p.u.²/MW], ``p_flow, q_flow (bus, rank, period)``
        [MW/MW, Mvar/MW] and ``p_interface (feeder, rank, period)`` [MW/MW]; feeders are
        independent, so one right-hand side serves the n-th resource of all of them.
    """
    system = _System(feeders, losses)
    ranks, count = at.sizes[RANK], len(system.buses)
    shape = (count, ranks, len(system.periods))
    w, P, Q = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    interface = np.zeros((len(feeders.roots), *shape[1:]))
    place = positions(system.branches, at.values.ravel()).reshape(at.shape)
    feeder, rank = np.nonzero(place >= 0)
    root_feeder, root_rank = np.nonzero((place < 0) & (at.values != ""))
    interface[root_feeder, root_rank, :] = -1.0
    first = np.flatnonzero(system.root_parent)
    tau = ratio.transpose(FEEDER, RANK, PERIOD).values
    for t in range(shape[2]):
        known = np.zeros((3 * system.n, ranks))
        known[place[feeder, rank], rank] = -1.0
        known[system.n + place[feeder, rank], rank] = -tau[feeder, rank, t]
        answer = system.factor(t).solve(known)
        P[system.here, :, t], Q[system.here, :, t], w[system.here, :, t] = np.split(answer, 3)
        np.add.at(interface[:, :, t], system.feeder_number[first], P[system.here[first], :, t])
    dims = (BUS, RANK, PERIOD)
    coords = {BUS: system.buses, PERIOD: system.periods}
    answers = xr.Dataset({"w": (dims, w), "p_flow": (dims, P), "q_flow": (dims, Q)}, coords=coords)
    names = {FEEDER: feeders.roots.index.rename(FEEDER), PERIOD: system.periods}
    return answers.assign(p_interface=xr.DataArray(interface, coords=names, dims=(FEEDER, RANK, PERIOD)))
