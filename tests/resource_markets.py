"""Two-bus markets with resources, and an independent clearing of them by scipy: one balance, true physics."""

import warnings

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp

import hiermarket as hm
from hiermarket.network.feeder import feeder_from_table

TBM = {"up": 70.0, "down": 20.0}


def market(imbalance, bids, resources=None, hours=1.0, tbm=TBM, feeder="f", line=None):
    """A root and a bus "e" behind a line without impedance; bids of all periods at the bus."""
    periods = pd.date_range("2026-01-01", periods=len(imbalance), freq=pd.Timedelta(hours=hours))
    table = {"parent": ["", "r"], "r": [0.0, line or 0.0], "x": [0.0, line or 0.0], "v_min": 0.5, "v_max": 1.5}
    grid = feeder_from_table(
        pd.DataFrame(table, index=["r", "e"]), name=feeder, periods=periods, duration=hours,
    )  # fmt: skip
    deficit = pd.DataFrame({"feeder": feeder, "bus": "e", "period": periods, "imbalance": imbalance})
    rows = pd.DataFrame(bids).assign(feeder=feeder, bus="e")
    if resources is not None:
        resources = pd.DataFrame(resources).assign(feeder=feeder)
    with warnings.catch_warnings():
        # bids of one resource up below and down above those of another one are meant here
        warnings.simplefilter("ignore", hm.MarketWarning)
        return hm.balancing_market(
            {feeder: grid}, bids=rows, imbalance=deficit, tbm_prices=tbm, resources=resources,
            rules=hm.MarketRules(price_cap=200.0, value_of_lost_load=1000.0),
        )  # fmt: skip


def bid(direction, volume, price, resource="", bsp="A", block=0, **more):
    return {"bsp": bsp, "direction": direction, "volume": volume, "price": price, "resource": resource,
            "block": block, "cost": price, **more}  # fmt: skip


def independent_cost(market):  # noqa: PLR0915  (one model, read from top to bottom)
    """Least cost of all periods of a market on one balance, by a MILP of its own: cumulative sums, a sign of output."""
    data, table = market.bids.data, market.resources
    volume, price = data.volume.values, data.price.values
    sign = np.where(data.bid_direction.values == "up", 1.0, -1.0)
    hours, need = market.duration.values, market.imbalance.values.sum(axis=0)
    bids, periods = volume.shape
    count = 0 if table is None else len(table.labels)
    owner = np.full(bids, -1) if table is None else table.owner_of(market.bids)
    # columns: activation, TBM up and down, minimum's binaries, and of each resource p⁺, p⁻ and the sign
    size = bids * periods * 2 + 2 * periods + 3 * count * periods

    def a(k, t):
        return k * periods + t

    def whole(k, t):
        return bids * periods + 2 * periods + k * periods + t

    def part(n, r, t):
        return bids * periods * 2 + 2 * periods + (n * count + r) * periods + t

    cost, upper, integer = np.zeros(size), np.full(size, np.inf), np.zeros(size)
    rows, low, high = [], [], []

    def row(entries, least, most):
        values = np.zeros(size)
        for at, value in entries:
            values[at] += value
        rows.append(values)
        low.append(least)
        high.append(most)

    minimum = data.minimum.values if "minimum" in data else np.zeros_like(volume)
    for t in range(periods):
        g = bids * periods + 2 * t
        cost[g], cost[g + 1] = hours[t] * market.tbm.tbm_price.values[:, t] * [1, -1]
        row([(a(k, t), sign[k]) for k in range(bids)] + [(g, 1.0), (g + 1, -1.0)], need[t], need[t])
        for k in range(bids):
            cost[a(k, t)] = hours[t] * sign[k] * price[k, t]
            upper[a(k, t)], upper[whole(k, t)], integer[whole(k, t)] = volume[k, t], 1.0, 1
            row([(a(k, t), 1.0), (whole(k, t), -volume[k, t])], -np.inf, 0.0)
            row([(a(k, t), 1.0), (whole(k, t), -minimum[k, t])], 0.0, np.inf)
    for r in range(count):
        one = table.data.isel(resource=r)
        output, own = one.output.values, np.flatnonzero(owner == r)

        def moved(t, scale=1.0, own=own):
            return [(a(k, t), scale * sign[k]) for k in own]

        draws = []
        for t in range(periods):
            row(moved(t), one.p_min.values[t] - output[t], one.p_max.values[t] - output[t])
            before = float(one.output_before) if t == 0 else output[t - 1]
            step = hours[0] if t == 0 else (hours[t] + hours[t - 1]) / 2
            if not np.isnan(before):
                change = output[t] - before
                entries = moved(t) + (moved(t - 1, -1.0) if t else [])
                row(entries, -float(one.ramp_down) * step - change, float(one.ramp_up) * step - change)
            plus, minus, is_out = (part(n, r, t) for n in range(3))
            most = abs(output[t]) + volume[own, t].sum()
            upper[is_out], integer[is_out] = 1.0, 1
            row([(plus, 1.0), (minus, -1.0), *moved(t, -1.0)], output[t], output[t])
            row([(plus, 1.0), (is_out, -most)], -np.inf, 0.0)
            row([(minus, 1.0), (is_out, most)], -np.inf, most)
            if not np.isnan(float(one.energy_start)):
                draws += [(plus, hours[t] / float(one.discharging)), (minus, -hours[t] * float(one.charging))]
                start, kind = float(one.energy_start), str(one.end_level.values)
                least, most_energy = one.energy_min.values[t], one.energy_max.values[t]
                row(draws, start - most_energy, start - least)
                if t == periods - 1 and kind != "free":
                    end = float(one.energy_end)
                    row(draws, start - end if kind == "equal" else -np.inf, start - end)
        for label in set(one.rebound_window.values) - {""}:
            at = np.flatnonzero(one.rebound_window.values == label)
            row([entry for t in at for entry in moved(t, hours[t])], 0.0, 0.0)
    found = milp(
        cost, constraints=LinearConstraint(np.array(rows), low, high), bounds=Bounds(0, upper), integrality=integer,
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    assert found.status == 0, found.message
    return found.fun


def random_resource_market(seed, count=None, exact_end=True):
    """Bids of up to three resources of every kind over a few periods."""
    rng = np.random.default_rng(seed)
    periods, hours = int(rng.integers(2, 6)), float(rng.choice([0.25, 1.0]))
    table, rows = [], []
    index = pd.date_range("2026-01-01", periods=periods, freq=pd.Timedelta(hours=hours))
    for number in range(int(rng.integers(1, 4)) if count is None else count):
        name, kind = f"R{number}", str(rng.choice(["storage", "ramp", "limit", "rebound"]))
        for way in ("up", "down"):
            for block in range(int(rng.integers(1, 3))):
                price = rng.uniform(10, 90)
                rows += [bid(way, rng.uniform(0, 1), price, name, f"B{number}", block, period=t) for t in index]
        one = {"resource": name, "output": 0.0}
        if kind == "storage":
            output = rng.uniform(-0.5, 0.5, periods) * rng.integers(0, 2)
            eta = rng.uniform(0.5, 1.0, 2)
            path = -np.cumsum(hours * np.where(output > 0, output / eta[1], output * eta[0]))
            start = rng.uniform(0, 1) - min(path.min(), 0.0)
            end = str(rng.choice(["free", "at_least", "equal"] if exact_end else ["free", "at_least"]))
            one |= {"output": output, "energy_start": start, "energy_min": 0.0, "charging": eta[0],
                    "discharging": eta[1], "energy_max": start + max(path.max(), 0) + rng.uniform(0, 0.5),
                    "end_level": end, "energy_end": np.nan if end == "free" else start + path[-1],
                    "p_min": -1.0, "p_max": 1.0}  # fmt: skip
        elif kind == "ramp":
            one |= {"ramp_up": rng.uniform(0, 1), "ramp_down": rng.uniform(0, 1), "output_before": 0.0}
        elif kind == "limit":
            one |= {"output": 0.3, "p_min": 0.0, "p_max": rng.uniform(0.3, 1.0)}
        else:
            one |= {"rebound_window": [str(rng.choice(["a", "b", ""])) for _ in index]}
        table.append(pd.DataFrame(one | {"period": index}))
    return market(rng.uniform(-1.5, 1.5, periods), rows, pd.concat(table, ignore_index=True), hours)
