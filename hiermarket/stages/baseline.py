"""Baseline: the transmission balancing market alone covers all imbalance, no local bids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.labels import BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import Labelled, bare, freeze
from hiermarket.stages.ac_check import ac_state, injections, scheduled
from hiermarket.stages.clearing_model import no_activation
from hiermarket.stages.tso_clearing import TsoClearing, clear_needs

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True, repr=False)
class Baseline(Labelled):
    """What balancing costs without local bids.

    Arrays: ``exchange`` [MW] taken from the TBM and ``baseline_cost`` [EUR] at its
    prices, (feeder, period); ``baseline_undervoltage, baseline_overvoltage,
    baseline_overload`` (bus, period): the baseline ignores the limits of the grid.

    Attributes
    ----------
    cleared : TsoClearing
        The transmission market for these needs.
    """

    cleared: TsoClearing


@dataclass(frozen=True, slots=True, repr=False)
class Alone(Labelled):
    """What some feeders take from the TBM without local bids; needs nothing of other feeders.

    Arrays: those of `Baseline`.
    """


def tbm_alone(
    market: BalancingMarket, *, grid: LinDistFlow | None = None, solver: SolverOptions | None = None
) -> Baseline:
    """Cover all imbalance from the transmission balancing market.

    Parameters
    ----------
    market : BalancingMarket
        Grids, imbalance, TBM prices.
    grid : LinDistFlow, optional
        With loss passes, the exchange is the change of the interface flow by AC power
        flow, losses included; without, the sum of the imbalance.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    Baseline
        C0 of docs/model.md, section 7.
    """
    alone = feeders_alone(market, grid=grid)
    return Baseline(alone.flat, cleared=clear_needs(market.tso_side, alone.flat["exchange"], solver=solver))


def feeders_alone(market: BalancingMarket, *, grid: LinDistFlow | None = None) -> Alone:
    """Find what every feeder takes from the TBM when it covers all imbalance.

    See `tbm_alone` for the parameters. The result is additive over batches of feeders:
    their exchanges, put together, are cleared once (`clear_needs`).
    """
    grid = grid or LinDistFlow()
    p, q = injections(market, no_activation(market))
    state = ac_state(market, p, q)
    if grid.loss_passes:
        exchange = bare(state.p_interface) - bare(scheduled(market).p_interface)
    else:
        plan = market.feeders.data
        flat_state = linear_flow(market.feeders, lossless(market.feeders), p, q)
        flat_plan = linear_flow(
            market.feeders, lossless(market.feeders), bare(plan.p_scheduled), bare(plan.q_scheduled)
        )
        exchange = flat_state.p_interface - flat_plan.p_interface
    up, down = (market.tbm.tbm_price.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    cost = bare(market.duration) * (exchange.clip(min=0.0) * up + exchange.clip(max=0.0) * down)
    flat = xr.Dataset(
        {
            "exchange": exchange.transpose(FEEDER, PERIOD),
            "baseline_cost": cost.transpose(FEEDER, PERIOD),
            **{f"baseline_{name}": bare(state[name]) for name in ("undervoltage", "overvoltage", "overload")},
        }
    )
    coords = market.feeders.data[["bus_feeder", "bus_name"]].coords
    return Alone(flat=freeze(describe(flat.assign_coords({BUS: coords[BUS], **coords}))))
