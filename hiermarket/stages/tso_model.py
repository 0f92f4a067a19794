"""The TSO's clearing problem (18) as a labelled linopy model of some periods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, ModelError, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.market.bids import TRANSMISSION, Bids, bids
from hiermarket.network.dcflow import add_dc_flow
from hiermarket.schema import bare, positions

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.program import Floats, Ints
    from hiermarket.stages.interface import InterfaceOffers

GRID_BUS, GRID_BID = "grid_bus", "grid_bid"

#: The one bus of a TSO without a grid, and its one provider.
ONE_BUS, TBM = "transmission", "TBM"

#: The model's variables of bids, and the dimension of the blocks at a bus.
OF_BLOCKS, OF_GRID_BIDS, SLOT = "Block-activation", "GridBid-activation", "slot"


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Price blocks at the buses, beside the bids of the grid itself; arrays (bus, slot, period).

    Attributes
    ----------
    volume : array
        MW of the bid; 0 where a bus has fewer blocks.
    price : array
        EUR/MWh.
    factor, sign : arrays
        MW at the bus per MW of the bid; whether it adds to the supply or takes of it.
    rank : array
        Place in the order in which ties are decided.
    """

    volume: Floats
    price: Floats
    factor: Floats
    sign: Floats
    rank: Floats


def interface_buses(side: TsoSide) -> pd.Series:
    """Return the transmission bus of every feeder, as a Series named ``at``.

    Raises
    ------
    DataError
        Naming the feeders that hang nowhere, or at a bus that the grid does not have.
    """
    names, hung = side.feeder_names, side.transmission.interface or {}
    if side.transmission.grid is None:
        return pd.Series(ONE_BUS, index=names, name="at")
    at = pd.Series([hung.get(name) for name in names], index=names, name="at", dtype=object)
    positions_in(grid_buses(side), at, "transmission.interface")
    return at


def positions_in(index: pd.Index, labels: pd.Series, where: str) -> Ints:
    """Return the position of every label in an index, which must have it.

    Parameters
    ----------
    index : Index
        Buses or feeders.
    labels : Series
        What is looked for, by the name of who asks.
    where : str
        What the labels are, for the message.

    Raises
    ------
    DataError
        Naming the labels that are not there, and who asks for them.
    """
    found = positions(index, labels.to_numpy())
    if (found < 0).any():
        strange = [f"{who}: {label}" for who, label in labels[found < 0].items()]
        raise DataError(
            [Fault(where, some_labels(strange), f"one of {some_labels(list(index))}", "Correct the label.")]
        )
    return found


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
    feeders = exchange.indexes[FEEDER]
    at = positions_in(hung.index, pd.Series(feeders, index=feeders), "exchange")
    np.add.at(total, positions(buses, hung.to_numpy()[at]), exchange.transpose(FEEDER, PERIOD).values)
    need = xr.DataArray(total, dims=(BUS, PERIOD), coords={BUS: buses, PERIOD: side.periods})
    own = side.transmission.imbalance
    return need if own is None else need + own.reindex({BUS: buses}, fill_value=0.0)


def grid_bids(side: TsoSide, need: xr.DataArray, offers: InterfaceOffers) -> Bids:
    """Return the transmission bids; one provider at the TBM's prices where none are given."""
    forwarded = bare(offers.flat["forwarded"]) + bare(offers.flat["forwarded_undo"])
    return tbm_bids(side, float(np.abs(need).sum() + (forwarded * bare(offers.flat["interface_factor"])).sum()) + 1.0)


def tbm_bids(side: TsoSide, enough: float) -> Bids:
    """Return the transmission bids; one provider at the TBM's prices where none are given.

    Parameters
    ----------
    side : TsoSide
        The TSO's side.
    enough : float
        What a provider without a limit offers [MW]: more than anybody could need.
    """
    if side.transmission.bids is not None:
        return side.transmission.bids
    limit, price = side.tbm["tbm_limit"].sum(FEEDER), side.tbm["tbm_price"]
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


def no_blocks(side: TsoSide) -> Blocks:
    """Return no blocks at all: a clearing with the grid's own bids."""
    nothing = np.zeros((len(grid_buses(side)), 0, len(side.periods)))
    return Blocks(volume=nothing, price=nothing, factor=nothing, sign=nothing, rank=nothing)


def tso_model(side: TsoSide, need: xr.DataArray, blocks: Blocks) -> linopy.Model:
    """Build the model (18).

    Parameters
    ----------
    side : TsoSide
        Grid with its bids, durations and the value of lost load, in the periods of the model.
    need : DataArray (bus, period)
        W [MW], less what is supplied by bids that the model does not hold.
    blocks : Blocks
        Bids of the DSOs by bus.

    Returns
    -------
    linopy.Model
        Variables ``Block-activation (bus, slot, period)``, ``GridBid-activation (grid_bid,
        period)``, ``Bus-unserved, Bus-spilled (bus, period)`` and the flows of the grid; rows
        ``Bus-nodal_balance`` and those of the flows.
    """
    import linopy

    model = linopy.Model(sparse=True)
    model.add_objective(add_tso(model, side, need, blocks))
    return model


def add_tso(
    model: linopy.Model,
    side: TsoSide,
    need: xr.DataArray,
    blocks: Blocks,
    *,
    drawn: linopy.LinearExpression | None = None,
    prefix: str = "",
) -> linopy.LinearExpression:
    """Add the variables and rows of (18) to a model, and return its cost.

    Parameters
    ----------
    model : linopy.Model
        May hold other variables, also feeders' with the names without the prefix.
    side, need, blocks : TsoSide, DataArray, Blocks
        See `tso_model`.
    drawn : expression (bus, period), optional
        What else is drawn at the buses [MW].
    prefix : str
        Put before the names of the variables and rows of buses.

    Returns
    -------
    expression
        EUR.
    """
    buses, periods, duration = grid_buses(side), side.periods, bare(side.duration)
    unserved, spilled = (
        model.add_variables(lower=0, coords=[buses, periods], name=f"{prefix}{name}")
        for name in ("Bus-unserved", "Bus-spilled")
    )
    data = offers_of_grid(side).data.rename({BID: GRID_BID})
    sign = bare(offers_of_grid(side).sign).rename({BID: GRID_BID})
    y = model.add_variables(lower=0, upper=bare(data["volume"]), name=OF_GRID_BIDS)
    at = pd.Series(data["bid_bus"].values, index=data.indexes[GRID_BID], name="at")
    supply = (sign * y).groupby(at).sum().rename(at=BUS).reindex({BUS: buses}).fillna(0) + unserved - spilled
    # (18)  Σ_t Δ_t [ Σ σ π y + Σ σ π^F z + VOLL (s⁺ + s⁻) ]                                  [EUR]
    lost = side.rules.value_of_lost_load * duration * (1 * unserved + 1 * spilled)
    cost = ((duration * sign * bare(data["price"])) * y).sum() + lost.sum()
    if blocks.volume.size:
        slots = {BUS: buses, SLOT: np.arange(blocks.volume.shape[1]), PERIOD: periods}
        volume, price, factor, of_block = (
            xr.DataArray(array, coords=slots, dims=list(slots))
            for array in (blocks.volume, blocks.price, blocks.factor, blocks.sign)
        )
        z = model.add_variables(lower=0, upper=volume, name=OF_BLOCKS)
        supply = supply + ((of_block * factor) * z).sum(SLOT)
        cost = cost + ((duration * of_block * price) * z).sum()
    grid = side.transmission.grid
    demand = need
    if grid is not None:
        supply = supply - add_dc_flow(model, grid)
        demand = need - bare(grid.data.p_scheduled)
    if drawn is not None:
        supply = supply - drawn
    # (18)  P0 + Σ σ y + Σ σ φ z + s⁺ − s⁻ − Σ f_out + Σ f_in = W                      ∀ buses, t   [MW]
    model.add_constraints(supply == demand, name=f"{prefix}Bus-nodal_balance")
    return cost


def tie_costs(model: linopy.Model, columns: Ints, blocks: Blocks, first_rank: int) -> list[Floats]:
    """Return the further costs by column that decide ties: gross activation, order of the bids, order of the buses.

    The last one is of the buses where something is not served.

    Parameters
    ----------
    model : linopy.Model
        Of `tso_model`.
    columns : int array
        Labels of the columns.
    blocks : Blocks
        The blocks of the model.
    first_rank : int
        The rank of the first bid of the transmission grid: forwarded bids come before.
    """
    gross, order = np.zeros(len(columns)), np.zeros(len(columns))
    of_grid = model.variables[OF_GRID_BIDS].labels.transpose(GRID_BID, PERIOD).values
    ranks = [(of_grid, first_rank + np.arange(float(len(of_grid)))[:, None])]
    if blocks.volume.size:
        ranks.append((model.variables[OF_BLOCKS].labels.transpose(BUS, SLOT, PERIOD).values, blocks.rank))
    for labels, rank in ranks:
        at = np.searchsorted(columns, labels)
        gross[at] = 1.0
        # earlier bids weigh less: of equal volumes the earlier one is taken
        order[at] = np.sqrt(1.0 + rank)
    where = np.zeros(len(columns))
    for name in ("Bus-unserved", "Bus-spilled"):
        labels = model.variables[name].labels.transpose(BUS, PERIOD).values
        where[np.searchsorted(columns, labels)] = np.sqrt(1.0 + np.arange(float(len(labels))))[:, None]
    return [gross, order, where]
