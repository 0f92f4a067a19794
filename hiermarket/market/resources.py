"""Resources behind the bids: what all bids of a generator, a storage or a load may do together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, ModelError, some_labels
from hiermarket.labels import FEEDER, PERIOD, RESOURCE, resource_label
from hiermarket.nomenclature import describe
from hiermarket.schema import fault_where, freeze, positions, raise_together, unknown_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hiermarket.market.bids import Bids

    Bools = NDArray[np.bool_]

#: Values by resource and period, and what they are where the table does not say.
PERIOD_VALUES: Final = {
    "output": 0.0, "p_min": -np.inf, "p_max": np.inf, "energy_min": 0.0,
    "energy_max": np.nan, "q_min": 0.0, "q_max": 0.0,
}  # fmt: skip
#: Values by resource.
VALUES: Final = {
    "output_before": np.nan, "ramp_up": np.inf, "ramp_down": np.inf, "energy_start": np.nan, "energy_end": np.nan,
    "charging": 0.95, "discharging": 0.95, "rebound_hours": np.nan,
}  # fmt: skip
KEYS: Final = (FEEDER, RESOURCE)
#: Labels: of the window of a rebound, by resource and period; of the condition at the end, by resource.
WINDOW: Final = "rebound_window"
END: Final = "end_level"
KNOWN_COLUMNS: Final = (*KEYS, PERIOD, *PERIOD_VALUES, *VALUES, WINDOW, END)


class EndLevel(StrEnum):
    """What a storage must hold at the end of the last period."""

    FREE = "free"
    """Anything within its bounds."""
    AT_LEAST = "at_least"
    """The end level or more."""
    EQUAL = "equal"
    """The end level."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources as one checked, read-only Dataset.

    Parameters
    ----------
    data : Dataset
        Dims ``resource`` (labels "feeder/resource") and ``period``, with

        - ``output`` [MW] the schedule, which is a part of the bus's scheduled injection;
          ``p_min, p_max`` [MW] bounds of schedule and activation together,
        - ``q_min, q_max`` [Mvar] bounds of the reactive support, q_min ≤ 0 ≤ q_max,
        - ``energy_min, energy_max`` [MWh] bounds of a storage, NaN where there is none,

        each (resource, period), and by resource ``output_before`` [MW], ``ramp_up,
        ramp_down`` [MW/h], ``energy_start, energy_end`` [MWh], the efficiencies
        ``charging, discharging``, the labels ``end_level`` (resource) of `EndLevel` and
        ``rebound_window`` (resource, period), "" where there is none. The coordinates
        ``resource_feeder, resource_name`` lie along ``resource``.

    Raises
    ------
    DataError
        With every fault found.
    """

    data: xr.Dataset

    def __post_init__(self) -> None:
        raise_together(_faults(self.data))
        object.__setattr__(self, "data", freeze(describe(self.data)))

    @property
    def labels(self) -> pd.Index:
        """The resources, "feeder/resource"."""
        return self.data.indexes[RESOURCE]

    @property
    def feeder(self) -> xr.DataArray:
        """The feeder of every resource, (resource,)."""
        return xr.DataArray(self.data.resource_feeder.values, dims=RESOURCE, coords={RESOURCE: self.labels})

    @property
    def is_storage(self) -> Bools:
        """Which resources store energy, (resource,)."""
        return np.asarray(self.data.energy_start.notnull().values)

    @property
    def has_ramp(self) -> Bools:
        """Which resources have a ramp limit, (resource,)."""
        return np.asarray(np.isfinite(self.data.ramp_up.values) | np.isfinite(self.data.ramp_down.values))

    @property
    def has_rebound(self) -> Bools:
        """Which resources have a rebound, (resource,)."""
        return np.asarray((self.data[WINDOW] != "").any(PERIOD).values)

    @property
    def couples(self) -> Bools:
        """Which resources couple periods, (resource,)."""
        return np.asarray(self.is_storage | self.has_ramp | self.has_rebound)

    @property
    def has_support(self) -> Bools:
        """Which resources can give or take reactive power by themselves, (resource,)."""
        return np.asarray(((self.data.q_min < 0) | (self.data.q_max > 0)).any(PERIOD).values)

    @property
    def coupled_feeders(self) -> list[str]:
        """Feeders some of whose periods hang together."""
        return sorted(set(self.data.resource_feeder.values[self.couples].tolist()))

    def of_feeders(self, names: Sequence[str]) -> Resources | None:
        """Return the resources of some feeders; None where they have none."""
        mine = self.data.resource_feeder.isin(list(names)).values
        return Resources(self.data.isel({RESOURCE: mine})) if mine.any() else None

    def of_periods(self, periods: NDArray[np.intp]) -> Resources:
        """Return the resources in some periods, by position.

        Raises
        ------
        ModelError
            Where a resource couples a period that is kept with one that is not.
        """
        every = np.arange(self.data.sizes[PERIOD])
        if np.array_equal(periods, every):
            return self
        if self.couples.any():
            raise ModelError(
                "Storage, ramps and rebound hold periods together: they cannot be taken apart",
                where=some_labels(list(self.labels[self.couples])),
                remedy="Take all periods, or offer safe volumes (safe_volumes) without these resources.",
            )
        return Resources(self.data.isel({PERIOD: periods}))

    def without_limits(self) -> Resources | None:
        """Return the same resources with nothing but their reactive support; None where there is no support."""
        if not self.has_support.any():
            return None
        kept = {"output", "q_min", "q_max"}
        unlimited = {**PERIOD_VALUES, **VALUES, WINDOW: "", END: EndLevel.FREE.value}
        free = {name: xr.full_like(self.data[name], unlimited[str(name)]) for name in set(self.data) - kept}
        return Resources(self.data.assign(free))

    def nodes_of(self, bids: Bids) -> NDArray[np.object_]:
        """Return the bus of every resource, that of its bids, by flat label, (resource,)."""
        owner = self.owner_of(bids)
        found = np.full(len(self.labels), "", dtype=object)
        found[owner[owner >= 0]] = bids.node.to_numpy()[owner >= 0]
        return found

    def owner_of(self, bids: Bids) -> NDArray[np.intp]:
        """Return the position of every bid's resource, −1 where it has none, (bid,)."""
        pairs = zip(bids.data.bid_feeder.values, bids.data.bid_resource.values, strict=True)
        return positions(self.labels, np.asarray([resource_label(f, r) for f, r in pairs], dtype=object))


def resources(source: pd.DataFrame | str | Path | Resources, periods: pd.DatetimeIndex) -> Resources:
    """Read resources from a table or a CSV file.

    Parameters
    ----------
    source : DataFrame, path of a CSV file, or Resources
        A row for each resource, or for each resource and period (column ``period``): columns
        ``feeder, resource``, the name that bids give in their column ``resource``, and any of

        - ``output`` [MW] schedule (default 0), ``p_min, p_max`` [MW] of schedule and
          activation together: a generator's limits, a renewable's available power,
        - ``ramp_up, ramp_down`` [MW/h] ≥ 0, and ``output_before`` [MW], the output before
          the first period, without which the first period has no ramp,
        - ``energy_start, energy_min, energy_max`` [MWh] of a storage, with efficiencies
          ``charging, discharging`` (default 0.95), ``end_level`` ("free", "at_least" or
          "equal") and ``energy_end`` [MWh] (default: where the schedule ends),
        - ``q_min, q_max`` [Mvar], q_min ≤ 0 ≤ q_max (default 0): the reactive power that the DSO
          may have it inject beside the schedule and what goes with activations,
        - ``rebound_hours`` [h]: up and down energy are equal in every such stretch of the
          periods; or ``rebound_window``, a label for each period.
    periods : DatetimeIndex
        The periods of the market.

    Returns
    -------
    Resources
        Checked; what a table does not say is no limit.

    Raises
    ------
    DataError
        With every fault found.

    Examples
    --------
    >>> hours = pd.date_range("2026-01-01", periods=2, freq="h")
    >>> battery = {"feeder": ["f"], "resource": ["Battery"], "energy_start": 1.0, "energy_max": 2.0}
    >>> resources(pd.DataFrame(battery), hours).is_storage.tolist()
    [True]
    """
    if isinstance(source, Resources):
        return source
    text = {FEEDER: str, RESOURCE: str, WINDOW: str, END: str}
    table = source if isinstance(source, pd.DataFrame) else pd.read_csv(Path(source), dtype=text)
    return Resources(_dataset(_checked(table, periods), periods))


def _checked(table: pd.DataFrame, periods: pd.DatetimeIndex) -> pd.DataFrame:
    """Return the table with labels, a row for every resource and period."""
    faults = unknown_names("resources", table.columns, KNOWN_COLUMNS)
    missing = [name for name in KEYS if name not in table]
    if missing:
        faults.append(Fault("resources", f"no column {', '.join(missing)}", ", ".join(KEYS), "Add the columns."))
    if WINDOW in table and "rebound_hours" in table:
        remedy = "Give one of them."
        faults.append(Fault("resources.rebound", f"rebound_hours and {WINDOW}", "one of the two", remedy))
    raise_together(faults)
    frame = table.astype(dict.fromkeys(KEYS, str))
    frame["_"] = [resource_label(f, r) for f, r in frame[list(KEYS)].itertuples(index=False)]
    if PERIOD in frame:
        frame[PERIOD] = pd.to_datetime(frame[PERIOD])
        strangers = sorted(set(frame[PERIOD]) - set(periods))
        if strangers:
            faults.append(Fault("resources.period", some_labels(strangers), "a period of the market", "Correct it."))
        per = frame.groupby("_", sort=False)[PERIOD].nunique()
        short = list(per.index[per != len(periods)])
        if short and not strangers:
            remedy = "Give a row for every period, or one row without the column period."
            faults.append(Fault("resources.period", f"some periods of {some_labels(short)}", "all periods", remedy))
    twice = frame.duplicated(["_", PERIOD] if PERIOD in frame else ["_"])
    if twice.any():
        found = f"more than one row for {some_labels(list(frame.loc[twice, '_']))}"
        faults.append(Fault("resources", found, "one row", "Drop the others."))
    for name in (*PERIOD_VALUES, *VALUES):
        if name not in frame:
            continue
        number = pd.to_numeric(frame[name], errors="coerce")
        wrong = number.isna() & frame[name].notna()
        if wrong.any():
            found = some_labels([str(value) for value in frame.loc[wrong, name]])
            faults.append(Fault(f"resources.{name}", found, "a number", "Correct it."))
        frame[name] = number
    for name in VALUES:
        if name in frame and PERIOD in frame and (frame.groupby("_")[name].nunique(dropna=False) > 1).any():
            faults.append(Fault(f"resources.{name}", "several values of one resource", "one", "Give one value."))
    raise_together(faults)
    return frame


def _dataset(frame: pd.DataFrame, periods: pd.DatetimeIndex) -> xr.Dataset:
    labels = pd.Index(pd.unique(frame["_"]), name=RESOURCE, dtype=object)
    first = frame.drop_duplicates("_").set_index("_").reindex(labels)

    def wide(name: str) -> np.ndarray:
        if PERIOD in frame:
            return frame.pivot(index="_", columns=PERIOD, values=name).reindex(index=labels, columns=periods).to_numpy()
        return np.repeat(first[name].to_numpy()[:, None], len(periods), axis=1)

    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, default in PERIOD_VALUES.items():
        values = wide(name).astype(float) if name in frame else np.full((len(labels), len(periods)), default)
        arrays[name] = ((RESOURCE, PERIOD), np.where(np.isnan(values), default, values))
    for name, otherwise in VALUES.items():
        given = first[name].to_numpy(dtype=float) if name in frame else np.full(len(labels), otherwise)
        arrays[name] = ((RESOURCE,), np.where(np.isnan(given), otherwise, given))
    arrays[WINDOW] = ((RESOURCE, PERIOD), _windows(arrays.pop("rebound_hours")[1], frame, wide, periods))
    ends = first[END].fillna("") if END in frame else pd.Series("", index=labels)
    ends = ends.astype(object).where(ends != "", EndLevel.FREE.value)
    arrays[END] = ((RESOURCE,), ends.to_numpy(dtype=object).astype(str))
    names = [first[key].to_numpy(dtype=object).astype(str) for key in KEYS]
    return xr.Dataset(
        arrays,
        coords={
            RESOURCE: labels.astype(str) if len(labels) else labels,
            PERIOD: pd.DatetimeIndex(periods, name=PERIOD),
            "resource_feeder": (RESOURCE, names[0]),
            "resource_name": (RESOURCE, names[1]),
        },
    )


def _windows(hours: np.ndarray, frame: pd.DataFrame, wide: object, periods: pd.DatetimeIndex) -> np.ndarray:
    """Return the label of the rebound's window, (resource, period)."""
    if WINDOW in frame and callable(wide):
        labels = pd.DataFrame(wide(WINDOW)).fillna("").to_numpy(dtype=object)
        return labels.astype(str)
    if (hours <= 0).any():
        given = some_labels([f"{value:g}" for value in hours[hours <= 0]])
        remedy = "Leave it out where nothing has to come back."
        raise_together([Fault("resources.rebound_hours", given, "above 0 h", remedy)])
    since = (periods - periods[0]) / pd.Timedelta(hours=1)
    with np.errstate(all="ignore"):
        number = np.floor(np.asarray(since)[None, :] / hours[:, None] + 1e-9)
    found = np.full(number.shape, "", dtype=object)
    known = np.isfinite(number)
    found[known] = [f"window {int(n)}" for n in number[known]]
    return found.astype(str)


def _faults(data: xr.Dataset) -> list[Fault]:
    faults: list[Fault] = []
    for name, given in (("feeder", data.resource_feeder), ("resource", data.resource_name)):
        empty = given == ""
        faults += fault_where(empty, given, name=f"resources.{name}", expected="a name", remedy="Name it.")
    storage = data.energy_start.notnull()
    told = [
        ("output", ~(abs(data.output) < np.inf), "a number in MW", "Give the schedule."),
        ("p_min", ~(data.p_min <= data.p_max), "p_min ≤ p_max", "Correct the limits."),
        ("q_min", ~((data.q_min <= 0) & (data.q_min > -np.inf)), "a number ≤ 0 Mvar", "Give what it may take."),
        ("q_max", ~((data.q_max >= 0) & (data.q_max < np.inf)), "a number ≥ 0 Mvar", "Give what it may inject."),
        ("ramp_up", ~(data.ramp_up >= 0), "≥ 0 MW/h", "Give ramps without sign."),
        ("ramp_down", ~(data.ramp_down >= 0), "≥ 0 MW/h", "Give ramps without sign."),
        ("charging", ~((data.charging > 0) & (data.charging <= 1)), "in (0, 1]", "Give a share of 1."),
        ("discharging", ~((data.discharging > 0) & (data.discharging <= 1)), "in (0, 1]", "Give a share of 1."),
        ("energy_max", storage & ~(data.energy_max >= data.energy_min), "≥ energy_min", "Give both in MWh."),
        ("energy_min", storage & ~(abs(data.energy_min) < np.inf), "a number in MWh", "Give it in MWh."),
        ("energy_start", ~storage & data.energy_max.notnull(), "a number in MWh", "Give the energy at the start."),
        (END, ~data[END].isin(list(EndLevel)), " or ".join(EndLevel), "Correct it."),
        (END, ~storage & (data[END] != EndLevel.FREE.value), "free without a storage", "Give energy_start."),
    ]  # fmt: skip
    for name, wrong, expected, remedy in told:
        faults += fault_where(wrong, data[name], name=f"resources.{name}", expected=expected, remedy=remedy)
    free = data.energy_end.notnull() & (data[END] == EndLevel.FREE.value)
    remedy = "Say whether it is at_least or equal in end_level."
    faults += fault_where(free, data.energy_end, name="resources.energy_end", expected="an end_level", remedy=remedy)
    return faults
