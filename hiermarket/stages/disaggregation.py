"""After the TSO's clearing: what every bid does, and what the grids make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.labels import BID, DIRECTION, FEEDER, Direction
from hiermarket.market.rules import Pricing
from hiermarket.network.linear_flow import eliminate
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze
from hiermarket.solving.blocks import Work
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.ac_check import ac_state, checked, injections
from hiermarket.stages.curve_activation import curve_changes
from hiermarket.stages.forwarding_methods import OfferCurve
from hiermarket.stages.interface_balance import bid_factors

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.capability import Forwarded
    from hiermarket.stages.dso_clearing import DsoClearing
    from hiermarket.stages.tso_clearing import TsoClearing


@dataclass(frozen=True, slots=True, repr=False)
class Disaggregation(Labelled):
    """What every local bid does in the end, checked by AC power flow.

    Arrays: ``change, change_price, final_activation`` (bid), ``delivered, cleared_delivery`` (feeder) and the
    AC check ``ac_voltage, undervoltage, overvoltage, overload`` (bus), ``ac_loss,
    ac_mismatch, ac_converged`` (feeder), each by period; units as in the nomenclature.

    Attributes
    ----------
    work : Work
        LPs solved where steps of a curve were turned into changes of bids, and cases without.
    """

    work: Work


def disaggregate(
    market: BalancingMarket,
    clearing: DsoClearing,
    forwarded: Forwarded | None,
    cleared: TsoClearing,
    *,
    solver: SolverOptions | None = None,
) -> Disaggregation:
    """Turn the TSO's clearing into activations of the local bids and check the grids.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance.
    clearing : DsoClearing
        Activations of stage 1.
    forwarded : Forwarded or None
        What the DSOs have forwarded; None for nothing.
    cleared : TsoClearing
        Changes that the TSO has cleared, or deliveries at the interfaces where curves were
        forwarded.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    Disaggregation
        Final activations [MW], and by AC power flow: voltages, violations, and what the
        interface delivers beside what was cleared. NaN without a clearing of stage 1; a
        period without one of the TSO changes nothing.
    """
    before = bare(clearing.flat.activation).fillna(0.0)
    work = Work()
    if forwarded is not None and isinstance(forwarded.method, OfferCurve):
        change, price, work = curve_changes(market, clearing, forwarded, cleared, solver or SolverOptions())
    else:
        change, price = (array.sel({BID: before.indexes[BID]}) for array in _changes(cleared))
    price = _by_rule(market, clearing, cleared, price)
    after = before + change.fillna(0.0)
    recourse = clearing.beyond_bids.fillna(0.0)
    state = ac_state(market, *injections(market, after, recourse))
    up, down = (bare(clearing.flat.tbm_volume.sel({DIRECTION: d.value}, drop=True)) for d in Direction)
    imported = clearing.scheduled_import + up - down
    # stage 1 has checked its own state by AC power flow; without a clearing there is none
    first = imported + bare(clearing.flat.ac_mismatch)
    if bool((clearing.flat.status != 0).any()):
        first = first.fillna(bare(ac_state(market, *injections(market, before, recourse)).p_interface))
    delivered = first - bare(state.p_interface)
    planned = imported - bare(cleared.flat.cleared_delivery)
    flat = xr.Dataset(
        {
            "change": change,
            "change_price": price,
            "final_activation": after.where(clearing.flat.activation.notnull()),
            "delivered": delivered,
            "cleared_delivery": bare(cleared.flat.cleared_delivery),
            **checked(state, planned),
        }
    )
    coords = {
        **market.bids.data[list(BID_COORDS)].coords,
        **market.feeders.data[list(BUS_COORDS)].coords,
    }
    return Disaggregation(flat=freeze(describe(flat.assign_coords(coords))), work=work)


def _changes(cleared: TsoClearing) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the change of every bid [MW] and what one MWh of it is paid [EUR/MWh], of bids forwarded singly."""
    flat = cleared.flat
    hung = xr.DataArray(flat["bid_feeder"].values, dims=BID, coords={BID: flat.indexes[BID]})
    # λ^T (φ_1 + τ φ_2): one MW of the bid is so many at the interface                       [EUR/MWh]
    price = bare(flat["interface_price"]).sel({FEEDER: hung}).drop_vars(FEEDER) * bare(flat["interface_factor"])
    return bare(flat["change"]), price


def _by_rule(market: BalancingMarket, clearing: DsoClearing, cleared: TsoClearing, nodal: xr.DataArray) -> xr.DataArray:
    """Return what one MWh of every bid's change is paid under the pricing rule [EUR/MWh]; a repair is paid as bid."""
    own, price = bare(clearing.flat["price"]).sel({BID: nodal.indexes[BID]}), nodal
    if market.rules.pricing is Pricing.PAY_AS_BID:
        return own
    if market.rules.pricing is Pricing.UNIFORM:
        # λ^U (φ_1 + τ φ_2): one price for what arrives at the interface                     [EUR/MWh]
        grid = eliminate(market.feeders, clearing.losses)
        price = bare(cleared.flat["uniform_price"]) * bid_factors(market, grid.factors())
    if "repaired" not in cleared.flat:
        return price
    hung = xr.DataArray(market.bids.data["bid_feeder"].values, dims=BID, coords={BID: market.bids.data.indexes[BID]})
    repaired = bare(cleared.flat["repaired"]).sel({FEEDER: hung}).drop_vars(FEEDER)
    return price.where(~repaired, own)
