"""What each DSO brings to the TSO's market: price blocks at its interface, and what it takes from the TBM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BID, DIRECTION, FEEDER, PERIOD, Direction, bid_label
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, Labelled, bare, freeze, join_flat
from hiermarket.stages.forwarding_methods import OfferCurve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.dso_clearing import DsoClearing

#: Who offers the steps of a curve, and where.
DSO, INTERFACE = "DSO", "interface"

#: Arrays of the bids.
OFFERED = ("forwarded", "forwarded_undo", "forward_price", "interface_factor")


@dataclass(frozen=True, slots=True, repr=False)
class InterfaceOffers(Labelled):
    """What the DSOs bring to the TSO's market; holds no grid, and joins with that of other feeders.

    Arrays: ``forwarded, forwarded_undo`` [MW], ``forward_price`` [EUR/MWh] and
    ``interface_factor`` (bid), with the label coordinates of the bids, and ``tbm_volume``
    [MW] (feeder, direction); each by period.
    """

    @property
    def exchange(self) -> xr.DataArray:
        """g_up − g_down (feeder, period) [MW]: what each DSO takes from the TBM, 0 without a clearing."""
        volume = bare(self.flat["tbm_volume"])
        up, down = (volume.sel({DIRECTION: d.value}, drop=True) for d in Direction)
        return (up - down).fillna(0.0).transpose(FEEDER, PERIOD)

    @property
    def sign(self) -> xr.DataArray:
        """σ (bid): +1 for up, −1 for down."""
        up = self.flat["bid_direction"].values == Direction.UP.value
        return xr.DataArray(np.where(up, 1.0, -1.0), dims=BID, coords={BID: self.flat.indexes[BID]})


def interface_offers(clearing: DsoClearing, forwarded: Forwarded | None = None) -> InterfaceOffers:
    """Collect what the DSOs bring to the TSO's market.

    Parameters
    ----------
    clearing : DsoClearing
        The cleared distribution markets: what they take from the TBM.
    forwarded : Forwarded, optional
        The volumes that they forward; none by default.

    Returns
    -------
    InterfaceOffers
        Of the feeders of the clearing.
    """
    price = bare(clearing.flat["price"])
    if forwarded is not None and isinstance(forwarded.method, OfferCurve):
        return _of_curves(clearing, forwarded)
    if forwarded is None:
        nothing = xr.zeros_like(price)
        offered = dict(zip(OFFERED, (nothing, nothing, price, xr.ones_like(price)), strict=True))
    else:
        offered = {name: bare(forwarded.flat[name]) for name in OFFERED}
    flat = xr.Dataset({**offered, "tbm_volume": bare(clearing.flat["tbm_volume"])})
    return InterfaceOffers(freeze(describe(flat.assign_coords(clearing.flat[list(BID_COORDS)].coords))))


def _of_curves(clearing: DsoClearing, forwarded: Forwarded) -> InterfaceOffers:
    """Return the steps of the curves as bids of the DSOs at their interfaces, where one MW is one MW."""
    curve = forwarded.flat[["step_volume", "step_price"]].transpose(FEEDER, "step", DIRECTION, PERIOD)
    volume, price = (bare(curve[name]).fillna(0.0).values for name in ("step_volume", "step_price"))
    feeder, number, way = np.nonzero((volume > 0).any(axis=-1))
    names, ways = curve[FEEDER].values[feeder].astype(str), curve[DIRECTION].values[way].astype(str)
    steps = curve["step"].values[number].astype(int)
    labels = [bid_label(f, DSO, INTERFACE, k, d) for f, k, d in zip(names, steps, ways, strict=True)]
    coords = {
        BID: np.array(labels, dtype=str), PERIOD: curve.indexes[PERIOD], "bid_feeder": (BID, names),
        "bid_bsp": (BID, np.full(len(labels), DSO)), "bid_bus": (BID, np.full(len(labels), INTERFACE)),
        "bid_block": (BID, steps), "bid_direction": (BID, ways),
    }  # fmt: skip
    offered = volume[feeder, number, way]
    found = {
        "forwarded": offered, "forwarded_undo": np.zeros_like(offered),
        "forward_price": price[feeder, number, way], "interface_factor": np.ones_like(offered),
    }  # fmt: skip
    flat = xr.Dataset({name: ((BID, PERIOD), values) for name, values in found.items()}, coords=coords)
    return InterfaceOffers(freeze(describe(flat.assign(tbm_volume=bare(clearing.flat["tbm_volume"])))))


def exchange_offers(exchange: xr.DataArray) -> InterfaceOffers:
    """Return what feeders without bids bring: their exchange with the TBM.

    Parameters
    ----------
    exchange : DataArray (feeder, period)
        g_up − g_down [MW], < 0 where a feeder delivers; NaN counts as nothing.
    """
    known = bare(exchange).transpose(FEEDER, PERIOD)
    ways = pd.Index([d.value for d in Direction], name=DIRECTION)
    volume = xr.concat([known.clip(min=0.0), -known.clip(max=0.0)], dim=ways)
    periods = known.indexes[PERIOD]
    empty = xr.DataArray(np.zeros((0, len(periods))), dims=(BID, PERIOD), coords={BID: [], PERIOD: periods})
    labels = {name: (BID, np.array([], dtype=int if name == "bid_block" else "<U1")) for name in BID_COORDS}
    flat = xr.Dataset({**dict.fromkeys(OFFERED, empty), "tbm_volume": volume})
    return InterfaceOffers(freeze(describe(flat.assign_coords(labels))))


def join_offers(parts: Sequence[InterfaceOffers]) -> InterfaceOffers:
    """Put the offers of different feeders together.

    Parameters
    ----------
    parts : sequence of InterfaceOffers
        Each of other feeders, with the same periods.
    """
    return parts[0] if len(parts) == 1 else InterfaceOffers(freeze(join_flat([part.flat for part in parts])))
