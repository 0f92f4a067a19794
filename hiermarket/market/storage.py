"""Storage offered period by period, safe whatever is activated in the other periods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import Fault
from hiermarket.labels import PERIOD
from hiermarket.schema import raise_together

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        With every impossible rating, weights below 0, and a schedule that leaves the
        bounds of energy or power.

    Notes
    -----
    The stored energy falls fastest when every up volume and no down volume is activated,
    and rises fastest in the reverse case. So it suffices that the two extreme paths stay
    within the bounds. What a volume draws depends on the schedule: up first reduces
    charging (η_c per MWh) and then discharges (1/η_d); down first reduces discharging
    (1/η_d) and then charges (η_c). The volumes are k times the weights, cut at the free
    power, with the largest k that both paths allow, for up and down apart.

    >>> hours = xr.DataArray([1.0, 1.0], dims="period")
    >>> battery = Storage(power=1.0, energy_min=0.0, energy_max=2.0, charging=0.8, discharging=0.5)
    >>> safe = energy_safe(battery, 1.0 * hours, 0.0 * hours, hours, hours)
    >>> safe.up.values.tolist(), safe.down.values.tolist()  # 2 × 0.25/0.5 = 1 = 2 × 0.625 × 0.8
    ([0.25, 0.25], [0.625, 0.625])
    """
    raise_together(_faults(storage, stored, dispatch, weight))
    hours, share = (array.transpose(PERIOD).values.astype(float) for array in (duration, weight))
    output, energy = (array.transpose(PERIOD).values.astype(float) for array in (dispatch, stored))
    discharging, charging = np.maximum(output, 0.0), np.maximum(-output, 0.0)
    up = _Path(storage.power - output, charging, storage.charging, 1 / storage.discharging)
    down = _Path(storage.power + output, discharging, 1 / storage.discharging, storage.charging)
    volumes = {
        "up": up.largest(share, hours, energy - storage.energy_min),
        "down": down.largest(share, hours, storage.energy_max - energy),
    }
    return xr.Dataset({name: weight.transpose(PERIOD).copy(data=values) for name, values in volumes.items()})


@dataclass(frozen=True, slots=True)
class _Path:
    """One extreme path: free power, the part of it that comes first, MWh per MWh of that part and of the rest."""

    free: NDArray[np.float64]
    first: NDArray[np.float64]
    energy_first: float
    energy_rest: float

    def volume(self, scale: float, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scale × share, cut at the free power [MW]."""
        return np.minimum(scale * share, np.maximum(self.free, 0.0))

    def moved(self, scale: float, share: NDArray[np.float64], hours: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the energy that has moved at the end of each period [MWh]."""
        volume = self.volume(scale, share)
        before = np.minimum(volume, self.first)
        return np.cumsum(hours * (self.energy_first * before + self.energy_rest * (volume - before)))

    def largest(
        self, share: NDArray[np.float64], hours: NDArray[np.float64], room: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the volumes of the largest scale whose energy has room: piecewise linear in the scale."""
        some = share > 0
        # the scales at which a period's slope changes
        corners = np.unique(np.concatenate([[0.0], self.first[some] / share[some], self.free[some] / share[some]]))
        low, room = 0.0, np.maximum(room, 0.0)
        for high in corners[corners > 0]:
            before, after = (self.moved(scale, share, hours) for scale in (low, high))
            over = after > room
            if over.any():
                part = np.min((room - before)[over] / (after - before)[over])
                return self.volume(low + (high - low) * float(part), share)
            low = high
        return self.volume(low, share)


def _faults(storage: Storage, stored: xr.DataArray, dispatch: xr.DataArray, weight: xr.DataArray) -> list[Fault]:
    faults = []
    if not (storage.power >= 0 and storage.energy_min <= storage.energy_max):
        found = f"power {storage.power} MW, energy {storage.energy_min} … {storage.energy_max} MWh"
        faults.append(Fault("storage", found, "power ≥ 0, energy_min ≤ energy_max", "Correct the ratings."))
    efficiencies = (storage.charging, storage.discharging)
    if not all(0 < eta <= 1 for eta in efficiencies):
        faults.append(Fault("storage efficiencies", f"{efficiencies}", "in (0, 1]", "Give them as shares of 1."))
    if not bool((weight >= 0).all()):
        faults.append(Fault("storage weight", f"{float(weight.min())}", "≥ 0", "Give 0 where nothing is offered."))
    inside = (stored >= storage.energy_min - 1e-9) & (stored <= storage.energy_max + 1e-9)
    if not (bool(inside.all()) and bool((abs(dispatch) <= storage.power + 1e-9).all())):
        found = f"{float(stored.min())} … {float(stored.max())} MWh, |dispatch| up to {float(abs(dispatch).max())} MW"
        expected = f"[{storage.energy_min}, {storage.energy_max}] MWh and {storage.power} MW"
        faults.append(Fault("storage schedule", found, expected, "Correct the schedule."))
    return faults
