"""Storage offered period by period, safe whatever is activated in the other periods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from hiermarket.errors import Fault
from hiermarket.labels import PERIOD
from hiermarket.schema import raise_together


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that offers balancing energy.

    Parameters
    ----------
    power : float
        Most it charges or discharges [MW].
    energy_min, energy_max : float
        Bounds of the stored energy [MWh].
    charging, discharging : float
        Efficiencies η_c and η_d, in (0, 1].
    """

    power: float
    energy_min: float
    energy_max: float
    charging: float = 0.95
    discharging: float = 0.95


def energy_safe(
    storage: Storage, stored: xr.DataArray, dispatch: xr.DataArray, duration: xr.DataArray, weight: xr.DataArray
) -> xr.Dataset:
    """Return volumes for every period such that any activation of them keeps the energy bounds.

    Parameters
    ----------
    storage : Storage
        Ratings and efficiencies.
    stored : DataArray (period)
        Scheduled energy at the end of each period [MWh].
    dispatch : DataArray (period)
        Scheduled output, > 0 discharging [MW].
    duration : DataArray (period)
        Δ [h].
    weight : DataArray (period)
        How the energy is shared out over the periods, ≥ 0.

    Returns
    -------
    Dataset
        ``up, down (period)`` [MW].

    Raises
    ------
    DataError
        When the schedule itself leaves the bounds of energy or power.

    Notes
    -----
    The stored energy falls fastest when every up volume and no down volume is activated,
    and rises fastest in the reverse case. So it suffices that the two extreme paths stay
    within the bounds: Σ_{τ ≤ t} Δ U_τ/η_d ≤ e_t − e_min and Σ_{τ ≤ t} Δ η_c D_τ ≤
    e_max − e_t for every t. An up activation that only reduces charging draws η_c
    instead of 1/η_d, and is covered. The largest volumes in the proportion of the
    weights are taken, cut at the free power.
    """
    outside = (stored < storage.energy_min - 1e-9) | (stored > storage.energy_max + 1e-9)
    if bool(outside.any()) or bool((abs(dispatch) > storage.power + 1e-9).any()):
        found = f"{float(stored.min())} … {float(stored.max())} MWh, |dispatch| up to {float(abs(dispatch).max())} MW"
        expected = f"[{storage.energy_min}, {storage.energy_max}] MWh and {storage.power} MW"
        raise_together([Fault("storage schedule", found, expected, "Correct the schedule.")])
    shares = np.cumsum((weight * duration).transpose(PERIOD).values)
    volumes = {}
    for name, room, loss, free in (
        ("up", stored - storage.energy_min, 1 / storage.discharging, storage.power - dispatch),
        ("down", storage.energy_max - stored, storage.charging, storage.power + dispatch),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(shares > 0, room.transpose(PERIOD).values / (loss * shares), np.inf).min()
        volumes[name] = np.minimum(weight * max(float(scale), 0.0), free)
    return xr.Dataset(volumes)
