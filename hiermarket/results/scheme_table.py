"""The table of coordination schemes side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import DIRECTION
from hiermarket.results.comparison import PAYER, PAYERS, SCHEME, STATISTIC
from hiermarket.results.table import Column, figure, table
from hiermarket.results.totals import LIMIT, MEASURE

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

    from hiermarket.results.comparison import Comparison

#: What stands for a state that breaks no limit by as much as a digit that is shown.
NOTHING = "-"


def scheme_table(comparison: Comparison) -> Table:
    """Put coordination schemes side by side.

    Parameters
    ----------
    comparison : Comparison
        Of `compare`.

    Returns
    -------
    rich.table.Table
        A row for each scheme: the system's cost and who bears it, shares, prices, volumes,
        and limits that the AC power flow of the final state finds broken.
    """
    data = comparison.data
    rows: list[list[float | str]] = []
    for scheme in map(str, data[SCHEME].values):
        if scheme in comparison.failures:
            rows.append([scheme, *([np.nan] * 10), "no result", np.nan])
            continue
        at = data.sel({SCHEME: scheme})
        bid, paid = (at["cost_to_payer"].sel({MEASURE: name}) for name in ("bid cost", "payment"))
        rows.append(
            [
                scheme,
                float(at["ac_cost"]),
                *(float(bid.sel({PAYER: payer})) for payer in PAYERS[:2]),
                float(paid.sel({PAYER: PAYERS[2]})),
                100 * float(at["local_share"]),
                100 * float(at["tbm_share"]),
                float(at["nodal_prices"].sel({STATISTIC: "mean"})),
                float(at["forwarded_energy"].sum(DIRECTION)),
                float(at["withheld_energy"]),
                float(at["energy_not_served"]),
                _broken(at["worst_violation"]),
                float(at["seconds"]),
            ]
        )
    columns = [
        Column("Scheme"), Column("System cost", "EUR"), Column("of DSOs", "EUR"), Column("of TSO", "EUR"),
        Column("Payers pay", "EUR"), Column("Local share", "%"), Column("TBM share", "%"),
        Column("Nodal price", "EUR/MWh"), Column("For- warded", "MWh"), Column("With- held", "MWh"),
        Column("Not served", "MWh"), Column("Broken limit", "V or S"), Column("Time", "s"),
    ]  # fmt: skip
    said = (
        "System cost: accepted bids at their prices, lost load at its value, and what the AC power flow imports\n"
        "beyond what was cleared, at the price of the interface. Of DSOs, of TSO: bids that they use, and what DSOs\n"
        "pay the TSO at the interfaces. Payers of the imbalance pay the cleared prices. Nodal price: the mean.\n"
        "Broken limit: the worst by AC power flow of the final state, V of a voltage [p.u.], S of a branch [MVA]."
    )
    reasons = [f"{name}: {why}" for name, why in comparison.failures.items()]
    return table("Coordination schemes", columns, rows, note="\n".join([said, *reasons]))


def _broken(worst: xr.DataArray) -> str:
    """Name the worst violations of the final state."""
    if bool(worst.isnull().any()):
        return "no power flow"
    voltage = float(worst.sel({LIMIT: ["undervoltage", "overvoltage"]}).max())
    found = [("V", voltage, "p.u."), ("S", float(worst.sel({LIMIT: "overload"})), "MVA")]
    said = [f"{of} {figure(value, unit)}" for of, value, unit in found if float(figure(value, unit)) > 0]
    return "\n".join(said) or NOTHING
