"""What a user writes for one feeder: LPs of all its periods, in linopy and in Pyomo.

Both solve fewer problems than the chain does: the clearing of every loss pass at least cost, and in
linopy the safe box once. No ties, no power flow, no TSO, no settlement. The losses and the limits of
the box are handed to them, linearised where our own passes linearised them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LossTerms
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.dso_clearing import DsoClearing

#: Labels of bids beside their own.
BID_LABELS: Final = ("bid_feeder", "bid_bsp", "bid_bus", "bid_block", "bid_direction")


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost of every feeder's last pass [EUR], with lost load, and volume of the safe boxes [MW]."""

    of_feeder: dict[str, float]
    solves: int
    volume: float = float("nan")


@dataclass(frozen=True, slots=True)
class Box:
    """The safe box of one feeder: limits at both corners, and the volumes that remain; see (13)."""

    coefficient: xr.DataArray
    room: xr.DataArray
    up: xr.DataArray
    down: xr.DataArray


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


def boxes_of(market: BalancingMarket) -> dict[str, Box]:
    """Return the limits of every feeder, linearised at both corners of our own box."""
    import hiermarket as hm

    found = {}
    for name in market.feeder_names:
        part = market.of_feeders([name])
        cleared = hm.clear_dso(part)
        found[str(name)] = _box(part, cleared, hm.forward(part, cleared))
    return found


def _box(market: BalancingMarket, cleared: DsoClearing, forwarded: Forwarded) -> Box:
    """Stack the limits at everything up and at everything down, over sites."""
    import hiermarket as hm
    from hiermarket.network.limits import limit_rows, sites
    from hiermarket.network.linear_flow import State
    from hiermarket.network.losses import linearise
    from hiermarket.stages.ac_check import injections

    bids, feeders = market.bids.data, market.feeders
    who = sites(feeders, market.bids.node, bids["reactive_ratio"])
    is_up = (bids["bid_direction"] == "up").drop_vars(list(bids["bid_direction"].coords))
    volume, rest = forwarded.flat["forwarded"].drop_vars(BID_LABELS), forwarded.flat["remaining"].drop_vars(BID_LABELS)
    coefficients, rooms = [], []
    for extra in (volume.where(is_up, 0.0), -volume.where(~is_up, 0.0)):
        sign = 2.0 * is_up - 1.0
        activation = cleared.flat["activation"].drop_vars(BID_LABELS) + sign * extra
        p, q = injections(market, activation, cleared.recourse)
        flow = hm.power_flow(feeders, p, q)
        state = State(flow["v"].values ** 2, *(flow[n].fillna(0.0).values for n in ("p_flow", "q_flow", "p_interface")))
        injected = who.total(extra.transpose("bid", "period").values)
        for rows in limit_rows(feeders, linearise(feeders, flow), state, who, injected, sides=12):
            coefficients.append(rows.coefficient)
            rooms.append(rows.room)
    dims = ("row", "site", "period")
    up, down = (
        xr.DataArray(who.total(part.transpose("bid", "period").values)[0], dims=dims[1:])
        for part in (rest.where(is_up, 0.0), rest.where(~is_up, 0.0))
    )
    return Box(
        xr.DataArray(np.concatenate(coefficients), dims=dims),
        xr.DataArray(np.concatenate(rooms), dims=("row", "period")), up, down,
    )  # fmt: skip


def box_by_linopy(box: Box) -> float:
    """Solve (13) for all periods of a feeder."""
    import linopy

    model = linopy.Model()
    up = model.add_variables(lower=0, upper=box.up, name="up")
    down = model.add_variables(lower=0, upper=box.down, name="down")
    c = box.coefficient
    # (13)  Σ_i (c_i⁺ U_i + c_i⁻ D_i) ≤ h
    worst = (c.clip(min=0.0) * up).sum("site") + ((-c).clip(min=0.0) * down).sum("site")
    model.add_constraints(worst <= box.room, name="limit")
    model.add_objective((1 * up).sum() + (1 * down).sum(), sense="max")
    status = model.solve(solver_name="highs", io_api="direct", progress=False, output_flag=False, threads=1)
    assert status == ("ok", "optimal")
    value = model.objective.value
    assert value is not None
    return float(value)


def one_by_one(market: BalancingMarket, passes: list[Pass]) -> Iterator[tuple[str, BalancingMarket, list[Pass]]]:
    """Yield every feeder with its own part of everything."""

    for name in market.feeder_names:
        part = market.of_feeders([name])
        at = {"bus": part.feeders.branches}
        cut = [
            Pass(
                one.losses.sel(at),
                one.imports.sel(feeder=[name]),
            )
            for one in passes
        ]
        yield str(name), part, cut


def by_linopy(market: BalancingMarket, passes: list[Pass], boxes: dict[str, Box]) -> Costs:
    """Build and solve one linopy model a feeder and pass, and one of its safe box, as linopy does it by itself."""
    import linopy

    from hiermarket.network.losses import LinDistFlow
    from hiermarket.solving.program import quiet
    from hiermarket.stages.clearing_model import clearing_cost, clearing_model

    costs, solves, volume = {}, 0, 0.0
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
        with quiet("linopy"):
            volume += box_by_linopy(boxes[name])
        solves += 1
    return Costs(costs, solves, volume)


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
