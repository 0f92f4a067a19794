"""What a study computes once: the TSO's clearing, fed by all batches, and the sums over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import xarray as xr

from hiermarket.labels import BID, FEEDER, PERIOD
from hiermarket.market.bids import Bids
from hiermarket.schema import freeze
from hiermarket.stages.interface import InterfaceOffers, join_offers
from hiermarket.stages.tso_clearing import TsoClearing, clear_needs, clear_offers
from hiermarket.study.digest import digest
from hiermarket.study.manifest import Phase, failed_in
from hiermarket.study.parts import read_group, restored_bids, stored_bids
from hiermarket.study.tasks import Computed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.solver import SolverOptions

#: Groups of the TSO's two clearings: with what the DSOs forward, and without local bids.
CLEARED, ALONE = "tso", "baseline_tso"

#: Dimensions of the transmission grid.
GRID_DIMS = ("grid_bus", "grid_bid", "line")


@dataclass(frozen=True, slots=True)
class TsoJob:
    """The TSO's clearing, and that of the baseline: see `hiermarket.study.tasks.Job`.

    Parameters
    ----------
    side : TsoSide
        Of the feeders of all batches that are there.
    parts : tuple of Path
        The files of these batches.
    groups : tuple of tuple of str
        The feeders of each.
    solver : SolverOptions or None
        Tolerances and limits.
    """

    batch: int
    key: str
    feeders: tuple[str, ...]
    folder: Path
    side: TsoSide
    parts: tuple[Path, ...]
    batches: tuple[tuple[str, ...], ...]
    solver: SolverOptions | None

    phase: ClassVar[Phase] = Phase.TSO

    def compute(self) -> Computed:
        """Clear with all interface offers, and for the exchanges of the baseline."""
        side = side_of(self.side, self.feeders)
        offers = join_offers([InterfaceOffers(freeze(read_group(path, "offers"))) for path in self.parts])
        cleared = clear_offers(side, offers, solver=self.solver)
        del offers
        exchange = xr.concat([read_group(path, "baseline")["exchange"] for path in self.parts], dim=FEEDER)
        alone = clear_needs(side, exchange, solver=self.solver)
        groups = {
            CLEARED: cleared.flat, f"{CLEARED}_bids": stored_bids(cleared.grid_bids),
            ALONE: alone.flat, f"{ALONE}_bids": stored_bids(alone.grid_bids),
        }  # fmt: skip
        slices = tuple(digest(*(slice_of(c, names).flat for c in (cleared, alone))) for names in self.batches)
        failed = (*failed_in(cleared.flat["grid_status"]), *failed_in(alone.flat["grid_status"]))
        return Computed(groups, {"solves": cleared.solves + alone.solves}, failed, slices)


def read_cleared(path: Path, group: str) -> TsoClearing:
    """Read one of the TSO's clearings, `CLEARED` or `ALONE`, from the file of a `TsoJob`."""
    flat = freeze(read_group(path, group))
    return TsoClearing(flat=flat, grid_bids=restored_bids(read_group(path, f"{group}_bids")), solves=0)


def slice_of(cleared: TsoClearing, names: Sequence[str]) -> TsoClearing:
    """Return what a clearing says of some feeders and their bids, without the transmission grid."""
    part = cleared.of_feeders(names)
    own = part.flat.drop_dims([dim for dim in GRID_DIMS if dim in part.flat.dims])
    return replace(part, flat=own)


def side_of(side: TsoSide, names: Sequence[str]) -> TsoSide:
    """Return the TSO's side of some of its feeders."""
    own = side.transmission
    hung = None if own.interface is None else {name: own.interface[name] for name in names}
    return replace(side, tbm=side.tbm.sel({FEEDER: list(names)}), transmission=replace(own, interface=hung))
