"""Stage 2: the regulation capability that the DSO forwards to the TSO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.errors import DataError, Fault
from hiermarket.labels import BUS, FEEDER, PERIOD, Direction
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze
from hiermarket.solving.blocks import Work
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.corners import BROKEN
from hiermarket.stages.forwarding_methods import (
    METHODS,
    ForwardingMethod,
    Individual,
    MaximumRegulation,
    OfferCurve,
    SafeBox,
)
from hiermarket.stages.largest_box import Volumes
from hiermarket.stages.offer_curve import offer_curves
from hiermarket.stages.resource_box import forwardable
from hiermarket.stages.resource_safety import uncoupled
from hiermarket.stages.safe_volumes import alone, boxes, unfiltered

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.corners import Floats, Reach
    from hiermarket.stages.dso_clearing import DsoClearing

#: The two corners of the box: every bid fully up, every bid fully down; of a curve its two ends.
CORNER = "corner"


@dataclass(frozen=True, slots=True)
class Forwarded(Labelled):
    """What each DSO forwards to the TSO.

    Arrays: ``remaining, remaining_undo, forwarded, forwarded_undo, withheld,
    forward_price, interface_factor`` (bid), ``screened`` (feeder), and the AC check of both
    corners ``corner_undervoltage, corner_overvoltage, corner_overload`` (corner, bus), each
    by period; units as in the nomenclature. With `OfferCurve` also ``step_price, step_volume``
    (feeder, step, direction): the curve, and ``forwarded`` is what its ends use of a bid.

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
    """Find what every DSO can forward to the TSO.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids and rules.
    clearing : DsoClearing
        The cleared distribution market, whose remaining bids are forwarded at the prices
        with which they were cleared.
    method : ForwardingMethod, optional
        `SafeBox` by default; or `MaximumRegulation`, `OfferCurve`, `Individual`,
        `Unfiltered`, `Corrective`.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    Forwarded
        Volumes [MW] by bid and period, or curves; a feeder and period without a clearing
        forwards nothing.

    Raises
    ------
    DataError
        When ``method`` is no forwarding method.
    ModelError
        By another method than `SafeBox` and `MaximumRegulation`, where bids have minimum volumes or
        their resources hold them together.
    SolveError
        When a block has no optimum (volumes of 0 are always feasible, so this tells of
        numerical trouble).

    Notes
    -----
    Equations (12) to (17) of docs/model.md. A limit that the cleared state itself
    breaks (where lost load was priced) admits nothing that makes it worse.
    """
    chosen, options = method or SafeBox(), solver or SolverOptions()
    if not isinstance(chosen, METHODS):
        expected = "a method: " + ", ".join(f"{kind.__name__}()" for kind in METHODS)
        raise DataError([Fault("method", repr(method), expected, "Give one, such as hm.SafeBox(undo=True).")])
    left = left_over(market, clearing, undo=chosen.undo)
    if isinstance(chosen, SafeBox | MaximumRegulation):
        most = forwardable(market, bare(clearing.flat.activation.fillna(0.0)), left)
    else:
        market, most = uncoupled(market, f"Forwarding by {type(chosen).__name__}"), left
    steps: dict[str, xr.DataArray] = {}
    if isinstance(chosen, OfferCurve):
        curves = offer_curves(market, clearing, most, options)
        found, steps = curves.reach, {"step_price": curves.price, "step_volume": curves.volume}
    elif isinstance(chosen, Individual):
        found = alone(market, clearing, most)
    elif isinstance(chosen, SafeBox | MaximumRegulation):
        found = boxes(market, clearing, most, chosen, options)
    else:
        found = unfiltered(market, clearing, most)
    return forwarded_of(market, clearing, chosen, left, found, steps)


def left_over(market: BalancingMarket, clearing: DsoClearing, *, undo: bool) -> Volumes:
    """Return what stage 1 has left of every bid, and what could be undone of it (bid, period) [MW]."""
    data = market.bids.data
    failed = clearing.flat.status.sel({FEEDER: data.bid_feeder}).values != 0
    active = clearing.flat.activation.fillna(0.0)
    remaining = bare((data.volume - active).clip(min=0.0).where(~failed, 0.0))
    return Volumes(remaining, bare(active.where(~failed, 0.0)) * float(undo))


def forwarded_of(
    market: BalancingMarket,
    clearing: DsoClearing,
    method: ForwardingMethod,
    left: Volumes,
    found: Reach,
    steps: dict[str, xr.DataArray] | None = None,
) -> Forwarded:
    """Return what was found under its public names.

    Parameters
    ----------
    market, clearing : BalancingMarket, DsoClearing
        What was cleared.
    method : ForwardingMethod
        How the volumes were found.
    left : Volumes
        What is left of every bid [MW].
    found : Reach
        What of it is forwarded.
    steps : dict, optional
        Further arrays of the method.
    """
    data, volume = market.bids.data, found.volume
    remaining, undo = left.own, left.back
    flat = xr.Dataset(
        {
            "remaining": remaining,
            "remaining_undo": undo,
            "forwarded": volume.own,
            "forwarded_undo": volume.back,
            "withheld": (remaining - volume.own) + (undo - volume.back),
            "forward_price": bare(clearing.flat.price),
            "interface_factor": found.factor,
            "screened": bare(clearing.flat.status).copy(data=~found.counted),
            **_corner_check(market, found.check),
            **(steps or {}),
        }
    )
    coords = {**data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return Forwarded(flat=freeze(describe(flat.assign_coords(coords))), method=method, work=found.work)


def _corner_check(market: BalancingMarket, broken: Floats) -> dict[str, xr.DataArray]:
    """Label the AC check of the corners."""
    coords = {CORNER: [d.value for d in Direction], BUS: market.feeders.data.indexes[BUS], PERIOD: market.periods}
    return {
        f"corner_{name}": xr.DataArray(values, coords=coords, dims=tuple(coords))
        for name, values in zip(BROKEN, broken, strict=True)
    }
