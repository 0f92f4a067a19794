"""Indicators of a run: shares, savings, volumes, violations, with their energy and cost apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.labels import DIRECTION
from hiermarket.nomenclature import describe
from hiermarket.results.totals import (
    LIMIT,
    MEASURE,
    STAGE,
    STAGES,
    WHEN,
    Totals,
    feeder_totals,
    grid_totals,
    join_totals,
)
from hiermarket.stages.scenario_runs import ScenarioChain, stack

if TYPE_CHECKING:
    import xarray as xr

    from hiermarket.stages.coordination import Chain

#: Energy below this counts as none [MWh]: rounding of the solver.
NEGLIGIBLE = 1e-6


def indicators(chain: Chain | ScenarioChain) -> xr.Dataset:
    """Compute the indicators of a run.

    Parameters
    ----------
    chain : Chain or ScenarioChain
        The results of all stages; with a leading dimension ``scenario`` of a run in scenarios.

    Returns
    -------
    Dataset
        Units and meanings as in the nomenclature. Shares refer to the gross imbalance
        energy Σ|I|Δ: of the feeders after the distribution market, of feeders and
        transmission grid together after the transmission market. What nets out, less
        losses, is ``netting_share``. A saving is NaN where the baseline costs nothing or less,
        and where energy is not served.
    """
    if isinstance(chain, ScenarioChain):
        return scenario_indicators(chain)
    grid = grid_totals(chain.market.tso_side, chain.cleared, chain.baseline.cleared)
    return indicators_of(join_totals([feeder_totals(chain), grid]))


def scenario_indicators(chain: ScenarioChain) -> xr.Dataset:
    """Compute the indicators of every scenario: see `indicators`."""
    return describe(stack({name: indicators(one) for name, one in chain.chains.items()}))


def indicators_of(totals: Totals) -> xr.Dataset:
    """Compute the indicators of a study from its totals.

    Parameters
    ----------
    totals : Totals
        Of all batches of feeders and of the transmission grid, joined.

    Returns
    -------
    Dataset
        See `indicators`.
    """
    data = totals.data.transpose(STAGE, WHEN, MEASURE, LIMIT, DIRECTION)
    before, after, lost = data["cost_before"], data["cost_after"], data["not_served"]
    # what is not served saves nothing: no saving is defined then
    saving = (1.0 - after / before).where((before > 0) & (lost <= NEGLIGIBLE))
    gross = data["imbalance_energy"].sum(DIRECTION)
    local, tbm = (data[name].sum(DIRECTION) / gross.where(gross > 0) for name in ("local_energy", "tbm_energy"))
    shares = {
        "local_share": local,
        "tbm_share": tbm,
        "netting_share": 1.0 - local - tbm - lost / gross.where(gross > 0),
    }
    figures = data[["imbalance_energy", "local_energy", "tbm_energy"]].assign(shares)
    figures = figures.assign(cost_before=before, cost_after=after, saving=saving)
    figures = figures.assign({name: data[name] for name in ("forwarded_energy", "withheld_energy")})
    figures = figures.assign(energy_not_served=lost.sel({STAGE: STAGES[-1]}, drop=True))
    return describe(figures.assign(worst_violation=data["worst_violation"]))
