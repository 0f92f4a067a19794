"""TSO: the transmission balancing market is cleared with what the DSOs forward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BUS, FEEDER, LINE, PERIOD
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, Labelled, freeze, positions
from hiermarket.solving.blocks import Work
from hiermarket.solving.solver import Outcome, SolverOptions, failure
from hiermarket.stages.interface import InterfaceOffers, exchange_offers, interface_offers
from hiermarket.stages.paid_prices import uniform_price
from hiermarket.stages.tso_model import (
    GRID_BID,
    GRID_BUS,
    grid_bids,
    grid_buses,
    interface_buses,
    needs,
    offers_of_grid,
    positions_in,
)
from hiermarket.stages.tso_periods import clear_periods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.bids import Bids
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.dso_clearing import DsoClearing

#: Most bids by periods that are cleared at once: about 0.2 kB of memory each.
MOST_COLUMNS = 5_000_000


@dataclass(frozen=True, slots=True, repr=False)
class TsoClearing(Labelled):
    """The cleared transmission balancing market.

    Arrays: ``change, interface_factor`` (bid), ``need, grid_price, grid_unserved, grid_spilled``
    (grid_bus), ``grid_activation`` (grid_bid), ``line_flow`` (line), ``interface_price,
    cleared_delivery`` (feeder), ``uniform_price, grid_status``; each by period, units as in
    the nomenclature.

    Attributes
    ----------
    grid_bids : Bids
        The bids of the transmission grid that took part.
    work : Work
        LPs solved, periods that the merit order decided, time inside the solver.
    """

    grid_bids: Bids
    work: Work

    def require(self) -> TsoClearing:
        """Return the clearing, or raise the error of the first period without one.

        Raises
        ------
        SolveError
            Of the kind of the first failed period.
        """
        for t, code in enumerate(self.flat.grid_status.values):
            outcome = list(Outcome)[int(code)]
            if outcome is not Outcome.OPTIMAL:
                where = f"period={self.flat.indexes[PERIOD][t]}"
                raise failure(outcome, what="The TSO's clearing", where=where, status=outcome.value)
        return self

    def of_feeders(self, names: Sequence[str]) -> TsoClearing:
        """Return what the clearing says of some feeders and their bids, and of the whole grid."""
        mine = np.flatnonzero(positions(pd.Index(list(names)), self.flat["bid_feeder"].values) >= 0)
        part = self.flat.isel({BID: mine}).sel({FEEDER: list(names)})
        return replace(self, flat=freeze(part))


def clear_tso(
    market: BalancingMarket,
    clearing: DsoClearing,
    forwarded: Forwarded | None = None,
    *,
    solver: SolverOptions | None = None,
) -> TsoClearing:
    """Clear the transmission balancing market with the bids that the DSOs forward.

    Parameters
    ----------
    market : BalancingMarket
        Transmission grid, bids and imbalance.
    clearing : DsoClearing
        The cleared distribution markets: what they take from the TBM is a need.
    forwarded : Forwarded, optional
        What the DSOs forward; nothing by default.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    TsoClearing
        Changes of the local activations, activations of the transmission bids, prices
        and flows. A period without an optimum has NaN values and its outcome in
        ``grid_status``.

    Notes
    -----
    Equation (18) of docs/model.md. Each forwarded MW counts at the interface with its
    marginal losses (``interface_factor``). Ties: minimum cost, then minimum gross
    activation, then the order of the bids.
    """
    return clear_offers(market.tso_side, interface_offers(clearing, forwarded), solver=solver)


def clear_needs(side: TsoSide, exchange: xr.DataArray, *, solver: SolverOptions | None = None) -> TsoClearing:
    """Clear the transmission balancing market for given interface exchanges, without local bids.

    Parameters
    ----------
    side : TsoSide
        See `clear_offers`.
    exchange : DataArray (feeder, period)
        What every DSO takes from the TBM [MW], < 0 when it delivers; NaN counts as nothing.
    solver : SolverOptions, optional
        Tolerances and limits.
    """
    return clear_offers(side, exchange_offers(exchange), solver=solver)


def clear_offers(
    side: TsoSide,
    offers: InterfaceOffers,
    *,
    solver: SolverOptions | None = None,
    most_columns: int = MOST_COLUMNS,
) -> TsoClearing:
    """Clear the transmission balancing market with what the DSOs bring to it.

    Parameters
    ----------
    side : TsoSide
        The transmission grid, its bids and imbalance, where the feeders hang.
    offers : InterfaceOffers
        Needs and forwarded bids of all feeders.
    solver : SolverOptions, optional
        Tolerances and limits.
    most_columns : int
        Most bids by periods that are cleared at once, for memory; the result does not depend
        on it.

    Returns
    -------
    TsoClearing
        See `clear_tso`.
    """
    need = needs(side, offers.exchange)
    own = grid_bids(side, need, offers)
    whole = replace(side, transmission=replace(side.transmission, bids=own))
    found = []
    for some in _chunks(offers, most_columns):
        at = {PERIOD: some}
        part = InterfaceOffers(offers.flat.isel(at))
        found.append(clear_periods(whole.of_periods(some), need.isel(at), part, solver))
    values = {name: np.concatenate([part[name] for part, _ in found], axis=-1) for name in found[0][0]}
    return TsoClearing(
        freeze(describe(_labelled(values, whole, offers, need))),
        grid_bids=own,
        work=sum((work for _, work in found), start=Work()),
    )


def _chunks(offers: InterfaceOffers, most_columns: int) -> list[slice]:
    """Cut the periods into runs in which there are at most so many bids and undos, of one period at least."""
    volumes = [offers.flat[name].values for name in ("forwarded", "forwarded_undo")]
    columns = sum(int((volume > 0).any(axis=1).sum()) for volume in volumes)
    size, count = max(1, most_columns // max(1, columns)), offers.flat.sizes[PERIOD]
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _labelled(values: dict[str, Floats], side: TsoSide, offers: InterfaceOffers, need: xr.DataArray) -> xr.Dataset:
    """Put the values under their labels, and add what each feeder sees."""
    flat, periods = offers.flat, side.periods
    buses, hung = grid_buses(side), interface_buses(side)
    coords = {
        **flat[list(BID_COORDS)].coords, FEEDER: hung.index, PERIOD: periods, GRID_BUS: buses.rename(GRID_BUS),
        GRID_BID: offers_of_grid(side).data.indexes[BID].rename(GRID_BID),
    }  # fmt: skip
    if side.transmission.grid is not None:
        coords[LINE] = side.transmission.grid.data.indexes[LINE]
    # Σ σ φ z of each feeder                                                            [MW]
    delivered = np.zeros((len(hung), len(periods)))
    moved = offers.sign.values[:, None] * flat["interface_factor"].values * values["change"]
    owner = pd.Series(flat["bid_feeder"].values, index=flat[BID].values)
    np.add.at(delivered, positions_in(hung.index, owner, "offers"), moved)
    found = {
        "change": (BID, values["change"]),
        "interface_factor": (BID, flat["interface_factor"].values),
        "cleared_delivery": (FEEDER, delivered),
        "interface_price": (FEEDER, values["grid_price"][positions(buses, hung.to_numpy())]),
        "need": (GRID_BUS, need.transpose(BUS, PERIOD).values),
        **{name: (GRID_BUS, values[name]) for name in ("grid_price", "grid_unserved", "grid_spilled")},
        "grid_activation": (GRID_BID, values["grid_activation"]),
        **{name: (LINE, values[name]) for name in ("line_flow",) if name in values},
    }
    arrays = {name: ((dim, PERIOD), array) for name, (dim, array) in found.items()}
    mean = uniform_price(values["grid_price"], need.transpose(BUS, PERIOD).values)
    return xr.Dataset(arrays, coords=coords).assign(
        uniform_price=(PERIOD, mean), grid_status=(PERIOD, values["grid_status"])
    )
