"""What a run in scenarios costs: expected, at worst, and the mean of the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import DIRECTION, SCENARIO
from hiermarket.nomenclature import describe
from hiermarket.results.indicators import scenario_indicators
from hiermarket.results.totals import MEASURE, STAGE
from hiermarket.stages.risk import CVaR, cvar

if TYPE_CHECKING:
    from hiermarket.stages.scenario_runs import ScenarioChain


def risk(chain: ScenarioChain, *, measure: CVaR | None = None) -> xr.Dataset:
    """Compute expectation, CVaR and range of what a run in scenarios costs.

    Parameters
    ----------
    chain : ScenarioChain
        The results in all scenarios.
    measure : CVaR, optional
        The level α; the worst 5 % by default.

    Returns
    -------
    Dataset
        ``expected_cost, cvar_cost, lowest_cost, highest_cost (stage, measure)`` of the cost of
        balancing with local bids; ``expected_local_share, expected_tbm_share (stage)``: expected
        energy by expected gross imbalance energy; ``expected_not_served`` [MWh]. A figure that
        a scenario does not have is NaN. ``alpha`` is an attribute.

    Notes
    -----
    Equations (46) and (47) of docs/model.md. Energy that is not served is not in the cost.
    """
    chosen = measure or CVaR()
    found, weight = scenario_indicators(chain), chain.probability
    cost = found["cost_after"].transpose(SCENARIO, STAGE, MEASURE)

    def expected(array: xr.DataArray) -> xr.DataArray:
        return (weight * array).sum(SCENARIO, skipna=False)

    tail = np.apply_along_axis(cvar, 0, cost.values, weight.values, chosen.alpha)
    energy = expected(found["imbalance_energy"]).sum(DIRECTION)
    shares = {
        f"expected_{name}_share": expected(found[f"{name}_energy"]).sum(DIRECTION) / energy.where(energy > 0)
        for name in ("local", "tbm")
    }
    figures = xr.Dataset(
        {
            # (46)  Σ_s p_s c_s                                                              [EUR]
            "expected_cost": expected(cost),
            "cvar_cost": cost.isel({SCENARIO: 0}, drop=True).copy(data=tail),
            "lowest_cost": cost.min(SCENARIO, skipna=False),
            "highest_cost": cost.max(SCENARIO, skipna=False),
            **shares,
            "expected_not_served": expected(found["energy_not_served"]),
        }
    )
    return describe(figures.assign_attrs(alpha=chosen.alpha))
