"""Bids of a transmission grid's generators at their costs, read from a PyPSA network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import PERIOD, Direction
from hiermarket.market.bids import TRANSMISSION, Bids, bids
from hiermarket.network.components import active
from hiermarket.network.snapshots import periods_of
from hiermarket.schema import raise_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.network.from_pypsa import PypsaNetwork

#: What is read of every generator: what varies in time, too.
_VARYING = ("p_set", "p_min_pu", "p_max_pu", "marginal_cost", "marginal_cost_quadratic")


def generator_bids(network: PypsaNetwork, *, buses: Sequence[str] | None = None, steps: int = 20) -> Bids:
    """Offer what the generators of a network can do beside their schedule, at what it costs.

    Parameters
    ----------
    network : pypsa.Network
        Never changed. Generators with ``active=False`` are left out.
    buses : sequence of str, optional
        The buses of the transmission grid, where the network holds more.
    steps : int
        Into how many blocks of one size a generator with a quadratic cost cuts each direction.
        A block is priced at the mean of its marginal cost, so that costs are exact at the ends
        of blocks, and between them at most marginal_cost_quadratic × (width/2)² too high.

    Returns
    -------
    Bids
        Of the feeder "transmission", the generator as provider: up from p_set to p_nom × p_max_pu,
        down from p_set to p_nom × p_min_pu [MW], at marginal_cost + 2 × marginal_cost_quadratic × p
        [EUR/MWh], which a generator saves when it goes down.

    Raises
    ------
    DataError
        With every fault found: no schedule (a slack without p_set counts as 0), a schedule outside
        of the limits, costs that are no numbers or fall with the output, no step.

    Notes
    -----
    Start-up costs, and those of standing by, are no part of a bid.
    """
    static = active(network, "Generator")
    static = static if buses is None else static[static["bus"].isin(buses)]
    periods, _, faults = periods_of(network.snapshots, network.snapshot_weightings, "grid")
    tables = {name: network.get_switchable_as_dense("Generator", name)[static.index] for name in _VARYING}
    slack = static.index[static["control"] == "Slack"]
    tables["p_set"] = tables["p_set"].fillna(dict.fromkeys(slack, 0.0))
    least, most = (tables[name] * static["p_nom"] for name in ("p_min_pu", "p_max_pu"))
    if steps < 1:
        faults.append(Fault("generator_bids.steps", str(steps), "at least 1", "Give a number of blocks."))
    faults += _faults(tables, least, most)
    raise_together(faults)
    linear, quadratic = (tables[name].to_numpy(dtype=float) for name in ("marginal_cost", "marginal_cost_quadratic"))
    schedule = tables["p_set"].to_numpy(dtype=float)
    rows = []
    for way, end in ((Direction.UP, most), (Direction.DOWN, least)):
        reach = end.to_numpy(dtype=float) - schedule
        for position, name in enumerate(static.index):
            # a straight cost is one block
            count = steps if quadratic[:, position].any() else 1
            width = reach[:, position] / count
            for block in range(count):
                middle = schedule[:, position] + (block + 0.5) * width
                price = linear[:, position] + 2 * quadratic[:, position] * middle
                volume = np.abs(width)
                part = {"block": block, "direction": way.value, "price": price, "volume": volume, PERIOD: periods}
                rows.append(pd.DataFrame({"bsp": str(name), "bus": str(static["bus"][name]), **part}))
    return bids(pd.concat(rows, ignore_index=True).assign(feeder=TRANSMISSION), periods)


def _faults(tables: dict[str, pd.DataFrame], least: pd.DataFrame, most: pd.DataFrame) -> list[Fault]:
    """Report schedules and costs that cannot be bid."""
    faults = []

    def report(wrong: pd.DataFrame, found: str, expected: str, remedy: str) -> None:
        names = [str(name) for name in wrong.columns[wrong.any()]]
        if names:
            faults.append(Fault(f"grid, generators {some_labels(names)}", found, expected, remedy))

    schedule = tables["p_set"]
    report(schedule.isna(), "no p_set", "a schedule for every snapshot", "Set p_set, to 0 where nothing is scheduled.")
    outside = (schedule < least - 1e-9) | (schedule > most + 1e-9)
    expected = "p_nom × p_min_pu ≤ p_set ≤ p_nom × p_max_pu"
    report(outside, "a schedule outside of its limits", expected, "Correct p_set, p_nom or the limits.")
    for name in ("marginal_cost", "marginal_cost_quadratic"):
        report(~(tables[name].abs() < np.inf), f"no {name}", "a number", "Fill it.")
    falling = tables["marginal_cost_quadratic"] < 0
    report(falling, "marginal_cost_quadratic < 0", "≥ 0: costs are convex", "Correct the cost.")
    return faults
