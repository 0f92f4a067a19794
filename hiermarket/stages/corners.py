"""The grid with everything up, and with everything down: its state, and what it breaks in AC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BUS, PERIOD
from hiermarket.network.linear_flow import State, linear_flow
from hiermarket.network.losses import linearise, lossless
from hiermarket.schema import bare
from hiermarket.solving.blocks import Work
from hiermarket.stages.ac_check import ac_state, injections, state_or_linear
from hiermarket.stages.largest_box import Volumes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.dso_clearing import DsoClearing

    Floats = NDArray[np.float64]

#: What the AC check of a corner looks at.
BROKEN = ("undervoltage", "overvoltage", "overload")


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """What a forwarding method has found.

    Attributes
    ----------
    volume : Volumes
        What is forwarded of every bid [MW].
    factor : DataArray (bid, period)
        MW at the interface per MW injected.
    counted : bool array (feeder, period)
        Where a limit of the grid counts.
    check : array (kind, corner, bus, period)
        By how much both corners break the limits in AC, in the order of `BROKEN`.
    work : Work
        LPs solved and left out.
    """

    volume: Volumes
    factor: xr.DataArray
    counted: NDArray[np.bool_]
    check: Floats
    work: Work


class Corner:
    """The grid with further injections (bid, period): its state, the losses there, and what it breaks in AC."""

    def __init__(self, market: BalancingMarket, clearing: DsoClearing, extra: xr.DataArray) -> None:
        self.extra = extra
        activation = bare(clearing.flat.activation).fillna(0.0) + bare(market.bids.sign) * extra
        p, q = injections(market, activation, clearing.beyond_bids.fillna(0.0))
        self.ac = ac_state(market, p, q)
        feeders = market.feeders
        if clearing.grid.loss_passes == 0:
            state = linear_flow(feeders, lossless(feeders), p, q)
            self.losses = lossless(feeders)
        else:
            state = state_or_linear(self.ac, lambda: linear_flow(feeders, clearing.losses, p, q))
            self.losses = linearise(feeders, state, clearing.grid.losses)
        v, p_flow, q_flow = (bare(state[name]).transpose(BUS, PERIOD) for name in ("v", "p_flow", "q_flow"))
        nowhere = np.zeros((0, v.shape[1]))
        self.state = State(v.values**2, p_flow.fillna(0.0).values, q_flow.fillna(0.0).values, nowhere)


def both_corners(market: BalancingMarket, clearing: DsoClearing, volume: Volumes) -> list[Corner]:
    """Return the grid with everything up, and with everything down."""
    high, low = volume.extremes(bare(market.bids.sign))
    return [Corner(market, clearing, extra) for extra in (high, -low)]


def broken(corners: Sequence[Corner]) -> Floats:
    """Return by how much corners break the limits in AC, (kind, corner, bus, period)."""
    return np.stack([[corner.ac[name].transpose(BUS, PERIOD).values for corner in corners] for name in BROKEN])
