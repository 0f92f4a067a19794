"""One market over all grids: every bid of feeders and transmission grid in one clearing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.network.linear_flow import eliminate, linear_flow
from hiermarket.network.losses import LinDistFlow, LossTerms, linearise, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze, positions
from hiermarket.solving.blocks import Work
from hiermarket.solving.solver import Outcome, SolverOptions, failure
from hiermarket.stages.ac_check import ac_state, checked, injections, scheduled, state_or_linear
from hiermarket.stages.clearing_model import BALANCES, RECOURSE, public
from hiermarket.stages.common_program import CommonProgram, grid_bid_cost, read_common
from hiermarket.stages.interface_balance import bid_factors, interface_need
from hiermarket.stages.reactive_support import support_at_buses, support_of
from hiermarket.stages.resource_safety import uncoupled
from hiermarket.stages.tso_model import GRID_BUS, OF_GRID_BIDS, grid_buses, interface_buses, needs, tbm_bids

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.bids import Bids
    from hiermarket.market.tso_side import TsoSide

#: A provider without a limit offers so many times what is needed and bid in all.
PLENTY = 10.0


@dataclass(frozen=True, slots=True, repr=False)
class CommonClearing(Labelled):
    """One clearing of all feeders and the transmission grid.

    Arrays: ``price, activation`` (bid), ``nodal_price, reactive_price, voltage, p_flow,
    q_flow, unserved, spilled, reactive_shortage, reactive_surplus`` (bus), ``interface_exchange,
    interface_price`` (feeder), ``grid_price, grid_unserved, grid_spilled`` (grid_bus),
    ``grid_activation`` (grid_bid), ``line_flow`` (line), ``common_cost, grid_status`` and the
    AC check ``ac_voltage, undervoltage, overvoltage, overload, ac_loss, ac_mismatch,
    ac_converged``; all by period, units as in the nomenclature.

    Attributes
    ----------
    losses : LossTerms
        The linearised losses of the last pass.
    scheduled_import : DataArray (feeder, period)
        P^sched of the last pass [MW].
    grid_bids : Bids
        The bids of the transmission grid that took part.
    work : Work
        LPs solved and time inside the solver.
    """

    losses: LossTerms
    scheduled_import: xr.DataArray
    grid_bids: Bids
    work: Work

    def require(self) -> CommonClearing:
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
                raise failure(outcome, what="The common clearing", where=where, status=outcome.value)
        return self


def clear_common(
    market: BalancingMarket,
    *,
    grid: LinDistFlow | None = None,
    losses: LossTerms | None = None,
    solver: SolverOptions | None = None,
) -> CommonClearing:
    """Clear all feeders and the transmission grid in one market.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance and rules of all feeders, and the transmission side.
    grid : LinDistFlow, optional
        Loss passes and rating polygon; two linearised loss passes by default.
    losses : LossTerms, optional
        Linearised losses to use as they are, in one pass, for a comparison with another
        clearing of the same terms; found by the passes of `clear_dso` by default.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    CommonClearing
        Activation by the tie rule, prices of every bus, state and AC check. A period
        without an optimum has NaN values and its outcome in ``grid_status``.

    Notes
    -----
    Equations (53)–(55) of docs/model.md: one linear program a period. No feeder's limit Ḡ of
    the TBM counts, since the TSO itself decides the exchange. Ties: minimum cost, then
    minimum gross activation, then the order of the bids, local ones first.
    """
    market = uncoupled(market, "The common clearing")
    grid, side, plan = grid or LinDistFlow(), market.tso_side, market.feeders.data
    terms = lossless(market.feeders) if losses is None else losses
    alone = linear_flow(market.feeders, lossless(market.feeders), bare(plan.p_scheduled), bare(plan.q_scheduled))
    own = transmission_bids(market, alone.p_interface)
    side = replace(side, transmission=replace(side.transmission, bids=own))
    program = read_common(market, side, grid, solver or SolverOptions())
    passes = grid.loss_passes if losses is None else 0
    # P^sched of a pass with losses is that of the power flow, as in `clear_dso`
    true = bare(scheduled(market).p_interface) if passes or _has_losses(terms) else alone.p_interface
    imports = true if _has_losses(terms) else alone.p_interface
    code, work = program.solve(terms, imports.fillna(0.0))
    for _ in range(passes):
        given = xr.Dataset(support_of(program.solution(), market))
        support = support_at_buses(market, given)
        terms, imports = linearise(market.feeders, _state(program, market), grid.losses, support=support), true
        code, done = program.solve(terms, imports.fillna(0.0))
        work += done
    # without a power flow of the schedule there is no exchange to compare with
    code = np.where(imports.isnull().any(FEEDER).values, list(Outcome).index(Outcome.TROUBLE), code).astype(np.int8)
    flat = _values(program, market, side, imports, code)
    return CommonClearing(freeze(describe(flat)), terms, imports, own, work)


def _has_losses(terms: LossTerms) -> bool:
    return any(bool((term != 0).any()) for term in (terms.constant, terms.by_p, terms.by_q, terms.by_w))


def transmission_bids(market: BalancingMarket, imports: xr.DataArray) -> Bids:
    """Return the transmission bids; one provider at the TBM's prices where none are given.

    Parameters
    ----------
    market : BalancingMarket
        The market.
    imports : DataArray (feeder, period)
        The interface flow of the schedule [MW].
    """
    side = market.tso_side
    linear = eliminate(market.feeders, lossless(market.feeders))
    need = needs(side, interface_need(market, linear, imports))
    offered = np.abs(bid_factors(market, linear.factors())) * bare(market.bids.data["volume"])
    return tbm_bids(side, PLENTY * (float(np.abs(need).sum()) + float(offered.sum()) + 1.0))


def _state(program: CommonProgram, market: BalancingMarket) -> xr.Dataset:
    """Return the AC state of the last pass; the linear one where the power flow has no solution."""
    solved = program.solution()
    recourse = xr.Dataset({public(name): solved[name] for name in RECOURSE} | support_of(solved, market))
    p, q = injections(market, solved["Bid-activation"].fillna(0.0), recourse.fillna(0.0))

    def linear() -> xr.Dataset:
        names = {"v": solved["Bus-v_sq"] ** 0.5, "p_flow": solved["Line-p"], "q_flow": solved["Line-q"]}
        return xr.Dataset(names)

    return state_or_linear(ac_state(market, p, q), linear)


def _values(
    program: CommonProgram, market: BalancingMarket, side: TsoSide, imports: xr.DataArray, code: np.ndarray
) -> xr.Dataset:
    """Read the solved models into arrays under their public names."""
    duration, buses = bare(market.duration), market.feeders.data.indexes[BUS]
    solved, of_grid = program.solution(), program.grid_solution()
    fine = xr.DataArray(code == 0, dims=PERIOD, coords={PERIOD: market.periods})
    dual = {name: program.dual(name) for name in BALANCES if name in program.clearing.model.constraints}
    root_price = dual["Interface-balance"]
    both = [root_price], [xr.zeros_like(root_price)]
    if len(market.feeders.branches):
        both = [root_price, dual["Bus-nodal_balance"]], [xr.zeros_like(root_price), dual["Bus-reactive_balance"]]
    # a price is a dual divided by Δ                                                     [EUR/MWh]
    nodal, reactive = (bare(xr.concat(parts, dim=BUS).sel({BUS: buses}) / duration) for parts in both)
    at_grid = program.grid_dual("Bus-nodal_balance").rename({BUS: GRID_BUS}) / duration
    exchange = solved["Interface-tbm"].sel({DIRECTION: Direction.UP.value}, drop=True)
    hung = positions(grid_buses(side), interface_buses(side).to_numpy())
    price = at_grid.transpose(GRID_BUS, PERIOD).values[hung]
    recourse = {public(name): solved[name].reindex({BUS: buses}) for name in RECOURSE}
    root = bare(market.feeders.data.depth == 0)
    for name in ("reactive_shortage", "reactive_surplus"):
        recourse[name] = recourse[name].where(~root)
    support = support_of(solved, market)
    values = xr.Dataset(
        {
            "activation": solved["Bid-activation"],
            "nodal_price": nodal,
            "reactive_price": reactive,
            "voltage": solved["Bus-v_sq"].clip(min=0.0) ** 0.5,
            "p_flow": solved["Line-p"].reindex({BUS: buses}),
            "q_flow": solved["Line-q"].reindex({BUS: buses}),
            **recourse,
            **support,
            "interface_exchange": exchange,
            "interface_price": exchange.transpose(FEEDER, PERIOD).copy(data=price),
            "grid_price": at_grid,
            "grid_activation": of_grid[OF_GRID_BIDS],
            "grid_unserved": of_grid["Bus-unserved"].rename({BUS: GRID_BUS}),
            "grid_spilled": of_grid["Bus-spilled"].rename({BUS: GRID_BUS}),
            **({"line_flow": of_grid["Line-flow"]} if "Line-flow" in of_grid else {}),
        }
    )
    values = xr.Dataset({name: bare(array) for name, array in values.items()}).where(fine)
    lost = sum(values[public(name)].fillna(0.0).sum(BUS) for name in RECOURSE)
    lost = lost + (values["grid_unserved"] + values["grid_spilled"]).sum(GRID_BUS)
    # (53)  Σ σ π a + Σ σ π y + VOLL Σ (s⁺ + s⁻ + z⁺ + z⁻)                                 [EUR]
    cost = duration * (
        (bare(market.bids.sign) * bare(market.bids.data["price"]) * values["activation"]).sum(BID)
        + grid_bid_cost(side, values["grid_activation"])
        + market.rules.value_of_lost_load * lost
    )
    p, q = injections(market, values["activation"], values[[*recourse, *support]])
    coords = {
        **market.bids.data[list(BID_COORDS)].coords,
        **market.feeders.data[list(BUS_COORDS)].coords,
    }
    named = {
        "price": bare(market.bids.data["price"]),
        "common_cost": cost.where(fine),
        "grid_status": xr.DataArray(code, dims=PERIOD, coords={PERIOD: market.periods}),
        **checked(ac_state(market, p, q), imports + exchange),
    }
    return values.assign(named).assign_coords(coords)
