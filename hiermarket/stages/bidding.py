"""Stage 1, upper level: a strategic BSP chooses its offer prices against the DSO's clearing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket import bilevel
from hiermarket.errors import Fault, MarketWarning, ModelError
from hiermarket.labels import BID, PERIOD
from hiermarket.market.rules import Pricing
from hiermarket.network.losses import LinDistFlow, linearise
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze, raise_together
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.ac_check import ac_state, injections
from hiermarket.stages.dso_clearing import DsoClearing, clear_dso, per_feeder
from hiermarket.stages.leader_problem import leader_problem
from hiermarket.stages.paid_prices import paid_price
from hiermarket.stages.reactive_support import support_at_buses
from hiermarket.stages.resource_safety import held_by_resources, require_convex

if TYPE_CHECKING:
    from hiermarket.bilevel.certificate import Certificate
    from hiermarket.bilevel.reformulation import Reformulation
    from hiermarket.bilevel.solve import Solution
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LossTerms

#: A volume or price difference below this counts as none [MW, EUR/MWh]: a thousand times
#: the solver's feasibility tolerance.
NEGLIGIBLE = 1e-6

#: Ticks below the paid price of a bid that is accepted whole; one that is accepted in part,
#: and sets the price, gets one.
FIRST_TICKS = 5


@dataclass(frozen=True, slots=True)
class StrategicBidding(Labelled):
    """The offers of one strategic BSP, what it expects, and what the clearing makes of it.

    Arrays: ``offer_price, expected_activation, tie_difference`` (bid), ``expected_price``
    (bus), ``expected_profit, screened`` (feeder), each by period; units as in the nomenclature.

    Attributes
    ----------
    bsp : str
        The leader.
    market : BalancingMarket
        The market with the offers as prices: what later stages take.
    clearing : DsoClearing
        Those offers cleared by the tie rule, losses linearised anew.
    truthful : DsoClearing
        The clearing with the leader at its cost.
    certificate : Certificate
        Of the bilevel solution.
    objective : float
        The leader's optimum, payment (11) less own cost [EUR].
    revenue_gap : float
        Largest difference between the linear payment (11) and Σ σ (λ + τκ) a Δ [EUR].
    """

    bsp: str
    market: BalancingMarket
    clearing: DsoClearing
    truthful: DsoClearing
    certificate: Certificate
    objective: float
    revenue_gap: float


def bid_strategically(
    market: BalancingMarket,
    bsp: str,
    *,
    grid: LinDistFlow | None = None,
    reformulation: Reformulation | None = None,
    relinearise: int = 1,
    tick: float = 0.01,
    solver: SolverOptions | None = None,
) -> StrategicBidding:
    """Find the offer prices with which a BSP earns most, rivals bidding as they do.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids (the rivals' prices, everybody's volumes and costs) and rules.
    bsp : str
        The leader; it may own bids in several feeders.
    grid : LinDistFlow, optional
        Loss passes and rating polygon; two linearised loss passes by default.
    reformulation : Reformulation, optional
        Of the complementarity conditions; `hiermarket.bilevel.Auto` by default.
    relinearise : int
        How often the bilevel problem is solved again with the losses linearised at its
        own result; none are needed without losses.
    tick : float
        A bid accepted in part is offered this much better than the price that it expects
        [EUR/MWh], one accepted whole five times as much, but never below cost, so that
        the clearing by the tie rule accepts them alike; markets round prices to about as
        much. With 0 the offers are those of the optimum itself, and a
        rule that knows no favourites may leave them aside.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    StrategicBidding
        Optimal offers with their certificate, and the clearing of these offers.

    Raises
    ------
    DataError
        When there is no such BSP.
    ModelError
        When bids are not paid nodal prices, and where the DSO's clearing is not convex: minimum volumes,
        and storages that would be filled by charging and discharging at once.
    SolveError
        With feeder and period, when a part of the bilevel problem has no optimum.

    Notes
    -----
    Equations (8), (10) and (11) of docs/model.md. Where several offers are equally good,
    an accepted bid is offered at the price that it is paid and a bid that is too dear at
    its cost; this changes neither activation nor payment.

    References
    ----------
    M. Khojasteh, P. Faria, F. Lezama, Z. Vale, "A hierarchy model to use local resources
    by DSO and TSO in the balancing market", Energy 267, 2023, 126461,
    doi 10.1016/j.energy.2022.126461.
    """
    grid = grid or LinDistFlow()
    require_leader_known(market, bsp)
    own, data = market.bids.of(bsp), market.bids.data
    led = best_response(market, bsp, grid=grid, reformulation=reformulation, relinearise=relinearise, solver=solver)
    truthful, expected, answer, gap = led.truthful, led.values, led.answer, led.revenue_gap
    answer.certificate.require()
    offers = offers_of(market, own, expected, tick)
    with_offers = market.with_bids(data.assign(price=(data.price.dims, offers.transpose(*data.price.dims).values)))
    clearing = clear_dso(with_offers, grid=grid, solver=solver)
    _warn_above_cap(market, own, expected)
    flat = xr.Dataset(
        {
            "offer_price": offers,
            "expected_activation": expected.activation,
            "tie_difference": bare(clearing.flat.activation) - expected.activation,
            "expected_price": expected.nodal_price,
            "expected_profit": profit_of(market, own, expected),
            "screened": led.unlimited,
        }
    )
    coords = {**data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return StrategicBidding(
        flat=freeze(describe(flat.assign_coords(coords))),
        bsp=bsp,
        market=with_offers,
        clearing=clearing,
        truthful=truthful,
        certificate=answer.certificate,
        objective=answer.objective,
        revenue_gap=gap,
    )


def require_leader_known(market: BalancingMarket, bsp: str) -> None:
    """Refuse a leader without bids, and markets whose best offers are not known exactly.

    See `bid_strategically` for what is raised.
    """
    if bsp not in market.bids.bsps:
        known = ", ".join(market.bids.bsps)
        raise_together([Fault("bsp", repr(bsp), f"one of {known}", "Name a BSP that has bids in the market.")])
    if market.rules.pricing is not Pricing.NODAL:
        raise ModelError(
            "The best offers are known for nodal prices only",
            where=f"rules.pricing={market.rules.pricing}",
            remedy="Use Pricing.NODAL, or clear the market with offers as they are (`clear_dso`).",
        )
    require_convex(market)


def best_response(
    market: BalancingMarket,
    bsp: str,
    *,
    grid: LinDistFlow,
    reformulation: Reformulation | None = None,
    relinearise: int = 1,
    solver: SolverOptions | None = None,
) -> Expected:
    """Solve (10) for one BSP; the certificate is in the answer, and is not required to hold.

    See `bid_strategically` for the parameters.
    """
    own, data = market.bids.of(bsp), market.bids.data
    truthful = clear_dso(
        market.with_bids(data.assign(price=data.price.where(~own, data.cost))), grid=grid, solver=solver
    ).require()
    led = _bilevel(market, own, truthful.losses, truthful, reformulation, solver)
    for _ in range(relinearise if grid.loss_passes else 0):
        losses = _losses_at(market, led.values, grid)
        led = _bilevel(market, own, losses, truthful, reformulation, solver)
    return led


def _bilevel(
    market: BalancingMarket,
    own: xr.DataArray,
    losses: LossTerms,
    truthful: DsoClearing,
    reformulation: Reformulation | None,
    solver: SolverOptions | None,
) -> Expected:
    """Solve (10) with the DSO's clearing as the follower."""
    import linopy

    with linopy.options as options:
        options.set_value(semantics="v1")
        problem = leader_problem(market, own, losses, truthful, screening=(solver or SolverOptions()).screening)
        answer = bilevel.solve(problem.mpec, reformulation, options=solver)
    values = problem.read(answer)
    profit = float(profit_of(market, own, values).sum())
    return Expected(values, answer, problem.unlimited, truthful, abs(profit - answer.objective))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a leader expects; made by `best_response`.

    Attributes
    ----------
    values : Dataset
        Of `LeaderProblem.read`.
    answer : Solution
        The bilevel solution.
    unlimited : DataArray (feeder, period)
        Where no limit can count.
    truthful : DsoClearing
        The clearing with the leader at its cost.
    revenue_gap : float
        The check of (11) [EUR].
    """

    values: xr.Dataset
    answer: Solution
    unlimited: xr.DataArray
    truthful: DsoClearing
    revenue_gap: float


def profit_of(market: BalancingMarket, own: xr.DataArray, values: xr.Dataset) -> xr.DataArray:
    """Return payment less own cost of some bids, (feeder, period) [EUR].

    Parameters
    ----------
    market : BalancingMarket
        Bids and rules.
    own : bool DataArray (bid)
        Whose profit.
    values : Dataset
        ``activation (bid, period)``, ``nodal_price, reactive_price (bus, period)``: expected or cleared.
    """
    # (10)  Δ Σ_own (σ (λ + τκ) a − σ c a)                                                [EUR]
    per_bid = bare(own) * _margin(market, values) * bare(values.activation)
    return per_feeder(per_bid, market) * bare(market.duration)


def _margin(market: BalancingMarket, prices: xr.Dataset) -> xr.DataArray:
    """σ (λ + τκ − c) of every bid [EUR/MWh]."""
    return bare(market.bids.sign) * (paid_price(market, prices) - bare(market.bids.data.cost))


def offers_of(
    market: BalancingMarket, own: xr.DataArray, expected: xr.Dataset, tick: float | xr.DataArray
) -> xr.DataArray:
    """Choose, among equally good offers, those that say most.

    Stationarity of a bid leaves its price free on one side: an accepted bid may be
    offered at anything up to what it is paid, a rejected one at anything dearer.

    Parameters
    ----------
    market : BalancingMarket
        Bids and rules.
    own : bool DataArray (bid)
        The leader's bids.
    expected : Dataset
        What it expects.
    tick : float or DataArray (bid, period)
        See `bid_strategically`.

    Returns
    -------
    DataArray (bid, period)
        EUR/MWh, within floor and cap; the rivals' prices as they are.
    """
    data, sign = market.bids.data, bare(market.bids.sign)
    paid = paid_price(market, expected)
    accepted = expected.activation > NEGLIGIBLE
    # withheld on purpose: the bid would be accepted at its cost, and its offer keeps it out
    withheld = ~accepted & (sign * (paid - bare(data.cost)) > NEGLIGIBLE)
    # a bid taken whole goes before the one that sets the price, which is taken in part; none
    # goes below its cost for it
    whole = expected.activation > bare(data.volume) - NEGLIGIBLE
    step = (tick * xr.ones_like(paid)).where(~whole, FIRST_TICKS * tick)
    room = sign * (paid - bare(data.cost))
    step = step.where(room < 0, np.minimum(step, room))
    # a loss taken in part, to move the price, must not become a loss taken whole
    step = step.where((room >= -NEGLIGIBLE) | whole, -tick)
    chosen = (paid - sign * step).where(accepted, expected.offer.where(withheld, bare(data.cost)))
    # what a resource holds together is not paid its own price: its offers are those of the optimum
    chosen = chosen.where(~held_by_resources(market), expected.offer)
    offers = chosen.where(bare(own), bare(data.price)).transpose(BID, PERIOD)
    return offers.clip(market.rules.price_floor, market.rules.price_cap)


def _losses_at(market: BalancingMarket, expected: xr.Dataset, grid: LinDistFlow) -> LossTerms:
    """Linearise the losses at the state that the leader expects."""
    p, q = injections(market, expected.activation, expected)
    linear = expected[["v", "p_flow", "q_flow"]]
    ac = ac_state(market, p, q)
    state = xr.Dataset({name: bare(ac[name]).fillna(bare(linear[name])) for name in linear})
    return linearise(market.feeders, state, grid.losses, support=support_at_buses(market, expected))


def _warn_above_cap(market: BalancingMarket, own: xr.DataArray, expected: xr.Dataset) -> None:
    """Warn where an expected payment is above the cap: a multiplier at an exact kink, or scarcity."""
    paid = paid_price(market, expected)
    above = bare(own) & (paid > market.rules.price_cap + NEGLIGIBLE) & (expected.activation > NEGLIGIBLE)
    if bool(above.any()):
        labels = [str(label) for label in above.indexes[BID][above.any(PERIOD).values]]
        warnings.warn(
            f"The leader is paid more than the price cap at {', '.join(labels[:5])}: local scarcity, "
            "or a price that is not unique; see the clearing's nodal prices.",
            MarketWarning,
            stacklevel=3,
        )
