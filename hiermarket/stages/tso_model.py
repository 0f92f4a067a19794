"""The TSO's clearing problem (18) as a labelled linopy model of some periods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import ModelError
from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.market.bids import TRANSMISSION, Bids, bids
from hiermarket.network.dcflow import add_dc_flow
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats, Ints, Program
    from hiermarket.stages.interface import InterfaceOffers

GRID_BUS, GRID_BID = "grid_bus", "grid_bid"

#: The one bus of a TSO without a grid, and its one provider.
ONE_BUS, TBM = "transmission", "TBM"

#: The model's variables of bids, in the order in which ties are decided.
OF_BIDS = ("Bid-change", "Bid-undo", "GridBid-activation")

#: Public name → variable of the grid.
OF_GRID = {"grid_unserved": "Bus-unserved", "grid_spilled": "Bus-spilled", "line_flow": "Line-flow"}


@dataclass(frozen=True, slots=True)
class TsoProblem:
    """The labelled model of some periods, and what reading it needs.

    Attributes
    ----------
    model : linopy.Model
        Variables ``Bid-change, Bid-undo (bid, period)`` of the bids that have a volume there,
        ``GridBid-activation (grid_bid, period)``, ``Bus-unserved, Bus-spilled (bus,
        period)`` and the flows of the grid; rows ``Bus-nodal_balance`` and those of the
        flows.
    place : mapping name → int array
        Of each variable of `OF_BIDS`, the position of its bids among all bids.
    first : mapping name → int
        Rank of the first of all bids of each variable where ties are decided.
    """

    model: linopy.Model
    place: dict[str, Ints]
    first: dict[str, int]

    def solution(self, name: str, count: int) -> Floats:
        """Return the solution of a variable of bids for all of them, (count, period); 0 without a column."""
        values = np.zeros((count, self.model.variables["Bus-unserved"].sizes[PERIOD]))
        if len(self.place[name]):
            values[self.place[name]] = self.model.variables[name].solution.transpose(..., PERIOD).values
        return values


def interface_buses(side: TsoSide) -> pd.Series:
    """Return the transmission bus of every feeder, as a Series named ``at``."""
    names, hung = side.feeder_names, side.transmission.interface or {}
    if side.transmission.grid is None:
        return pd.Series(ONE_BUS, index=names, name="at")
    return pd.Series([hung[name] for name in names], index=names, name="at", dtype=object)


def grid_buses(side: TsoSide) -> pd.Index:
    """Return the transmission buses."""
    grid = side.transmission.grid
    return pd.Index([ONE_BUS], name=BUS) if grid is None else grid.data.indexes[BUS]


def needs(side: TsoSide, exchange: xr.DataArray) -> xr.DataArray:
    """Return W (bus, period): the grid's own imbalance and what the DSOs take from the TBM.

    Parameters
    ----------
    side : TsoSide
        Interfaces and the imbalance of the transmission grid.
    exchange : DataArray (feeder, period)
        g_up − g_down of every feeder [MW].
    """
    buses, hung = grid_buses(side), interface_buses(side)
    total = np.zeros((len(buses), len(side.periods)))
    at = hung.loc[exchange.indexes[FEEDER]].to_numpy()
    np.add.at(total, positions(buses, at), exchange.transpose(FEEDER, PERIOD).values)
    need = xr.DataArray(total, dims=(BUS, PERIOD), coords={BUS: buses, PERIOD: side.periods})
    own = side.transmission.imbalance
    return need if own is None else need + own.reindex({BUS: buses}, fill_value=0.0)


def grid_bids(side: TsoSide, need: xr.DataArray, offers: InterfaceOffers) -> Bids:
    """Return the transmission bids; one provider at the TBM's prices where none are given."""
    if side.transmission.bids is not None:
        return side.transmission.bids
    limit, price = side.tbm["tbm_limit"].sum(FEEDER), side.tbm["tbm_price"]
    # a provider without limit: more than the whole need and everything that is forwarded
    forwarded = bare(offers.flat["forwarded"]) + bare(offers.flat["forwarded_undo"])
    enough = float(np.abs(need).sum() + (forwarded * bare(offers.flat["interface_factor"])).sum()) + 1.0
    label = {"feeder": TRANSMISSION, "bsp": TBM, "bus": ONE_BUS}
    table = [
        pd.DataFrame(
            {
                PERIOD: side.periods,
                "price": price.sel({DIRECTION: d}).values,
                "volume": limit.sel({DIRECTION: d}).values.clip(max=enough),
            }
        ).assign(direction=d, **label)
        for d in DIRECTIONS
    ]
    return bids(pd.concat(table), side.periods)


def offers_of_grid(side: TsoSide) -> Bids:
    """Return the transmission bids of a side that has some."""
    if side.transmission.bids is None:
        raise ModelError("The TSO's side has no bids", where="transmission.bids", remedy="Take those of grid_bids.")
    return side.transmission.bids


def tso_problem(side: TsoSide, need: xr.DataArray, offers: InterfaceOffers) -> TsoProblem:
    """Build the model (18).

    Parameters
    ----------
    side : TsoSide
        Grid with its bids, durations and the value of lost load, in the periods of the model.
    need : DataArray (bus, period)
        W [MW].
    offers : InterfaceOffers
        What the DSOs forward, in these periods.
    """
    import linopy

    model = linopy.Model(sparse=True)
    buses, periods, duration = grid_buses(side), side.periods, bare(side.duration)
    unserved, spilled = (
        model.add_variables(lower=0, coords=[buses, periods], name=name) for name in ("Bus-unserved", "Bus-spilled")
    )
    supply = unserved - spilled
    # (18)  Σ_t Δ_t [ Σ σ π y + Σ σ π^F z + VOLL (s⁺ + s⁻) ]                                  [EUR]
    cost = (side.rules.value_of_lost_load * duration * (1 * unserved + 1 * spilled)).sum()
    place: dict[str, Ints] = {}
    for name, volume, sign, price, factor, at in _supplies(side, offers):
        # a bid without any volume in these periods needs no column
        place[name] = np.flatnonzero((volume.values > 0).any(axis=1))
        if not len(place[name]):
            continue
        some = {volume.dims[0]: place[name]}
        z = model.add_variables(lower=0, upper=volume.isel(some), name=name)
        hung = pd.Series(at[place[name]], index=volume.indexes[volume.dims[0]][place[name]], name="at")
        delivered = ((sign * factor).isel(some) * z).groupby(hung).sum().rename(at=BUS)
        supply = supply + delivered.reindex({BUS: buses}).fillna(0)
        cost = cost + ((duration * sign * price).isel(some) * z).sum()
    grid = side.transmission.grid
    demand = need
    if grid is not None:
        supply = supply - add_dc_flow(model, grid)
        demand = need - bare(grid.data.p_scheduled)
    # (18)  P0 + Σ σ y + Σ σ φ z + s⁺ − s⁻ − Σ f_out + Σ f_in = W                      ∀ buses, t   [MW]
    model.add_constraints(supply == demand, name="Bus-nodal_balance")
    model.add_objective(cost)
    count = offers.flat.sizes[BID]
    return TsoProblem(model, place, dict(zip(OF_BIDS, (0, count, 2 * count), strict=True)))


def _supplies(
    side: TsoSide, offers: InterfaceOffers
) -> list[tuple[str, xr.DataArray, xr.DataArray, xr.DataArray, xr.DataArray, np.ndarray]]:
    """Return name, volume, σ, price, factor (bid, period) and bus of each kind of bid."""
    flat, grid_offers = offers.flat, offers_of_grid(side)
    data = grid_offers.data.rename({BID: GRID_BID})
    own, price, factor = (bare(flat[name]) for name in ("forwarded", "forward_price", "interface_factor"))
    at = interface_buses(side).loc[flat["bid_feeder"].values].to_numpy()
    sign = offers.sign
    grid_sign = bare(grid_offers.sign).rename({BID: GRID_BID})
    volumes = (own, bare(flat["forwarded_undo"]), bare(data["volume"]))
    return [
        (OF_BIDS[0], volumes[0], sign, price, factor, at),
        (OF_BIDS[1], volumes[1], -sign, price, factor, at),
        (OF_BIDS[2], volumes[2], grid_sign, bare(data["price"]), xr.ones_like(volumes[2]), data["bid_bus"].values),
    ]


def tie_costs(problem: TsoProblem, program: Program) -> list[Floats]:
    """Return the further costs by column that decide ties: gross activation, then the order of the bids."""
    gross, order = np.zeros(len(program.columns)), np.zeros(len(program.columns))
    for name, place in problem.place.items():
        if not len(place):
            continue
        labels = problem.model.variables[name].labels.transpose(..., PERIOD).values
        at = np.searchsorted(program.columns, labels)
        gross[at] = 1.0
        # earlier bids weigh less: of equal volumes the earlier one is taken
        order[at] = np.sqrt(1.0 + problem.first[name] + place)[:, None]
    return [gross, order]
