"""Cases that others have published in full, for a comparison with what they found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BUS, LINE, PERIOD
from hiermarket.market.balancing_market import BalancingMarket, Transmission, balancing_market
from hiermarket.market.bids import TRANSMISSION, bids
from hiermarket.market.price_convention import PriceConvention
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import UNDATED, feeder_from_table
from hiermarket.network.grid import TransmissionGrid

BASE_MVA = 100.0

#: (from, to, x per unit on 100 MVA, limit MW)
LIND_LINES = [
    ("T1", "T2", 0.0281, 400.0), ("T2", "T3", 0.0304, 400.0), ("T3", "T4", 0.0064, 400.0), ("T1", "T4", 0.0108, 400.0),
    ("T4", "T5", 0.0297, 400.0), ("T5", "T1", 0.0297, 400.0), ("T2", "S1", 0.0344, 400.0),
]  # fmt: skip

#: Scheduled net injection [MW]: generation of 1010 MW at T3 less the loads; S1 hands 10 MW on to the feeder.
LIND_SCHEDULE = {"T1": 0.0, "T2": -100.0, "T3": 1010.0 - 300.0, "T4": -600.0, "T5": 0.0, "S1": -10.0}

#: (grid, provider, bus, down MW, up MW, price of either direction [EUR/MWh], paid to the provider)
LIND_PROVIDERS = [
    (TRANSMISSION, "G3", "T3", 500.0, 500.0, 50.0), (TRANSMISSION, "G4", "T4", 300.0, 300.0, 20.0),
    ("D", "FSP1", "D1", 2.0, 0.0, 10.0), ("D", "FSP2", "D1", 2.0, 0.0, 30.0), ("D", "FSP3", "D2", 5.0, 5.0, 60.0),
]  # fmt: skip

#: Mvar per MW of what the providers in the feeder inject.
LIND_RATIO = 0.3285


def lind() -> BalancingMarket:
    """Return a published TSO–DSO case in which both grids are congested by what is scheduled.

    One hour, five transmission buses with an interface at S1, and a feeder S1–D1–D2. Line
    T3–T4 and branch D1–D2 (10 MW of load behind 6 MW) carry more than they may, and there is
    no imbalance: whatever is activated makes room. Providers are paid for either direction;
    the TBM's price, that of the interface as the DSO sees it, is 0.

    Notes
    -----
    The published model is lossless and limits the active power alone: clear it with
    ``LinDistFlow(loss_passes=0, sides=2)``. Its slack is D1 at 1 p.u.; here branch S1–D1 has no
    impedance, so that the root's voltage is that of D1. A price x per MW of net upward local
    activation, which the DSO pays, is an interface price of −x.

    References
    ----------
    L. Lind, R. Cossent, P. Frías, "TSO–DSO interface flow pricing: a bilevel study on efficient
    coordination", IJEPES 2024, doi 10.1016/j.ijepes.2024.110155; data at
    github.com/leandrolind/TSO-DSO_Bilevel, MIT licence.
    """
    periods = pd.DatetimeIndex([UNDATED])
    branches = {
        "parent": ["", "S1", "D1"], "r": [0.0, 0.0, 0.003 / BASE_MVA], "x": [0.0, 0.0, 0.006 / BASE_MVA],
        "s_max": [np.inf, 10.0, 6.0], "v_min": 0.9, "v_max": 1.1,
        "p_scheduled": [0.0, 0.0, -10.0], "q_scheduled": [0.0, 0.0, -3.287],
    }  # fmt: skip
    feeder = feeder_from_table(pd.DataFrame(branches, index=["S1", "D1", "D2"]), name="D", periods=periods)
    rows = [
        {"feeder": grid, "bsp": name, "bus": bus, "direction": way, "price": price, "volume": volume,
         "reactive_ratio": 0.0 if grid == TRANSMISSION else LIND_RATIO}
        for grid, name, bus, down, up, price in LIND_PROVIDERS
        for way, volume in (("up", up), ("down", down))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    in_grid = table["feeder"] == TRANSMISSION
    of_grid, local = (
        bids(table[some], periods, convention=PriceConvention.PAID_FOR_BOTH) for some in (in_grid, ~in_grid)
    )
    start, end, reactance, limit = zip(*LIND_LINES, strict=True)
    grid = xr.Dataset(
        {
            "bus0": (LINE, list(start)),
            "bus1": (LINE, list(end)),
            "susceptance": (LINE, BASE_MVA / np.array(reactance)),
            "s_max": (LINE, list(limit)),
            "p_scheduled": ((BUS, PERIOD), np.array([[power] for power in LIND_SCHEDULE.values()])),
            "duration": (PERIOD, [1.0]),
        },
        coords={
            BUS: list(LIND_SCHEDULE),
            LINE: [f"{a}-{b}" for a, b in zip(start, end, strict=True)],
            PERIOD: periods.to_numpy(),
        },
    )
    return balancing_market(
        {"D": feeder},
        bids=local,
        imbalance=pd.DataFrame({"feeder": ["D"], "bus": ["D2"], "imbalance": [0.0]}),
        tbm_prices={"up": 0.0, "down": 0.0},
        rules=MarketRules(price_cap=100.0, value_of_lost_load=1000.0, price_floor=-100.0),
        transmission=Transmission(TransmissionGrid(grid), {"D": "S1"}, of_grid),
    )
