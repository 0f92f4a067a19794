"""Tables of the grids: the AC checks, the TSO's clearing, and what arrives at the interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, LINE, PERIOD
from hiermarket.results.market_tables import by_bid, energy_of, times
from hiermarket.results.table import MISSING, Column, figure, span, table
from hiermarket.schema import bare
from hiermarket.stages.capability import CORNER
from hiermarket.stages.price_iteration import price_gap
from hiermarket.stages.settlement import change_payment
from hiermarket.stages.tso_model import GRID_BID, GRID_BUS, interface_buses

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.coordination import Chain

#: What an AC check may find, with its unit.
LIMITS = {"undervoltage": "p.u.", "overvoltage": "p.u.", "overload": "MVA"}
#: A violation below this is a rounding of the power flow [p.u., MVA].
NEGLIGIBLE = 1e-6
#: How many lines the table of the transmission grid names.
MOST_LINES = 5


def ac_check(title: str, market: BalancingMarket, states: dict[str, xr.Dataset], *, prefix: str = "") -> Table:
    """Return the largest violations of states of the grid, with the places of the worst.

    Parameters
    ----------
    title : str
        Above the table.
    market : BalancingMarket
        The names of its periods.
    states : mapping name → Dataset
        ``undervoltage, overvoltage, overload (bus, period)``, each with `prefix` before it.
    """
    rows: list[list[float | str]] = []
    for name, state in states.items():
        found = {limit: state[f"{prefix}{limit}"].transpose(BUS, PERIOD) for limit in LIMITS}
        worst = {limit: float(array.max()) for limit, array in found.items()}
        broken = [limit for limit, value in worst.items() if value > NEGLIGIBLE]
        unknown = int(np.isnan(found["undervoltage"].values).all(axis=0).sum())
        places = [_place(found[limit], market) for limit in broken] or ["none"]
        if unknown:
            places.append(f"no AC solution in {unknown} periods")
        rows.append([name, *worst.values(), "; ".join(places)])
    columns = [Column("State"), *(Column(f"{name}", unit) for name, unit in LIMITS.items()), Column("Worst at")]
    return table(title, columns, rows, note="Largest violation of a limit by AC power flow over all buses and periods.")


def _place(array: xr.DataArray, market: BalancingMarket) -> str:
    bus, period = np.unravel_index(int(np.nanargmax(array.values)), array.shape)
    return f"{array.indexes[BUS][int(bus)]}, {times(market)[int(period)]}"


def corners(chain: Chain) -> Table:
    """Return the AC check of the corners of what is forwarded: everything up, everything down."""
    flat = chain.forwarded.flat
    states = {f"all forwarded {d}": flat.sel({CORNER: d}) for d in DIRECTIONS}
    return ac_check("Forwarding: AC check of the corners", chain.market, states, prefix="corner_")


def tso_activation(chain: Chain) -> Table:
    """Return the TSO's need, and the bids it has activated: in the transmission grid, and forwarded."""
    market, cleared = chain.market, chain.cleared
    offers, duration = cleared.grid_bids, market.duration.values
    need = cleared.flat.need.transpose(GRID_BUS, PERIOD).values * duration
    rows: list[list[float | str]] = [
        ["Need", float(need.clip(min=0).sum()), float(-need.clip(max=0).sum()), "", "", ""]
    ]
    at = [list(cleared.flat.indexes[GRID_BUS]).index(bus) for bus in offers.data.bid_bus.values]
    price = cleared.flat.grid_price.transpose(GRID_BUS, PERIOD).values[at]
    energy = cleared.flat.grid_activation.transpose(GRID_BID, PERIOD).values * duration
    received = (offers.sign.values[:, None] * price * energy).sum(axis=1)
    owner, direction = offers.data.bid_bsp.values, offers.data.bid_direction.values
    for bsp in offers.bsps:
        mine = owner == bsp
        volumes = [float(energy[mine & (direction == d)].sum()) for d in DIRECTIONS]
        rows.append([f"  {bsp}", *volumes, "", _mean_price(price[mine], energy[mine]), float(received[mine].sum())])
    rows.append(["Forwarded bids", *_changed(chain, np.ones(market.bids.data.sizes[BID], dtype=bool))])
    rows += [[f"  {bsp}", *_changed(chain, market.bids.data.bid_bsp.values == bsp)] for bsp in market.bids.bsps]
    columns = [
        Column("Provider"), Column("Up", "MWh"), Column("Down", "MWh"), Column("undone", "MWh"),
        Column("Mean price", "EUR/MWh"), Column("Received", "EUR"),
    ]  # fmt: skip
    flat = cleared.flat.grid_price
    note = f"Prices of the transmission grid: {span(float(flat.min()), float(flat.max()), 'EUR/MWh')} EUR/MWh."
    return table("TSO clearing: activated bids", columns, rows, note=note)


def _mean_price(price: np.ndarray, energy: np.ndarray) -> float:
    total = float(energy.sum())
    return float((price * energy).sum()) / total if total > NEGLIGIBLE else np.nan


def _changed(chain: Chain, mine: np.ndarray) -> list[float | str]:
    """Energy up, down and undone, mean price and payment of the changes of some local bids."""
    market = chain.market
    change = bare(chain.disaggregation.flat["change"])
    more = energy_of(change.clip(min=0.0), market)
    undone = energy_of(-change.clip(max=0.0), market)
    direction = market.bids.data.bid_direction.values
    paid = by_bid(change_payment(market, chain.disaggregation))
    moved = float((more + undone)[mine].sum())
    sign = market.bids.sign.values[:, None] * np.sign(by_bid(change))
    price = float((sign * paid)[mine].sum()) / moved if moved > NEGLIGIBLE else np.nan
    volumes = [float(more[mine & (direction == d)].sum()) for d in DIRECTIONS]
    return [*volumes, float(undone[mine].sum()), price, float(paid[mine].sum())]


def interfaces(chain: Chain) -> Table:
    """Return the price at every interface beside the exchange price that stage 1 counted on."""
    market, flat = chain.market, chain.cleared.flat
    at, duration = interface_buses(market.tso_side), market.duration.values
    price = flat.interface_price.transpose(FEEDER, PERIOD).values
    gap, expected = price_gap(market, chain.clearing, chain.cleared).values, market.exchange_price
    bought = {
        d: chain.clearing.flat.tbm_volume.sel({DIRECTION: d}).transpose(FEEDER, PERIOD).values for d in DIRECTIONS
    }
    rows: list[list[float | str]] = []
    for k, feeder in enumerate(market.feeder_names):
        energy = [float((bought[d][k] * duration).sum()) for d in DIRECTIONS]
        t = int(np.nanargmax(np.abs(gap[k]))) if np.isfinite(gap[k]).any() else None
        worst: list[float | str] = [np.nan, MISSING] if t is None else [float(gap[k, t]), times(market)[t]]
        counted_on = [_ends(expected.sel({FEEDER: feeder, DIRECTION: d}).values) for d in DIRECTIONS]
        rows.append([f"{feeder} at {at.iloc[k]}", *energy, *counted_on, _ends(price[k]), *worst])
    columns = [
        Column("Feeder and grid bus"), Column("TBM up", "MWh"), Column("TBM down", "MWh"),
        Column("Counted on up", "EUR/MWh"), Column("Counted on down", "EUR/MWh"), Column("Interface price", "EUR/MWh"),
        Column("Largest gap", "EUR/MWh"), Column("in period"),
    ]  # fmt: skip
    note = "Gap: interface price less the price that the DSO counted on in the direction in which it trades."
    if chain.price_iteration is not None:
        note += f" Exchange prices were iterated: {chain.price_iteration.reason}."
    return table("TSO clearing: interfaces", columns, rows, note=note)


def _ends(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return span(float(known.min()), float(known.max()), "EUR/MWh") if known.size else MISSING


def lines(chain: Chain) -> Table | None:
    """Return the most loaded lines of the transmission grid; None without a grid or a limit."""
    grid = chain.market.transmission.grid
    if grid is None:
        return None
    flow = chain.cleared.flat.line_flow.transpose(LINE, PERIOD)
    limit = grid.data.s_max.sel({LINE: flow.indexes[LINE]}).values
    loading = np.abs(flow.values) / limit[:, None]
    highest = np.nan_to_num(loading).max(axis=1)
    rows: list[list[float | str]] = []
    for k in np.argsort(-highest, kind="stable")[:MOST_LINES]:
        t = int(np.nanargmax(np.abs(flow.values[k])))
        full = float((loading[k] > 1 - NEGLIGIBLE).sum())
        figures = [100 * float(highest[k]), float(flow.values[k, t]), float(limit[k])]
        rows.append([str(flow.indexes[LINE][int(k)]), *figures, times(chain.market)[t], full])
    columns = [
        Column("Line"), Column("Highest loading", "%"), Column("Flow", "MW"), Column("Limit", "MW"),
        Column("in period"), Column("Periods at the limit", "1"),
    ]  # fmt: skip
    return table("TSO clearing: most loaded lines", columns, rows)


def delivery(chain: Chain) -> Table:
    """Return what arrives at the interfaces beside what the TSO has cleared, by AC power flow."""
    market, flat = chain.market, chain.disaggregation.flat
    duration = market.duration.values
    owner = flat.bus_feeder.values
    voltage = flat.ac_voltage.transpose(BUS, PERIOD).values
    arrays = {
        name: flat[name].transpose(FEEDER, PERIOD).values for name in ("cleared_delivery", "delivered", "ac_loss")
    }
    rows: list[list[float | str]] = []
    for k, feeder in enumerate(market.feeder_names):
        cleared, arrived, loss = (array[k] for array in arrays.values())
        gap = arrived - cleared
        worst = int(np.nanargmax(np.abs(gap))) if np.isfinite(gap).any() else 0
        here = voltage[owner == feeder]
        known = here[np.isfinite(here)]
        ends = span(float(known.min()), float(known.max()), "p.u.") if known.size else MISSING
        converged = float(bare(flat.ac_converged).transpose(FEEDER, PERIOD).values[k].sum())
        rows.append(
            [str(feeder), float((cleared * duration).sum()), float((arrived * duration).sum()), float(gap[worst]),
             times(market)[worst], float((loss * duration).sum()), ends,
             f"{figure(converged, '1')} of {len(duration)}"]
        )  # fmt: skip
    columns = [
        Column("Feeder"), Column("Cleared by the TSO", "MWh"), Column("Delivered", "MWh"),
        Column("Largest mismatch", "MW"), Column("in period"), Column("Losses", "MWh"), Column("|V|", "p.u."),
        Column("AC solved", "1"),
    ]  # fmt: skip
    note = "Delivered: change of the interface flow towards the transmission grid by AC power flow."
    return table("Disaggregation: what arrives at the interfaces", columns, rows, note=note)


def final_check(chain: Chain) -> Table:
    """Return the AC check before, between and after: TBM alone, DSO clearing, after the TSO's clearing."""
    baseline = chain.baseline.flat.rename({f"baseline_{limit}": limit for limit in LIMITS})
    states = {
        "TBM alone": baseline,
        "after the DSO clearing": chain.clearing.flat,
        "after the TSO clearing": chain.disaggregation.flat,
    }
    return ac_check("Disaggregation: AC check", chain.market, states)
