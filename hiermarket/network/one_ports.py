"""Scheduled injections of loads, generators and storage, summed by bus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermarket.errors import Fault, some_labels

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class OnePorts:
    """Components of one kind that inject at one bus each.

    Parameters
    ----------
    kind : str
        Name of the kind, for messages.
    bus, sign, control : pandas.Series
        By component: its bus; +1 where positive powers are injected, −1 for loads; "PQ",
        "PV" or "Slack".
    p_set, q_set : pandas.DataFrame (snapshot, component)
        Scheduled powers [MW, Mvar] in the direction of the sign; NaN where not set.
    """

    kind: str
    bus: pd.Series
    sign: pd.Series
    control: pd.Series
    p_set: pd.DataFrame
    q_set: pd.DataFrame

    def without_slack(self) -> OnePorts:
        """Leave out the slack, which is the interface and no part of the schedule."""
        kept = self.control.index[self.control != "Slack"]
        return OnePorts(
            kind=self.kind,
            bus=self.bus.loc[kept],
            sign=self.sign.loc[kept],
            control=self.control.loc[kept],
            p_set=self.p_set[kept],
            q_set=self.q_set[kept],
        )

    def slack_at_zero(self) -> OnePorts:
        """Count the slack as 0 where it has no schedule, and ask for no reactive powers."""
        slack = self.control.index[self.control == "Slack"]
        return replace(self, p_set=self.p_set.fillna(dict.fromkeys(slack, 0.0)), q_set=0.0 * self.q_set.fillna(0.0))


def held_voltages(one_ports: Sequence[OnePorts], where: str) -> list[Fault]:
    """Report components that hold a voltage instead of a reactive power."""
    remedy = "Set control='PQ' with q_set; a schedule holds powers, not voltages."
    faults = []
    for part in one_ports:
        held = list(part.control.index[part.control == "PV"])
        if held:
            faults.append(Fault(f"{where}, {part.kind}s {some_labels(held)}", "control 'PV'", "control 'PQ'", remedy))
    return faults


def net_injections(
    one_ports: Sequence[OnePorts], buses: Sequence[str], where: str
) -> tuple[dict[str, np.ndarray], list[Fault]]:
    """Return the net injections p and q (bus, snapshot) [MW, Mvar], > 0 into the grid, and missing schedules.

    Parameters
    ----------
    one_ports : sequence of OnePorts
        All at buses of the grid.
    buses : sequence of str
        Labels of the buses.
    where : str
        Name of the grid, for messages.
    """
    periods = max((len(part.p_set) for part in one_ports), default=0)
    total = {power: np.zeros((len(buses), periods)) for power in ("p", "q")}
    position = pd.Index(buses)
    faults = []
    for part in one_ports:
        at = position.get_indexer(pd.Index(part.bus))
        for power, values in (("p", part.p_set), ("q", part.q_set)):
            unset = list(values.columns[values.isna().any()])
            if unset:
                remedy = (
                    f"Set {power}_set, to 0 where nothing is scheduled; n.optimize.fix_optimal_dispatch() sets p_set."
                )
                whom = f"{where}, {part.kind}s {some_labels(unset)}"
                faults.append(Fault(whom, f"no {power}_set", "a schedule for every snapshot", remedy))
            np.add.at(total[power], at, (values * part.sign).to_numpy().T)
    return total, faults
