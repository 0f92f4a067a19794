"""A TSO that sets the price of the interface, knowing how the DSOs will answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket import bilevel
from hiermarket.errors import DataError, Fault
from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.network.losses import LinDistFlow
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, Labelled, bare, direction_sign, freeze
from hiermarket.stages.clearing_model import RECOURSE, clearing_cost, clearing_model
from hiermarket.stages.common_clearing import transmission_bids
from hiermarket.stages.dso_clearing import DsoClearing, clear_dso
from hiermarket.stages.interface import interface_offers
from hiermarket.stages.resource_safety import require_convex
from hiermarket.stages.tso_clearing import TsoClearing, clear_offers
from hiermarket.stages.tso_model import OF_GRID_BIDS, add_tso, grid_buses, interface_buses, needs, no_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from hiermarket.bilevel.certificate import Certificate
    from hiermarket.bilevel.mpec import Mpec
    from hiermarket.bilevel.reformulation import Reformulation
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.bids import Bids
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.solving.solver import SolverOptions

#: The leader's price, and the variable that it prices.
PRICE, EXCHANGE = "Interface-price", "Interface-tbm"

#: A difference of volumes below this counts as none [MW].
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True, repr=False)
class InterfacePricing(Labelled):
    """The price of the interface with which a TSO balances at the least cost.

    Arrays: ``interface_price, interface_exchange`` (feeder), ``expected_activation`` (bid) and
    ``grid_activation`` (grid_bid), each by period: the optimum, ties in the TSO's favour.

    Attributes
    ----------
    market : BalancingMarket
        The market in which the TBM's price is the one that is announced: the optimum, or a tick
        beside it, whichever the DSOs' tie rule answers best.
    clearing : DsoClearing
        What the DSOs do at the announced price.
    cleared : TsoClearing
        The TSO's clearing of the exchange that they take.
    grid_bids : Bids
        The bids of the transmission grid that took part.
    certificate : Certificate
        Of the bilevel solution.
    tso_cost : float
        The TSO's optimum: the cost of its bids, less what the DSOs pay it [EUR].
    paid : float
        What the DSOs pay the TSO over the interface [EUR], < 0 if they are paid.
    dso_cost : float
        Cost of the DSOs' bids and lost load, with what they pay [EUR].
    """

    market: BalancingMarket
    clearing: DsoClearing
    cleared: TsoClearing
    grid_bids: Bids
    certificate: Certificate
    tso_cost: float
    paid: float
    dso_cost: float


def price_interface(
    market: BalancingMarket,
    *,
    grid: LinDistFlow | None = None,
    reformulation: Reformulation | None = None,
    tick: float = 0.01,
    solver: SolverOptions | None = None,
) -> InterfacePricing:
    """Find the price of the interface with which the TSO balances at the least cost.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance and rules; the TBM's price plays no part, its limits must be
        infinite.
    grid : LinDistFlow, optional
        Loss passes and rating polygon; two linearised loss passes by default.
    reformulation : Reformulation, optional
        Of the complementarity conditions; `hiermarket.bilevel.Auto` by default.
    tick : float
        The DSOs may be indifferent at the optimum. Where their tie rule then answers otherwise than
        the TSO expects, a price this far beside the optimum is announced [EUR/MWh].
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    InterfacePricing
        One price a period for all feeders, within the floor and the cap of the rules: a DSO
        pays it for what it takes beyond its schedule, and is paid it for what it delivers.

    Raises
    ------
    DataError
        Where the TBM's limits are finite.
    ModelError
        Where the DSO's clearing is not convex: minimum volumes, and storages that would be filled by
        charging and discharging at once.
    SolveError
        When a part of the bilevel problem has no optimum.

    Notes
    -----
    Equations (60)–(62) of docs/model.md. Losses are those of the DSOs' clearing at the TBM's price.

    References
    ----------
    L. Lind, R. Cossent, P. Frías, "TSO–DSO interface flow pricing: a bilevel study on efficient
    coordination", IJEPES 2024, doi 10.1016/j.ijepes.2024.110155.
    """
    import linopy

    if not bool(np.isinf(market.tbm["tbm_limit"]).all()):
        remedy = "Leave the limits out: the price decides what a DSO takes."
        raise DataError([Fault("tbm_limit", "a finite limit", "no limit", remedy)])
    require_convex(market)
    grid = grid or LinDistFlow()
    before = clear_dso(market, grid=grid, solver=solver).require()
    own = transmission_bids(market, before.scheduled_import)
    side = replace(market.tso_side, transmission=replace(market.tso_side.transmission, bids=own))
    with linopy.options as options:
        options.set_value(semantics="v1")
        answer = bilevel.solve(_problem(market, before, side), reformulation, options=solver)
    answer.certificate.require()
    price, exchange = bare(answer[PRICE]), bare(answer[EXCHANGE]).sel({DIRECTION: Direction.UP.value}, drop=True)
    activation, duration = bare(answer["Bid-activation"]), bare(market.duration)
    paid = float((duration * price * exchange).sum())
    lost = sum(bare(answer[name]).fillna(0.0).sum(BUS) for name in RECOURSE)
    local = (bare(market.bids.sign) * bare(market.bids.data.price) * activation).sum(BID)
    flat = xr.Dataset(
        {
            "interface_price": price * xr.ones_like(exchange),
            "interface_exchange": exchange,
            "expected_activation": activation,
            "grid_activation": bare(answer[OF_GRID_BIDS]),
        }
    )
    announced = _announced(market, price, exchange, tick, lambda seen: clear_dso(seen, grid=grid, solver=solver))
    clearing = clear_dso(announced, grid=grid, solver=solver).require()
    return InterfacePricing(
        flat=freeze(describe(flat.assign_coords(market.bids.data[list(BID_COORDS)].coords))),
        market=announced,
        clearing=clearing,
        cleared=clear_offers(announced.tso_side, interface_offers(clearing), solver=solver),
        grid_bids=own,
        certificate=answer.certificate,
        tso_cost=answer.objective,
        paid=paid,
        dso_cost=float((duration * (local + market.rules.value_of_lost_load * lost)).sum()) + paid,
    )


def _problem(market: BalancingMarket, before: DsoClearing, side: TsoSide) -> Mpec:
    """Build (60)–(62): the TSO leads, the DSOs' clearing follows."""
    rules, duration = market.rules, bare(market.duration)
    model = clearing_model(market, before.losses, before.scheduled_import, before.grid)
    exchange = model.variables[EXCHANGE]
    # e is free, and of either sign: it stands in the place of g_up, and g_down is none       [MW]
    free = xr.full_like(exchange.labels, np.inf, dtype=float).where(direction_sign() > 0, 0.0)
    exchange.update(lower=-free, upper=free)
    followers = [model.variables[name] for name in model.variables]
    rows = [model.constraints[name] for name in model.constraints]
    price = model.add_variables(rules.price_floor, rules.price_cap, coords=[market.periods], name=PRICE)
    taken = exchange.sel({DIRECTION: Direction.UP.value}, drop=True)
    # (60)  min Σ_t Δ_t [ Σ σ π a + π^I e + VOLL Σ (s⁺ + s⁻ + z⁺ + z⁻) ]                       [EUR]
    unpriced = _priced(market, xr.zeros_like(duration))
    cost = clearing_cost(model, unpriced, bare(market.bids.data.price)) + ((duration * price) * taken).sum()
    # the TSO's rows hold the exchange; they bind the leader
    hung = interface_buses(side)
    drawn = (1 * taken).groupby(hung.rename("at")).sum().rename(at=BUS).reindex({BUS: grid_buses(side)}).fillna(0)
    need = needs(side, xr.zeros_like(before.scheduled_import)).transpose(BUS, PERIOD)
    own_cost = add_tso(model, side, need, no_blocks(side), drawn=drawn, prefix="Grid")
    mpec = bilevel.kkt(model, bilevel.Follower(variables=followers, constraints=rows, cost=cost))
    # (62)  Σ_f Δ π^I e_f = Σ_f Δ λ_root e_f by stationarity of e, exactly linear by (11)        [EUR]
    paid = bilevel.dual_times_primal(mpec, dual="Interface-balance", primal=taken.sum())
    # (61)  min Σ_t Δ_t [ Σ σ π y + VOLL (s⁺ + s⁻) − π^I Σ_f e_f ]                              [EUR]
    return mpec.minimise(own_cost - paid)


def _announced(
    market: BalancingMarket,
    price: xr.DataArray,
    expected: xr.DataArray,
    tick: float,
    clear: Callable[[BalancingMarket], DsoClearing],
) -> BalancingMarket:
    """Return the market with the price, at or a tick beside the optimum, whose clearing takes what is expected."""
    rules = market.rules
    best, gap = price, xr.full_like(price, np.inf)
    for step in (0.0, tick, -tick):
        candidate = (price + step).clip(rules.price_floor, rules.price_cap)
        volume = bare(clear(_priced(market, candidate)).require().flat["tbm_volume"])
        far = abs((direction_sign() * volume).sum(DIRECTION) - expected).sum(FEEDER)
        better = far < gap - NEGLIGIBLE
        best, gap = candidate.where(better, best), far.where(better, gap)
        if float(gap.max()) <= NEGLIGIBLE:
            break
    return _priced(market, best)


def _priced(market: BalancingMarket, price: xr.DataArray) -> BalancingMarket:
    """Return the market as the DSOs see it: one price for what they take and what they deliver."""
    return market.with_exchange_price(price)
