"""What the bids do in the end, and what the interface sees of it."""

import dataclasses

import numpy as np
import pytest

from hiermarket.network.losses import LinDistFlow
from hiermarket.network.power_flow import power_flow
from hiermarket.stages.ac_check import injections, scheduled
from hiermarket.stages.capability import forward
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import SafeBox
from hiermarket.stages.tso_clearing import clear_tso
from tests.random_markets import random_market
from tests.stages.test_dso_clearing import NO_VOLTAGE, with_an_impossible_feeder


def test_final_activation_is_that_of_both_markets(day_chain):
    final = day_chain.disaggregation.flat.final_activation
    np.testing.assert_allclose(final, day_chain.clearing.flat.activation + day_chain.cleared.flat.change, atol=1e-12)
    assert (final >= -1e-9).all()
    assert (final <= day_chain.market.bids.data.volume + 1e-9).all()


def test_no_violation_after_a_safe_box(day_chain):
    flat = day_chain.disaggregation.flat
    for name in ("undervoltage", "overvoltage", "overload"):
        assert flat[name].max() < 1e-6
    assert flat.ac_converged.all()
    # while the TBM alone would break the lower voltage
    assert day_chain.baseline.flat.baseline_undervoltage.max() > 1e-3


def test_delivered_is_the_ac_change_of_the_interface(day_chain):
    market, clearing, flat = day_chain.market, day_chain.clearing, day_chain.disaggregation.flat
    states = [
        power_flow(market.feeders, *injections(market, activation, clearing.recourse))
        for activation in (clearing.flat.activation, flat.final_activation)
    ]
    expected = states[0].p_interface - states[1].p_interface
    np.testing.assert_allclose(flat.delivered, expected.transpose(*flat.delivered.dims), atol=1e-12)
    tbm = clearing.flat.tbm_volume.sel(direction="up") - clearing.flat.tbm_volume.sel(direction="down")
    planned = scheduled(market).p_interface + tbm - day_chain.cleared.flat.cleared_delivery
    np.testing.assert_allclose(flat.ac_mismatch, states[1].p_interface - planned, atol=1e-9)


def test_delivered_differs_from_cleared_by_second_order():
    """A quarter of the change leaves a sixteenth of the difference."""
    market = random_market(71, count=12)
    clearing = clear_dso(market, grid=LinDistFlow(1))
    forwarded = forward(market, clearing, method=SafeBox(corner_passes=0))
    cleared = clear_tso(market, clearing, forwarded)
    gaps = []
    for share in (1.0, 0.25):
        flat = cleared.flat.assign(
            change=share * forwarded.flat.forwarded,
            cleared_delivery=cleared.flat.cleared_delivery.copy(
                data=share * delivery(market, forwarded).values
            ),
        )  # fmt: skip
        found = disaggregate(market, clearing, forwarded, dataclasses.replace(cleared, flat=flat)).flat
        gaps.append(abs(found.delivered - found.cleared_delivery).values.ravel())
    large = gaps[0] > 1e-4
    assert large.sum() > 5
    ratio = gaps[1][large] / gaps[0][large]
    assert np.median(ratio) == pytest.approx(1 / 16, rel=0.1)


def delivery(market, forwarded):
    sign = np.where(market.bids.data.bid_direction.values == "up", 1.0, -1.0)[:, None]
    each = sign * forwarded.flat.interface_factor * forwarded.flat.forwarded
    return each.groupby("bid_feeder").sum().sel(bid_feeder=list(market.feeder_names))


def test_without_losses_and_grid_exactly_what_was_cleared(m33_chain):
    # the AC interface feels the losses: some kW of .5 MW
    flat = m33_chain.disaggregation.flat
    assert abs(flat.delivered - flat.cleared_delivery).max() < 0.1 * abs(flat.cleared_delivery).max() + 1e-12


def test_without_a_clearing_there_is_no_activation():
    market = with_an_impossible_feeder(NO_VOLTAGE, ["a", "x"])
    clearing = clear_dso(market, grid=LinDistFlow(0))
    flat = disaggregate(market, clearing, None, clear_tso(market, clearing)).flat
    gone = flat.bid_feeder == "x"
    assert flat.final_activation[gone].isnull().all()
    assert flat.final_activation[~gone].notnull().all()


def test_read_only(day_chain):
    for name in day_chain.disaggregation.flat:
        with pytest.raises(ValueError, match="read-only"):
            day_chain.disaggregation.flat[name].values[...] = 0
