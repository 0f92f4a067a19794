"""Stage 1, upper level: a strategic BSP chooses its offers against the DSO's clearing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket import bilevel
from hiermarket.errors import Fault, MarketWarning, ModelError, some_labels
from hiermarket.labels import BID, PERIOD
from hiermarket.market.rules import Pricing
from hiermarket.network.losses import LinDistFlow, linearise
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze, raise_together, require_kind
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.ac_check import ac_state, injections
from hiermarket.stages.decides import DECIDES, PricesAndVolumes, PricesOnly
from hiermarket.stages.dso_clearing import DsoClearing, clear_dso
from hiermarket.stages.leader_offers import NEGLIGIBLE, offered, with_offers
from hiermarket.stages.leader_payment import profit_of
from hiermarket.stages.leader_problem import Leader, leader_problem
from hiermarket.stages.paid_prices import paid_price
from hiermarket.stages.reactive_support import support_at_buses
from hiermarket.stages.resource_safety import held_by_resources, require_convex

if TYPE_CHECKING:
    from hiermarket.bilevel.certificate import Certificate
    from hiermarket.bilevel.reformulation import Reformulation
    from hiermarket.bilevel.solve import Solution
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LossTerms
    from hiermarket.stages.decides import Decides


@dataclass(frozen=True, slots=True, repr=False)
class StrategicBidding(Labelled):
    """The offers of one strategic BSP, what it expects, and what the clearing makes of it.

    Arrays: ``offer_price, offer_volume, expected_activation, tie_difference`` (bid), ``expected_price``
    (bus), ``expected_profit, screened`` (feeder), each by period; units as in the nomenclature.

    Attributes
    ----------
    bsp : str
        The leader.
    market : BalancingMarket
        The market with the offered prices and volumes: what later stages take.
    clearing : DsoClearing
        Those offers cleared by the tie rule, losses linearised anew.
    truthful : DsoClearing
        The clearing with the leader at its cost.
    certificate : Certificate
        Of the bilevel solution.
    objective : float
        The leader's optimum, payment (11) less own cost [EUR].
    revenue_gap : float
        Difference between the linear payment (11), (26), (27) and what prices and volumes give [EUR].
    """

    bsp: str
    market: BalancingMarket
    clearing: DsoClearing
    truthful: DsoClearing
    certificate: Certificate
    objective: float
    revenue_gap: float


def bid_strategically(  # noqa: PLR0913  (the leader, and options that each stand alone)
    market: BalancingMarket,
    bsp: str,
    *,
    decides: Decides | None = None,
    grid: LinDistFlow | None = None,
    reformulation: Reformulation | None = None,
    relinearise: int = 1,
    tick: float = 0.01,
    solver: SolverOptions | None = None,
) -> StrategicBidding:
    """Find the offers with which a BSP earns most, rivals bidding as they do.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids (the rivals' prices, everybody's volumes and costs) and rules.
    bsp : str
        The leader; it may own bids in several feeders.
    decides : PricesOnly or PricesAndVolumes, optional
        Whether it may also offer less than its bids have; prices only by default.
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
        When there is no such BSP, and when ``decides`` is neither of both.
    ModelError
        Where the DSO's clearing is not convex: minimum volumes, and storages that would be filled by
        charging and discharging at once. Where the payment is not linear: volumes that are decided, or offers
        paid as bid, of bids that a resource holds together; both at once; and uniform prices where limits
        can count, or where the leader's energy does not arrive at the interface alike.
    SolveError
        With feeder and period, when a part of the bilevel problem has no optimum.

    Notes
    -----
    Equations (8), (10), (11) and (25)–(27) of docs/model.md. Where several offers are equally good,
    an accepted bid is offered at the price that it is paid and a bid that is too dear at
    its cost; this changes neither activation nor payment. Volumes are whole wherever they are
    cleared as well.

    References
    ----------
    M. Khojasteh, P. Faria, F. Lezama, Z. Vale, "A hierarchy model to use local resources
    by DSO and TSO in the balancing market", Energy 267, 2023, 126461,
    doi 10.1016/j.energy.2022.126461.
    """
    grid, decides = grid or LinDistFlow(), decides or PricesOnly()
    require_leader_known(market, bsp, decides)
    own, data = market.bids.of(bsp), market.bids.data
    led = best_response(
        market, bsp, decides=decides, grid=grid, reformulation=reformulation, relinearise=relinearise, solver=solver
    )
    expected, answer = led.values, led.answer
    answer.certificate.require()
    made = offered(market, own, expected, tick, decides=decides, grid=grid, solver=solver)
    offers = made.market.bids.data
    if not isinstance(decides, PricesAndVolumes):  # whose volumes are withheld for just that
        _warn_above_cap(led.asked, own, expected)
    flat = xr.Dataset(
        {
            "offer_price": bare(offers.price).transpose(BID, PERIOD),
            "offer_volume": bare(offers.volume).transpose(BID, PERIOD),
            "expected_activation": expected.activation,
            "tie_difference": bare(made.clearing.flat.activation) - expected.activation,
            "expected_price": expected.nodal_price,
            "expected_profit": led.profit,
            "screened": led.unlimited,
        }
    )
    coords = {**data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return StrategicBidding(
        flat=freeze(describe(flat.assign_coords(coords))),
        bsp=bsp,
        market=made.market,
        clearing=made.clearing,
        truthful=led.truthful,
        certificate=answer.certificate,
        objective=answer.objective,
        revenue_gap=led.revenue_gap,
    )


def require_leader_known(market: BalancingMarket, bsp: str, decides: Decides) -> None:
    """Refuse a leader without bids, what it cannot decide, and markets in which its best offers are not known exactly.

    See `bid_strategically` for what is raised.
    """
    require_kind(decides, DECIDES, "decides")
    if bsp not in market.bids.bsps:
        known = ", ".join(market.bids.bsps)
        raise_together([Fault("bsp", repr(bsp), f"one of {known}", "Name a BSP that has bids in the market.")])
    require_convex(market)
    as_bid, volumes = market.rules.pricing is Pricing.PAY_AS_BID, isinstance(decides, PricesAndVolumes)
    if as_bid and volumes:
        raise ModelError(
            "Paid as bid, a payment is linear only for given volumes",
            where=f"rules.pricing={market.rules.pricing}, decides={type(decides).__name__}",
            remedy="Use PricesOnly(): withheld volumes lift the prices of others, not what is paid for an offer.",
        )
    if as_bid or volumes:
        _require_free_bids(market, bsp, "Volumes are decided" if volumes else "Paid as bid, offers are made")


def _require_free_bids(market: BalancingMarket, bsp: str, what: str) -> None:
    """Refuse own bids that a resource holds together: the price of one moves all of them."""
    held = held_by_resources(market) & bare(market.bids.of(bsp))
    if bool(held.any()):
        raise ModelError(
            f"{what} bid by bid, and a resource holds these together",
            where=some_labels([str(label) for label in held.indexes[BID][held.values]]),
            remedy="Offer volumes that are safe whatever is activated, market = safe_volumes(market), or use "
            "PricesOnly() and Pricing.NODAL.",
        )


def best_response(
    market: BalancingMarket,
    bsp: str,
    *,
    decides: Decides,
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

    def solved(losses: LossTerms) -> Expected:
        return _bilevel(market, Leader(own, decides), losses, truthful, reformulation, solver)

    led = solved(truthful.losses)
    for _ in range(relinearise if grid.loss_passes else 0):
        led = solved(_losses_at(market, led.values, grid))
    return led


def _bilevel(
    market: BalancingMarket,
    leader: Leader,
    losses: LossTerms,
    truthful: DsoClearing,
    reformulation: Reformulation | None,
    solver: SolverOptions | None,
) -> Expected:
    """Solve (10) with the DSO's clearing as the follower."""
    import linopy

    with linopy.options as options:
        options.set_value(semantics="v1")
        problem = leader_problem(market, leader, losses, truthful, screening=(solver or SolverOptions()).screening)
        answer = bilevel.solve(problem.mpec, reformulation, options=solver)
    values = problem.read(answer)
    price = bare(market.bids.data.price)
    asked = with_offers(market, values.offer.where(leader.own, price), bare(market.bids.data.volume))
    profit = profit_of(asked, leader.own, values)
    gap = abs(float(profit.sum()) - answer.objective)
    return Expected(values, answer, problem.unlimited, truthful, asked, profit, gap)


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
    asked : BalancingMarket
        The market with the prices of the optimum.
    profit : DataArray (feeder, period)
        Payment less own cost, from prices and volumes [EUR].
    revenue_gap : float
        The check of (11) [EUR].
    """

    values: xr.Dataset
    answer: Solution
    unlimited: xr.DataArray
    truthful: DsoClearing
    asked: BalancingMarket
    profit: xr.DataArray
    revenue_gap: float


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
