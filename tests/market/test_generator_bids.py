"""Bids at cost of a network's generators."""

import numpy as np
import pandas as pd
import pypsa
import pytest

from hiermarket.errors import DataError
from hiermarket.market.generator_bids import generator_bids


@pytest.fixture
def network():
    n = pypsa.Network(snapshots=pd.date_range("2026-01-01", periods=2, freq="h"))
    n.add("Bus", ["a", "b"], v_nom=110.0)
    n.add("Generator", "straight", bus="a", p_nom=100.0, p_min_pu=0.2, p_set=60.0, marginal_cost=30.0)
    n.add("Generator", "bent", bus="b", p_nom=50.0, p_set=10.0, marginal_cost=20.0, marginal_cost_quadratic=0.5)
    n.add("Generator", "idle", bus="b", p_nom=50.0, p_set=10.0, active=False)
    n.add("Generator", "slack", bus="a", control="Slack", p_nom=5.0, marginal_cost=80.0)
    return n


def table(bids, t=0):
    data = bids.data.isel(period=t)
    columns = {name: data[name].values for name in ("bid_bsp", "bid_bus", "bid_direction", "price", "volume")}
    return pd.DataFrame(columns, index=data.bid.values)


def test_by_hand(network):
    found = table(generator_bids(network, steps=2))
    expected = {
        "transmission/straight/a/0/up": (30.0, 40.0),
        # 10 to 30 and 30 to 50 MW, at 20 + 2 · 0.5 · 20 and 20 + 2 · 0.5 · 40
        "transmission/bent/b/0/up": (40.0, 20.0),
        "transmission/bent/b/1/up": (60.0, 20.0),
        "transmission/slack/a/0/up": (80.0, 5.0),
        "transmission/straight/a/0/down": (30.0, 40.0),
        # 10 to 5 and 5 to 0 MW
        "transmission/bent/b/0/down": (27.5, 5.0),
        "transmission/bent/b/1/down": (22.5, 5.0),
        "transmission/slack/a/0/down": (80.0, 0.0),
    }
    assert {name: (row.price, row.volume) for name, row in found.iterrows()} == expected


@pytest.mark.parametrize("steps", [1, 7, 20])
def test_costs_are_exact_at_the_ends(network, steps):
    found = table(generator_bids(network, steps=steps)).query("bid_bsp == 'bent'")
    cost = (found.price * found.volume).groupby(found.bid_direction).sum()
    assert cost["up"] == pytest.approx(20 * 40 + 0.5 * (50**2 - 10**2))
    assert cost["down"] == pytest.approx(20 * 10 + 0.5 * 10**2)


def test_what_varies_in_time(network):
    network.generators_t.p_set["straight"] = [60.0, 90.0]
    network.generators_t.p_max_pu["straight"] = [1.0, 0.95]
    network.generators_t.marginal_cost["straight"] = [30.0, 35.0]
    later = table(generator_bids(network), t=1)
    assert later.loc["transmission/straight/a/0/up", ["price", "volume"]].tolist() == pytest.approx([35.0, 5.0])
    assert later.loc["transmission/straight/a/0/down", "volume"] == pytest.approx(70.0)


def test_a_part_of_the_network(network):
    assert generator_bids(network, buses=["a"]).bsps == ["straight", "slack"]


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("p_set", np.nan, "no p_set"),
        ("p_set", 110.0, "a schedule outside of its limits"),
        ("p_set", 10.0, "a schedule outside of its limits"),
        ("marginal_cost", np.inf, "no marginal_cost"),
        ("marginal_cost_quadratic", np.nan, "no marginal_cost_quadratic"),
        ("marginal_cost_quadratic", -0.1, "marginal_cost_quadratic < 0"),
    ],
)
def test_faults(network, column, value, found):
    network.generators.loc["straight", column] = value
    with pytest.raises(DataError) as error:
        generator_bids(network)
    (fault,) = error.value.faults
    assert (fault.where, fault.found) == ("grid, generators straight", found)


def test_no_step(network):
    with pytest.raises(DataError) as error:
        generator_bids(network, steps=0)
    (fault,) = error.value.faults
    assert fault.where == "generator_bids.steps"
