"""What a study computes once: the TSO's clearing, fed by all batches, and the sums over them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import xarray as xr

from hiermarket.labels import FEEDER
from hiermarket.results.indicators import indicators_of
from hiermarket.results.totals import Totals, grid_totals, join_totals
from hiermarket.schema import freeze
from hiermarket.solving.blocks import Work
from hiermarket.stages.accounts import ACCOUNT, FEEDER_OF
from hiermarket.stages.interface import InterfaceOffers, join_offers
from hiermarket.stages.settlement import Settlement, join_settlements, settle_grid
from hiermarket.stages.tso_clearing import TsoClearing, clear_needs, clear_offers
from hiermarket.study.digest import digest
from hiermarket.study.manifest import Phase, failed_in
from hiermarket.study.parts import read_bids, read_group
from hiermarket.study.tasks import Computed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.solver import SolverOptions

#: Groups of the TSO's two clearings: with what the DSOs forward, and without local bids.
CLEARED: Final = "tso"
ALONE: Final = "tso_baseline"

#: Dimensions of the transmission grid.
GRID_DIMS: Final = ("grid_bus", "grid_bid", "line")


@dataclass(frozen=True, slots=True)
class TsoJob:
    """The TSO's clearing, and that of the baseline: see `hiermarket.study.tasks.Job`.

    Parameters
    ----------
    side : TsoSide
        Of all feeders of the study.
    parts : tuple of Path
        The files of the batches that are there.
    batches : tuple of tuple of str
        The feeders of each of these.
    solver : SolverOptions or None
        Tolerances and limits.
    """

    batch: int
    key: str
    folder: Path
    side: TsoSide
    parts: tuple[Path, ...]
    batches: tuple[tuple[str, ...], ...]
    solver: SolverOptions | None

    phase: ClassVar[Phase] = Phase.TSO

    @property
    def feeders(self) -> tuple[str, ...]:
        """The feeders of the batches that are there."""
        return tuple(name for batch in self.batches for name in batch)

    def compute(self) -> Computed:
        """Clear with all interface offers, and for the exchanges of the baseline."""
        side = side_of(self.side, self.feeders)
        offers = join_offers([InterfaceOffers(freeze(read_group(path, "offers"))) for path in self.parts])
        cleared = clear_offers(side, offers, solver=self.solver)
        del offers
        exchange = xr.concat([read_group(path, "baseline")["exchange"] for path in self.parts], dim=FEEDER)
        alone = clear_needs(side, exchange, solver=self.solver)
        both = {CLEARED: cleared, ALONE: alone}
        groups = {name: result.flat for name, result in both.items()}
        groups |= {f"{name}_bids": result.grid_bids.data for name, result in both.items()}
        slices = tuple(digest(slice_of(cleared, names).flat, slice_of(alone, names).flat) for names in self.batches)
        failed = dict.fromkeys((*failed_in(cleared.flat["grid_status"]), *failed_in(alone.flat["grid_status"])))
        return Computed(groups, asdict(cleared.work + alone.work), tuple(failed), slices)


@dataclass(frozen=True, slots=True)
class TotalsJob:
    """Indicators and common accounts of the study: see `hiermarket.study.tasks.Job`.

    Parameters
    ----------
    side : TsoSide
        Of all feeders of the study.
    tso : Path
        The file of the `TsoJob`.
    parts : tuple of Path
        The files of the batches after the TSO.
    feeders : tuple of str
        Their feeders.
    """

    batch: int
    key: str
    feeders: tuple[str, ...]
    folder: Path
    side: TsoSide
    tso: Path
    parts: tuple[Path, ...]

    phase: ClassVar[Phase] = Phase.TOTALS

    def compute(self) -> Computed:
        """Add the batches up, one after the other."""
        side = side_of(self.side, self.feeders)
        cleared, alone = (read_cleared(self.tso, group) for group in (CLEARED, ALONE))
        totals, settlement = grid_totals(side, cleared, alone), settle_grid(side, cleared)
        for path in self.parts:
            totals = join_totals([totals, Totals(read_group(path, "totals"))])
            settlement = join_settlements([settlement, shared(read_group(path, "settlement"))])
        groups = {"indicators": indicators_of(totals), "settlement": settlement.data, "totals": totals.data}
        return Computed(groups, {})


def shared(accounts: xr.Dataset) -> Settlement:
    """Return a batch's share of the accounts that are of no feeder."""
    return Settlement(accounts.isel({ACCOUNT: np.flatnonzero(accounts[FEEDER_OF].values == "")}))


def read_cleared(path: Path, group: str) -> TsoClearing:
    """Read one of the TSO's clearings, `CLEARED` or `ALONE`, from the file of a `TsoJob`."""
    return TsoClearing(flat=freeze(read_group(path, group)), grid_bids=read_bids(path, f"{group}_bids"), work=Work())


def slice_of(cleared: TsoClearing, names: Sequence[str]) -> TsoClearing:
    """Return what a clearing says of some feeders and their bids, without the transmission grid."""
    part = cleared.of_feeders(names)
    return replace(part, flat=part.flat.drop_dims([dim for dim in GRID_DIMS if dim in part.flat.dims]))


def side_of(side: TsoSide, names: Sequence[str]) -> TsoSide:
    """Return the TSO's side of some of its feeders."""
    own = side.transmission
    hung = None if own.interface is None else {name: own.interface[name] for name in names}
    return replace(side, tbm=side.tbm.sel({FEEDER: list(names)}), transmission=replace(own, interface=hung))
