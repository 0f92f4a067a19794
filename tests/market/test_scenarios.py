"""Markets in scenarios: what carries them, what is shared, what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.errors import DataError
from hiermarket.market.imbalance import tbm_of
from hiermarket.market.scenarios import ScenarioMarket, probabilities_of
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.feeders import combine

LINE = pd.DataFrame({"parent": ["", "root"], "r": [0.0, 0.01], "x": [0.0, 0.01]}, index=["root", "end"])
BIDS = pd.DataFrame(
    {"feeder": "feeder", "bsp": ["A", "B"], "bus": "end", "direction": ["up", "down"], "price": [30.0, 25.0],
     "volume": [0.2, 0.3]}
)  # fmt: skip
NEED = pd.DataFrame({"feeder": ["feeder"], "bus": ["end"], "imbalance": [0.5]})
RULES = hm.MarketRules(price_cap=100.0, value_of_lost_load=1000.0)


def with_scenario(table, name, **change):
    return table.assign(scenario=name, **change)


def make(**change):
    inputs = {"bids": BIDS, "imbalance": NEED, "tbm_prices": {"up": 60.0, "down": 20.0}, "rules": RULES} | change
    feeders = inputs.pop("feeders", {"feeder": feeder_from_table(LINE, name="feeder")})
    return hm.balancing_market(feeders, **inputs)


def two_needs():
    return pd.concat([with_scenario(NEED, "calm"), with_scenario(NEED, "storm", imbalance=0.9)])


def faults(**change):
    with pytest.raises(DataError) as caught:
        make(**change)
    return caught.value.faults


def test_without_scenarios_there_is_one_market():
    assert isinstance(make(), hm.BalancingMarket)


def test_a_column_makes_scenarios_and_the_rest_is_shared():
    market = make(imbalance=two_needs())
    assert market.scenarios == ["calm", "storm"]
    assert market.probability.values.tolist() == [0.5, 0.5]
    calm, storm = (market.of(name) for name in market.scenarios)
    assert storm.imbalance.sel(bus="feeder/end").item() == 0.9
    assert calm.imbalance.sel(bus="feeder/end").item() == 0.5
    assert calm.feeders is storm.feeders
    assert calm.bids is storm.bids


def test_a_csv_file(tmp_path):
    # labels that look like numbers stay labels
    table = pd.concat([with_scenario(NEED, "01"), with_scenario(NEED, "02", imbalance=0.9)])
    table.to_csv(tmp_path / "need.csv", index=False)
    assert make(imbalance=tmp_path / "need.csv").scenarios == ["01", "02"]


def test_arrays_bids_prices_limits_and_the_transmission_side_carry_scenarios():
    names = ["a", "b"]
    need = xr.DataArray(
        [[[0.5, 0.9]]], dims=("feeder", "bus", "scenario"),
        coords={"feeder": ["feeder"], "bus": ["end"], "scenario": names},
    )  # fmt: skip
    offers = pd.concat([with_scenario(BIDS, "a"), with_scenario(BIDS, "b", price=[40.0, 24.0])])
    grid = combine({"feeder": feeder_from_table(LINE, name="feeder")})
    limit = xr.DataArray([1.0, 0.2], dims="scenario", coords={"scenario": names})
    tbm = tbm_of({"up": 60.0, "down": 20.0}, grid, limit)
    market = make(imbalance=need, bids=offers, tbm_prices=tbm)
    period = market.of("a").periods[0]
    own = xr.DataArray(
        [[[0.1], [0.2]]],
        dims=("bus", "scenario", "period"),
        coords={"bus": ["transmission"], "scenario": names, "period": [period]},
    )
    market = make(imbalance=need, bids=offers, tbm_prices=tbm, transmission=hm.Transmission(imbalance=own))
    for name, volume, price, most, grid_need in (("a", 0.5, 30.0, 1.0, 0.1), ("b", 0.9, 40.0, 0.2, 0.2)):
        one = market.of(name)
        assert one.imbalance.sel(bus="feeder/end").item() == volume
        assert one.bids.data.price.sel(bid="feeder/A/end/0/up").item() == price
        assert (one.tbm.tbm_limit == most).all()
        assert one.transmission.imbalance.item() == grid_need


def test_prices_of_a_table_and_of_an_array():
    periods = make().periods
    table = pd.DataFrame({"period": list(periods) * 2, "up": [60.0, 70.0], "down": 20.0, "scenario": ["a", "b"]})
    array = xr.DataArray(
        [[60.0, 20.0], [70.0, 20.0]],
        dims=("scenario", "direction"),
        coords={"scenario": ["a", "b"], "direction": ["up", "down"]},
    ).expand_dims(period=periods)
    for prices in (table, array):
        market = make(tbm_prices=prices)
        assert [market.of(s).tbm.tbm_price.sel(direction="up").item() for s in "ab"] == [60.0, 70.0]


def test_transmission_sides_by_scenario():
    sides = {"dry": hm.Transmission(), "wet": hm.Transmission()}
    market = make(transmission=sides, probabilities={"wet": 0.25, "dry": 0.75})
    assert market.probability.sel(scenario="dry").item() == 0.75


def test_a_stochastic_pypsa_network():
    pypsa = pytest.importorskip("pypsa")
    network = hm.load_network("ieee33")
    network.set_scenarios(low=0.25, high=0.75)
    load = network.c["Load"].static.index[0]
    network.c["Load"].static.loc[("high", load[1]), "p_set"] *= 2
    need = pd.DataFrame({"feeder": ["f"], "bus": ["18"], "imbalance": [0.1]})
    offers = BIDS.assign(feeder="f", bus="18")
    market = make(feeders={"f": network}, imbalance=need, bids=offers)
    assert isinstance(pypsa.__version__, str)
    assert market.probability.to_series().to_dict() == {"low": 0.25, "high": 0.75}
    low, high = (float(market.of(name).feeders.data.p_scheduled.sum()) for name in ("low", "high"))
    assert high < low < 0
    # the same names in two networks, other weights
    other = hm.load_network("ieee33")
    other.set_scenarios(low=0.5, high=0.5)
    assert "feeder g" in faults(feeders={"f": network, "g": other}, imbalance=need, bids=offers)[0].found


def test_probabilities():
    needs = two_needs()
    assert make(imbalance=needs, probabilities=pd.Series({"storm": 0.1, "calm": 0.9})).probability.values.tolist() == [
        0.9,
        0.1,
    ]
    assert "sum of 0.9" in faults(imbalance=needs, probabilities={"calm": 0.5, "storm": 0.4})[0].found
    assert "above 0" in faults(imbalance=needs, probabilities={"calm": 1.0, "storm": 0.0})[0].expected
    assert "nan" in faults(imbalance=needs, probabilities={"calm": 1.0, "storm": np.nan})[0].found
    unknown = faults(imbalance=needs, probabilities={"calm": 0.5, "strom": 0.5})
    assert "'storm' meant" in unknown[0].remedy
    assert "no storm" in unknown[1].found
    assert "no input" in faults(probabilities={"calm": 1.0})[0].found
    array = xr.DataArray([0.5, 0.5], dims="x")
    assert "labelled" in faults(imbalance=needs, probabilities=array)[0].expected


def test_inputs_with_other_scenarios_are_refused():
    offers = pd.concat([with_scenario(BIDS, "calm"), with_scenario(BIDS, "flood")])
    found = faults(imbalance=two_needs(), bids=offers)[0]
    assert "flood" in found.found
    assert "storm" in found.found


def test_bids_that_a_scenario_lacks_are_refused():
    offers = pd.concat([with_scenario(BIDS, "a"), with_scenario(BIDS.iloc[:1], "b")])
    assert "feeder/B/end/0/down" in faults(bids=offers)[0].found


def test_labels_that_are_missing_or_occur_twice():
    gap = two_needs().reset_index(drop=True)
    gap.loc[0, "scenario"] = None
    assert "no label" in faults(imbalance=gap)[0].found
    array = xr.DataArray([0.1, 0.2], dims="scenario")
    grid = combine({"feeder": feeder_from_table(LINE, name="feeder")})
    for limit, word in ((array, "without labels"), (array.assign_coords(scenario=["a", "a"]), "twice")):
        with pytest.raises(DataError) as caught:
            tbm_of({"up": 60.0, "down": 20.0}, grid, limit)
        assert word in caught.value.faults[0].found


def test_other_grids_are_refused():
    one = make()
    other = make(feeders={"feeder": feeder_from_table(LINE.assign(r=[0.0, 0.02]), name="feeder")})
    longer = make(
        feeders={"feeder": feeder_from_table(LINE.rename({"end": "far"}), name="feeder")},
        bids=BIDS.assign(bus="far"),
        imbalance=NEED.assign(bus="far"),
    )
    for second, word in ((other, "grids"), (longer, "buses")):
        with pytest.raises(DataError) as caught:
            ScenarioMarket({"a": one, "b": second}, probabilities_of(None, ["a", "b"]))
        assert word in caught.value.faults[0].where


def test_an_unknown_scenario_is_told_with_the_nearest():
    with pytest.raises(DataError) as caught:
        make(imbalance=two_needs()).of("strom")
    assert "'storm' meant" in caught.value.faults[0].remedy


def test_the_mean_market():
    mean = make(imbalance=two_needs(), probabilities={"calm": 0.75, "storm": 0.25}).mean()
    # 0.75 × 0.5 + 0.25 × 0.9
    assert mean.imbalance.sel(bus="feeder/end").item() == pytest.approx(0.6, abs=1e-15)


def test_travels_to_a_worker():
    market = make(imbalance=two_needs())
    assert pickle.loads(pickle.dumps(market)).scenarios == market.scenarios


def test_studies_refuse_scenarios(tmp_path):
    with pytest.raises(DataError) as caught:
        hm.Study(make(imbalance=two_needs()), tmp_path)
    assert caught.value.faults[0].where == "study.source"
