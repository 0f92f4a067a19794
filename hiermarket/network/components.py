"""What the component tables of a PyPSA network say: which are active, their ratings, and kinds that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.errors import DataError, Fault, some_labels

if TYPE_CHECKING:
    import pandas as pd

    from hiermarket.network.from_pypsa import PypsaNetwork

_CONTROLLED = ("Link", "Process")


def refuse_kinds(network: PypsaNetwork, where: str) -> None:
    """Refuse networks whose components or snapshots have more than one dimension."""
    faults = []
    if network.has_investment_periods:
        remedy = "Select one with n.get_network(investment period) or n.copy(snapshots=...)."
        faults.append(Fault(f"{where}.investment_periods", "several investment periods", "none", remedy))
    if network.has_scenarios:
        remedy = "Select one with n.get_scenario(name)."
        faults.append(Fault(f"{where}.scenarios", "a stochastic network", "one scenario", remedy))
    if faults:
        raise DataError(faults)


def active(network: PypsaNetwork, component: str) -> pd.DataFrame:
    """Return the table of the active components of a kind."""
    static: pd.DataFrame = network.c[component].static
    return static[static["active"]] if "active" in static else static


def controlled(network: PypsaNetwork) -> list[tuple[str, str, list[str]]]:
    """Return every active link and process with its buses."""
    found = []
    for component in _CONTROLLED:
        static = active(network, component)
        ports = [str(column) for column in static if str(column).startswith("bus") and str(column)[3:].isdigit()]
        for label, ends in zip(static.index, static[ports].to_numpy(), strict=True):
            found.append((component, str(label), [str(end) for end in ends if end]))
    return found


def ratings(network: PypsaNetwork, component: str, s_nom: pd.Series, where: str) -> tuple[pd.Series, list[Fault]]:
    """Return s_nom × s_max_pu [MVA], inf where s_nom is 0, and the branches whose rating changes in time."""
    if s_nom.empty:
        return s_nom.astype(float), []
    per_unit = network.get_switchable_as_dense(component, "s_max_pu")[s_nom.index]
    changing = per_unit.columns[per_unit.ne(per_unit.iloc[0]).any()]
    remedy = "Use the lowest value for all snapshots, or split the horizon."
    where = f"{where}, {component.lower()}s {some_labels(list(changing))}"
    faults = [Fault(where, "s_max_pu that changes in time", "one rating", remedy)] if len(changing) else []
    return (s_nom * per_unit.iloc[0]).where(s_nom != 0, np.inf), faults
