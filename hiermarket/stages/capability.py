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
from hiermarket.stages.interface_balance import bid_factors
from hiermarket.stages.largest_box import ROUNDING, CountingRows, Volumes, counting_rows, largest, together
from hiermarket.stages.resource_box import forwardable, resource_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.limits import Sites
    from hiermarket.stages.dso_clearing import DsoClearing

    Floats = NDArray[np.float64]

#: The two corners of the box: every bid fully up, every bid fully down.
CORNER = "corner"


#: What the AC check of a corner looks at.
BROKEN = ("undervoltage", "overvoltage", "overload")


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
    most = forwardable(market, bare(active), Volumes(remaining, undo))
    who = sites(market.feeders, market.bids.node, bare(data.reactive_ratio))
    around = [_Corner(market, clearing, xr.zeros_like(remaining))]
    factor = bid_factors(market, eliminate(market.feeders, around[0].losses).factors())
    whole = _Part(market, clearing, who, most)
    volume, work, moving = most, Work(), np.arange(len(market.periods))
    least = ROUNDING if options.screening else -np.inf
    counted = np.zeros(clearing.flat.status.shape, dtype=bool)
    check = np.zeros((len(BROKEN), len(Direction), market.feeders.data.sizes[BUS], len(moving)))
    for number in range(1 if clearing.grid.loss_passes == 0 else 1 + chosen.corner_passes):
        part = whole.of_periods(moving)
        if number:
            around = part.corners(volume.of_periods(moving))
            check[..., moving] = _broken(around)
        rows = _counting(part, around, chosen, least=least)
        counted[:, moving] |= rows.cases((len(counted), len(moving)))
        price = bare(part.clearing.flat.price)
        new, of_pass = largest(part.market, part.most, rows, part.who, price, options)
        work += of_pass
        volume, changed = volume.replaced(moving, new)
        # where nothing moves any more, the limits were linearised at these corners already
        moving = moving if number == 0 or (len(changed) and market.resources is not None) else changed
        if not len(moving):
            break
    if len(moving):
        part = whole.of_periods(moving)
        check[..., moving] = _broken(part.corners(volume.of_periods(moving)))
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
            **_corner_check(market, check),
        }
    )
    coords = {**data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return Forwarded(flat=freeze(describe(flat.assign_coords(coords))), method=chosen, work=work)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some periods of what is forwarded: market, clearing, sites, and the volumes there are."""

    market: BalancingMarket
    clearing: DsoClearing
    who: Sites
    most: Volumes

    def of_periods(self, periods: NDArray[np.intp]) -> _Part:
        """Return some of the periods, by position."""
        if len(periods) == len(self.market.periods):
            return self
        market, clearing = self.market.of_periods(periods), self.clearing.of_periods(periods)
        return _Part(market, clearing, self.who.of_periods(periods), self.most.of_periods(periods))

    def corners(self, volume: Volumes) -> list[_Corner]:
        """Return the grid with everything up, and with everything down."""
        high, low = volume.extremes(bare(self.market.bids.sign))
        return [_Corner(self.market, self.clearing, extra) for extra in (high, -low)]


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
            state = state_or_linear(self.ac, lambda: linear_flow(feeders, clearing.losses, p, q))
            self.losses = linearise(feeders, state, clearing.grid.losses)
        v, p_flow, q_flow = (bare(state[name]).transpose(BUS, PERIOD) for name in ("v", "p_flow", "q_flow"))
        nowhere = np.zeros((0, v.shape[1]))
        self.state = State(v.values**2, p_flow.fillna(0.0).values, q_flow.fillna(0.0).values, nowhere)


def _counting(part: _Part, around: list[_Corner], method: ForwardingMethod, *, least: float) -> CountingRows:
    """Return the limits that count, linearised at one or more corners, as (12) or (13) has them."""
    market, who, sides = part.market, part.who, part.clearing.grid.sides
    high, low = (a.transpose(BID, PERIOD).values for a in part.most.extremes(bare(market.bids.sign)))
    owner = positions(market.feeder_names, market.feeders.feeder_of.to_numpy())
    found = []
    for number, corner in enumerate(around):
        injected = who.total(corner.extra.transpose(BID, PERIOD).values)
        limits = limit_rows(market.feeders, corner.losses, corner.state, who, injected, sides=sides)
        # (12) looks at each direction by itself: up at the upper corner, down at the lower one
        directions = tuple(Direction) if len(around) == 1 else (tuple(Direction)[number],)
        box = isinstance(method, SafeBox)
        found.append(counting_rows(limits, who, owner, (high, low), None if box else directions, least=least))
    every_point = isinstance(method, SafeBox)
    return together(
        found, resource_box(market, bare(part.clearing.flat.activation), part.most, every_point=every_point)
    )


def _broken(corners: list[_Corner]) -> Floats:
    """By how much both corners break the limits in AC, (kind, corner, bus, period)."""
    return np.stack([[corner.ac[name].transpose(BUS, PERIOD).values for corner in corners] for name in BROKEN])


def _corner_check(market: BalancingMarket, broken: Floats) -> dict[str, xr.DataArray]:
    """Label the AC check of the corners."""
    coords = {CORNER: [d.value for d in Direction], BUS: market.feeders.data.indexes[BUS], PERIOD: market.periods}
    return {
        f"corner_{name}": xr.DataArray(values, coords=coords, dims=tuple(coords))
        for name, values in zip(BROKEN, broken, strict=True)
    }
