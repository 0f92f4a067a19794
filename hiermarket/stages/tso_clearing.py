"""TSO: the transmission balancing market is cleared with what the DSOs forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, LINE, PERIOD
from hiermarket.market.bids import TRANSMISSION, Bids, bids
from hiermarket.network.dcflow import add_dc_flow
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, Labelled, bare, freeze, positions
from hiermarket.solving.blocks import components, solve_blocks
from hiermarket.solving.program import program_of, write_back
from hiermarket.solving.solver import Outcome, SolverOptions, failure
from hiermarket.stages.dso_clearing import per_feeder

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.dso_clearing import DsoClearing

GRID_BUS, GRID_BID = "grid_bus", "grid_bid"

#: The one bus of a TSO without a grid, and its one provider.
ONE_BUS, TBM = "transmission", "TBM"


@dataclass(frozen=True, slots=True)
class TsoClearing(Labelled):
    """The cleared transmission balancing market.

    Arrays: ``change, interface_factor`` (bid), ``need, grid_price, grid_unserved, grid_spilled``
    (grid_bus), ``grid_activation`` (grid_bid), ``line_flow`` (line), ``interface_price,
    cleared_delivery`` (feeder), ``grid_status``; each by period, units as in the
    nomenclature.

    Attributes
    ----------
    grid_bids : Bids
        The bids of the transmission grid that took part.
    solves : int
        How many LPs were solved.
    """

    grid_bids: Bids
    solves: int

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


def interface_buses(market: BalancingMarket) -> pd.Series:
    """Return the transmission bus of every feeder, as a Series named ``at``."""
    side = market.transmission
    names = market.feeder_names
    if side.grid is None:
        return pd.Series(ONE_BUS, index=names, name="at")
    return pd.Series({name: (side.interface or {})[name] for name in names}, name="at").rename_axis(FEEDER)


def grid_buses(market: BalancingMarket) -> pd.Index:
    """Return the transmission buses."""
    grid = market.transmission.grid
    return pd.Index([ONE_BUS], name=BUS) if grid is None else grid.data.indexes[BUS]


def needs(market: BalancingMarket, exchange: xr.DataArray) -> xr.DataArray:
    """Return W (bus, period): the grid's own imbalance and what the DSOs take from the TBM.

    Parameters
    ----------
    market : BalancingMarket
        Interfaces and the imbalance of the transmission grid.
    exchange : DataArray (feeder, period)
        g_up − g_down of every feeder [MW].
    """
    buses = grid_buses(market)
    total = np.zeros((len(buses), len(market.periods)))
    np.add.at(total, positions(buses, interface_buses(market)), exchange.transpose(FEEDER, PERIOD).values)
    need = xr.DataArray(total, dims=(BUS, PERIOD), coords={BUS: buses, PERIOD: market.periods})
    own = market.transmission.imbalance
    return need if own is None else need + own.reindex({BUS: buses}, fill_value=0.0)


def grid_bids(market: BalancingMarket, need: xr.DataArray) -> Bids:
    """Return the transmission bids; one provider at the TBM's prices where none are given."""
    if market.transmission.bids is not None:
        return market.transmission.bids
    limit = market.tbm.tbm_limit.sum(FEEDER)
    # a provider without limit: more than the whole need and every forwarded bid
    enough = float(np.abs(need).sum() + market.bids.data.volume.sum()) + 1.0
    rows = [
        {"feeder": TRANSMISSION, "bsp": TBM, "bus": ONE_BUS, "direction": d, "period": t,
         "price": float(market.tbm.tbm_price.sel({DIRECTION: d, PERIOD: t})),
         "volume": min(float(limit.sel({DIRECTION: d, PERIOD: t})), enough)}
        for d in DIRECTIONS for t in market.periods
    ]  # fmt: skip
    return bids(pd.DataFrame(rows), market.periods)


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
    volume = clearing.flat.tbm_volume
    exchange = volume.sel({DIRECTION: "up"}, drop=True) - volume.sel({DIRECTION: "down"}, drop=True)
    return clear_needs(market, bare(exchange), forwarded, solver=solver)


def clear_needs(
    market: BalancingMarket,
    exchange: xr.DataArray,
    forwarded: Forwarded | None = None,
    *,
    solver: SolverOptions | None = None,
) -> TsoClearing:
    """Clear the transmission balancing market for given interface exchanges.

    Parameters
    ----------
    exchange : DataArray (feeder, period)
        What every DSO takes from the TBM [MW], < 0 when it delivers.

    See `clear_tso` for the rest.
    """
    import linopy

    known = exchange.fillna(0.0)
    need = needs(market, known)
    offers = grid_bids(market, need)
    with linopy.options as options:
        options.set_value(semantics="v1")
        model = _model(market, need, offers, forwarded)
        program = program_of(model)
        blocks = components(program)
        answers = solve_blocks(program, solver, block_of_column=blocks, then=_ranks(model, program.columns))
        write_back(model, program, answers.x, answers.dual, float(np.nansum(answers.objective)))
        # every island of the grid is a block of its own: a period has a clearing when all have
        label = model.variables["Bus-unserved"].labels.transpose(BUS, PERIOD).values
        codes = np.array([list(Outcome).index(outcome) for outcome in answers.outcome], dtype=np.int8)
        worst = codes[blocks[np.searchsorted(program.columns, label)]].max(axis=0)
        values = _values(market, model, need, forwarded)
        known = xr.DataArray(worst == 0, dims=PERIOD, coords={PERIOD: market.periods})
        found = [name for name in values if name not in ("need", "interface_factor")]
        flat = values.assign({name: values[name].where(known) for name in found}).assign(grid_status=(PERIOD, worst))
    return TsoClearing(flat=freeze(describe(flat)), grid_bids=offers, solves=answers.work.solves)


def _model(market: BalancingMarket, need: xr.DataArray, offers: Bids, forwarded: Forwarded | None) -> linopy.Model:
    import linopy

    model = linopy.Model(sparse=True)
    buses, periods, duration = grid_buses(market), market.periods, bare(market.duration)
    offer_sign = bare(offers.sign).rename({BID: GRID_BID})
    data = offers.data.rename({BID: GRID_BID})
    y = model.add_variables(lower=0, upper=bare(data.volume), name="GridBid-activation")
    unserved, spilled = (
        model.add_variables(lower=0, coords=[buses, periods], name=name) for name in ("Bus-unserved", "Bus-spilled")
    )
    at = pd.Series(data.bid_bus.values, index=data.indexes[GRID_BID], name="at")
    supply = (offer_sign * y).groupby(at).sum().rename(at=BUS).reindex({BUS: buses}).fillna(0)
    # (18)  Σ_t Δ_t [ Σ σ π y + Σ σ π^F z + VOLL (s⁺ + s⁻) ]                                  [EUR]
    lost = market.rules.value_of_lost_load * duration * (1 * unserved + 1 * spilled)
    cost = ((duration * offer_sign * bare(data.price)) * y).sum() + lost.sum()
    if forwarded is not None:
        sign, flat = bare(market.bids.sign), forwarded.flat
        own = model.add_variables(lower=0, upper=bare(flat.forwarded), name="Bid-change")
        back = model.add_variables(lower=0, upper=bare(flat.forwarded_undo), name="Bid-undo")
        change = 1 * own - 1 * back
        hung = interface_buses(market).loc[market.bids.data.bid_feeder.values].to_numpy()
        where = pd.Series(hung, index=market.bids.data.indexes[BID], name="at")
        delivered = (sign * bare(flat.interface_factor)) * change
        supply = supply + delivered.groupby(where).sum().rename(at=BUS).reindex({BUS: buses}).fillna(0)
        cost = cost + ((duration * sign * bare(flat.forward_price)) * change).sum()
    grid = market.transmission.grid
    demand = need
    supply = supply + unserved - spilled
    if grid is not None:
        supply = supply - add_dc_flow(model, grid)
        demand = need - bare(grid.data.p_scheduled)
    # (18)  P0 + Σ σ y + Σ σ φ z + s⁺ − s⁻ − Σ f_out + Σ f_in = W                      ∀ buses, t   [MW]
    model.add_constraints(supply == demand, name="Bus-nodal_balance")
    model.add_objective(cost)
    return model


def _ranks(model: linopy.Model, columns: np.ndarray) -> list[np.ndarray]:
    gross, order = np.zeros(len(columns)), np.zeros(len(columns))
    count = 0
    for name in ("Bid-change", "Bid-undo", "GridBid-activation"):
        if name not in model.variables:
            continue
        labels = model.variables[name].labels
        bid_first = labels.transpose(..., PERIOD).values
        at = np.searchsorted(columns, bid_first)
        gross[at] = 1.0
        order[at] = np.sqrt(1.0 + count + np.arange(len(bid_first)))[:, None]
        count += len(bid_first)
    return [gross, order]


def _values(
    market: BalancingMarket, model: linopy.Model, need: xr.DataArray, forwarded: Forwarded | None
) -> xr.Dataset:
    solved = {name: bare(model.variables[name].solution) for name in model.variables}
    price = bare(model.constraints["Bus-nodal_balance"].dual) / bare(market.duration)
    if forwarded is None:
        change = xr.zeros_like(bare(market.bids.data.price))
        factor = xr.ones_like(change)
        delivered = xr.DataArray(
            0.0, coords={FEEDER: market.feeder_names, PERIOD: market.periods}, dims=(FEEDER, PERIOD)
        )
    else:
        change = solved["Bid-change"] - solved["Bid-undo"]
        factor = bare(forwarded.flat.interface_factor)
        delivered = per_feeder(bare(market.bids.sign) * factor * change, market)
    at = interface_buses(market)
    at_interface = price.sel({BUS: xr.DataArray(at.to_numpy(), dims=FEEDER, coords={FEEDER: at.index})}).drop_vars(BUS)
    on_grid = {BUS: GRID_BUS}
    values = {
        "change": change,
        "interface_factor": factor,
        "cleared_delivery": delivered,
        "interface_price": at_interface.transpose(FEEDER, PERIOD),
        "need": need.rename(on_grid),
        "grid_price": price.rename(on_grid),
        "grid_unserved": solved["Bus-unserved"].rename(on_grid),
        "grid_spilled": solved["Bus-spilled"].rename(on_grid),
        "grid_activation": solved["GridBid-activation"],
    }
    if "Line-flow" in solved:
        values["line_flow"] = solved["Line-flow"].transpose(LINE, PERIOD)
    coords = dict(market.bids.data[list(BID_COORDS)].coords)
    return xr.Dataset(values).assign_coords(coords)
