"""What a resource does over the periods: its output, its stored energy, and the limits that these break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, DIRECTIONS, PERIOD, RESOURCE
from hiermarket.market.resources import WINDOW, EndLevel
from hiermarket.schema import bare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.bids import Bids
    from hiermarket.market.resources import Resources

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

#: A limit that is broken by less is kept [MW, MWh]: rounding of sums over many periods and of an LP.
KEPT = 1e-7


def activated(resources: Resources, bids: Bids, per_bid: Floats) -> Floats:
    """Sum what bids inject over the bids of each resource, (resource, period).

    Parameters
    ----------
    resources : Resources
        The table.
    bids : Bids
        Which bid belongs to which resource, and its direction.
    per_bid : array (bid, period)
        Volumes ≥ 0 [MW].
    """
    owner = resources.owner_of(bids)
    own = owner >= 0
    up = (bids.data.bid_direction.values == DIRECTIONS[0])[own, None]
    total = np.zeros((len(resources.labels), per_bid.shape[1]))
    np.add.at(total, owner[own], np.where(up, per_bid[own], -per_bid[own]))
    return total


def output_of(resources: Resources, bids: Bids, activation: xr.DataArray) -> xr.DataArray:
    """Return schedule and activation together, (resource, period) [MW].

    Parameters
    ----------
    resources : Resources
        The table.
    bids : Bids
        The bids.
    activation : DataArray (bid, period)
        MW ≥ 0.
    """
    # (37)  p_rt = P_rt + Σ σ a                                            ∀ r, t   [MW]
    moved = activated(resources, bids, activation.transpose(BID, PERIOD).values)
    return bare(resources.data.output) + moved


def drawn(output: Floats, charging: Floats, discharging: Floats) -> Floats:
    """Return f(p), what an output takes out of a storage: p/η_d where it discharges, η_c p where it charges [MW].

    >>> drawn(np.array([1.0, -1.0]), np.array(0.8), np.array(0.5)).tolist()
    [2.0, -0.8]
    """
    taken: Floats = np.where(output > 0, output / discharging, output * charging)
    return taken


def stored_energy(resources: Resources, output: xr.DataArray, duration: xr.DataArray) -> xr.DataArray:
    """Return the stored energy at the end of every period, (resource, period) [MWh]; NaN for what stores none.

    Parameters
    ----------
    resources : Resources
        Energy at the start, efficiencies.
    output : DataArray (resource, period)
        MW, > 0 discharges.
    duration : DataArray (period)
        Δ [h].
    """
    data = resources.data
    p = output.transpose(RESOURCE, PERIOD).values
    eta = (data.charging.values[:, None], data.discharging.values[:, None])
    # (38)  e_t = e_(t−1) − Δ f(p_t)                                       ∀ storage, t   [MWh]
    moved = np.cumsum(duration.values * drawn(p, *eta), axis=1)
    return bare(output.transpose(RESOURCE, PERIOD)).copy(data=data.energy_start.values[:, None] - moved)


def energy_bounds(resources: Resources, duration: xr.DataArray) -> tuple[Floats, Floats]:
    """Return the least and the most that may be stored at the end of every period, (resource, period) [MWh].

    The condition at the end is in the last period. A level that is not given is that of the schedule.
    """
    data = resources.data
    low, high = data.energy_min.values.copy(), data.energy_max.values.copy()
    scheduled = stored_energy(resources, bare(data.output), duration).values[:, -1:]
    level = np.where(data.energy_end.isnull(), scheduled[:, 0] if scheduled.size else 0.0, data.energy_end.values)
    kind = data.end_level.values
    low[:, -1] = np.where(kind != EndLevel.FREE.value, np.maximum(low[:, -1], level), low[:, -1])
    high[:, -1] = np.where(kind == EndLevel.EQUAL.value, np.minimum(high[:, -1], level), high[:, -1])
    return low, high


def ramp_room(resources: Resources, duration: xr.DataArray) -> tuple[Floats, Floats]:
    """Return by how much the output may rise and fall into every period, (resource, period) [MW]; ∞ without limit.

    From the middle of a period to the middle of the next one; into the first period, its length.
    """
    data, hours = resources.data, duration.values
    between = np.concatenate([hours[:1], (hours[1:] + hours[:-1]) / 2])
    up, down = (data[name].values[:, None] * between for name in ("ramp_up", "ramp_down"))
    unknown = data.output_before.isnull().values
    up[unknown, :1], down[unknown, :1] = np.inf, np.inf
    return up, down


def rebound_windows(resources: Resources) -> list[tuple[int, str, NDArray[np.intp]]]:
    """Return every window of a rebound: the resource by position, the label, the periods by position."""
    labels = resources.data[WINDOW].values
    found = []
    for number in np.flatnonzero(resources.has_rebound):
        names = dict.fromkeys(labels[number][labels[number] != ""].tolist())
        found += [(int(number), name, np.flatnonzero(labels[number] == name)) for name in names]
    return found


def broken_limits(resources: Resources, output: xr.DataArray, duration: xr.DataArray) -> dict[str, Bools]:
    """Say where an output breaks which limit: name → (resource, period).

    Parameters
    ----------
    resources : Resources
        The limits.
    output : DataArray (resource, period)
        MW.
    duration : DataArray (period)
        Δ [h].

    Returns
    -------
    dict
        ``joint_limit, ramp, energy, rebound``; a broken rebound is named at every period of its
        window.
    """
    data, p = resources.data, output.transpose(RESOURCE, PERIOD).values
    hours = duration.values
    # (39)  p_min ≤ p_rt ≤ p_max                                           ∀ r, t   [MW]
    joint = (p < data.p_min.values - KEPT) | (p > data.p_max.values + KEPT)
    # (40)  −R_down δ ≤ p_t − p_(t−1) ≤ R_up δ                             ∀ r, t   [MW]
    up, down = ramp_room(resources, duration)
    before = np.nan_to_num(data.output_before.values)[:, None]
    step = np.diff(p, axis=1, prepend=before)
    ramp = (step > up + KEPT) | (-step > down + KEPT)
    # (38)  e_min ≤ e_t ≤ e_max                                            ∀ storage, t   [MWh]
    energy, (low, high) = stored_energy(resources, output, duration).values, energy_bounds(resources, duration)
    with np.errstate(invalid="ignore"):
        stored = resources.is_storage[:, None] & ~((energy >= low - KEPT) & (energy <= high + KEPT))
    # (41)  Σ_(t in window) Δ (p_t − P_t) = 0                              ∀ window   [MWh]
    rebound = np.zeros(p.shape, dtype=bool)
    for number, _, at in rebound_windows(resources):
        moved = (hours[at] * (p - data.output.values)[number, at]).sum()
        rebound[number, at] = abs(moved) > KEPT
    return {"joint_limit": joint, "ramp": ramp, "energy": stored, "rebound": rebound}
