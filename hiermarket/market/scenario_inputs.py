"""Inputs of a market that carry scenarios: which ones, and the part of one scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import SCENARIO
from hiermarket.schema import raise_together

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import Transmission

Source = TypeVar("Source")

#: Columns that are names, also where they look like numbers.
_NAMES = ("feeder", "bsp", "bus", SCENARIO)


def read_table(source: Source) -> Source | pd.DataFrame:
    """Read a CSV file that has a column ``scenario``; return anything else as it is."""
    if not isinstance(source, str | Path) or SCENARIO not in pd.read_csv(Path(source), nrows=0):
        return source
    return pd.read_csv(Path(source), dtype=dict.fromkeys(_NAMES, str))


def scenarios_in(source: object) -> list[str]:
    """Return the scenarios that an input carries, in order; none for most inputs.

    Parameters
    ----------
    source : object
        An array or Dataset with the dimension ``scenario``, a table with that column, or
        a side of the TSO whose imbalance has it.

    Raises
    ------
    DataError
        When the dimension has no labels, or one of them twice, or a row has none.
    """
    if isinstance(source, pd.DataFrame):
        if SCENARIO not in source:
            return []
        if source[SCENARIO].isna().any():
            found = f"no label in {int(source[SCENARIO].isna().sum())} rows"
            raise_together([Fault(SCENARIO, found, "a scenario in every row", "Fill it.")])
        return [str(name) for name in pd.unique(source[SCENARIO])]
    if isinstance(source, xr.DataArray | xr.Dataset):
        if SCENARIO not in source.dims:
            return []
        if SCENARIO not in source.indexes:
            raise_together([Fault(SCENARIO, "a dimension without labels", "labels", "Assign the coordinate.")])
        labels = [str(name) for name in source.indexes[SCENARIO]]
        twice = [name for name in dict.fromkeys(labels) if labels.count(name) > 1]
        if twice:
            raise_together([Fault(SCENARIO, f"{some_labels(twice)} twice", "each label once", "Rename them.")])
        return labels
    imbalance = getattr(source, "imbalance", None)
    return scenarios_in(imbalance) if isinstance(imbalance, xr.DataArray) else []


def at_scenario(source: Source, scenario: str) -> Source:
    """Return an input in one scenario; an input without scenarios as it is."""
    known = scenarios_in(source)
    if not known:
        return source
    found: object = source
    if isinstance(source, pd.DataFrame):
        found = source[source[SCENARIO].astype(str) == scenario].drop(columns=SCENARIO)
    elif isinstance(source, xr.DataArray | xr.Dataset):
        found = source.isel({SCENARIO: known.index(scenario)}, drop=True)
    return found  # type: ignore[return-value]  # the same kind of input


def side_at(side: Transmission | Mapping[str, Transmission] | None, scenario: str) -> Transmission | None:
    """Return the TSO's side in one scenario."""
    if side is None:
        return None
    one = side[scenario] if isinstance(side, Mapping) else side
    return one if one.imbalance is None else replace(one, imbalance=at_scenario(one.imbalance, scenario))


def common_scenarios(carried: Mapping[str, list[str]]) -> list[str]:
    """Return the scenarios of all inputs that carry some.

    Parameters
    ----------
    carried : mapping name of the input → scenarios
        Empty lists for inputs without.

    Raises
    ------
    DataError
        With every input whose scenarios are others than those of the first one.
    """
    some = {name: labels for name, labels in carried.items() if labels}
    if not some:
        return []
    first, labels = next(iter(some.items()))
    faults = []
    for name, others in some.items():
        apart = sorted(set(labels) ^ set(others))
        if apart:
            expected = f"the scenarios of {first}: {some_labels(labels)}"
            faults.append(
                Fault(f"{name}.{SCENARIO}", f"missing or unknown: {some_labels(apart)}", expected, "Add or drop them.")
            )
    raise_together(faults)
    return labels
