"""What a coordination scheme has made of a market: the same arrays, whichever scheme it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.labels import DIRECTION, Direction
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze
from hiermarket.stages.clearing_model import RECOURSE, public

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.bids import Bids
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.disaggregation import Disaggregation
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.settlement import Settlement
    from hiermarket.stages.tso_clearing import TsoClearing

#: Arrays of the feeders' own markets, of the transmission grid, and of the final state by AC power flow.
OF_FEEDERS = ("activation", "nodal_price", "reactive_price", *(public(name) for name in RECOURSE))
OF_GRID = ("grid_price", "grid_activation", "grid_unserved", "grid_spilled")
OF_STATE = ("undervoltage", "overvoltage", "overload", "ac_mismatch", "ac_converged")


@dataclass(frozen=True, slots=True, repr=False)
class Coordinated(Labelled):
    """The result of one coordination scheme.

    Arrays: ``activation`` (by the DSO, or in the common market), ``final_activation`` (bid);
    ``nodal_price, reactive_price, unserved, spilled, reactive_shortage, reactive_surplus``
    (bus); ``interface_exchange, interface_price`` (feeder); ``grid_price, grid_unserved,
    grid_spilled`` (grid_bus), ``grid_activation`` (grid_bid); and the final state by AC power
    flow, ``undervoltage, overvoltage, overload`` (bus), ``ac_mismatch, ac_converged`` (feeder);
    each by period, units as in the nomenclature.

    Attributes
    ----------
    market : BalancingMarket
        With the prices that were bid, and the TBM as the DSOs saw it.
    grid_bids : Bids
        The bids of the transmission grid that took part.
    settlement : Settlement
        Who pays whom.
    forwarded : Forwarded or None
        What the DSOs forwarded; None in a scheme that forwards nothing.
    """

    market: BalancingMarket
    grid_bids: Bids
    settlement: Settlement
    forwarded: Forwarded | None


def of_stages(
    market: BalancingMarket,
    clearing: DsoClearing,
    cleared: TsoClearing,
    disaggregation: Disaggregation,
    settlement: Settlement,
    *,
    forwarded: Forwarded | None = None,
) -> Coordinated:
    """Put the stages of a scheme together in which the DSO clears first, and then the TSO."""
    volume = bare(clearing.flat["tbm_volume"])
    up, down = (volume.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    final = disaggregation.flat
    return coordinated(
        market,
        {
            **{name: clearing.flat[name] for name in OF_FEEDERS},
            **{name: final[name] for name in OF_STATE},
            "final_activation": final["final_activation"],
            "interface_exchange": up - down - bare(final["cleared_delivery"]),
            "interface_price": cleared.flat["interface_price"],
            **{name: cleared.flat[name] for name in OF_GRID},
        },
        grid_bids=cleared.grid_bids,
        settlement=settlement,
        forwarded=forwarded,
    )


def coordinated(
    market: BalancingMarket,
    arrays: dict[str, xr.DataArray],
    *,
    grid_bids: Bids,
    settlement: Settlement,
    forwarded: Forwarded | None = None,
) -> Coordinated:
    """Label the arrays of a scheme's result."""
    coords = {**market.bids.data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    flat = xr.Dataset({name: bare(array) for name, array in arrays.items()}).assign_coords(coords)
    return Coordinated(freeze(describe(flat)), market, grid_bids, settlement, forwarded)
