"""Stage 2: the maximum regulation capability that the DSO forwards to the TSO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, FEEDER, PERIOD, Direction
from hiermarket.network.limits import Limits, Resources, limits, resources
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import linearise, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze, positions
from hiermarket.solving.blocks import solve_blocks
from hiermarket.solving.program import program_of, write_back
from hiermarket.stages.ac_check import ac_state, injections, state_or_linear

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions
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
    forward_price, interface_factor`` (bid), and the AC check of both corners
    ``corner_undervoltage, corner_overvoltage, corner_overload`` (corner, bus), each by
    period; units as in the nomenclature.

    Attributes
    ----------
    method : ForwardingMethod
        How the volumes were found.
    solves : int
        How many LPs were solved.
    """

    method: ForwardingMethod
    solves: int


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
    chosen = method or SafeBox()
    data = market.bids.data
    failed = clearing.flat.status.sel({FEEDER: data.bid_feeder}).values != 0
    active = clearing.flat.activation.fillna(0.0)
    remaining = bare((data.volume - active).clip(min=0.0).where(~failed, 0.0))
    undo = bare(active.where(~failed, 0.0)) * float(chosen.undo)
    who = resources(market.feeders, market.bids.node, bare(data.reactive_ratio))
    points, solves = [xr.zeros_like(remaining)], 0
    volume, back, factor = xr.zeros_like(remaining), xr.zeros_like(undo), xr.ones_like(remaining)
    exact = clearing.grid.loss_passes == 0
    for _ in range(1 if exact else 1 + chosen.corner_passes):
        around = [_limits_at(market, clearing, who, point) for point in points]
        volume, back, count = _largest(market, clearing, around, who, (remaining, undo), chosen, solver)
        solves += count
        points = list(_corners(market, volume, back))
    base = _limits_at(market, clearing, who, xr.zeros_like(remaining))
    factor = _by_bid(base.interface, who, factor)
    flat = xr.Dataset(
        {
            "remaining": remaining,
            "remaining_undo": undo,
            "forwarded": volume,
            "forwarded_undo": back,
            "withheld": (remaining - volume) + (undo - back),
            "forward_price": bare(clearing.flat.price),
            "interface_factor": factor,
            **_corner_check(market, clearing, points),
        }
    )
    coords = {**data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return Forwarded(flat=freeze(describe(flat.assign_coords(coords))), method=chosen, solves=solves)


def _corners(market: BalancingMarket, volume: xr.DataArray, back: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Injections [MW] (bid, period) with everything forwarded fully up, and fully down."""
    is_up = bare(market.bids.sign) > 0
    return volume.where(is_up, back), -back.where(is_up, volume)


def _state(market: BalancingMarket, clearing: DsoClearing, extra: xr.DataArray) -> xr.Dataset:
    """Solve the grid with further injections: AC, or the lossless model where that was chosen."""
    sign = bare(market.bids.sign)
    activation = bare(clearing.flat.activation).fillna(0.0) + sign * extra
    p, q = injections(market, activation, clearing.recourse.fillna(0.0))
    if clearing.grid.loss_passes == 0:
        return linear_flow(market.feeders, lossless(market.feeders), p, q)
    return state_or_linear(ac_state(market, p, q), linear_flow(market.feeders, clearing.losses, p, q))


def _limits_at(market: BalancingMarket, clearing: DsoClearing, who: Resources, extra: xr.DataArray) -> Limits:
    state = _state(market, clearing, extra)
    lossy = clearing.grid.loss_passes > 0
    terms = linearise(market.feeders, state, clearing.grid.losses) if lossy else lossless(market.feeders)
    injected = extra.sel({BID: who.label}).drop_vars(BID).where(who.present, 0.0)
    return limits(market.feeders, terms, state, who, injected, sides=clearing.grid.sides)


def _by_bid(per_rank: xr.DataArray, who: Resources, like: xr.DataArray) -> xr.DataArray:
    """Turn (feeder, rank, period) into (bid, period)."""
    place = positions(like.indexes[BID], who.label.values[who.present.values])
    values = np.empty(like.shape)
    values[place] = per_rank.transpose(FEEDER, "rank", PERIOD).values[who.present.values]
    return like.copy(data=values)


def _largest(
    market: BalancingMarket,
    clearing: DsoClearing,
    around: list[Limits],
    who: Resources,
    most: tuple[xr.DataArray, xr.DataArray],
    method: ForwardingMethod,
    solver: SolverOptions | None,
) -> tuple[xr.DataArray, xr.DataArray, int]:
    """Solve (12) or (13) for limits linearised at one or more states."""
    import linopy

    if not most[0].size:
        return (*most, 0)
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = linopy.Model(sparse=True)
        own = model.add_variables(lower=0, upper=most[0], name="Bid-forwarded")
        back = model.add_variables(lower=0, upper=most[1], name="Bid-forwarded_undo")
        is_up = (bare(market.bids.sign) > 0).astype(float)
        # an up bid injects between −undo and +own, a down bid between −own and +undo
        high, low = is_up * own + (1 - is_up) * back, (1 - is_up) * own + is_up * back
        for number, limit in enumerate(around):
            # (12) looks at each direction by itself: up at the upper corner, down at the lower one
            sides = (Direction.UP, Direction.DOWN) if len(around) == 1 else (tuple(Direction)[number],)
            injected = (_at_rank(high, who, market), _at_rank(low, who, market))
            _add_limits(model, limit, injected, method, (number, sides))
        # (12), (13)  max Σ (U + D)                                                      [MW]
        model.add_objective((1 * own).sum() + (1 * back).sum(), sense="max")
        program = program_of(model)
        answers = solve_blocks(program, solver, then=_cheapest_first(model, market, clearing, program.columns))
        answers.require("The forwardable capability", lambda block: f"block {block}")
        write_back(model, program, answers.x, None, float(answers.objective.sum()))
        order = (BID, PERIOD)
        volume, undone = (bare(v.solution).transpose(*order).clip(min=0.0) for v in (own, back))
        return volume, undone, answers.solves


def _at_rank(per_bid: linopy.LinearExpression, who: Resources, market: BalancingMarket) -> linopy.LinearExpression:
    """Look bids up for every branch: dims (bus, rank, period)."""
    branches = market.feeders.branches
    owner = xr.DataArray(market.feeders.feeder_of.loc[branches].to_numpy(), dims=BUS, coords={BUS: branches})
    label = who.label.sel({FEEDER: owner}).drop_vars(FEEDER)
    return per_bid.sel({BID: label}).drop_vars(BID)


def _add_limits(
    model: linopy.Model,
    limit: Limits,
    injected: tuple[linopy.LinearExpression, linopy.LinearExpression],
    method: ForwardingMethod,
    at_state: tuple[int, tuple[Direction, ...]],
) -> None:
    """Add the rows of all limits, linearised at one state, for the directions that it stands for."""
    number, directions = at_state
    for kind, c in limit.coefficient.items():
        room = limit.room[kind]
        at = {BUS: c.indexes[BUS]}
        up, down = (expression.sel(at) for expression in injected)
        if isinstance(method, SafeBox):
            # (13)  Σ_i (c_i⁺ U_i + c_i⁻ D_i) ≤ h      ∀ limits: the worst point of the box
            worst = (c.clip(min=0.0) * up).sum("rank") + ((-c).clip(min=0.0) * down).sum("rank")
            model.add_constraints(worst <= room, name=f"{kind}-box-{number}")
            continue
        # (12)  Σ_i c_i U_i ≤ h  and  −Σ_i c_i D_i ≤ h      ∀ limits: each direction by itself
        if Direction.UP in directions:
            model.add_constraints((c * up).sum("rank") <= room, name=f"{kind}-up-{number}")
        if Direction.DOWN in directions:
            model.add_constraints((-c * down).sum("rank") <= room, name=f"{kind}-down-{number}")


def _cheapest_first(
    model: linopy.Model, market: BalancingMarket, clearing: DsoClearing, columns: np.ndarray
) -> list[np.ndarray]:
    """Further costs by column: the price of what is forwarded, then the order of the bids."""
    sign, price = bare(market.bids.sign), bare(clearing.flat.price)
    by_price, by_order = np.zeros(len(columns)), np.zeros(len(columns))
    places = np.sqrt(1.0 + np.arange(2 * price.sizes[BID]))
    weights = ((sign * price, places[::2]), (-sign * price, places[1::2]))
    for name, (cost, place) in zip(("Bid-forwarded", "Bid-forwarded_undo"), weights, strict=True):
        labels = model.variables[name].labels.transpose(BID, PERIOD).values
        at = np.searchsorted(columns, labels)
        by_price[at] = cost.transpose(BID, PERIOD).values
        by_order[at] = place[:, None]
    return [by_price, by_order]


def _corner_check(
    market: BalancingMarket, clearing: DsoClearing, points: list[xr.DataArray]
) -> dict[str, xr.DataArray]:
    """AC violations at both corners of what is forwarded."""
    sign = bare(market.bids.sign)
    states = []
    for point in points:
        activation = bare(clearing.flat.activation).fillna(0.0) + sign * point
        p, q = injections(market, activation, clearing.recourse.fillna(0.0))
        states.append(ac_state(market, p, q)[["undervoltage", "overvoltage", "overload"]])
    corner = xr.DataArray([d.value for d in Direction], dims=CORNER, name=CORNER)
    both = xr.concat(states, dim=corner)
    return {f"corner_{name}": bare(both[name]) for name in both}
