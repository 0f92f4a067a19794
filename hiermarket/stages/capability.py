"""Stage 2: the maximum regulation capability that the DSO forwards to the TSO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, FEEDER, PERIOD, Direction
from hiermarket.network.limits import limit_rows, sites
from hiermarket.network.linear_flow import State, eliminate, linear_flow
from hiermarket.network.losses import linearise, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze, positions
from hiermarket.solving.blocks import Work
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.ac_check import ac_state, injections, state_or_linear
from hiermarket.stages.largest_box import ROUNDING, CountingRows, Volumes, counting_rows, largest, together

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.limits import Sites
    from hiermarket.network.losses import LossTerms
    from hiermarket.stages.dso_clearing import DsoClearing

#: The two corners of the box: every bid fully up, every bid fully down.
CORNER = "corner"


@dataclass(frozen=True, slots=True)
class SafeBox:
    """(13): the largest box of volumes in which **every** point is safe for the grid.

    Any part of any forwarded bid, up and down together, keeps every limit: the TSO needs
    no knowledge of the grid.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone (a DSO's up activation offered back down).
    corner_passes : int
        Re-solves with the losses linearised at both corners of the last box.
    """

    undo: bool = False
    corner_passes: int = 3


@dataclass(frozen=True, slots=True)
class MaximumRegulation:
    """(12): the most upward and, apart from it, the most downward volume the grid carries.

    The full upward volume is safe, and the full downward volume is; a part of either, or
    a mix of both, need not be. Ties: cheapest first.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone.
    corner_passes : int
        Re-solves with the losses linearised at the last result.
    """

    undo: bool = False
    corner_passes: int = 3


class ForwardingMethod(Protocol):
    """What every forwarding method tells."""

    @property
    def undo(self) -> bool:
        """Whether activated volume may be undone."""

    @property
    def corner_passes(self) -> int:
        """Re-solves with the losses linearised at the last result."""


@dataclass(frozen=True, slots=True)
class Forwarded(Labelled):
    """What each DSO forwards to the TSO.

    Arrays: ``remaining, remaining_undo, forwarded, forwarded_undo, withheld,
    forward_price, interface_factor`` (bid), ``screened`` (feeder), and the AC check of both
    corners ``corner_undervoltage, corner_overvoltage, corner_overload`` (corner, bus), each
    by period; units as in the nomenclature.

    Attributes
    ----------
    method : ForwardingMethod
        How the volumes were found.
    work : Work
        LPs solved, feeders and periods whose whole volume is safe, time inside the solver.
    """

    method: ForwardingMethod
    work: Work


def forward(
    market: BalancingMarket,
    clearing: DsoClearing,
    *,
    method: ForwardingMethod | None = None,
    solver: SolverOptions | None = None,
) -> Forwarded:
    """Find the volumes that every DSO can forward without harm to its grid.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids and rules.
    clearing : DsoClearing
        The cleared distribution market, whose remaining bids are forwarded at the prices
        with which they were cleared.
    method : SafeBox or MaximumRegulation, optional
        `SafeBox` by default.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    Forwarded
        Volumes [MW] by bid and period; a feeder and period without a clearing forwards
        nothing.

    Raises
    ------
    SolveError
        When a block has no optimum (volumes of 0 are always feasible, so this tells of
        numerical trouble).

    Notes
    -----
    Equations (12) and (13) of docs/model.md. A limit that the cleared state itself
    breaks (where lost load was priced) admits nothing that makes it worse.
    """
    chosen, options = method or SafeBox(), solver or SolverOptions()
    data = market.bids.data
    failed = clearing.flat.status.sel({FEEDER: data.bid_feeder}).values != 0
    active = clearing.flat.activation.fillna(0.0)
    remaining = bare((data.volume - active).clip(min=0.0).where(~failed, 0.0))
    undo = bare(active.where(~failed, 0.0)) * float(chosen.undo)
    most = Volumes(remaining, undo)
    sign = bare(market.bids.sign)
    who = sites(market.feeders, market.bids.node, bare(data.reactive_ratio))
    around = [_Corner(market, clearing, xr.zeros_like(remaining))]
    factor = _interface_factor(market, around[0].losses)
    volume, work = most, Work()
    least = ROUNDING if options.screening else -np.inf
    counted = np.zeros(clearing.flat.status.shape, dtype=bool)
    exact = clearing.grid.loss_passes == 0
    for _ in range(1 if exact else 1 + chosen.corner_passes):
        rows = _counting(market, clearing, who, most, around, chosen, least=least)
        counted |= rows.cases(counted.shape)
        before, (volume, of_pass) = volume, largest(market, most, rows, who, bare(clearing.flat.price), options)
        work += of_pass
        if len(around) > 1 and volume.equals(before):
            break  # the limits were linearised at these corners already
        high, low = volume.extremes(sign)
        around = [_Corner(market, clearing, high), _Corner(market, clearing, -low)]
    flat = xr.Dataset(
        {
            "remaining": remaining,
            "remaining_undo": undo,
            "forwarded": volume.own,
            "forwarded_undo": volume.back,
            "withheld": (remaining - volume.own) + (undo - volume.back),
            "forward_price": bare(clearing.flat.price),
            "interface_factor": factor,
            "screened": bare(clearing.flat.status).copy(data=~counted),
            **_corner_check(around),
        }
    )
    coords = {**data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return Forwarded(flat=freeze(describe(flat.assign_coords(coords))), method=chosen, work=work)


class _Corner:
    """The grid with further injections (bid, period): its state, the losses there, and what it breaks in AC."""

    def __init__(self, market: BalancingMarket, clearing: DsoClearing, extra: xr.DataArray) -> None:
        self.extra = extra
        activation = bare(clearing.flat.activation).fillna(0.0) + bare(market.bids.sign) * extra
        p, q = injections(market, activation, clearing.recourse.fillna(0.0))
        self.ac = ac_state(market, p, q)
        feeders = market.feeders
        if clearing.grid.loss_passes == 0:
            state = linear_flow(feeders, lossless(feeders), p, q)
            self.losses = lossless(feeders)
        else:
            state = state_or_linear(self.ac, linear_flow(feeders, clearing.losses, p, q))
            self.losses = linearise(feeders, state, clearing.grid.losses)
        v, p_flow, q_flow = (bare(state[name]).transpose(BUS, PERIOD) for name in ("v", "p_flow", "q_flow"))
        nowhere = np.zeros((0, v.shape[1]))
        self.state = State(v.values**2, p_flow.fillna(0.0).values, q_flow.fillna(0.0).values, nowhere)


def _counting(
    market: BalancingMarket,
    clearing: DsoClearing,
    who: Sites,
    most: Volumes,
    around: list[_Corner],
    method: ForwardingMethod,
    *,
    least: float,
) -> CountingRows:
    """Return the limits that count, linearised at one or more corners, as (12) or (13) has them."""
    high, low = (a.transpose(BID, PERIOD).values for a in most.extremes(bare(market.bids.sign)))
    owner = positions(market.feeder_names, market.feeders.feeder_of.to_numpy())
    found = []
    for number, corner in enumerate(around):
        injected = who.total(corner.extra.transpose(BID, PERIOD).values)
        limits = limit_rows(market.feeders, corner.losses, corner.state, who, injected, sides=clearing.grid.sides)
        # (12) looks at each direction by itself: up at the upper corner, down at the lower one
        directions = tuple(Direction) if len(around) == 1 else (tuple(Direction)[number],)
        box = isinstance(method, SafeBox)
        found.append(counting_rows(limits, who, owner, (high, low), None if box else directions, least=least))
    return together(found)


def _interface_factor(market: BalancingMarket, losses: LossTerms) -> xr.DataArray:
    """MW at the interface per MW injected by each bid, reactive power included, (bid, period)."""
    data = market.bids.data
    factor = eliminate(market.feeders, losses).factors()
    place = positions(market.feeders.data.indexes[BUS], data.bid_node.values)
    ratio = bare(data.reactive_ratio).transpose(BID, PERIOD)
    return ratio.copy(data=factor[0, place] + ratio.values * factor[1, place])


def _corner_check(corners: list[_Corner]) -> dict[str, xr.DataArray]:
    """AC violations at both corners of what is forwarded."""
    names = ("undervoltage", "overvoltage", "overload")
    corner = xr.DataArray([d.value for d in Direction], dims=CORNER, name=CORNER)
    both = xr.concat([at.ac[list(names)] for at in corners], dim=corner)
    return {f"corner_{name}": bare(both[name]) for name in names}
