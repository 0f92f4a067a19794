"""Tables of a run in scenarios: each of them, and what they mean together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.labels import SCENARIO
from hiermarket.results.indicators import scenario_indicators
from hiermarket.results.risk import risk
from hiermarket.results.table import Column, table
from hiermarket.results.totals import MEASURE, STAGE

if TYPE_CHECKING:
    from rich.table import Table

    from hiermarket.stages.risk import CVaR
    from hiermarket.stages.scenario_runs import ScenarioChain


def risk_tables(chain: ScenarioChain, measure: CVaR | None = None) -> list[Table]:
    """Return the tables of a run in scenarios: each scenario, and what they mean together."""
    found, figures = scenario_indicators(chain), risk(chain, measure=measure)
    stages, measures = found.indexes[STAGE], found.indexes[MEASURE]
    first, last = ({STAGE: stages[place]} for place in (0, -1))
    rows: list[list[float | str]] = []
    for scenario in found.indexes[SCENARIO]:
        at = found.sel({SCENARIO: scenario})
        paid = [float(at.cost_after.sel({**stage, MEASURE: measures[0]})) for stage in (first, last)]
        share = 100 * float(at.local_share.sel(first))
        lost = float(at.energy_not_served)
        rows.append([str(scenario), 100 * float(chain.probability.sel({SCENARIO: scenario})), *paid, share, lost])
    columns = [
        Column("Scenario"), Column("Probability", "%"), Column("Paid, distribution", "EUR"),
        Column("Paid, transmission", "EUR"), Column("Local share", "%"), Column("Not served", "MWh"),
    ]  # fmt: skip
    by_scenario = table("Scenarios", columns, rows)
    names = ("expected_cost", "cvar_cost", "lowest_cost", "highest_cost")
    totals: list[list[float | str]] = [
        [str(stage), str(kind), *(float(figures[name].sel({STAGE: stage, MEASURE: kind})) for name in names)]
        for stage in stages
        for kind in measures
    ]
    heads = [
        Column("After market"), Column("Cost as"), Column("Expected", "EUR"),
        Column(f"CVaR {figures.attrs['alpha']:g}", "EUR"), Column("Lowest", "EUR"), Column("Highest", "EUR"),
    ]  # fmt: skip
    note = f"Expected energy not served {float(figures.expected_not_served):.3f} MWh: not in the costs."
    return [by_scenario, table("Scenarios: risk", heads, totals, note=note)]
