"""Seeded markets on small feeders of random shape, whose limits bind now and then."""

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.market.balancing_market import Transmission, balancing_market
from hiermarket.market.bids import bids
from hiermarket.market.imbalance import tbm_of
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import Feeder, feeder_from_table
from hiermarket.network.feeders import combine
from hiermarket.network.grid import TransmissionGrid

CAP, VOLL = 120.0, 1000.0


def random_feeder(rng, name, size, periods, duration=1.0):
    """A tree with taps, shunts, ratings and voltage limits near its scheduled state."""
    table = pd.DataFrame(
        {
            "parent": ["", *(str(rng.integers(bus)) for bus in range(1, size))],
            "r": [0.0, *rng.uniform(1e-3, 4e-2, size - 1)],
            "x": [0.0, *rng.uniform(1e-3, 4e-2, size - 1)],
            "tap": [1.0, *rng.choice([1.0, 1.0, 0.98, 1.03], size - 1)],
            "g": rng.uniform(0, 0.01, size),
            "b": rng.uniform(-0.02, 0.02, size),
            "s_max": [np.inf, *rng.choice([np.inf, 0.7, 1.0, 1.5], size - 1)],
            "v_min": rng.choice([0.9, 0.95, 0.98]),
            "v_max": rng.choice([1.02, 1.05, 1.1]),
        },
        index=[str(bus) for bus in range(size)],
    )
    feeder = feeder_from_table(table, name=name, periods=periods, duration=duration)
    shape, dims = (size, len(periods)), ("bus", "period")
    load, reactive = rng.uniform(-0.6, 0.25, shape), rng.uniform(-0.3, 0.2, shape)
    v_root = ("period", rng.uniform(0.99, 1.02, len(periods)))
    return Feeder(feeder.data.assign(p_scheduled=(dims, load), q_scheduled=(dims, reactive), v_root=v_root))


def random_market(seed, count=1, sizes=(2, 5), periods=1, hours=1.0, tau=0.4, transmission=False):
    """Feeders with bids of three BSPs up and down, deficits and surpluses, limited TBM now and then."""
    rng = np.random.default_rng(seed)
    step = pd.Timedelta(hours=hours)
    index = pd.DatetimeIndex([pd.Timestamp("2026-01-01") + k * step for k in range(periods)])
    names = [f"f{number}" for number in range(count)]
    feeders = {name: random_feeder(rng, name, int(rng.integers(*sizes)), index, hours) for name in names}
    rows, deficits = [], []
    for name, feeder in feeders.items():
        buses = [str(bus) for bus in feeder.data.bus.values]
        for number in range(int(rng.integers(2, 7))):
            way = str(rng.choice(["up", "down"]))
            ratio = float(rng.choice([0.0, tau, -tau]))
            rows += [
                {"feeder": name, "bsp": "ABC"[number % 3], "bus": str(rng.choice(buses)), "block": number,
                 "direction": way, "period": t, "volume": rng.uniform(0, 0.5), "reactive_ratio": ratio,
                 "price": rng.uniform(25, CAP) if way == "up" else rng.uniform(0, 24), "cost": rng.uniform(0, 60)}
                for t in index
            ]  # fmt: skip
        deficits += [
            {"feeder": name, "bus": bus, "period": t, "imbalance": rng.uniform(-0.3, 0.4)}
            for bus in buses
            for t in index
        ]
    together = combine(feeders)
    limit = np.where(rng.random((count, 2, periods)) < 0.5, np.inf, rng.uniform(0, 0.4, (count, 2, periods)))
    dims = ("feeder", "direction", "period")
    tbm = tbm_of({"up": 60.0, "down": 20.0}, together)
    tbm["tbm_limit"] = (dims, limit)
    side = random_transmission(seed, names, index, hours) if transmission else Transmission()
    return balancing_market(
        feeders, bids=pd.DataFrame(rows), imbalance=pd.DataFrame(deficits), tbm_prices=tbm,
        rules=MarketRules(price_cap=CAP, value_of_lost_load=VOLL), transmission=side,
    )  # fmt: skip


def random_transmission(seed, feeders, index, hours=1.0, rating=(0.1, 0.4)):
    """A mesh of five buses with a balanced schedule, limited lines, own imbalance and bids; feeders hang anywhere."""
    rng = np.random.default_rng(seed)
    buses = [f"T{number}" for number in range(5)]
    ends = [(number, int(rng.integers(number))) for number in range(1, 5)] + [(0, 4), (1, 3)]
    schedule = rng.normal(0, 0.5, (5, len(index)))
    schedule -= schedule.mean(axis=0)
    b = rng.uniform(50, 500, len(ends))
    data = xr.Dataset(
        {
            "bus0": ("line", [buses[k] for k, _ in ends]),
            "bus1": ("line", [buses[k] for _, k in ends]),
            "susceptance": ("line", b),
            "s_max": ("line", [*rng.uniform(*rating, len(ends) - 1), np.inf]),
            "p_scheduled": (("bus", "period"), schedule),
            "duration": ("period", np.full(len(index), hours)),
        },
        coords={"bus": buses, "line": [f"L{number}" for number in range(len(ends))], "period": index},
    )
    rows = [
        {"feeder": "transmission", "bsp": f"G{number % 3}", "bus": str(rng.choice(buses)), "block": number,
         "direction": way, "period": t, "volume": rng.uniform(0.2, 0.8), "cost": rng.uniform(0, 60),
         "price": rng.uniform(40, 90) if way == "up" else rng.uniform(0, 30)}
        for number in range(8) for way in ("up", "down") for t in index
    ]  # fmt: skip
    own = xr.DataArray(
        rng.normal(0, 0.3, (3, len(index))), dims=("bus", "period"), coords={"bus": buses[:3], "period": index}
    )
    hung = {name: str(rng.choice(buses)) for name in feeders}
    return Transmission(
        grid=TransmissionGrid(data), interface=hung, bids=bids(pd.DataFrame(rows), index), imbalance=own
    )
