"""Every limit of the grid as c'x ≤ h in further injections x, linearised around a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.network.linear_flow import RANK, sensitivities
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LossTerms


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of all feeders, numbered within each: the n-th of every feeder shares a rank.

    Parameters
    ----------
    label : DataArray (feeder, rank)
        Label of the resource; where a feeder has fewer, that of its first (or of any).
    present : DataArray (feeder, rank)
        Whether there is one.
    node : DataArray (feeder, rank)
        Flat bus label, "" where there is none.
    ratio : DataArray (feeder, rank, period)
        τ [Mvar/MW], 0 where there is none.
    """

    label: xr.DataArray
    present: xr.DataArray
    node: xr.DataArray
    ratio: xr.DataArray


def resources(feeders: Feeders, node: pd.Series, ratio: xr.DataArray) -> Resources:
    """Give each resource its rank within its feeder.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    node : Series resource label → flat bus label
        Where each resource is.
    ratio : DataArray (resource, period)
        τ [Mvar/MW]; its first dimension holds the labels of `node`.
    """
    names = feeders.roots.index
    owner = positions(names, feeders.feeder_of.loc[node.to_numpy()].to_numpy())
    rank = pd.Series(owner).groupby(owner).cumcount().to_numpy()
    shape = (len(names), int(rank.max(initial=-1)) + 1)
    label = np.full(shape, node.index[0] if len(node) else "", dtype=object)
    place = np.full(shape, "", dtype=object)
    present = np.zeros(shape, dtype=bool)
    label[owner, rank], place[owner, rank], present[owner, rank] = node.index, node.to_numpy(), True
    values = np.zeros((*shape, ratio.sizes[PERIOD]))
    values[owner, rank] = ratio.transpose(..., PERIOD).values
    coords = {FEEDER: names.rename(FEEDER)}
    dims = (FEEDER, RANK)
    return Resources(
        label=xr.DataArray(label.astype(str), dims=dims, coords=coords),
        present=xr.DataArray(present, dims=dims, coords=coords),
        node=xr.DataArray(place.astype(str), dims=dims, coords=coords),
        ratio=xr.DataArray(values, dims=(*dims, PERIOD), coords={**coords, PERIOD: ratio.indexes[PERIOD]}),
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits (4) and (5) as c'x ≤ h, one array for each kind.

    Attributes
    ----------
    coefficient : dict[str, DataArray]
        c for ``low_voltage``, ``high_voltage`` (bus, rank, period) [p.u.²/MW] and
        ``rating`` (bus, side, rank, period) [MVA/MW].
    room : dict[str, DataArray]
        h for the same, without the dimension rank [p.u.², MVA]; ≥ 0: a limit that the
        state itself breaks admits nothing that makes it worse.
    interface : DataArray (feeder, rank, period)
        MW that the interface flow falls per MW injected.
    """

    coefficient: dict[str, xr.DataArray]
    room: dict[str, xr.DataArray]
    interface: xr.DataArray


def limits(
    feeders: Feeders,
    losses: LossTerms,
    state: xr.Dataset,
    resource: Resources,
    injected: xr.DataArray,
    *,
    sides: int,
) -> Limits:
    """Linearise every limit around a state in which `injected` is already part of it.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    losses : LossTerms
        Squared currents linearised around the same state.
    state : Dataset
        ``v, p_flow, q_flow (bus, period)``.
    resource : Resources
        Who may inject.
    injected : DataArray (feeder, rank, period)
        The injections x̄ that the state holds [MW].
    sides : int
        Sides of the rating polygon.
    """
    answer = sensitivities(feeders, losses, resource.node, resource.ratio)
    data = feeders.data
    branches = feeders.branches
    owner = feeders.feeder_of.loc[branches].to_numpy()
    y = injected.sel({FEEDER: xr.DataArray(owner, dims=BUS, coords={BUS: branches})}).drop_vars(FEEDER)
    y = y.where(resource.present.sel({FEEDER: xr.DataArray(owner, dims=BUS)}).drop_vars(FEEDER), 0.0)
    by_w, by_p, by_q = (bare(answer[name]).sel({BUS: branches}) for name in ("w", "p_flow", "q_flow"))
    w, p, q = (bare(state[name]).sel({BUS: branches}) for name in ("v", "p_flow", "q_flow"))
    # w(x) = w̄ + C (x − x̄), and the same for P and Q
    w0 = w**2 - (by_w * y).sum(RANK)
    p0, q0 = p - (by_p * y).sum(RANK), q - (by_q * y).sum(RANK)
    lowest, highest = (bare(data[name]).sel({BUS: branches}) ** 2 for name in ("v_min", "v_max"))
    coefficient = {"low_voltage": -by_w, "high_voltage": by_w}
    room = {"low_voltage": w0 - lowest, "high_voltage": highest - w0}
    rating = bare(data.s_max).sel({BUS: branches})
    rated = branches[np.isfinite(rating.values)]
    if len(rated):
        angle = xr.DataArray(2 * np.pi * np.arange(sides) / sides, dims="side", coords={"side": np.arange(sides)})
        cos, sin = np.cos(angle), np.sin(angle)
        at = {BUS: rated}
        # the end of the branch that carries more: see (4)
        r, x = (bare(data[name]).sel(at) for name in ("r", "x"))
        far = (-(cos * r + sin * x)).clip(min=0.0)
        above = xr.DataArray(feeders.parents.loc[rated].to_numpy(), dims=BUS, coords={BUS: rated})
        l_p, l_q, l_w = (bare(term).sel(at) for term in (losses.by_p, losses.by_q, losses.by_w))
        by_l = l_p * by_p.sel(at) + l_q * by_q.sel(at) + l_w * bare(answer.w).sel({BUS: above}).assign_coords(at)
        w_above = (bare(state.v) ** 2).sel({BUS: above}).assign_coords(at)
        current = bare(losses.constant).sel(at) + l_p * p.sel(at) + l_q * q.sel(at) + l_w * w_above
        coefficient["rating"] = cos * by_p.sel(at) + sin * by_q.sel(at) + far * by_l
        l_0 = current - (by_l * y.sel(at)).sum(RANK)
        flow = cos * p0.sel(at) + sin * q0.sel(at) + far * l_0
        room["rating"] = rating.sel(at) * np.cos(np.pi / sides) - flow
    return Limits(coefficient, {name: value.clip(min=0.0) for name, value in room.items()}, -answer.p_interface)
