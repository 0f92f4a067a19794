"""The whole chain: bids → DSO clearing → forwarding → TSO clearing → disaggregation → settlement."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hiermarket.errors import MarketWarning
from hiermarket.network.losses import LinDistFlow
from hiermarket.schema import require_kind
from hiermarket.stages.baseline import Baseline, tbm_alone
from hiermarket.stages.bidding import StrategicBidding, bid_strategically
from hiermarket.stages.capability import Forwarded, forward
from hiermarket.stages.correction import correct
from hiermarket.stages.decides import Decides, PricesOnly
from hiermarket.stages.diagonalisation import GaussSeidel, Method
from hiermarket.stages.disaggregation import Disaggregation, disaggregate
from hiermarket.stages.dso_clearing import DsoClearing, clear_dso
from hiermarket.stages.equilibrium import Equilibrium, find_equilibrium
from hiermarket.stages.forwarding_methods import Corrective, ForwardingMethod, SafeBox
from hiermarket.stages.price_iteration import FixedPoint, PriceIteration, consistent_prices
from hiermarket.stages.settlement import Settlement, settle
from hiermarket.stages.tso_clearing import TsoClearing, clear_tso

if TYPE_CHECKING:
    from collections.abc import Callable

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions


@dataclass(frozen=True, slots=True)
class Truthful:
    """Every BSP bids its marginal cost."""


@dataclass(frozen=True, slots=True)
class AsBid:
    """Every BSP bids the prices that the market's bids hold."""


@dataclass(frozen=True, slots=True)
class OneLeader:
    """One BSP bids strategically, all others as their bids say.

    Parameters
    ----------
    bsp : str
        The leader.
    decides : PricesOnly or PricesAndVolumes
        Prices of its offers, or their volumes too.
    """

    bsp: str
    decides: Decides = field(default_factory=PricesOnly)


@dataclass(frozen=True, slots=True)
class AllStrategic:
    """Every BSP bids strategically: the offers of `find_equilibrium`, from the prices that the market's bids hold.

    Parameters
    ----------
    method : GaussSeidel or Jacobi
        How they are found, and ε.
    decides : PricesOnly or PricesAndVolumes
        Prices of their offers, or their volumes too.
    """

    method: Method = field(default_factory=GaussSeidel)
    decides: Decides = field(default_factory=PricesOnly)


Behaviour = Truthful | AsBid | OneLeader | AllStrategic
#: All of them.
BEHAVIOURS = (Truthful, AsBid, OneLeader, AllStrategic)


@dataclass(frozen=True, slots=True)
class Options:
    """How the chain is computed.

    Parameters
    ----------
    behaviour : Truthful, AsBid, OneLeader or AllStrategic
        How BSPs bid.
    forwarding : ForwardingMethod
        How the DSO finds what it forwards.
    grid : LinDistFlow
        Loss passes and rating polygon.
    exchange_prices : FixedPoint or None
        How the DSOs come to the prices that they count on for energy from and to the TBM in
        stage 1; None: those of the market's TBM.
    solver : SolverOptions or None
        Tolerances and limits.

    Raises
    ------
    DataError
        When an option is a class or a string, and no value of its kind.
    """

    behaviour: Behaviour = field(default_factory=Truthful)
    forwarding: ForwardingMethod = field(default_factory=SafeBox)
    grid: LinDistFlow = field(default_factory=LinDistFlow)
    exchange_prices: FixedPoint | None = None
    solver: SolverOptions | None = None

    def __post_init__(self) -> None:
        require_kind(self.behaviour, BEHAVIOURS, "options.behaviour")
        require_kind(self.grid, (LinDistFlow,), "options.grid")
        if self.exchange_prices is not None:
            require_kind(self.exchange_prices, (FixedPoint,), "options.exchange_prices")


@dataclass(frozen=True, slots=True)
class Chain:
    """The results of every stage of one run.

    Attributes
    ----------
    market : BalancingMarket
        With the prices and volumes that were bid.
    bidding : tuple of StrategicBidding
        The leader's result, one for every part that was computed by itself; empty where
        nobody leads.
    clearing, forwarded, cleared, disaggregation, settlement, baseline
        The stages' results.
    options : Options
        How they were computed.
    equilibrium : Equilibrium or None
        The offers of all BSPs, and whether they are verified to be an equilibrium.
    price_iteration : PriceIteration or None
        How the exchange prices were found, and whether the TSO's clearing pays them.
    """

    market: BalancingMarket
    bidding: tuple[StrategicBidding, ...]
    clearing: DsoClearing
    forwarded: Forwarded
    cleared: TsoClearing
    disaggregation: Disaggregation
    settlement: Settlement
    baseline: Baseline
    options: Options
    equilibrium: Equilibrium | None = None
    price_iteration: PriceIteration | None = None


@dataclass(frozen=True, slots=True)
class LocalStages:
    """The stages that need nothing but the feeder itself: bids, clearing, forwarding."""

    market: BalancingMarket
    bidding: tuple[StrategicBidding, ...]
    clearing: DsoClearing
    forwarded: Forwarded
    equilibrium: Equilibrium | None = None


#: The stages of a run, as they are reported to `progress`.
STAGES = ("bids", "DSO clearing", "forwarding", "TSO clearing", "disaggregation", "settlement", "baseline")


def local_stages(
    market: BalancingMarket, options: Options | None = None, *, progress: Callable[[str], None] | None = None
) -> LocalStages:
    """Run stages 1 and 2: everything that happens before the TSO.

    See `run_chain` for the parameters. A feeder and period without a clearing has NaN and
    its outcome in ``clearing.status``; `common_stages` refuses it.
    """
    options = options or Options()
    tell = progress or _silent
    tell(STAGES[0])
    bidding: tuple[StrategicBidding, ...] = ()
    equilibrium: Equilibrium | None = None
    if isinstance(options.behaviour, OneLeader):
        leader = options.behaviour
        led = bid_strategically(market, leader.bsp, decides=leader.decides, grid=options.grid, solver=options.solver)
        bidding, market, clearing = (led,), led.market, led.clearing
        tell(STAGES[1])
    elif isinstance(options.behaviour, AllStrategic):
        every = options.behaviour
        found = find_equilibrium(
            market, decides=every.decides, method=every.method, grid=options.grid, solver=options.solver
        )
        if not found.is_equilibrium:
            warnings.warn(f"The offers are no verified equilibrium: {found.reason}", MarketWarning, stacklevel=2)
        equilibrium, market, clearing = found, found.market, found.clearing
        tell(STAGES[1])
    else:
        market = market.truthful() if isinstance(options.behaviour, Truthful) else market
        tell(STAGES[1])
        clearing = clear_dso(market, grid=options.grid, solver=options.solver)
    tell(STAGES[2])
    forwarded = forward(market, clearing, method=options.forwarding, solver=options.solver)
    return LocalStages(market, bidding, clearing, forwarded, equilibrium)


def common_stages(
    local: LocalStages, options: Options | None = None, *, progress: Callable[[str], None] | None = None
) -> Chain:
    """Run what comes after the feeders: TSO clearing, disaggregation, settlement, baseline.

    See `run_chain` for the parameters.
    """
    options = options or Options()
    tell = progress or _silent
    market, clearing = local.market, local.clearing.require()
    tell(STAGES[3])
    cleared = _clear_tso(local, options)
    tell(STAGES[4])
    disaggregation = disaggregate(market, clearing, local.forwarded, cleared, solver=options.solver)
    tell(STAGES[5])
    settlement = settle(market, clearing, cleared, disaggregation)
    tell(STAGES[6])
    baseline = tbm_alone(market, grid=options.grid, solver=options.solver)
    return Chain(
        market=market,
        bidding=local.bidding,
        clearing=clearing,
        forwarded=local.forwarded,
        cleared=cleared,
        disaggregation=disaggregation,
        settlement=settlement,
        baseline=baseline,
        options=options,
        equilibrium=local.equilibrium,
    )


def run_chain(
    market: BalancingMarket, options: Options | None = None, *, progress: Callable[[str], None] | None = None
) -> Chain:
    """Run every stage of the hierarchy, one after the other.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, prices.
    options : Options, optional
        Behaviour, forwarding method, grid model.
    progress : callable, optional
        Called with the name of each stage (`STAGES`) before it begins.

    Returns
    -------
    Chain
        All results.

    Raises
    ------
    SolveError
        With the labels of the stage's first feeder and period without an optimum.
    """
    options = options or Options()
    found: PriceIteration | None = None
    if options.exchange_prices is not None:

        def clear_both(priced: BalancingMarket) -> tuple[DsoClearing, TsoClearing]:
            local = local_stages(priced, options, progress=progress)
            return local.clearing.require(), _clear_tso(local, options)

        found = consistent_prices(market, options.exchange_prices, clear_both)
        market = market.with_exchange_price(found.flat["exchange_price"])
        if not found.consistent:
            warnings.warn(f"No consistent exchange prices: {found.reason}", MarketWarning, stacklevel=2)
    local = local_stages(market, options, progress=progress)
    return replace(common_stages(local, options, progress=progress), price_iteration=found)


def _clear_tso(local: LocalStages, options: Options) -> TsoClearing:
    """Clear the TSO's market, and correct it where the forwarding method does."""
    cleared = clear_tso(local.market, local.clearing, local.forwarded, solver=options.solver).require()
    if isinstance(options.forwarding, Corrective):
        cleared = correct(local.market, local.clearing, local.forwarded, cleared, solver=options.solver).require()
    return cleared


def _silent(stage: str) -> None:
    """Tell nobody."""
