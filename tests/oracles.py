"""The markets as LPs of their own, written row by row from docs/model.md and solved by scipy: no builder is shared."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog


@dataclass
class Solved:
    """Objective, values by (name, label), duals of equations and of limits by (name, label)."""

    objective: float
    value: dict
    dual: dict
    slack_dual: dict


class Rows:
    """A growing LP over variables named (kind, label)."""

    def __init__(self):
        self.column, self.cost, self.bounds = {}, [], []
        self.equal, self.less = [], []

    def add(self, key, cost=0.0, lower=None, upper=None):
        self.column[key] = len(self.cost)
        self.cost.append(cost)
        bound = [None if side is None or not np.isfinite(side) else float(side) for side in (lower, upper)]
        self.bounds.append(tuple(bound))

    def solve(self):
        def matrix(rows):
            dense = np.zeros((len(rows), len(self.cost)))
            for number, (_, terms, _) in enumerate(rows):
                for key, coefficient in terms:
                    dense[number, self.column[key]] += coefficient
            return dense if rows else None

        def right(rows):
            return np.array([b for _, _, b in rows]) if rows else None

        answer = linprog(
            self.cost, A_eq=matrix(self.equal), b_eq=right(self.equal), A_ub=matrix(self.less), b_ub=right(self.less),
            bounds=self.bounds, method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        assert answer.status == 0, answer.message
        value = {key: answer.x[place] for key, place in self.column.items()}
        dual = {row[0]: mu for row, mu in zip(self.equal, answer.eqlin.marginals, strict=True)}
        less = {row[0]: mu for row, mu in zip(self.less, answer.ineqlin.marginals, strict=True)} if self.less else {}
        return Solved(answer.fun, value, dual, less)


def dso_lp(market, feeder, period, terms=None, imported=0.0, sides=12, *, support=None, held=None):
    """Clear one feeder's period by (1)–(8); `terms` are (l0, lP, lQ, lw) of a bus, nothing for a lossless grid.

    `support` are (least, most, held) of reactive support by bus [Mvar]; with values `held`, the
    least support is found that they allow.
    """
    lp_model, t = Rows(), {"period": period}
    hours, exchange = float(market.duration.sel(t)), []
    for way, sigma in (("up", 1.0), ("down", -1.0)):
        price = float(market.tbm.tbm_price.sel(direction=way, **t))
        limit = float(market.tbm.tbm_limit.sel(feeder=feeder, direction=way, **t))
        lp_model.add(("g", way), hours * sigma * price, 0.0, limit)
        exchange.append((("g", way), sigma))
    add_feeder(lp_model, exchange, market, feeder, period, terms=terms, imported=imported, sides=sides, support=support)
    if held is not None:
        lp_model.cost = [0.0] * len(lp_model.cost)
        for key in lp_model.column:
            if key in held:
                # as far as the other solution is exact
                lp_model.bounds[lp_model.column[key]] = max(held[key] - 1e-9, 0.0), held[key] + 1e-9
        for bus in support:
            lp_model.add(("|q|", bus), 1.0, 0.0)
            for sign in (1.0, -1.0):
                lp_model.less.append((("|q|", bus, sign), [(("q", bus), sign), (("|q|", bus), -1.0)], 0.0))
    return lp_model.solve()


def add_feeder(  # noqa: PLR0915 (read at once)
    lp_model, exchange, market, feeder, period, *, terms, imported, sides=12, support=None
):
    """Add (1)–(7) and the costs of bids and recourse; `exchange` are the terms of what the interface delivers.

    With `support` there are two states of the grid: that with the support keeps the limits, that
    with the support which is held is what the interface sees.
    """
    d = market.feeders.data
    t = {"period": period}
    hours = float(d.duration.sel(t))
    voll = market.rules.value_of_lost_load
    buses = [str(b) for b, f in zip(d.bus.values, d.bus_feeder.values, strict=True) if f == feeder]
    parent = {b: str(d.parent.sel(bus=b).item()) for b in buses}
    root = next(b for b in buses if not parent[b])
    below = [b for b in buses if b != root]
    children = {b: [c for c in below if parent[c] == b] for b in buses}
    get = {name: {b: float(d[name].sel(bus=b)) for b in buses}
           for name in ("r", "x", "tap", "g", "b", "s_max", "v_min", "v_max")}  # fmt: skip
    p0 = {b: float(d.p_scheduled.sel(bus=b, **t)) for b in buses}
    q0 = {b: float(d.q_scheduled.sel(bus=b, **t)) for b in buses}
    need = {b: float(market.imbalance.sel(bus=b, **t)) for b in buses}
    l0, lp, lq, lw = ({b: float(term.sel(bus=b, **t)) if terms else 0.0 for b in below} for term in terms or range(4))

    offers = market.bids.data
    mine = [str(k) for k, f in zip(offers.bid.values, offers.bid_feeder.values, strict=True) if f == feeder]
    sign, at, tau = {}, {}, {}
    for k in mine:
        one = offers.sel(bid=k, **t)
        sign[k] = 1.0 if one.bid_direction.item() == "up" else -1.0
        at[k] = f"{feeder}/{one.bid_bus.item()}"
        tau[k] = float(one.reactive_ratio)
        lp_model.add(("a", k), hours * sign[k] * float(one.price), 0.0, float(one.volume))
    for b in buses:
        lp_model.add(("s+", b), hours * voll, 0.0)
        lp_model.add(("s-", b), hours * voll, 0.0)
        if b == root:
            w0 = float(d.v_root.sel(feeder=feeder, **t)) ** 2
            lp_model.add(("w", b), 0.0, w0, w0)
            continue
        lp_model.add(("w", b), 0.0, get["v_min"][b] ** 2, get["v_max"][b] ** 2)
        lp_model.add(("z+", b), hours * voll, 0.0)
        lp_model.add(("z-", b), hours * voll, 0.0)
        lp_model.add(("P", b))
        lp_model.add(("Q", b))
    for b, (least, most, _) in (support or {}).items():
        lp_model.add(("q", b), 0.0, least, most)
    seen = "°" if support else ""
    for b in buses if support else ():
        lp_model.add(("w°", b), 0.0, *((w0, w0) if b == root else (None, None)))
        if b != root:
            lp_model.add(("P°", b))
            lp_model.add(("Q°", b))

    def loss(b, factor, of=""):
        """factor × (l − l0) as terms."""
        above = (f"w{of}", parent[b])
        return [((f"P{of}", b), factor * lp[b]), ((f"Q{of}", b), factor * lq[b]), (above, factor * lw[b])]

    for b, of in [(b, of) for b in buses for of in dict.fromkeys(("", seen)) if b != root or of == seen]:
        active = [(("a", k), sign[k]) for k in mine if at[k] == b] + [(("s+", b), 1.0), (("s-", b), -1.0)]
        out = [((f"P{of}", c), -1.0) for c in children[b]]
        if b == root:
            row = [*exchange, *active, *out, ((f"w{of}", b), -get["g"][b])]
            lp_model.equal.append((("P", b), row, need[b] - p0[b] - imported))
            continue
        r, x = get["r"][b], get["x"][b]
        z2 = r * r + x * x
        row = [((f"P{of}", b), 1.0), *loss(b, -r, of), *out, ((f"w{of}", b), -get["g"][b]), *active]
        lp_model.equal.append(((f"P{of}", b), row, need[b] - p0[b] + r * l0[b]))
        reactive = [(("a", k), sign[k] * tau[k]) for k in mine if at[k] == b] + [(("z+", b), 1.0), (("z-", b), -1.0)]
        out = [((f"Q{of}", c), -1.0) for c in children[b]]
        row = [((f"Q{of}", b), 1.0), *loss(b, -x, of), *out, ((f"w{of}", b), get["b"][b])]
        held = 0.0
        if b in (support or {}):
            reactive += [] if of else [(("q", b), 1.0)]
            held = support[b][2] if of else 0.0
        lp_model.equal.append(((f"Q{of}", b), row + reactive, -q0[b] - held + x * l0[b]))
        drop = [((f"w{of}", b), 1.0), ((f"w{of}", parent[b]), -1 / get["tap"][b] ** 2)]
        drop += [((f"P{of}", b), 2 * r), ((f"Q{of}", b), 2 * x), *loss(b, -z2, of)]
        lp_model.equal.append(((f"w{of}", b), drop, z2 * l0[b]))
        if np.isfinite(get["s_max"][b]) and not of:
            for side in range(sides):
                # the chord between two neighbouring corners of the polygon, by its two corners
                one, two = (get["s_max"][b] * np.exp(2j * np.pi * (side + half) / sides) for half in (-0.5, 0.5))
                normal = (one + two) / abs(one + two)
                row = [(("P", b), normal.real), (("Q", b), normal.imag)]
                most = (one * np.conj(normal)).real
                lp_model.less.append((("S", b, side), row, most))
                if terms:
                    # the other end carries P − r l + j (Q − x l)
                    lost = normal.real * r + normal.imag * x
                    lp_model.less.append((("S", b, side, "end"), row + loss(b, -lost), most + lost * l0[b]))


def common_lp(market, own, offers, period, terms=None, imported=None):
    """Clear all feeders and the transmission grid in one LP; `own` is the imbalance by transmission bus."""
    lp_model = Rows()
    for feeder in market.feeder_names:
        key = ("e", str(feeder))
        lp_model.add(key)
        scheduled = float(imported.sel(feeder=feeder, period=period))
        add_feeder(lp_model, [(key, 1.0)], market, feeder, period, terms=terms, imported=scheduled)
    return tso_lp(
        market, own, offers, period, taken={f: [(("e", f), -1.0)] for f in market.feeder_names}, rows=lp_model
    )


def tso_lp(market, need, offers, period, forwarded=None, taken=None, rows=None):
    """Clear the transmission market of one period by (18); `need` by bus, `forwarded` a Dataset by bid.

    `taken` are terms that each feeder adds to the balance of its bus; `rows` an LP to extend.
    """
    grid, voll = market.transmission.grid, market.rules.value_of_lost_load
    t = {"period": period}
    hours = float(market.duration.sel(t))
    buses = ["transmission"] if grid is None else [str(b) for b in grid.data.bus.values]
    lp_model = rows or Rows()
    supply = {b: [] for b in buses}
    for feeder, terms in (taken or {}).items():
        supply["transmission" if grid is None else market.transmission.interface[feeder]] += terms
    for k in offers.data.bid.values:
        one = offers.data.sel(bid=k, **t)
        sigma = 1.0 if one.bid_direction.item() == "up" else -1.0
        lp_model.add(("y", str(k)), hours * sigma * float(one.price), 0.0, float(one.volume))
        supply[one.bid_bus.item()].append((("y", str(k)), sigma))
    if forwarded is not None:
        for k in market.bids.data.bid.values:
            one, bid = forwarded.sel(bid=k, **t), market.bids.data.sel(bid=k, **t)
            sigma = 1.0 if bid.bid_direction.item() == "up" else -1.0
            price = sigma * hours * float(one.forward_price)
            feeder = bid.bid_feeder.item()
            hung = "transmission" if grid is None else market.transmission.interface[feeder]
            # one variable between −undo and +forwarded
            lp_model.add(("z", str(k)), price, -float(one.forwarded_undo), float(one.forwarded))
            supply[hung].append((("z", str(k)), sigma * float(one.interface_factor)))
    for b in buses:
        lp_model.add(("s+", b), hours * voll, 0.0)
        lp_model.add(("s-", b), hours * voll, 0.0)
        supply[b] += [(("s+", b), 1.0), (("s-", b), -1.0)]
    scheduled = dict.fromkeys(buses, 0.0)
    if grid is not None:
        scheduled = {b: float(grid.data.p_scheduled.sel(bus=b, **t)) for b in buses}
        for b in buses:
            # one reference angle for the grid, which must be one island
            lp_model.add(("angle", b), 0.0, *((0.0, 0.0) if b == buses[0] else (None, None)))
        for line in grid.data.line.values:
            one = grid.data.sel(line=line)
            ends = one.bus0.item(), one.bus1.item()
            flow = [(("angle", ends[0]), float(one.susceptance)), (("angle", ends[1]), -float(one.susceptance))]
            back = [(key, -value) for key, value in flow]
            supply[ends[0]] += back
            supply[ends[1]] += flow
            if np.isfinite(one.s_max):
                lp_model.less.append((("f+", str(line)), flow, float(one.s_max)))
                lp_model.less.append((("f-", str(line)), back, float(one.s_max)))
    for b in buses:
        lp_model.equal.append((("P", b), supply[b], float(need.sel(grid_bus=b, **t)) - scheduled[b]))
    return lp_model.solve()
