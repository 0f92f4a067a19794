"""Market stages: one flat model for many feeders against a model a feeder; what a leader costs.

Feeders are random radial grids of 33 buses with ten resources each; imbalance and prices
differ from period to period.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.registry import Answers, Case, Ratio

if TYPE_CHECKING:
    import linopy

    import hiermarket as hm
    from hiermarket.network.feeder import Feeder
    from hiermarket.stages.bidding import StrategicBidding
    from hiermarket.stages.dso_clearing import DsoClearing

BUSES, RESOURCES = 33, 10


def feeder(name: str, periods: pd.DatetimeIndex, random: np.random.Generator) -> Feeder:
    """Grow a random tree: each bus hangs on one of the five before it."""
    from hiermarket.network.feeder import feeder_from_table

    buses = [str(number) for number in range(1, BUSES + 1)]
    parent = ["", *(buses[random.integers(max(0, n - 5), n)] for n in range(1, BUSES))]
    table = pd.DataFrame({"parent": parent}, index=buses)
    table["r"], table["x"] = random.uniform(0.001, 0.006, BUSES), random.uniform(0.001, 0.005, BUSES)
    table["p_scheduled"], table["q_scheduled"] = -random.uniform(0.02, 0.2, BUSES), -random.uniform(0.01, 0.1, BUSES)
    table.loc["1", ["r", "x", "p_scheduled", "q_scheduled"]] = 0.0
    table["v_min"], table["v_max"] = 0.85, 1.05
    return feeder_from_table(table, name=name, periods=periods)


def market(feeders: int, periods: int) -> hm.BalancingMarket:
    """Put random feeders together; two BSPs, "L" and "R", own the resources of each in turn."""
    import hiermarket as hm

    random = np.random.default_rng(11)
    index = pd.date_range("2026-01-01", periods=periods, freq="h")
    names = [f"feeder {number}" for number in range(feeders)]
    rows, deficits = [], []
    for name in names:
        for number, bus in enumerate(random.choice(np.arange(2, BUSES + 1), RESOURCES, replace=False)):
            row = {"feeder": name, "bsp": "LR"[number % 2], "bus": str(bus), "reactive_ratio": 0.2}
            rows.append(
                {**row, "direction": "up", "price": random.uniform(35, 80), "volume": random.uniform(0.02, 0.1)}
            )
            rows.append({**row, "direction": "down", "price": random.uniform(15, 30), "volume": 0.05})
        common = random.normal(0.0, 0.01, periods)
        deficits += [
            {"feeder": name, "bus": str(bus), "period": t, "imbalance": value * random.uniform(0.5, 1.5)}
            for bus in range(2, BUSES + 1)
            for t, value in zip(index, common, strict=True)
        ]
    return hm.balancing_market(
        {name: feeder(name, index, random) for name in names},
        bids=pd.DataFrame(rows),
        imbalance=pd.DataFrame(deficits),
        tbm_prices={"up": 70.0, "down": 12.0},
        rules=hm.MarketRules(price_cap=200.0, value_of_lost_load=3000.0),
    )


def labelled_model(answers: Answers) -> linopy.Model:
    """Build the clearing of all feeders and periods as one linopy model (for its sizes)."""
    import linopy

    from hiermarket.network.losses import LinDistFlow, lossless
    from hiermarket.stages.ac_check import scheduled
    from hiermarket.stages.clearing_model import clearing_cost, clearing_model

    whole = answers["build"]
    with linopy.options as options:
        options.set_value(semantics="v1")
        imports = scheduled(whole).p_interface
        model = clearing_model(whole, lossless(whole.feeders), imports, LinDistFlow())
        model.add_objective(clearing_cost(model, whole, whole.bids.data.price))
    return model


def clear_together(answers: Answers) -> DsoClearing:
    """Clear all feeders in one labelled model, split into blocks."""
    import hiermarket as hm

    return hm.clear_dso(answers["build"])


def clear_apart(answers: Answers) -> list[DsoClearing]:
    """Clear feeder by feeder, a model for each."""
    import hiermarket as hm

    whole = answers["build"]
    return [hm.clear_dso(whole.of_feeders([name])) for name in whole.feeder_names]


def same_clearing(answers: Answers) -> None:
    """Costs must agree, feeder by feeder."""
    together = answers["together"].flat.clearing_cost.values
    apart = np.concatenate([part.flat.clearing_cost.values for part in answers["apart"]])
    np.testing.assert_allclose(together, apart, rtol=1e-7, atol=1e-9)


def lead(answers: Answers) -> StrategicBidding:
    """Solve the bilevel problem of L, with the losses linearised at the truthful clearing."""
    import hiermarket as hm

    return hm.bid_strategically(answers["build"], "L", relinearise=0)


def leader_is_certified(answers: Answers) -> None:
    """The certificate must hold, and leading must not earn less than the truth."""
    led = answers["lead"]
    led.certificate.require()
    assert led.revenue_gap < 1e-6


CASES = (
    Case(
        name="feeders",
        title="DSO clearing of N feeders × T periods in one flat model, against a model a feeder",
        build=market,
        sizes=({"feeders": 2, "periods": 2}, {"feeders": 10, "periods": 24}, {"feeders": 50, "periods": 96}),
        phases={"model": labelled_model, "together": clear_together, "apart": clear_apart},
        agree=same_clearing,
        ratios=(Ratio(("together",), ("apart",)),),
    ),
    Case(
        name="leader",
        title="One strategic BSP on N feeders × T periods: KKT, bounds, MILPs, certificate, re-clearing",
        build=market,
        sizes=({"feeders": 1, "periods": 1}, {"feeders": 1, "periods": 24}),
        phases={"model": labelled_model, "lead": lead},
        agree=leader_is_certified,
    ),
)
