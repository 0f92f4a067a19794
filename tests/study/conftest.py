"""Markets of some feeders, and what is the same in two results."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.market.bids import bids as read_bids
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.grid import TransmissionGrid

#: Clearing without losses, as quick as it gets.
QUICK = hm.Options(grid=hm.LinDistFlow(loss_passes=0))

#: Bids as they are, and what is activated can be undone.
UNDO = hm.Options(behaviour=hm.AsBid(), forwarding=hm.SafeBox(undo=True), grid=QUICK.grid)


def feeders_of(sizes: dict[str, int], periods: int = 1, load: dict[str, float] | None = None):
    """Feeders that are one line of buses each; loads [MW] at their ends, by feeder and in the last period only."""
    feeders = {}
    for name, size in sizes.items():
        buses = [str(number) for number in range(1, size + 1)]
        table = pd.DataFrame(
            {"parent": ["", *buses[:-1]], "r": [0.0] + [0.01] * (size - 1), "x": [0.0] + [0.008] * (size - 1)},
            index=buses,
        )
        one = feeder_from_table(table.assign(v_min=0.9, v_max=1.1), name=name).data
        index = pd.date_range("2026-01-01", periods=periods, freq="h", name="period")
        data = one.isel(period=np.zeros(periods, dtype=int)).assign_coords(period=index)
        p = data["p_scheduled"].copy()
        p.loc[{"bus": buses[-1], "period": index[-1]}] = -(load or {}).get(name, 0.0)
        feeders[name] = type(feeder_from_table(table, name=name))(data.assign(p_scheduled=p))
    return feeders


def market_of(sizes: dict[str, int], *, periods: int = 1, load: dict[str, float] | None = None, grid: bool = False):
    """A market of such feeders; A bids nothing in the feeder c."""
    rows, deficits = [], []
    for name, size in sizes.items():
        for bsp, price in (("A", 30.0), ("B", 45.0)):
            if (name, bsp) != ("c", "A"):
                row = {"feeder": name, "bsp": bsp, "bus": str(size), "price": price, "volume": 0.2}
                rows += [{**row, "direction": "up"}, {**row, "direction": "down", "price": price - 20}]
        deficits.append({"feeder": name, "bus": str(size), "imbalance": 0.1 * size - 0.25})
    feeders = feeders_of(sizes, periods, load)
    return hm.balancing_market(
        feeders,
        bids=pd.DataFrame(rows),
        imbalance=pd.DataFrame(deficits),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
        transmission=_side(feeders) if grid else None,
    )


def _side(feeders) -> hm.Transmission:
    """Two buses and one line of 0.1 MW, which binds; a provider at each."""
    period = next(iter(feeders.values())).data["period"]
    grid = TransmissionGrid(
        xr.Dataset(
            {
                "bus0": ("line", ["T1"]),
                "bus1": ("line", ["T2"]),
                "susceptance": ("line", [1000.0]),
                "s_max": ("line", [0.1]),
                "p_scheduled": (("bus", "period"), np.zeros((2, period.size))),
                "duration": ("period", np.ones(period.size)),
            },
            coords={"bus": ["T1", "T2"], "line": ["T1-T2"], "period": period},
        )
    )
    row = {"feeder": "transmission", "volume": 5.0}
    offers = [
        {**row, "bsp": bsp, "bus": bus, "direction": way, "price": price}
        for bsp, bus, up in (("Hydro", "T1", 58.0), ("Gas", "T2", 75.0))
        for way, price in (("up", up), ("down", up - 40.0))
    ]
    return hm.Transmission(
        grid=grid,
        interface={name: ("T1", "T2")[number % 2] for number, name in enumerate(feeders)},
        bids=read_bids(pd.DataFrame(offers), pd.DatetimeIndex(period.values)),
    )


@pytest.fixture(scope="session")
def three_feeders():
    """Three feeders of unlike size; the leader A owns nothing in the third."""
    return market_of({"a": 2, "b": 4, "c": 3})


@pytest.fixture(scope="session")
def on_a_grid():
    """Three feeders on a grid of two buses, two periods."""
    return market_of({"a": 2, "b": 4, "c": 3}, periods=2, grid=True)


@pytest.fixture(scope="session")
def quick_chain(three_feeders):
    """The chain of the three feeders in memory."""
    return hm.run(three_feeders, QUICK)


@pytest.fixture(scope="session")
def grid_chain(on_a_grid):
    """The chain on a grid in memory, with undo forwarded."""
    return hm.run(on_a_grid, UNDO)


@pytest.fixture(scope="session")
def _three_done(three_feeders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    hm.run(hm.Study(three_feeders, folder, options=QUICK, batch=1))
    return folder


@pytest.fixture
def three_done(_three_done, tmp_path):
    """A copy of the folder of a finished study of the three feeders, one in each batch."""
    return shutil.copytree(_three_done, tmp_path / "study")


@pytest.fixture(scope="session")
def grid_done(on_a_grid, tmp_path_factory):
    """The folder of a finished study on a grid, only to be read."""
    folder = tmp_path_factory.mktemp("grid")
    hm.run(hm.Study(on_a_grid, folder, options=UNDO, batch=1))
    return folder


def assert_same(chain, results) -> None:
    """Every array of every stage, label by label."""
    stages = {
        "clearing": chain.clearing.flat,
        "forwarded": chain.forwarded.flat,
        "tso": chain.cleared.flat,
        "tso_baseline": chain.baseline.cleared.flat,
        "disaggregation": chain.disaggregation.flat,
        "baseline": chain.baseline.flat,
        "settlement": chain.settlement.data,
        "indicators": hm.indicators(chain),
    }
    for stage, wanted in stages.items():
        found = results[stage].flat.compute()
        assert set(found.data_vars) == set(wanted.data_vars), stage
        for name, array in wanted.data_vars.items():
            labels = {dim: array.indexes[dim] for dim in array.dims}
            other = found[name].sel(labels).transpose(*array.dims)
            assert other.shape == array.shape
            np.testing.assert_allclose(
                other.values.astype(float), array.values.astype(float), rtol=1e-9, atol=1e-8, err_msg=f"{stage}.{name}"
            )
