"""The TSO's clearing by merit order, by an LP of its own, and where parts of it fail."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hiermarket.errors import DataError, LimitReachedError
from hiermarket.market.balancing_market import Transmission, balancing_market
from hiermarket.market.bids import bids
from hiermarket.market.rules import MarketRules
from hiermarket.market.tso_side import TsoSide, join_sides
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.grid import TransmissionGrid
from hiermarket.network.losses import LinDistFlow
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages import tso_periods
from hiermarket.stages.capability import forward
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import SafeBox
from hiermarket.stages.interface import InterfaceOffers, interface_offers, join_offers
from hiermarket.stages.tso_clearing import clear_needs, clear_offers, clear_tso
from hiermarket.stages.tso_model import interface_buses, needs
from tests.oracles import tso_lp
from tests.parts import of_feeders, random_split
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


def one_feeder(need=0.5, *, offers=None, own=0.0, hours=1.0, local=(), grid=None, periods=1):
    """A bus that needs `need` MW, and offers (bsp, direction, price, volume) of the transmission's one bus."""
    index = pd.date_range("2026-01-01", periods=periods, freq=pd.Timedelta(hours=hours))
    table = pd.DataFrame({"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01]}, index=["r", "e"])
    columns = ["bsp", "direction", "price", "volume"]
    side = Transmission()
    if offers is not None:
        rows = pd.DataFrame(offers, columns=columns).assign(feeder="transmission", bus="transmission")
        imbalance = xr.DataArray(
            np.full((1, periods), own), dims=("bus", "period"), coords={"bus": ["transmission"], "period": index}
        )
        side = Transmission(bids=bids(rows, index), imbalance=imbalance)
    if grid is not None:
        side = grid(index)
    return balancing_market(
        {"f": feeder_from_table(table, name="f", periods=index, duration=hours)},
        bids=pd.DataFrame(list(local) or [("A", "up", 30.0, 0.0)], columns=columns).assign(feeder="f", bus="e"),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [need]}),
        tbm_prices={"up": 60.0, "down": 20.0}, rules=MarketRules(200.0, 1000.0), transmission=side,
    )  # fmt: skip


def many_feeders(count, periods, rating=np.inf, seed=0):
    """Feeders with four bids each under a triangle of buses: what a study of many batches would join."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2026-01-01", periods=periods, freq="h")
    names, labels = [f"feeder {k}" for k in range(count)], list("abc")
    grid = xr.Dataset(
        {
            "bus0": ("line", ["a", "b", "c"]), "bus1": ("line", ["b", "c", "a"]), "susceptance": ("line", [100.0] * 3),
            "s_max": ("line", [rating] * 3), "p_scheduled": (("bus", "period"), np.zeros((3, periods))),
            "duration": ("period", np.ones(periods)),
        },
        coords={"bus": labels, "line": ["ab", "bc", "ca"], "period": index},
    )  # fmt: skip
    rows = [
        {"feeder": "transmission", "bsp": "G", "bus": bus, "direction": way, "price": price, "volume": 0.05 * count}
        for bus in labels for way, price in (("up", 70.0), ("down", 10.0))
    ]  # fmt: skip
    hung = {name: labels[k % 3] for k, name in enumerate(names)}
    ways = ["up", "down"]
    tbm = xr.Dataset(
        {
            "tbm_price": (("direction", "period"), np.array([[70.0] * periods, [10.0] * periods])),
            "tbm_limit": (("feeder", "direction", "period"), np.full((count, 2, periods), np.inf)),
        },
        coords={"feeder": names, "direction": ways, "period": index},
    )
    side = TsoSide(
        tbm, grid["duration"], MarketRules(200.0, 1000.0),
        Transmission(TransmissionGrid(grid), hung, bids(pd.DataFrame(rows), index)),
    )  # fmt: skip
    shape = (4 * count, periods)
    up = np.tile([True, False, True, False], count)
    price = np.where(up[:, None], rng.uniform(30, 90, shape), rng.uniform(10, 28, shape))
    taken = rng.uniform(0, 0.1, (count, 2, periods)) * (rng.random((count, 2, periods)) < 0.5)
    flat = xr.Dataset(
        {
            "forwarded": (("bid", "period"), rng.uniform(0, 0.05, shape) * (rng.random(shape) < 0.7)),
            "forwarded_undo": (("bid", "period"), rng.uniform(0, 0.05, shape) * (rng.random(shape) < 0.3)),
            "forward_price": (("bid", "period"), price),
            "interface_factor": (("bid", "period"), rng.uniform(1.0, 1.05, shape)),
            "tbm_volume": (("feeder", "direction", "period"), taken),
        },
        coords={
            "bid": [f"{names[k // 4]}/A/1/{k % 4}/{ways[k % 2]}" for k in range(4 * count)], "period": index,
            "feeder": names, "direction": ways, "bid_feeder": ("bid", np.repeat(names, 4)),
            "bid_bsp": ("bid", np.full(4 * count, "A")), "bid_bus": ("bid", np.full(4 * count, "1")),
            "bid_block": ("bid", np.tile(np.arange(4), count)), "bid_direction": ("bid", np.where(up, "up", "down")),
        },
    )  # fmt: skip
    return side, InterfaceOffers(flat)


def cleared_of(market, **options):
    clearing = clear_dso(market, grid=LOSSLESS)
    return clear_tso(market, clearing, forward(market, clearing, method=SafeBox(**options)))


def test_one_bus_by_default_has_the_tbm_alone():
    cleared = clear_tso(market := one_feeder(), clear_dso(market, grid=LOSSLESS))
    assert cleared.grid_bids.bsps == ["TBM"]
    assert cleared.flat.grid_activation.values.ravel().tolist() == pytest.approx([0.5, 0.0])
    assert cleared.flat.grid_price.item() == pytest.approx(60.0)
    assert cleared.flat.interface_price.item() == pytest.approx(60.0)
    assert not cleared.flat.change.any()


@pytest.mark.parametrize("hours", [0.25, 1.0])
def test_merit_order_by_hand(hours):
    # .5 MW of the feeder and .3 of the grid itself: .4 at 40, .3 at 50, .1 of .5 at 70 sets the price
    offers = [("X", "up", 70.0, 0.5), ("Y", "up", 40.0, 0.4), ("Z", "up", 50.0, 0.3), ("Z", "down", 10.0, 1.0)]
    market = one_feeder(offers=offers, own=0.3, hours=hours, periods=2)
    cleared = clear_tso(market, clear_dso(market, grid=LOSSLESS))
    np.testing.assert_allclose(cleared.flat.need, 0.8)
    np.testing.assert_allclose(cleared.flat.grid_activation[:, 0], [0.1, 0.4, 0.3, 0.0], atol=1e-9)
    np.testing.assert_allclose(cleared.flat.grid_price, 70.0)


def test_forwarded_bids_stand_in_the_merit_order():
    # stage 1 buys .5 MW at 60 although B offers .2 at 65 and C .2 at 45 (activated there). The TSO has .3 at 90 and
    # 1 at 100 only: of .5 − .2 = .3 it takes .2 from B and .1 at 90; price 90
    local = [("B", "up", 65.0, 0.2), ("C", "up", 45.0, 0.2)]
    market = one_feeder(offers=[("X", "up", 90.0, 0.3), ("Y", "up", 100.0, 1.0)], local=local)
    cleared = cleared_of(market)
    assert cleared.flat.change.values.ravel().tolist() == pytest.approx([0.2, 0.0])
    assert cleared.flat.grid_activation.values.ravel().tolist() == pytest.approx([0.1, 0.0])
    assert cleared.flat.grid_price.item() == pytest.approx(90.0)
    assert cleared.flat.cleared_delivery.item() == pytest.approx(0.2)


def test_undo_of_a_dear_activation():
    # C's .2 MW at 45 were activated against a TBM of 60; now the TSO has 1 MW at 40: it undoes them
    market = one_feeder(offers=[("X", "up", 40.0, 1.0)], local=[("C", "up", 45.0, 0.2)])
    cleared = cleared_of(market, undo=True)
    assert cleared.flat.change.item() == pytest.approx(-0.2)
    assert cleared.flat.grid_activation.item() == pytest.approx(0.5)
    assert cleared.flat.grid_price.item() == pytest.approx(40.0)
    assert cleared_of(market).flat.change.item() == 0.0


def test_a_surplus_and_a_down_bid():
    # surplus .5; stage 1: B pays 25 for .3 and the TBM 20 for .2; the TSO can only sell them at 5: B2's .1 at 15 first
    local = [("B", "down", 25.0, 0.3), ("B2", "down", 15.0, 0.1)]
    market = one_feeder(-0.5, offers=[("X", "down", 5.0, 1.0)], local=local)
    cleared = cleared_of(market)
    assert cleared.flat.change.values.ravel().tolist() == pytest.approx([0.0, 0.1])
    assert cleared.flat.cleared_delivery.item() == pytest.approx(-0.1)
    assert cleared.flat.grid_price.item() == pytest.approx(5.0)


def test_scarcity():
    cleared = clear_tso(market := one_feeder(offers=[("X", "up", 40.0, 0.2)]), clear_dso(market, grid=LOSSLESS))
    assert cleared.flat.grid_unserved.item() == pytest.approx(0.3)
    assert cleared.flat.grid_price.item() == pytest.approx(1000.0)
    cleared = clear_tso(market := one_feeder(-0.5, offers=[("X", "up", 40.0, 0.2)]), clear_dso(market, grid=LOSSLESS))
    assert cleared.flat.grid_spilled.item() == pytest.approx(0.5)
    assert cleared.flat.grid_price.item() == pytest.approx(-1000.0)


def test_equal_prices_local_first_and_nothing_for_nothing():
    local = [("B", "up", 65.0, 0.2), ("B", "down", 15.0, 0.2)]
    market = one_feeder(offers=[("X", "up", 65.0, 1.0), ("X", "down", 65.0, 1.0)], local=local)
    cleared = cleared_of(market)
    assert cleared.flat.change.values.ravel().tolist() == pytest.approx([0.2, 0.0])
    assert cleared.flat.grid_activation.values.ravel().tolist() == pytest.approx([0.3, 0.0])


def test_limits_of_the_tbm_without_bids_of_its_own():
    market = one_feeder(0.5)
    limited = dataclasses.replace(market, tbm=market.tbm.assign(tbm_limit=xr.full_like(market.tbm.tbm_limit, 0.2)))
    cleared = clear_needs(limited.tso_side, xr.zeros_like(market.tbm.tbm_limit.isel(direction=0, drop=True)) + 0.5)
    assert cleared.flat.grid_activation.values.ravel().tolist() == pytest.approx([0.2, 0.0])
    assert cleared.flat.grid_unserved.item() == pytest.approx(0.3)


# the DC grid


@pytest.fixture(scope="module")
def meshed():
    """Six feeders under a mesh whose lines bind, two quarter-hours."""
    market = random_market(51, count=6, periods=2, hours=0.25, transmission=True)
    clearing = clear_dso(market, grid=LinDistFlow(1))
    forwarded = forward(market, clearing, method=SafeBox(undo=True, corner_passes=1))
    return market, clearing, forwarded, clear_tso(market, clearing, forwarded).require()


def test_dc_clearing_is_that_of_an_lp_of_its_own(meshed):
    market, _, forwarded, cleared = meshed
    flat, offers = cleared.flat, market.transmission.bids
    congested = 0
    for t in market.periods:
        solved = tso_lp(market, flat.need, offers, t, forwarded.flat)
        at = {"period": t}
        y, z = flat.grid_activation.sel(at), flat.change.sel(at)
        up = np.where(offers.data.bid_direction == "up", 1.0, -1.0)
        local = np.where(market.bids.data.bid_direction == "up", 1.0, -1.0)
        cost = (up * offers.data.price.sel(at).values * y.values).sum()
        cost += (local * forwarded.flat.forward_price.sel(at).values * z.values).sum()
        cost += 1000.0 * (flat.grid_unserved + flat.grid_spilled).sel(at).sum().item()
        assert 0.25 * cost == pytest.approx(solved.objective, abs=1e-6)
        for bus in flat.grid_bus.values:
            expected = solved.dual["P", bus] / 0.25
            assert flat.grid_price.sel(grid_bus=bus, **at).item() == pytest.approx(expected, abs=1e-5)
        congested += np.ptp(flat.grid_price.sel(at).values) > 1
    assert congested


def test_flows_balance_every_bus_and_keep_their_limits(meshed):
    market, _, forwarded, cleared = meshed
    flat, grid = cleared.flat, market.transmission.grid.data
    hung = interface_buses(market.tso_side)
    sign = np.where(market.bids.data.bid_direction == "up", 1.0, -1.0)[:, None]
    delivered = sign * forwarded.flat.interface_factor.values * flat.change.values
    offers = market.transmission.bids.data
    supplied = np.where(offers.bid_direction == "up", 1.0, -1.0)[:, None] * flat.grid_activation.values
    for bus in flat.grid_bus.values:
        mine = [hung[feeder] == bus for feeder in market.bids.data.bid_feeder.values]
        out = flat.line_flow.values[grid.bus0.values == bus].sum(axis=0)
        into = flat.line_flow.values[grid.bus1.values == bus].sum(axis=0)
        total = grid.p_scheduled.sel(bus=bus).values + delivered[mine].sum(axis=0)
        total = total + supplied[offers.bid_bus.values == bus].sum(axis=0)
        total = total + (flat.grid_unserved - flat.grid_spilled).sel(grid_bus=bus).values
        np.testing.assert_allclose(total - out + into, flat.need.sel(grid_bus=bus), atol=1e-8)
    assert (abs(flat.line_flow) <= grid.s_max + 1e-9).all()
    assert (flat.change <= forwarded.flat.forwarded + 1e-9).all()
    assert (flat.change >= -forwarded.flat.forwarded_undo - 1e-9).all()


def test_needs_by_hand(meshed):
    market, clearing, _, cleared = meshed
    tbm = clearing.flat.tbm_volume
    for bus in cleared.flat.grid_bus.values:
        expected = 0.0
        for feeder, at in market.transmission.interface.items():
            if at == bus:
                one = tbm.sel(feeder=feeder)
                expected = expected + one.sel(direction="up").values - one.sel(direction="down").values
        if bus in market.transmission.imbalance.bus:
            expected = expected + market.transmission.imbalance.sel(bus=bus).values
        np.testing.assert_allclose(cleared.flat.need.sel(grid_bus=bus), expected, atol=1e-12)


def test_interface_price_and_delivery(meshed):
    market, _, forwarded, cleared = meshed
    flat = cleared.flat
    for feeder, bus in market.transmission.interface.items():
        np.testing.assert_array_equal(flat.interface_price.sel(feeder=feeder), flat.grid_price.sel(grid_bus=bus))
        mine = market.bids.data.bid_feeder.values == feeder
        sign = np.where(market.bids.data.bid_direction.values == "up", 1.0, -1.0)[mine, None]
        total = (sign * forwarded.flat.interface_factor.values[mine] * flat.change.values[mine]).sum(axis=0)
        np.testing.assert_allclose(flat.cleared_delivery.sel(feeder=feeder), total, atol=1e-12)


# many feeders, many periods


@pytest.mark.parametrize("most_columns", [1, 60, 10**9])
@pytest.mark.parametrize("transmission", [False, True])
def test_any_number_of_periods_at_once_gives_the_same(most_columns, transmission):
    market = random_market(8, count=4, periods=5, transmission=transmission)
    clearing = clear_dso(market, grid=LinDistFlow(1))
    offers = interface_offers(clearing, forward(market, clearing, method=SafeBox(undo=True, corner_passes=1)))
    whole = clear_tso(market, clearing, forward(market, clearing, method=SafeBox(undo=True, corner_passes=1)))
    assert whole.flat.grid_activation.any()
    found = clear_offers(market.tso_side, offers, most_columns=most_columns)
    assert (found.work.solves, found.work.screened) == (whole.work.solves, whole.work.screened)
    for name in whole.flat:
        np.testing.assert_allclose(found.flat[name], whole.flat[name], atol=1e-9, err_msg=str(name))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), transmission=st.booleans())
def test_batches_of_feeders_are_cleared_as_the_whole(seed, transmission):
    rng = np.random.default_rng(seed)
    market = random_market(seed, count=5, periods=2, transmission=transmission)
    clearing = clear_dso(market, grid=LOSSLESS)
    forwarded = forward(market, clearing, method=SafeBox(undo=True))
    whole = clear_tso(market, clearing, forwarded)
    batches = random_split(market.feeder_names, rng)
    side = join_sides([market.of_feeders(names).tso_side for names in batches])
    offers = join_offers(
        [interface_offers(of_feeders(clearing, names), of_feeders(forwarded, names)) for names in batches]
    )
    joined = clear_offers(side, offers)
    for names in batches:
        mine, part = whole.of_feeders(names), joined.of_feeders(names)
        assert list(part.flat.bid.values) == list(market.of_feeders(names).bids.data.bid.values)
        assert list(part.flat.feeder.values) == names
        # ties between bids are decided by their order, which the batches change
        for name in ("interface_price", "grid_price", "interface_factor", "need", "grid_unserved"):
            np.testing.assert_allclose(part.flat[name], mine.flat[name], atol=1e-7, err_msg=name)
        np.testing.assert_allclose(part.flat.change, mine.flat.change, atol=1e-7)
        for name in part.flat:
            with pytest.raises(ValueError, match="read-only"):
                part.flat[name].values[...] = 0


EVERYTHING = SolverOptions(screening=False)


def same_as_solving_everything(side, offers):
    """What is left out changes nothing: periods by merit order, bids away from the margin."""
    found, whole = clear_offers(side, offers), clear_offers(side, offers, solver=EVERYTHING)
    assert whole.work.screened == 0
    for name in whole.flat:
        np.testing.assert_allclose(found.flat[name], whole.flat[name], atol=1e-6, err_msg=str(name))
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6), rating=st.sampled_from([0.005, 0.01, 0.05, np.inf]), nearest=st.sampled_from([1, 3, 64])
)
def test_the_same_as_solving_everything(monkeypatch, seed, rating, nearest):
    monkeypatch.setattr(tso_periods, "NEAREST", nearest)
    monkeypatch.setattr(tso_periods, "GROUPS", 6)
    side, offers = many_feeders(12, periods=3, rating=rating, seed=seed)
    same_as_solving_everything(side, offers)


def test_what_is_left_out_is_most_of_it(monkeypatch):
    side, offers = many_feeders(400, periods=3)
    found = same_as_solving_everything(side, offers)
    assert (found.work.solves, found.work.screened) == (0, 3)
    side, offers = many_feeders(400, periods=3, rating=0.05)
    found = same_as_solving_everything(side, offers)
    assert found.work.screened < 3
    assert float(np.ptp(found.flat.grid_price.values, axis=0).max()) > 0.01


def test_prices_at_a_step_are_the_middle():
    # .4 MW are just Y's bid: any price between 40 and the next offer, 50, clears the market
    offers = [("Y", "up", 40.0, 0.4), ("Z", "up", 50.0, 0.3)]
    market = one_feeder(0.4, offers=offers)
    for solver in (None, EVERYTHING):
        cleared = clear_needs(market.tso_side, exchange_of(market, 0.4), solver=solver)
        assert cleared.flat.grid_price.item() == pytest.approx(45.0)
        assert cleared.flat.interface_price.item() == pytest.approx(45.0)
        # .7 are all there is: the last one
        cleared = clear_needs(market.tso_side, exchange_of(market, 0.7), solver=solver)
        assert cleared.flat.grid_price.item() == pytest.approx(50.0)
        # nothing is needed: between the TBM's down price and its up price
        cleared = clear_needs(one_feeder(0.0).tso_side, exchange_of(market, 0.0), solver=solver)
        assert cleared.flat.grid_price.item() == pytest.approx((20 + 60) / 2)


def exchange_of(market, volume):
    return xr.DataArray(
        np.full((1, len(market.periods)), volume),
        dims=("feeder", "period"),
        coords={"feeder": ["f"], "period": market.periods},
    )


def test_an_undo_beside_the_rest_of_its_bid():
    # B has .2 of .3 MW activated at 65: .1 more, and an undo of .2, at one price. The TSO has 1 MW at 90 and at 10;
    # what the DSOs take, .3 MW, falls to .1, or to 0, and rises
    market = one_feeder(offers=[("X", "up", 90.0, 1.0), ("X", "down", 10.0, 1.0)], local=[("B", "up", 50.0, 0.3)])
    clearing = clear_dso(market, grid=LOSSLESS)
    forwarded = forward(market, clearing, method=SafeBox(undo=True))
    flat = forwarded.flat
    offers = interface_offers(clearing, dataclasses.replace(
        forwarded, flat=flat.assign(forwarded=flat.forwarded + 0.1, forwarded_undo=flat.forwarded_undo * 0 + 0.2)
    ))  # fmt: skip
    for exchange, change, price in ((0.05, 0.05, 50.0), (-0.15, -0.15, 50.0), (0.2, 0.1, 90.0), (-0.3, -0.2, 10.0)):
        volume = [[[max(exchange, 0.0)], [max(-exchange, 0.0)]]]
        given_ = InterfaceOffers(offers.flat.assign(tbm_volume=offers.flat.tbm_volume.copy(data=volume)))
        for solver in (None, EVERYTHING):
            cleared = clear_offers(market.tso_side, given_, solver=solver)
            assert cleared.work.screened == (solver is None)
            assert cleared.flat.change.item() == pytest.approx(change)
            assert cleared.flat.grid_price.item() == pytest.approx(price)


def test_a_thousand_feeders():
    """A study's size, but for the periods: arrays without any distribution grid."""
    side, offers = many_feeders(1000, periods=2)
    cleared = clear_offers(side, offers).require()
    flat = cleared.flat
    assert flat.change.shape == (4000, 2)
    balance = flat.cleared_delivery.sum("feeder") + (cleared.grid_bids.sign.values[:, None] * flat.grid_activation).sum(
        "grid_bid"
    )
    np.testing.assert_allclose(balance, flat.need.sum("grid_bus"), atol=1e-6)
    price = flat.grid_price.values
    assert (np.ptp(price, axis=0) < 1e-9).all()
    # nobody who is not taken would have been cheaper
    cost = offers.flat.forward_price / offers.flat.interface_factor
    up = offers.flat.bid_direction == "up"
    spare = offers.flat.forwarded - flat.change.clip(min=0.0) > 1e-9
    assert (cost.where(spare & up).min("bid") >= price.max(axis=0) - 1e-9).all()
    assert len(cleared.of_feeders(["feeder 7", "feeder 8"]).flat.bid) == 8


# what may fail


def islands(apart):
    """Two buses without a line between them; the second has a surplus of its schedule that no bid takes."""

    def make(index):
        grid = xr.Dataset(
            {
                "bus0": ("line", ["T1"]), "bus1": ("line", ["T2"]), "susceptance": ("line", [1000.0]),
                "s_max": ("line", [0.1]), "p_scheduled": (("bus", "period"), np.zeros((3, len(index)))),
                "duration": ("period", np.ones(len(index))),
            },
            coords={"bus": ["T1", "T2", "T3"], "line": ["T1-T2"], "period": index},
        )  # fmt: skip
        row = {"feeder": "transmission", "bsp": "X", "bus": "T1", "direction": "up", "price": 40.0, "volume": 1.0}
        return Transmission(grid=TransmissionGrid(grid), interface={"f": apart}, bids=bids(pd.DataFrame([row]), index))

    return make


def test_an_island_without_bids_pays_the_value_of_lost_load():
    market = one_feeder(grid=islands("T3"))
    cleared = clear_tso(market, clear_dso(market, grid=LOSSLESS)).require()
    assert cleared.flat.grid_unserved.sel(grid_bus="T3").item() == pytest.approx(0.5)
    assert cleared.flat.interface_price.item() == pytest.approx(1000.0)
    market = one_feeder(grid=islands("T2"))
    cleared = clear_tso(market, clear_dso(market, grid=LOSSLESS))
    # .1 MW through the line, .4 are not served
    assert cleared.flat.line_flow.item() == pytest.approx(0.1)
    assert cleared.flat.grid_price.values.ravel()[:2].tolist() == pytest.approx([40.0, 1000.0])


def test_a_limit_of_time_is_told():
    market = one_feeder(grid=islands("T2"))
    cleared = clear_tso(market, clear_dso(market, grid=LOSSLESS), solver=SolverOptions(time_limit=0.0))
    assert cleared.flat.grid_status.item() == 3
    assert cleared.flat.grid_activation.isnull().all()
    assert cleared.flat.grid_price.isnull().all()
    with pytest.raises(LimitReachedError) as error:
        cleared.require()
    assert error.value.where == "period=2026-01-01 00:00:00"


def test_a_feeder_without_a_clearing_needs_nothing():
    market = one_feeder()
    unknown = xr.DataArray([[np.nan]], dims=("feeder", "period"), coords={"feeder": ["f"], "period": market.periods})
    assert clear_needs(market.tso_side, unknown).flat.need.item() == 0.0
    assert np.isnan(needs(market.tso_side, unknown).item())


def test_labels_that_are_not_there_are_refused():
    """Never by the position −1, which is the last bus or feeder."""
    side = one_feeder(grid=islands("T2")).tso_side
    exchange = xr.DataArray([[0.1]], dims=("feeder", "period"), coords={"feeder": ["f"], "period": side.periods})
    for hung, found in (({"f": "T9"}, "f: T9"), ({"g": "T1"}, "f: None")):
        wrong = dataclasses.replace(side, transmission=dataclasses.replace(side.transmission, interface=hung))
        with pytest.raises(DataError) as caught:
            needs(wrong, exchange)
        assert caught.value.faults[0].found == found
    with pytest.raises(DataError) as caught:
        needs(side, exchange.assign_coords(feeder=["z"]))
    assert (caught.value.faults[0].where, caught.value.faults[0].found) == ("exchange", "z: z")


def test_read_only(meshed):
    for name in meshed[3].flat:
        with pytest.raises(ValueError, match="read-only"):
            meshed[3].flat[name].values[...] = 0
