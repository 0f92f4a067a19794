"""What a user writes for one feeder: its clearings as one LP of all periods, in linopy and in Pyomo.

Both solve fewer problems than the chain does: the clearing of every loss pass at least cost, no
ties, no prices, no safe box, no power flow. The losses are handed to them, linearised where our own
passes linearised them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LossTerms


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost of every feeder's last pass [EUR], without lost load."""

    of_feeder: dict[str, float]
    solves: int


@dataclass(frozen=True, slots=True)
class Pass:
    """The losses of one pass, and the scheduled import that goes with them."""

    losses: LossTerms
    imports: xr.DataArray


def passes_of(market: BalancingMarket, count: int) -> list[Pass]:
    """Return the losses of every pass, as `clear_dso` linearises them."""
    import hiermarket as hm
    from hiermarket.network.losses import LinDistFlow, lossless

    found = []
    for number in range(count + 1):
        cleared = hm.clear_dso(market, grid=LinDistFlow(number))
        losses = lossless(market.feeders) if number == 0 else cleared.losses
        found.append(Pass(losses, cleared.scheduled_import))
    return found


def one_by_one(market: BalancingMarket, passes: list[Pass]) -> Iterator[tuple[str, BalancingMarket, list[Pass]]]:
    """Yield every feeder with its own part of everything."""
    from hiermarket.network.losses import LossTerms

    for name in market.feeder_names:
        part = market.of_feeders([name])
        at = {"bus": part.feeders.branches}
        cut = [
            Pass(
                LossTerms(*(getattr(one.losses, term).sel(at) for term in ("constant", "by_p", "by_q", "by_w"))),
                one.imports.sel(feeder=[name]),
            )
            for one in passes
        ]
        yield str(name), part, cut


def by_linopy(market: BalancingMarket, passes: list[Pass]) -> Costs:
    """Build and solve one linopy model a feeder and pass, as linopy does it by itself."""
    import linopy

    from hiermarket.network.losses import LinDistFlow
    from hiermarket.solving.program import quiet
    from hiermarket.stages.clearing_model import clearing_cost, clearing_model

    costs, solves = {}, 0
    for name, part, cut in one_by_one(market, passes):
        for one in cut:
            with quiet("linopy"), linopy.options as options:
                options.set_value(semantics="v1")
                model = clearing_model(part, one.losses, one.imports, LinDistFlow())
                model.add_objective(clearing_cost(model, part, part.bids.data.price))
                status, condition = model.solve(
                    solver_name="highs", io_api="direct", progress=False, output_flag=False, threads=1
                )
                assert (status, condition) == ("ok", "optimal")
            solves += 1
        value = model.objective.value
        assert value is not None
        costs[name] = float(value)
    return Costs(costs, solves)


def by_pyomo(market: BalancingMarket, passes: list[Pass]) -> Costs:
    """Build and solve one Pyomo model a feeder and pass, by HiGHS."""
    import pyomo.environ as pyo

    costs, solves = {}, 0
    for name, part, cut in one_by_one(market, passes):
        for one in cut:
            model = _pyomo_model(part, one)
            solver = pyo.SolverFactory("appsi_highs")
            answer = solver.solve(model)
            assert answer.solver.termination_condition == pyo.TerminationCondition.optimal
            solves += 1
        costs[name] = float(pyo.value(model.cost))
    return Costs(costs, solves)


def _pyomo_model(market: BalancingMarket, one: Pass) -> Any:  # noqa: PLR0915  (the model, row by row)
    """Write (1)–(8) of docs/model.md for one feeder, period by period."""
    import pyomo.environ as pyo

    data, bids, tbm, rules = market.feeders.data, market.bids.data, market.tbm, market.rules
    buses, root = list(data["bus"].values), str(data["root"].values[0])
    branches, parent = list(market.feeders.branches), market.feeders.parents.to_dict()
    below: dict[str, list[str]] = {bus: [] for bus in buses}
    for child, above in parent.items():
        below[str(above)].append(str(child))
    at_bus: dict[str, list[int]] = {bus: [] for bus in buses}
    for number, bus in enumerate(bids["bid_node"].values):
        at_bus[bus].append(number)
    count = {bus: number for number, bus in enumerate(buses)}
    place = {bus: number for number, bus in enumerate(branches)}
    periods = range(len(market.periods))
    r, x, tap, g, b, s_max = (data[n].values for n in ("r", "x", "tap", "g", "b", "s_max"))
    low, high = data["v_min"].values ** 2, data["v_max"].values ** 2
    v_root = data["v_root"].values[0] ** 2
    p0 = (
        (market.imbalance - data["p_scheduled"].drop_vars(("bus_feeder", "bus_name"))).transpose("bus", "period").values
    )
    q0 = -data["q_scheduled"].transpose("bus", "period").values
    sign = np.where(bids["bid_direction"].values == "up", 1.0, -1.0)
    price, volume, ratio = (bids[n].transpose("bid", "period").values for n in ("price", "volume", "reactive_ratio"))
    l_0, l_p, l_q, l_w = (
        getattr(one.losses, n).transpose("bus", "period").values for n in ("constant", "by_p", "by_q", "by_w")
    )
    imports = one.imports.values[0]
    up, down = (tbm["tbm_price"].sel(direction=d).values for d in ("up", "down"))
    limit = tbm["tbm_limit"].values[0]
    hours = market.duration.values

    m = pyo.ConcreteModel()
    m.P, m.Q = pyo.Var(branches, periods), pyo.Var(branches, periods)

    def voltage(_: Any, n: str, t: int) -> tuple[float, float]:
        return (v_root[t], v_root[t]) if n == root else (low[count[n]], high[count[n]])

    m.w = pyo.Var(buses, periods, bounds=voltage)
    m.a = pyo.Var(range(len(sign)), periods, bounds=lambda _, i, t: (0, volume[i, t]))
    m.g = pyo.Var(range(2), periods, bounds=lambda _, d, t: (0, limit[d, t] if np.isfinite(limit[d, t]) else None))
    m.short, m.long = (pyo.Var(buses, periods, domain=pyo.NonNegativeReals) for _ in range(2))
    m.low, m.high = (pyo.Var(branches, periods, domain=pyo.NonNegativeReals) for _ in range(2))

    def current(n: str, t: int) -> Any:
        k = place[n], t
        return l_0[k] + l_p[k] * m.P[n, t] + l_q[k] * m.Q[n, t] + l_w[k] * m.w[parent[n], t]

    def active(_: Any, n: str, t: int) -> Any:
        k = count[n]
        local = sum(sign[i] * m.a[i, t] for i in at_bus[n])
        flow = m.P[n, t] - r[k] * current(n, t) - sum(m.P[c, t] for c in below[n]) - g[k] * m.w[n, t]
        return flow + local + m.short[n, t] - m.long[n, t] == p0[k, t]

    def reactive(_: Any, n: str, t: int) -> Any:
        k = count[n]
        local = sum(sign[i] * ratio[i, t] * m.a[i, t] for i in at_bus[n])
        flow = m.Q[n, t] - x[k] * current(n, t) - sum(m.Q[c, t] for c in below[n]) + b[k] * m.w[n, t]
        return flow + local + m.low[n, t] - m.high[n, t] == q0[k, t]

    def drop(_: Any, n: str, t: int) -> Any:
        k = count[n]
        fall = 2 * (r[k] * m.P[n, t] + x[k] * m.Q[n, t]) - (r[k] ** 2 + x[k] ** 2) * current(n, t)
        return m.w[n, t] - m.w[parent[n], t] / tap[k] ** 2 + fall == 0

    def interface(_: Any, t: int) -> Any:
        local = sum(sign[i] * m.a[i, t] for i in at_bus[root]) + m.short[root, t] - m.long[root, t]
        flow = sum(m.P[c, t] for c in below[root]) + g[count[root]] * m.w[root, t]
        return m.g[0, t] - m.g[1, t] + local - flow == p0[count[root], t] - imports[t]

    m.balance, m.reactive = (
        pyo.Constraint(branches, periods, rule=active),
        pyo.Constraint(branches, periods, rule=reactive),
    )
    m.drop, m.interface = pyo.Constraint(branches, periods, rule=drop), pyo.Constraint(periods, rule=interface)
    rated = [n for n in branches if np.isfinite(s_max[count[n]])]

    def rating(_: Any, n: str, side: int, t: int) -> Any:
        k, angle = count[n], 2 * np.pi * side / 12
        cos, sin = np.cos(angle), np.sin(angle)
        far = max(-(cos * r[k] + sin * x[k]), 0.0)
        return cos * m.P[n, t] + sin * m.Q[n, t] + far * current(n, t) <= s_max[k] * np.cos(np.pi / 12)

    m.rating = pyo.Constraint(rated, range(12), periods, rule=rating)
    lost = sum(
        hours[t]
        * (sum(m.short[n, t] + m.long[n, t] for n in buses) + sum(m.low[n, t] + m.high[n, t] for n in branches))
        for t in periods
    )
    local = sum(hours[t] * sign[i] * price[i, t] * m.a[i, t] for i in range(len(sign)) for t in periods)
    tbm_cost = sum(hours[t] * (up[t] * m.g[0, t] - down[t] * m.g[1, t]) for t in periods)
    m.cost = pyo.Objective(expr=local + tbm_cost + rules.value_of_lost_load * lost)
    return m
