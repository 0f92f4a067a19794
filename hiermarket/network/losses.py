"""Losses of the branches, linearised around a state of the grid."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from numbers import Integral
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.errors import Fault
from hiermarket.labels import BUS, PERIOD
from hiermarket.network.rating_polygon import ACTIVE_POWER
from hiermarket.schema import bare, option_of, raise_together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hiermarket.network.feeders import Feeders


class Losses(StrEnum):
    """How a pass treats the losses around the state of the pass before."""

    LINEARISED = "linearised"
    """Losses move with the flows; nodal prices hold the marginal losses."""
    CONSTANT = "constant"
    """Losses are held; prices hold no loss part."""


@dataclass(frozen=True, slots=True)
class LinDistFlow:
    """The linear model of a radial grid, and how its losses and ratings are treated.

    Parameters
    ----------
    loss_passes : int
        Passes after the lossless one, each linearised at the state of the pass before.
        0 is the lossless model.
    losses : Losses
        Linearised (default) or constant in each pass.
    sides : int
        Corners of the regular polygon inscribed in the MVA circle of a rating. The
        polygon never allows more than the circle; with 12 sides it cuts off at most
        3.4 % of the radius. With 2, ratings limit the active power alone, |P| ≤ S; the AC
        check compares the apparent power with the rating all the same.

    Raises
    ------
    DataError
        With fewer than two sides or 0 passes, a part of one, or another way of treating losses.
    """

    loss_passes: int = 2
    losses: Losses = Losses.LINEARISED
    sides: int = 12

    def __post_init__(self) -> None:
        wanted = (
            ("loss_passes", 0, "Use 2, or 0 for the lossless model."),
            ("sides", ACTIVE_POWER, "Use 12, or 2 for limits of the active power alone."),
        )
        faults = []
        for name, least, remedy in wanted:
            given: object = getattr(self, name)
            if not (isinstance(given, Integral) and int(given) >= least):
                faults.append(Fault(f"LinDistFlow.{name}", str(given), f"a whole number, at least {least}", remedy))
        raise_together(faults)
        object.__setattr__(self, "losses", option_of(Losses, self.losses, "LinDistFlow.losses"))


@dataclass(frozen=True, slots=True)
class LossTerms:
    """l ≈ l0 + l_P P + l_Q Q + l_w w_m for every branch: squared current [MVA²/p.u.²].

    Parameters
    ----------
    constant, by_p, by_q, by_w : DataArray (bus, period)
        l0, l_P, l_Q and l_w of the branch into each bus but the root; `by_w` multiplies
        the squared voltage of the parent.
    support : DataArray (bus, period), optional
        Reactive support that the state of the linearisation holds [Mvar]; none by default.
    """

    constant: xr.DataArray
    by_p: xr.DataArray
    by_q: xr.DataArray
    by_w: xr.DataArray
    support: xr.DataArray | None = None

    def sel(self, at: Mapping[str, object]) -> LossTerms:
        """Return the terms of some buses or periods, by label."""
        return self._each(lambda term: bare(term).sel(at))

    def isel(self, at: Mapping[str, object]) -> LossTerms:
        """Return the terms of some buses or periods, by position."""
        return self._each(lambda term: term.isel(at))

    def _each(self, change: Callable[[xr.DataArray], xr.DataArray]) -> LossTerms:
        support = None if self.support is None else change(self.support)
        return LossTerms(change(self.constant), change(self.by_p), change(self.by_q), change(self.by_w), support)


def lossless(feeders: Feeders) -> LossTerms:
    """Return the terms of pass 0: l = 0."""
    periods = feeders.data.indexes[PERIOD]
    zero = xr.DataArray(0.0, coords={BUS: feeders.branches, PERIOD: periods}, dims=(BUS, PERIOD))
    return LossTerms(zero, zero, zero, zero)


def linearise(
    feeders: Feeders,
    state: xr.Dataset,
    losses: Losses = Losses.LINEARISED,
    *,
    support: xr.DataArray | None = None,
) -> LossTerms:
    """Linearise the losses around a state.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    state : Dataset
        ``v (bus, period)`` [p.u.] at all buses, ``p_flow, q_flow (bus, period)`` [MW,
        Mvar] sending-end flows of the branches.
    losses : Losses
        Linearised or constant.
    support : DataArray (bus, period), optional
        Reactive support that the state holds at the buses [Mvar].

    Returns
    -------
    LossTerms
        The first-order terms; exact at the state itself.
    """
    branches, parents = feeders.branches, feeders.parents
    above = xr.DataArray(parents.loc[branches].values, coords={BUS: branches}, dims=BUS)
    p, q = bare(state.p_flow).sel({BUS: branches}), bare(state.q_flow).sel({BUS: branches})
    parent_voltage = bare(state.v).sel({BUS: above}).assign_coords({BUS: branches})
    # behind the ideal transformer at the parent: l = (P² + Q²) t²/w_m
    tap2 = bare(feeders.data.tap).sel({BUS: branches}) ** 2
    w = parent_voltage**2 / tap2
    current = (p**2 + q**2) / w
    held = None if support is None else bare(support).sel({BUS: branches})
    if losses is Losses.CONSTANT:
        return LossTerms(current, 0 * p, 0 * q, 0 * w, held)
    # l ≈ l̄ + (2P̄/w̄)(P − P̄) + (2Q̄/w̄)(Q − Q̄) − (l̄/w̄_m)(w_m − w̄_m), w̄ = w̄_m/t², whose constant is l̄ − 2 l̄ + l̄ = 0
    return LossTerms(0 * current, 2 * p / w, 2 * q / w, -current / (w * tap2), held)
