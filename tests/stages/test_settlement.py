"""Money sums to zero whatever binds, rents are the merchandising surplus of flows and prices, profits by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.stages.accounts import bsp_account
from hiermarket.stages.capability import forward
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import SafeBox
from hiermarket.stages.settlement import change_payment, join_settlements, settle, settle_feeders, settle_grid
from hiermarket.stages.tso_clearing import clear_tso
from tests.parts import of_feeders, random_split
from tests.random_markets import random_market

LOSSLESS = LinDistFlow(loss_passes=0)


def settled(market, grid, method=None):
    clearing = clear_dso(market, grid=grid)
    forwarded = forward(market, clearing, method=method or SafeBox(undo=True, corner_passes=1))
    cleared = clear_tso(market, clearing, forwarded)
    final = disaggregate(market, clearing, forwarded, cleared)
    return clearing, final, cleared, settle(market, clearing, cleared, final)


@pytest.fixture(scope="module", params=["lossless", "lossy"])
def many(request):
    """Feeders with lines, voltages and TBM limits that bind, reactive coupling, a congested grid, own imbalance."""
    market = random_market(61, count=12, periods=2, hours=0.25, transmission=True)
    grid = LOSSLESS if request.param == "lossless" else LinDistFlow(1)
    return market, *settled(market, grid)


def test_every_item_of_every_period_sums_to_zero(many):
    market, clearing, _, cleared, settlement = many
    # the case has all of what it should
    flat, d = clearing.flat, market.feeders.data
    assert ((flat.voltage - d.v_min < 1e-9) | (d.v_max - flat.voltage < 1e-9)).any()
    assert (flat.tbm_volume > market.tbm.tbm_limit - 1e-9).any()
    assert (flat.unserved > 1e-3).any()
    assert (abs(flat.reactive_price) > 1).any()
    assert (abs(cleared.flat.line_flow) > market.transmission.grid.data.s_max - 1e-9).any()
    assert abs(cleared.flat.change).sum() > 0.1
    payment = settlement.data.payment
    scale = float(abs(payment).max())
    assert float(abs(payment.sum("account")).max()) < 1e-12 * scale
    assert settlement.imbalance_of_money == float(abs(payment.sum("account")).max())
    assert abs(float(settlement.balance.sum())) < 1e-11 * scale


def test_operators_keep_nothing(many):
    """What a DSO or the TSO collects above what it pays is in accounts that say what it is."""
    balance = many[-1].balance
    operators = [name for name in balance.account.values if name.startswith("DSO ") or name == "TSO"]
    assert len(operators) == 13
    assert float(abs(balance.sel(account=operators)).max()) < 1e-9


def test_distribution_rent_is_the_merchandising_surplus_of_flows(many):
    """Σ λ (what the grid delivers there) by flows, voltages and losses instead of by bids and imbalance."""
    market, clearing, _, _, settlement = many
    flat, d, hours = clearing.flat, market.feeders.data, 0.25
    terms = clearing.losses
    for feeder in market.feeder_names:
        buses = d.bus.values[d.bus_feeder.values == feeder]
        total = 0.0
        for b in buses:
            lam, kap = flat.nodal_price.sel(bus=b), flat.reactive_price.sel(bus=b)
            one, w = d.sel(bus=b), flat.voltage.sel(bus=b) ** 2
            # the schedule and the shunts at the price of their bus; there is no reactive balance at the root
            total = total + lam * (one.p_scheduled - one.g * w)
            above = one.parent.item()
            if not above:
                tbm = flat.tbm_volume.sel(feeder=feeder)
                net = tbm.sel(direction="up") - tbm.sel(direction="down")
                paid = (tbm * market.tbm.tbm_price * xr.DataArray([1, -1], dims="direction")).sum("direction")
                total = total + lam * (net + clearing.scheduled_import.sel(feeder=feeder)) - paid
                continue
            total = total + kap * (one.q_scheduled + one.b * w)
            p, q, w_m = flat.p_flow.sel(bus=b), flat.q_flow.sel(bus=b), flat.voltage.sel(bus=above) ** 2
            current = (
                terms.constant.sel(bus=b) + terms.by_p.sel(bus=b) * p + terms.by_q.sel(bus=b) * q
                + terms.by_w.sel(bus=b) * w_m
            )  # fmt: skip
            total = total + (lam - flat.nodal_price.sel(bus=above)) * p - lam * one.r * current
            # κ of a root is 0
            total = total + (kap - flat.reactive_price.sel(bus=above)) * q - kap * one.x * current
        named = settlement.data.payment.sel(account=f"congestion and losses {feeder}").sum("item")
        # prices up to 1000 EUR/MWh times rows that hold to 1e-9
        np.testing.assert_allclose(named, hours * total, atol=1e-6)


def test_transmission_rent_is_the_merchandising_surplus_of_flows(many):
    market, _, _, cleared, settlement = many
    grid, flat = market.transmission.grid.data, cleared.flat
    price = flat.grid_price
    rent = (price.rename(grid_bus="bus") * grid.p_scheduled).sum("bus")
    for line in grid.line.values:
        one = grid.sel(line=line)
        rent = rent + (price.sel(grid_bus=one.bus1.item()) - price.sel(grid_bus=one.bus0.item())) * flat.line_flow.sel(
            line=line
        )
    named = settlement.data.payment.sel(account="congestion rent transmission").sum("item")
    np.testing.assert_allclose(named, 0.25 * rent, atol=1e-6)
    # the lines earn, whatever the schedule does
    assert abs(rent).max() > 0.1


def test_price_difference_at_the_interfaces(many):
    market, clearing, _, cleared, settlement = many
    tbm = clearing.flat.tbm_volume
    expected = 0.0
    for feeder in market.feeder_names:
        lam = cleared.flat.interface_price.sel(feeder=feeder)
        for way, sign in (("up", 1), ("down", -1)):
            price = market.tbm.tbm_price.sel(direction=way)
            expected = expected + 0.25 * sign * (price - lam) * tbm.sel(feeder=feeder, direction=way)
    named = settlement.data.payment.sel(account="price difference at the interfaces").sum("item")
    np.testing.assert_allclose(named, expected, atol=1e-9)


def test_profit_is_payment_less_true_cost(many):
    market, clearing, _, cleared, settlement = many
    b, flat = market.bids.data, clearing.flat
    for bsp in market.bids.bsps:
        total = 0.0
        for k in b.bid.values[b.bid_bsp.values == bsp]:
            one = b.sel(bid=k)
            sign = 1 if one.bid_direction == "up" else -1
            paid = flat.nodal_price.sel(bus=one.bid_node.item())
            if np.isfinite(flat.reactive_price.sel(bus=one.bid_node.item())).all():
                paid = paid + one.reactive_ratio * flat.reactive_price.sel(bus=one.bid_node.item())
            a, z = flat.activation.sel(bid=k), cleared.flat.change.sel(bid=k)
            lam = cleared.flat.interface_price.sel(feeder=one.bid_feeder.item())
            factor = cleared.flat.interface_factor.sel(bid=k)
            total = total + 0.25 * sign * (paid * a + lam * factor * z - one.cost * (a + z))
        np.testing.assert_allclose(settlement.data.profit.sel(bsp=bsp), total, atol=1e-9)
        account = settlement.balance.sel(account=bsp_account(bsp))
        assert np.isfinite(account)


def test_change_payment_of_one_bid(many):
    market, _, final, cleared, _ = many
    paid = change_payment(market, final)
    k = int(np.argmax(abs(cleared.flat.change.values).sum(axis=1)))
    one = market.bids.data.isel(bid=k)
    sign = 1 if one.bid_direction == "up" else -1
    flat = cleared.flat.isel(bid=k)
    price = cleared.flat.interface_price.sel(feeder=one.bid_feeder.item())
    np.testing.assert_allclose(paid[k], 0.25 * sign * price * flat.interface_factor * flat.change)


# in parts


def shares(market, clearing, final, cleared):
    """The settlement of some feeders, by their names."""

    def part_of(names):
        part = market.of_feeders(names), of_feeders(clearing, names), cleared.of_feeders(names)
        return settle_feeders(*part, of_feeders(final, names))

    return part_of


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_parts_add_up_to_the_whole(many, seed):
    market, clearing, final, cleared, whole = many
    part_of = shares(market, clearing, final, cleared)
    batches = random_split(market.feeder_names, np.random.default_rng(seed))
    parts = [part_of(names) for names in batches]
    parts.append(settle_grid(market.tso_side, cleared))
    scale = float(abs(whole.data.payment).max())
    # each part balances by itself, and leaves no operator with anything
    for part in parts:
        assert part.imbalance_of_money < 1e-12 * scale
        operators = part.data.account_kind.isin(["DSO", "TSO"])
        assert float(abs(part.balance.where(operators, 0.0)).max()) < 1e-10 * scale
    joined = join_settlements(parts)
    assert set(joined.data.account.values) == set(whole.data.account.values)
    assert list(joined.data.item.values) == list(whole.data.item.values)
    same = joined.data.sel(account=whole.data.account, bsp=whole.data.bsp)
    xr.testing.assert_allclose(same, whole.data, atol=1e-12 * scale)
    assert same.payment.attrs == whole.data.payment.attrs
    for array in joined.data.values():
        assert not array.values.flags.writeable


def test_batches_in_order_keep_the_order_of_accounts(many):
    market, clearing, final, cleared, whole = many
    part_of = shares(market, clearing, final, cleared)
    names = list(market.feeder_names)
    parts = [part_of(some) for some in (names[:5], names[5:7], names[7:])]
    joined = join_settlements([*parts, settle_grid(market.tso_side, cleared)])
    assert list(joined.data.account.values) == list(whole.data.account.values)
    assert list(joined.data.bsp.values) == list(whole.data.bsp.values)


def test_order_of_accounts(many):
    names = list(many[-1].data.account.values)
    expected = ["DSO f0", "BSP A", "BSP B", "BSP C", "TSO", "imbalance payers f0", "congestion and losses f0"]
    assert names[:10] == [*expected, "DSO f1", "imbalance payers f1", "congestion and losses f1"]
    assert names[-6:] == [
        *(f"transmission provider G{k}" for k in range(3)), "imbalance payers transmission",
        "price difference at the interfaces", "congestion rent transmission",
    ]  # fmt: skip


def test_feeders_together(many):
    market, *_, whole = many
    together = whole.together
    payment = whole.data.payment
    assert together.data.sizes["account"] == whole.data.sizes["account"] - 3 * (len(market.feeder_names) - 1)
    for name, kind in (("all DSOs", "DSO"), ("all imbalance payers", "imbalance payers"),
                       ("all congestion and losses", "congestion and losses")):  # fmt: skip
        mine = [f"{kind} {feeder}" for feeder in market.feeder_names]
        expected = payment.sel(account=mine).sum("account")
        np.testing.assert_allclose(together.data.payment.sel(account=name), expected, atol=1e-9)
    for name in ("TSO", "BSP A", "congestion rent transmission"):
        np.testing.assert_array_equal(together.data.payment.sel(account=name), payment.sel(account=name))
    xr.testing.assert_identical(together.data.profit, whole.data.profit)
    assert together.imbalance_of_money < 1e-9
    # what batches keep of their accounts adds up too, and does not grow
    twice = join_settlements([together, together])
    np.testing.assert_allclose(twice.balance, 2 * together.balance)
    assert list(twice.data.account.values) == list(together.data.account.values)


# by hand


def line_limited(hours=1.0):
    """The end needs .5 MW through .1·cos(π/12); A sells the rest at 80 there; the TBM sells at 60."""
    index = pd.date_range("2026-01-01", periods=1)
    table = pd.DataFrame(
        {"parent": ["", "r"], "r": [0, 0.01], "x": [0, 0.01], "s_max": [np.inf, 0.1 / np.cos(np.pi / 12)]},
        index=["r", "e"],
    )
    return balancing_market(
        {"f": feeder_from_table(table, name="f", periods=index, duration=hours)},
        bids=pd.DataFrame(
            {"feeder": ["f"], "bsp": ["A"], "bus": ["e"], "direction": ["up"], "price": [80.0], "volume": [0.6],
             "cost": [70.0]}
        ),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["e"], "imbalance": [0.5]}),
        tbm_prices={"up": 60.0, "down": 20.0}, rules=MarketRules(200.0, 1000.0),
    )  # fmt: skip


@pytest.mark.parametrize("hours", [0.25, 1.0])
def test_a_line_limit_by_hand(hours):
    # payers .5·80 = 40; A .4·80 = 32, profit .4·(80 − 70) = 4; TBM .1·60 = 6; the line earns .1·(80 − 60) = 2
    market = line_limited(hours)
    *_, settlement = settled(market, LOSSLESS, SafeBox())
    account = settlement.balance / hours
    assert account.sel(account="BSP A").item() == pytest.approx(32.0)
    assert account.sel(account="imbalance payers f").item() == pytest.approx(-40.0)
    assert account.sel(account="congestion and losses f").item() == pytest.approx(2.0)
    assert account.sel(account="TBM").item() == pytest.approx(6.0)
    assert account.sel(account="DSO f").item() == pytest.approx(0.0, abs=1e-12)
    assert (settlement.data.profit / hours).item() == pytest.approx(4.0)
    payment = settlement.data.payment.sel(account="TSO").sum("period") / hours
    assert payment.sel(item="energy from the TBM").item() == pytest.approx(6.0)
    assert payment.sel(item="transmission activation").item() == pytest.approx(-6.0)


def test_what_is_not_served_is_paid_back():
    # the TBM may sell .1 of .5 MW, A none: .4 MW are not served at 1000; payers pay 500 and get 400 back. The TBM gets
    # its 60: the scarcity rent .1·(1000 − 60) = 94 stays in the feeder's account
    market = line_limited()
    market = dataclasses.replace(market, tbm=market.tbm.assign(tbm_limit=xr.full_like(market.tbm.tbm_limit, 0.1)))
    market = market.with_bids(market.bids.data.assign(volume=0 * market.bids.data.volume))
    *_, settlement = settled(market, LOSSLESS, SafeBox())
    payers = settlement.data.payment.sel(account="imbalance payers f").sum("period")
    assert payers.sel(item="local imbalance").item() == pytest.approx(-500.0)
    assert payers.sel(item="energy not served").item() == pytest.approx(400.0)
    assert settlement.balance.sel(account="congestion and losses f").item() == pytest.approx(94.0)


def test_m33_by_hand(m33_chain):
    # price 50: A .25, B .25, C .05725 MW; profits 4.6, 2.2, 0; payers .55725·50 = 27.8625; nobody else earns
    balance, profit = m33_chain.settlement.balance, m33_chain.settlement.data.profit
    expected = {"BSP A": 12.5, "BSP B": 12.5, "BSP C": 2.8625, "imbalance payers m33": -27.8625}
    for account in balance.account.values:
        assert balance.sel(account=account).item() == pytest.approx(expected.get(account, 0.0), abs=1e-9)
    assert profit.sel(period=profit.period[0]).values.tolist() == pytest.approx([4.6, 2.2, 0.0], abs=1e-9)


def test_the_day(day_chain):
    settlement = day_chain.settlement
    assert settlement.imbalance_of_money < 1e-9
    assert list(settlement.data.profit.bsp.values) == ["BSP 1", "BSP 2", "BSP 3", "BSP 4"]
    assert (settlement.data.profit.sum("period") > 0).all()


def test_accounts():
    assert bsp_account("A") == "BSP A"
    assert bsp_account("BSP 1") == "BSP 1"


def test_without_bids():
    market = line_limited()
    empty = market.with_bids(market.bids.data.isel(bid=[]))
    *_, settlement = settled(empty, LOSSLESS, SafeBox())
    assert settlement.data.profit.sizes == {"bsp": 0, "period": 1}
    assert settlement.imbalance_of_money < 1e-9


def test_read_only(m33_chain):
    for name in m33_chain.settlement.data:
        with pytest.raises(ValueError, match="read-only"):
            m33_chain.settlement.data[name].values[...] = 0
