"""The strategic seller in Pyomo: the MILP by hand, and Pyomo's own way from the clearing to a MILP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyomo.environ as pyo
from pyomo.common.enums import ObjectiveSense
from pyomo.common.numeric_types import RegisterIntegerType

from benchmarks.strategic_market import CAP, GAP, TIME_LIMIT, Solved

if TYPE_CHECKING:
    from benchmarks.strategic_market import Market

RegisterIntegerType(ObjectiveSense)  # core.kkt multiplies by it, and warns otherwise


@dataclass(frozen=True, slots=True)
class Built:
    """A Pyomo model, and its sizes for whoever asks."""

    model: Any

    @property
    def rows(self) -> int:
        return sum(1 for _ in self.model.component_data_objects(pyo.Constraint, active=True))

    @property
    def columns(self) -> int:
        return sum(1 for _ in self.model.component_data_objects(pyo.Var))

    @property
    def binaries(self) -> int:
        return sum(v.is_binary() and not v.fixed for v in self.model.component_data_objects(pyo.Var))


def _clearing(given: Market) -> Any:
    """Write the sets, the data and the follower's variables and rows."""
    model = pyo.ConcreteModel()
    model.unit = list(given.cost.indexes["unit"])
    model.hour = list(given.demand.indexes["hour"])
    model.own = list(given.own)
    model.rivals = list(given.rivals)
    model.cost = given.cost.to_series().to_dict()
    model.size = given.capacity.to_series().to_dict()
    model.demand = given.demand.to_series().to_dict()
    model.volume = pyo.Var(model.unit, model.hour, bounds=lambda m, u, t: (0, m.size[u]))
    model.offer = pyo.Var(model.own, model.hour, bounds=(0, CAP))
    model.balance = pyo.Constraint(model.hour, rule=lambda m, t: sum(m.volume[u, t] for u in m.unit) == m.demand[t])
    return model


def build_by_hand(given: Market) -> Built:
    """Write the same MILP as `strategic_by_hand.build`."""
    m = _clearing(given)
    own = set(m.own)
    large_below, large_above = _largest_multipliers(m)
    m.price = pyo.Var(m.hour, bounds=(0, CAP))
    m.below = pyo.Var(m.unit, m.hour, bounds=lambda _, u, t: (0, large_below[u]))
    m.above = pyo.Var(m.unit, m.hour, bounds=lambda _, u, t: (0, large_above[u]))
    m.runs = pyo.Var(m.unit, m.hour, domain=pyo.Binary)
    m.full = pyo.Var(m.unit, m.hour, domain=pyo.Binary)

    def stationarity(m: Any, u: str, t: int) -> Any:
        asked = m.offer[u, t] if u in own else m.cost[u]
        return asked - m.price[t] - m.below[u, t] + m.above[u, t] == 0

    m.stationarity = pyo.Constraint(m.unit, m.hour, rule=stationarity)
    m.volume_if_runs = pyo.Constraint(m.unit, m.hour, rule=lambda m, u, t: m.volume[u, t] <= m.size[u] * m.runs[u, t])
    m.below_if_not = pyo.Constraint(
        m.unit, m.hour, rule=lambda m, u, t: m.below[u, t] <= large_below[u] * (1 - m.runs[u, t])
    )
    m.volume_if_full = pyo.Constraint(m.unit, m.hour, rule=lambda m, u, t: m.volume[u, t] >= m.size[u] * m.full[u, t])
    m.above_if_full = pyo.Constraint(
        m.unit, m.hour, rule=lambda m, u, t: m.above[u, t] <= large_above[u] * m.full[u, t]
    )
    m.profit = pyo.Objective(expr=_profit(m, m.price, m.above), sense=pyo.maximize)
    return Built(m)


def build_from_clearing(given: Market) -> Built:
    """Let Pyomo write the KKT conditions, the disjunctions and the big-M rows; the bounds of multipliers are ours."""
    m = _clearing(given)
    own = set(m.own)
    large_below, large_above = _largest_multipliers(m)
    m.clearing = pyo.Objective(
        expr=sum((m.offer[u, t] if u in own else m.cost[u]) * m.volume[u, t] for u in m.unit for t in m.hour)
    )
    kkt = pyo.TransformationFactory("core.kkt")
    kkt.apply_to(m, parameterize_wrt=[m.offer])
    price, above = {}, {}
    for t in m.hour:
        # the Lagrangian has (demand − supply) × multiplier: the multiplier is the price
        price[t] = kkt.get_multiplier_from_object(m, m.balance[t])
        price[t].setlb(0)
        price[t].setub(CAP)
    for u in m.unit:
        for t in m.hour:
            below, above[u, t] = kkt.get_multiplier_from_object(m, m.volume[u, t])
            below.setub(large_below[u])
            above[u, t].setub(large_above[u])
    pyo.TransformationFactory("mpec.simple_disjunction").apply_to(m)
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    m.profit = pyo.Objective(expr=_profit(m, price, above), sense=pyo.maximize)
    return Built(m)


def _largest_multipliers(m: Any) -> tuple[dict[str, float], dict[str, float]]:
    """A rival's are at most its cost below and cap − cost above; the seller's at most the cap."""
    own = set(m.own)
    below = {u: CAP if u in own else m.cost[u] for u in m.unit}
    above = {u: CAP if u in own else CAP - m.cost[u] for u in m.unit}
    return below, above


def _profit(m: Any, price: Any, above: Any) -> Any:
    """Price × own volume − own cost, with the product linear by strong duality."""
    demand = sum(m.demand[t] * price[t] for t in m.hour)
    rivals = sum(m.cost[u] * m.volume[u, t] + m.size[u] * above[u, t] for u in m.rivals for t in m.hour)
    own = sum(m.cost[u] * m.volume[u, t] for u in m.own for t in m.hour)
    return demand - rivals - own


def solve(built: Built) -> Solved:
    """Solve with HiGHS, up to the time limit."""
    from pyomo.contrib.solver.common.results import TerminationCondition
    from pyomo.contrib.solver.solvers.highs import Highs

    solver = Highs()
    found = solver.solve(
        built.model,
        threads=1,
        time_limit=TIME_LIMIT,
        rel_gap=GAP,
        raise_exception_on_nonoptimal_result=False,
        load_solutions=False,
    )
    optimal = TerminationCondition.convergenceCriteriaSatisfied
    none = float("nan")
    return Solved(
        objective=none if found.incumbent_objective is None else float(found.incumbent_objective),
        bound=none if found.objective_bound is None else float(found.objective_bound),
        proved=found.termination_condition == optimal,
    )
