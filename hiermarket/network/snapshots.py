"""From PyPSA's snapshots and weightings to periods and their lengths."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiermarket.errors import Fault, some_labels
from hiermarket.network.feeder import UNDATED

_COLUMNS = ["objective", "stores", "generators"]


def periods_of(
    snapshots: pd.Index, weightings: pd.DataFrame, where: str
) -> tuple[pd.DatetimeIndex, np.ndarray, list[Fault]]:
    """Return the periods of a network, their lengths, and the faults of both.

    Parameters
    ----------
    snapshots : pandas.Index
        Timestamps; those with a time zone are converted to UTC. A single label that is no
        timestamp (PyPSA's default "now") becomes 2026-01-01 00:00.
    weightings : pandas.DataFrame
        Columns objective, stores and generators [h].
    where : str
        Name of the network, for messages.

    Returns
    -------
    tuple[pandas.DatetimeIndex, numpy.ndarray, list[Fault]]
        Periods without a time zone (UTC), the objective column [h], and faults: columns that
        differ, weightings that are not the time to the next snapshot, labels without a time.

    >>> hours = pd.date_range("2026-01-01", periods=2, freq="h")
    >>> ones = pd.DataFrame(1.0, index=hours, columns=["objective", "stores", "generators"])
    >>> periods_of(hours, ones, "north")[1].tolist()
    [1.0, 1.0]
    """
    faults = []
    hours = weightings["objective"].to_numpy(dtype=float)
    differ = weightings[_COLUMNS].ne(weightings["objective"], axis=0).any(axis=1).to_numpy()
    if differ.any():
        found = f"columns that differ at {some_labels(list(snapshots[differ]))}"
        expected = f"the length of the period in all of {', '.join(_COLUMNS)} [h]"
        remedy = "Set all columns to the true length; representative periods are not supported."
        faults.append(Fault(f"{where}.snapshot_weightings", found, expected, remedy))
    if not isinstance(snapshots, pd.DatetimeIndex):
        if len(snapshots) == 1:
            return pd.DatetimeIndex([UNDATED]), hours, faults
        found = f"{len(snapshots)} labels that are no timestamps: {some_labels(list(snapshots))}"
        remedy = "Use n.set_snapshots(pd.date_range(...), weightings_from_timedelta=True)."
        faults.append(Fault(f"{where}.snapshots", found, "timestamps", remedy))
        return pd.date_range(UNDATED, periods=len(snapshots), freq="h"), np.ones(len(snapshots)), faults
    periods = snapshots if snapshots.tz is None else snapshots.tz_convert("UTC").tz_localize(None)
    gap = np.diff(periods.to_numpy()) / np.timedelta64(1, "h")
    wrong = np.append(np.abs(gap - hours[:-1]) > 1e-6, False)
    if wrong.any():
        given = some_labels([f"{value:g}" for value in dict.fromkeys(hours[wrong].tolist())])
        true = some_labels([f"{value:g}" for value in dict.fromkeys(gap[wrong[:-1]].tolist())])
        at = some_labels([str(label) for label in periods[wrong]])
        remedy = "Use n.set_snapshots(n.snapshots, weightings_from_timedelta=True), or simulate a gap apart."
        expected = f"the time to the next snapshot, {true} h"
        faults.append(Fault(f"{where}.snapshot_weightings at {at}", f"{given} h", expected, remedy))
    return periods.rename(None), hours, faults
