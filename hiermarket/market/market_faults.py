"""What can be wrong between the parts of a market; every fault is found, none is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD, Direction
from hiermarket.market.bids import TRANSMISSION
from hiermarket.market.resource_faults import resource_faults
from hiermarket.schema import fault_where

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket, Transmission


def market_faults(market: BalancingMarket) -> list[Fault]:
    """Return every fault between the parts of a market.

    Parameters
    ----------
    market : BalancingMarket
        As it is being made.

    Returns
    -------
    list of Fault
        Empty for a sound market. Values are checked where the labels are right.
    """
    faults = _tbm_label_faults(market)
    faults += _rule_faults(market, priced=not faults)
    faults += [*_bid_faults(market), *_imbalance_faults(market), *resource_faults(market)]
    return [*faults, *_transmission_faults(market)]


def _tbm_label_faults(market: BalancingMarket) -> list[Fault]:
    """Check arrays, dimensions and labels of the TBM's prices and limits."""
    wanted = {FEEDER: market.feeder_names, DIRECTION: pd.Index(DIRECTIONS), PERIOD: market.periods}
    faults = []
    every = (FEEDER, DIRECTION, PERIOD)
    arrays = {"tbm_price": (DIRECTION, PERIOD), "tbm_limit": every}
    if "exchange_price" in market.tbm:
        arrays["exchange_price"] = every
    for name, dims in arrays.items():
        if name not in market.tbm or set(market.tbm[name].dims) != set(dims):
            found = f"dims {tuple(market.tbm[name].dims)}" if name in market.tbm else "no such array"
            maker = "market.with_exchange_price" if name == "exchange_price" else "tbm_of"
            faults.append(Fault(name, found, f"dims {dims}", f"Make it with {maker}."))
            continue
        for dim in dims:
            index = market.tbm[name].indexes.get(dim)
            if index is None or len(index) != len(wanted[dim]) or set(index) != set(wanted[dim]):
                found = "no labels" if index is None else some_labels(list(index)) or "none"
                expected = f"the {len(wanted[dim])} labels of the market: {some_labels(list(wanted[dim]))}"
                faults.append(Fault(f"{name}.{dim}", found, expected, "Give one value for every label."))
    return faults


def _rule_faults(market: BalancingMarket, *, priced: bool) -> list[Fault]:
    rules, tbm = market.rules, market.tbm
    faults: list[Fault] = []
    if not rules.price_floor < rules.price_cap:
        found = f"{rules.price_floor} and {rules.price_cap}"
        faults.append(Fault("rules.price_floor, price_cap", found, "floor < cap", "Raise the cap."))
    offers = market.transmission.bids
    dear = [np.array([rules.price_cap, rules.price_floor]), market.bids.data.cost.values]
    dear += [] if offers is None else [offers.data.price.values, offers.data.cost.values]
    dear += [tbm[name].values for name in ("tbm_price", "exchange_price") if name in tbm] if priced else []
    # a negative price is as dear: it is paid for taking a surplus
    highest = float(np.nanmax(np.abs(np.concatenate([values.ravel() for values in dear]))))
    if not np.isfinite(rules.value_of_lost_load) or rules.value_of_lost_load <= highest:
        expected = f"more than every price and cost, negative ones too ({highest} EUR/MWh)"
        remedy = "Raise it: otherwise shedding load or spilling is cheaper than balancing."
        faults.append(Fault("rules.value_of_lost_load", str(rules.value_of_lost_load), expected, remedy))
    if priced:
        faults += _tbm_value_faults(tbm)
    price = market.bids.data.price
    outside = (price > rules.price_cap) | (price < rules.price_floor)
    expected = f"within [{rules.price_floor}, {rules.price_cap}] EUR/MWh"
    faults += fault_where(outside, price, name="bids.price", expected=expected, remedy="Change the bid or the rules.")
    return faults


def _tbm_value_faults(tbm: xr.Dataset) -> list[Fault]:
    faults: list[Fault] = []
    for name in ("tbm_price", "exchange_price"):
        if name not in tbm:
            continue
        price, expected, remedy = tbm[name], "a number in EUR/MWh", "Give a price for every period."
        faults += fault_where(~(abs(price) < np.inf), price, name=name, expected=expected, remedy=remedy)
        up, down = (price.sel({DIRECTION: d.value}, drop=True) for d in Direction)
        remedy = "A TBM that buys dearer than it sells is an unlimited gain."
        faults += fault_where(up < down, up, name=name, expected="up ≥ down", remedy=remedy)
    remedy = "Give the most that a feeder may take or deliver; infinite where there is no limit."
    missing = ~(tbm.tbm_limit >= 0)
    return faults + fault_where(missing, tbm.tbm_limit, name="tbm_limit", expected="≥ 0 MW", remedy=remedy)


def _period_fault(name: str, index: pd.Index, market: BalancingMarket) -> list[Fault]:
    if index.equals(market.feeders.data.indexes[PERIOD]):
        return []
    found = f"{len(index)} periods from {index[0]}" if len(index) else "none"
    expected = f"the {len(market.periods)} periods of the feeders from {market.periods[0]}"
    return [Fault(f"{name}.period", found, expected, "Use the same snapshots everywhere.")]


def _bid_faults(market: BalancingMarket) -> list[Fault]:
    data, nodes = market.bids.data, market.feeders.data.indexes[BUS]
    strange = sorted(set(data.bid_node.values) - set(nodes))
    faults = _period_fault("bids", data.indexes[PERIOD], market)
    if strange:
        remedy = "Correct the feeder or the bus of these bids."
        faults.append(Fault("bids.bus", some_labels(strange), "a bus of a feeder of the market", remedy))
    return faults


def _imbalance_faults(market: BalancingMarket) -> list[Fault]:
    array, nodes = market.imbalance, market.feeders.data.indexes[BUS]
    if set(array.dims) != {BUS, PERIOD} or not set(array.dims) <= set(array.indexes):
        return [Fault("imbalance", f"dims {tuple(array.dims)}", f"labelled dims {(BUS, PERIOD)}", "Use imbalance_of.")]
    faults = _period_fault("imbalance", array.indexes[PERIOD], market)
    if not array.indexes[BUS].equals(nodes):
        apart = list(nodes.symmetric_difference(array.indexes[BUS])) or ["another order"]
        faults.append(
            Fault("imbalance.bus", some_labels(apart), "the buses of the feeders, in order", "Use imbalance_of.")
        )
    return faults + _missing(array, "imbalance")


def _missing(array: xr.DataArray, name: str) -> list[Fault]:
    gone = ~(abs(array) < np.inf)
    return fault_where(gone, array, name=name, expected="a number in MW", remedy="Fill it.")


def _transmission_faults(market: BalancingMarket) -> list[Fault]:
    side = market.transmission
    buses = {TRANSMISSION} if side.grid is None else set(side.grid.data.indexes[BUS])
    faults, strange = [], []
    if side.imbalance is not None:
        if set(side.imbalance.dims) != {BUS, PERIOD}:
            found, expected = f"dims {tuple(side.imbalance.dims)}", f"dims {(BUS, PERIOD)}"
            return [Fault("transmission.imbalance", found, expected, "Select or broadcast the other dimensions.")]
        strange += sorted(set(side.imbalance.indexes[BUS]) - buses)
        faults += _period_fault("transmission.imbalance", side.imbalance.indexes[PERIOD], market)
        faults += _missing(side.imbalance, "transmission.imbalance")
    if side.bids is not None:
        if not side.bids.is_divisible:
            remedy = "Drop the column: the TSO's market takes any part of a bid."
            faults.append(Fault("transmission.bids.minimum", "a minimum volume", "none", remedy))
        strange += sorted(set(side.bids.data.bid_bus.values) - buses)
        faults += _period_fault("transmission.bids", side.bids.data.indexes[PERIOD], market)
    if side.grid is not None:
        hung = dict(side.interface or {})
        strange += sorted({bus for bus in hung.values() if bus not in buses})
        faults += _grid_faults(market, side, hung)
    if strange:
        expected = "a bus of the transmission grid" if side.grid is not None else f"the one bus {TRANSMISSION!r}"
        faults.append(Fault("transmission", some_labels(strange), expected, "Correct it."))
    return faults


def _grid_faults(market: BalancingMarket, side: Transmission, hung: dict[str, str]) -> list[Fault]:
    """Check what a transmission grid needs besides: bids, interfaces, periods, a balanced schedule."""
    if side.grid is None:
        return []
    faults: list[Fault] = []
    if side.bids is None:
        remedy = "Give the bids of the providers in the transmission grid."
        faults.append(Fault("transmission.bids", "none", "bids where a grid is given", remedy))
    missing = [name for name in market.feeder_names if name not in hung]
    if missing:
        faults.append(
            Fault("transmission.interface", f"no {some_labels(missing)}", "a bus for every feeder", "Add it.")
        )
    unknown = sorted(set(hung) - set(market.feeder_names))
    if unknown:
        faults.append(
            Fault("transmission.interface", some_labels(unknown), "feeders of the market", "Correct the name.")
        )
    data = side.grid.data
    faults += _period_fault("transmission.grid", data.indexes[PERIOD], market)
    schedule, size = data.p_scheduled.sum(BUS), np.abs(data.p_scheduled).sum(BUS)
    unbalanced = np.abs(schedule) > 1e-6 * np.maximum(size, 1.0)
    remedy = "Set the generators' p_set so that it meets the load; the imbalance is given apart."
    return faults + fault_where(unbalanced, schedule, name="grid.p_scheduled", expected="a sum of 0 MW", remedy=remedy)
