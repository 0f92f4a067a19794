"""The tables of a run, one or more for every stage, in the order in which the data walks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.results import market_tables, money_tables, system_tables
from hiermarket.results.indicators import indicators
from hiermarket.results.money_tables import Outcome, behaviour_table, outcome
from hiermarket.results.risk_tables import risk_tables
from hiermarket.stages.scenario_runs import ScenarioChain

if TYPE_CHECKING:
    from rich.table import Table

    from hiermarket.stages.coordination import Chain
    from hiermarket.stages.risk import CVaR

__all__ = ["Outcome", "behaviour_table", "outcome", "report"]


def report(chain: Chain | ScenarioChain, *, risk: CVaR | None = None) -> list[Table]:
    """Return the tables of a run.

    Parameters
    ----------
    chain : Chain or ScenarioChain
        The results of all stages.
    risk : CVaR, optional
        The level α for a run in scenarios; the worst 5 % by default.

    Returns
    -------
    list of rich.table.Table
        Inputs; offers and activation; periods; forwarded volumes with their AC check; the
        TSO's clearing; disaggregation with its AC check; accounts and profits; indicators;
        and the certificate where somebody leads. Of a run in scenarios: each scenario, and
        expectation, CVaR and range of the costs. Units stand in the headers. A number
        that does not exist is "-", a saving against a cost of nothing "undefined".
    """
    if isinstance(chain, ScenarioChain):
        return risk_tables(chain, risk)
    figures = indicators(chain)
    tables = [
        *market_tables.inputs(chain),
        market_tables.activation(chain),
        market_tables.periods(chain),
        market_tables.forwarded(chain),
        system_tables.corners(chain),
        system_tables.tso_activation(chain),
        system_tables.interfaces(chain),
        system_tables.lines(chain),
        system_tables.delivery(chain),
        system_tables.final_check(chain),
        *money_tables.accounts(chain),
        money_tables.profits(chain),
        money_tables.shares(chain, figures),
        money_tables.savings(chain, figures),
        money_tables.certificates(chain),
    ]
    return [table for table in tables if table is not None]
