"""Tables of the distribution markets: what came in, who was activated, what is forwarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD, Direction
from hiermarket.results.table import Column, span, table
from hiermarket.schema import bare
from hiermarket.stages.paid_prices import paid_price

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from rich.table import Table

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.coordination import Chain

#: Above this many resources, tables show the sums of each BSP only.
MOST_RESOURCES = 30

_UP, _DOWN = DIRECTIONS


def day_of(market: BalancingMarket) -> str:
    """Return the day on which all periods begin; empty where there is more than one."""
    days = {period.strftime("%Y-%m-%d") for period in market.periods}
    return days.pop() if len(days) == 1 else ""


def times(market: BalancingMarket) -> list[str]:
    """Write the start of every period: the time alone where all lie on one day."""
    form = "%H:%M" if day_of(market) else "%Y-%m-%d %H:%M"
    return [str(period.strftime(form)) for period in market.periods]


def by_bid(array: xr.DataArray) -> NDArray[np.float64]:
    """Return the values of (bid, period)."""
    values: NDArray[np.float64] = bare(array).transpose(BID, PERIOD).values
    return values


def energy_of(array: xr.DataArray, market: BalancingMarket) -> NDArray[np.float64]:
    """Return the energy of every bid over all periods [MWh] for volumes (bid, period) [MW]."""
    energy: NDArray[np.float64] = by_bid(bare(array) * bare(market.duration)).sum(axis=1)
    return energy


def inputs(chain: Chain) -> list[Table]:
    """Return the tables of the inputs: feeders with their imbalance, BSPs with their offers, the TBM."""
    market = chain.market
    duration = market.duration.values
    owner = market.feeders.feeder_of.to_numpy()
    imbalance = market.imbalance.transpose(BUS, PERIOD).values * duration
    energy = [imbalance.clip(min=0.0), -imbalance.clip(max=0.0)]
    columns = [
        Column("Feeder"), Column("Buses", "1"), Column("Periods", "1"), Column("Duration", "h"), Column("Bids", "1"),
        Column("Gross imbalance, deficit", "MWh"), Column("Gross imbalance, surplus", "MWh"),
    ]  # fmt: skip
    rows: list[list[float | str]] = [
        [str(name), float((owner == name).sum()), float(len(duration)), float(duration.sum()),
         float((market.bids.data.bid_feeder.values == name).sum()), *(float(e[owner == name].sum()) for e in energy)]
        for name in market.feeder_names
    ]  # fmt: skip
    return [table("Inputs: feeders", columns, rows), _offers(market)]


def _offers(market: BalancingMarket) -> Table:
    data = market.bids.data
    price, volume = by_bid(data.price), by_bid(data.volume)
    offered = energy_of(data.volume, market)
    direction = data.bid_direction.values
    rows: list[list[float | str]] = []
    for bsp in market.bids.bsps:
        mine = data.bid_bsp.values == bsp
        count = len({(n, r) for n, r in zip(data.bid_node.values[mine], data.bid_resource.values[mine], strict=True)})
        row: list[float | str] = [bsp, float(count)]
        for d in DIRECTIONS:
            at = mine & (direction == d)
            asked = price[at][volume[at] > 0]
            row += [float(offered[at].sum()), span(*_ends(asked), "EUR/MWh")]
        rows.append(row)
    limit, tbm = market.tbm.tbm_limit, market.tbm.tbm_price
    row = ["TBM", ""]
    for d in DIRECTIONS:
        most = float((limit.sel({DIRECTION: d}) * market.duration).sum())
        row += [most, span(*_ends(tbm.sel({DIRECTION: d}).values), "EUR/MWh")]
    columns = [
        Column("Provider"), Column("Resources", "1"), Column("Offered up", "MWh"), Column("Price up", "EUR/MWh"),
        Column("Offered down", "MWh"), Column("Price down", "EUR/MWh"),
    ]  # fmt: skip
    return table("Inputs: bids and the transmission balancing market (TBM)", columns, [*rows, row])


def _ends(values: np.ndarray) -> tuple[float, float]:
    return (float(np.min(values)), float(np.max(values))) if values.size else (np.nan, np.nan)


def activation(chain: Chain) -> Table:
    """Return who was activated: energy, mean offered and mean paid price by direction, profit."""
    market, flat, data = chain.market, chain.clearing.flat, chain.market.bids.data
    duration = market.duration.values
    frame = pd.DataFrame(
        {
            "bsp": data.bid_bsp.values,
            "resource": _resource_names(market),
            "direction": data.bid_direction.values,
            "energy": (by_bid(flat.activation) * duration).sum(axis=1),
            "offered": (by_bid(flat.price) * by_bid(flat.activation) * duration).sum(axis=1),
            "paid": (by_bid(paid_price(market, flat)) * by_bid(flat.activation) * duration).sum(axis=1),
            "cost": (by_bid(data.cost) * by_bid(flat.activation) * duration).sum(axis=1),
        }
    )
    frame["profit"] = bare(market.bids.sign).values * (frame["paid"] - frame["cost"])
    leading = {bidding.bsp for bidding in chain.bidding}
    detailed = len(frame.groupby(["bsp", "resource"])) <= MOST_RESOURCES
    rows: list[list[float | str]] = []
    for bsp in market.bids.bsps:
        own = frame[frame["bsp"] == bsp]
        rows.append([f"{bsp} (leader)" if bsp in leading else bsp, *_activated(own)])
        if detailed:
            rows += [[f"  {name}", *_activated(part)] for name, part in own.groupby("resource", sort=False)]
    columns = [
        Column("BSP and resource"),
        *(c for d in DIRECTIONS for c in (
            Column(d.capitalize(), "MWh"), Column("offered", "EUR/MWh"), Column("paid", "EUR/MWh"))),
        Column("Profit", "EUR"),
    ]  # fmt: skip
    note = "Mean prices by activated energy. Profit: payment in this market less true cost."
    return table("DSO clearing: activated bids", columns, rows, note=note)


def _activated(part: pd.DataFrame) -> list[float | str]:
    row: list[float | str] = []
    for d in DIRECTIONS:
        sums = part.loc[part["direction"] == d, ["energy", "offered", "paid"]].sum()
        energy = float(sums["energy"])
        means = [float(sums[name]) / energy if energy > 1e-9 else np.nan for name in ("offered", "paid")]
        row += [energy, *means]
    return [*row, float(part["profit"].sum())]


def _resource_names(market: BalancingMarket) -> list[str]:
    """Name the resource of every bid: by its own name, or by its bus."""
    data = market.bids.data
    several = len(market.feeder_names) > 1
    buses = data.bid_node.values if several else data.bid_bus.values
    named = zip(data.bid_resource.values, buses, strict=True)
    return [f"{name} at {bus}" if name and several else str(name or f"bus {bus}") for name, bus in named]


def periods(chain: Chain) -> Table:
    """Return the clearing by period: imbalance, activation, TBM, prices, lowest AC voltage."""
    market, flat = chain.market, chain.clearing.flat
    imbalance = market.imbalance.transpose(BUS, PERIOD).values
    active = by_bid(flat.activation)
    is_up = market.bids.data.bid_direction.values == _UP
    tbm = flat.tbm_volume.sum(FEEDER).transpose(DIRECTION, PERIOD)
    prices = flat.nodal_price.transpose(BUS, PERIOD)
    root = prices.sel({BUS: market.feeders.roots.to_numpy()}).values
    voltage = flat.ac_voltage.transpose(BUS, PERIOD).values
    buses = flat.indexes[BUS] if len(market.feeder_names) > 1 else flat.bus_name.values
    rows: list[list[float | str]] = []
    for t, time in enumerate(times(market)):
        deficit = float(imbalance[:, t].clip(min=0.0).sum())
        surplus = float(-imbalance[:, t].clip(max=0.0).sum())
        known = np.isfinite(voltage[:, t])
        lowest = int(np.nanargmin(voltage[:, t])) if known.any() else -1
        rows.append(
            [time, deficit, surplus, float(active[is_up, t].sum()), float(active[~is_up, t].sum()),
             *(float(tbm.sel({DIRECTION: d.value}).values[t]) for d in Direction),
             span(*_ends(root[:, t]), "EUR/MWh"), *_ends(prices.values[:, t]),
             float(voltage[lowest, t]) if known.any() else np.nan, str(buses[lowest]) if known.any() else "-"]
        )  # fmt: skip
    columns = [
        Column("Period"), Column("Deficit", "MW"), Column("Surplus", "MW"), Column("Local up", "MW"),
        Column("Local down", "MW"), Column("TBM up", "MW"), Column("TBM down", "MW"), Column("Root price", "EUR/MWh"),
        Column("Lowest nodal", "EUR/MWh"), Column("Highest nodal", "EUR/MWh"), Column("Lowest |V|", "p.u."),
        Column("Bus"),
    ]  # fmt: skip
    day = day_of(market)
    title = f"DSO clearing: periods of {day}" if day else "DSO clearing: periods"
    return table(title, columns, rows, note="Prices of active energy; voltages by AC power flow.")


def forwarded(chain: Chain) -> Table:
    """Return what the DSOs forward of each BSP's bids, and what their grids hold back."""
    market, flat, data = chain.market, chain.forwarded.flat, chain.market.bids.data
    energy = {name: energy_of(flat[name], market) for name in ("remaining", "forwarded", "forwarded_undo", "withheld")}
    direction = data.bid_direction.values
    undo = chain.forwarded.method.undo
    names = ("remaining", "forwarded", *(("forwarded_undo",) if undo else ()), "withheld")
    rows: list[list[float | str]] = []
    for bsp in (*market.bids.bsps, None):
        mine = np.ones(len(direction), dtype=bool) if bsp is None else data.bid_bsp.values == bsp
        sums = [float(energy[name][mine & (direction == d)].sum()) for d in DIRECTIONS for name in names]
        rows.append([bsp or "All", *sums])
    words = {"remaining": "Left", "forwarded": "Forwarded", "forwarded_undo": "Undo", "withheld": "Withheld"}
    columns = [Column("BSP"), *(Column(f"{words[name]} {d}", "MWh") for d in DIRECTIONS for name in names)]
    method = type(chain.forwarded.method).__name__
    note = f"{method}. By the direction of the bid. Left: not activated. Withheld: what the grid cannot carry" + (
        "; undoing an activation is regulation in the other direction." if undo else "."
    )
    return table("Forwarding: volumes for the TSO", columns, rows, note=note, total=True)
