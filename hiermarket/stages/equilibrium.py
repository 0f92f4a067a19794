"""Several strategic BSPs: offers at which none can gain more than ε, found by diagonalisation and verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import Fault, some_labels
from hiermarket.labels import BID, BSP, DIRECTION, FEEDER, PERIOD
from hiermarket.network.losses import LinDistFlow
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, Labelled, bare, direction_sign, freeze, labels_where, raise_together
from hiermarket.stages.bidding import require_leader_known
from hiermarket.stages.decides import PricesOnly
from hiermarket.stages.diagonalisation import Ending, Game, GaussSeidel, Method, Walk, walk
from hiermarket.stages.dso_clearing import DsoClearing, clear_dso
from hiermarket.stages.paid_prices import as_cleared, earned
from hiermarket.stages.resource_safety import held_by_resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hiermarket.bilevel.certificate import Certificate
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.decides import Decides

    Floats = NDArray[np.float64]

#: Where the rounds of a feeder and period did not end because nobody moved.
WORDS = {Ending.CYCLE: "offers came round in a cycle", Ending.ROUNDS: "rounds were exhausted"}


@dataclass(frozen=True, slots=True)
class Equilibrium(Labelled):
    """The offers of several strategic BSPs, and the proof of what each could still gain.

    Arrays: ``offer_price, offer_volume`` (bid, period), ``regret, best_profit, cleared_profit`` (bsp),
    ``ending`` (feeder, period); units as in the nomenclature.

    Attributes
    ----------
    market : BalancingMarket
        The market with the offered prices and volumes: what later stages take.
    clearing : DsoClearing
        Those offers cleared by the tie rule.
    truthful : DsoClearing
        The clearing with the strategic BSPs at their costs.
    certificates : mapping bsp → Certificate
        Of the best response of every BSP to the final offers.
    is_equilibrium : bool
        Whether no BSP can gain more than ε, and every certificate holds.
    reason : str
        Why it is one, or why it is not said to be one.
    rounds : int
        Of all starts together.
    starts : int
        The one from the market's prices, and random ones.
    problems : int
        Bilevel problems that were solved.
    price_of_anarchy : float
        True cost of this clearing by that of the truthful one, lost load included; NaN where
        the latter is not positive.
    payment_ratio : float
        Payments to bids and to the TBM by those of the truthful clearing; NaN likewise.
    """

    market: BalancingMarket
    clearing: DsoClearing
    truthful: DsoClearing
    certificates: Mapping[str, Certificate]
    is_equilibrium: bool
    reason: str
    rounds: int
    starts: int
    problems: int
    price_of_anarchy: float
    payment_ratio: float


def find_equilibrium(
    market: BalancingMarket,
    *,
    decides: Decides | None = None,
    method: Method | None = None,
    bsps: Sequence[str] | None = None,
    grid: LinDistFlow | None = None,
    solver: SolverOptions | None = None,
) -> Equilibrium:
    """Let BSPs answer one another's offers until nobody gains, and verify what each could still gain.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids and rules. The first start is from the prices of its bids, which
        those who are not strategic keep.
    decides : PricesOnly or PricesAndVolumes, optional
        What the strategic BSPs decide; prices only by default.
    method : GaussSeidel or Jacobi, optional
        One after the other (default), or all at once; with tolerance ε, damping, restarts.
    bsps : sequence of str, optional
        Who is strategic; all by default.
    grid : LinDistFlow, optional
        Loss passes and rating polygon; two linearised loss passes by default.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    Equilibrium
        The offers with the smallest regret that were found, whether or not they are an
        equilibrium: `Equilibrium.is_equilibrium` and `Equilibrium.reason` say it.

    Raises
    ------
    DataError
        When there is no such BSP, none at all, one twice, or an order names others.
    ModelError
        As `bid_strategically` does.
    SolveError
        With feeder and period, when a clearing or a best response has no optimum.

    Notes
    -----
    Equations (22)–(24) of docs/model.md. The rounds only find offers. What is said about
    them rests on the last step: every BSP's problem (10), a bilevel optimum with a certificate,
    against the final offers of the others, compared with what the clearing by the tie rule pays.
    An optimum counts ties in the BSP's favour, so that a regret is never too small for them. With
    losses it is found with those linearised at its own result, which differ from those of the
    clearing in second order.

    Examples
    --------
    >>> import hiermarket as hm
    >>> found = hm.find_equilibrium(hm.load_case("two_bus"), grid=hm.LinDistFlow(loss_passes=0))
    >>> found.is_equilibrium
    True
    """
    method, grid, decides = method or GaussSeidel(), grid or LinDistFlow(), decides or PricesOnly()
    names = list(market.bids.bsps if bsps is None else bsps)
    _require_names(names)
    for bsp in names:
        require_leader_known(market, bsp, decides)
    _require_order(method, names)
    game, data = Game(market, names, decides, grid=grid, solver=solver), market.bids.data
    strategic = bare(data.bid_bsp).isin(names)
    truthful = clear_dso(
        market.with_bids(data.assign(price=data.price.where(~strategic, data.cost))), grid=grid, solver=solver
    ).require()
    rng = np.random.default_rng(method.seed)
    rounds, best, smallest = 0, None, np.inf
    for starts in range(1, method.restarts + 2):
        start = game.as_given
        if starts > 1:
            start[0] = _random(market, strategic, rng)
        found = walk(game, start, method)
        rounds += found.rounds
        regret = _regret(game, found.offers)
        if best is None or regret.max(initial=0.0) < smallest:
            best, smallest = found, float(regret.max(initial=0.0))
        if smallest <= method.tolerance:
            break
    assert best is not None  # there is at least one start
    return _result(game, best, method, truthful, (rounds, starts))


def _result(game: Game, found: Walk, method: Method, truthful: DsoClearing, count: tuple[int, int]) -> Equilibrium:
    """Verify the offers of a walk, and put the result together."""
    market, offers, names = game.at(found.offers), found.offers, list(game.bsps)
    clearing = clear_dso(market, grid=game.grid, solver=game.solver).require()
    regret = _regret(game, offers)
    best = np.array([game.optimum(bsp, offers).sum() for bsp in names])
    certificates = {bsp: game.best(bsp, offers).answer.certificate for bsp in names}
    failed = [bsp for bsp, certificate in certificates.items() if not certificate.ok]
    holds = not failed and bool((regret <= method.tolerance).all())
    cost, payment = (_money(market, clearing, of_bids) for of_bids in _of_bids(market, clearing))
    cost_before, payment_before = (_money(market, truthful, of_bids) for of_bids in _of_bids(market, truthful))
    over_bsps = {BSP: names}
    flat = xr.Dataset(
        {
            "offer_price": ((BID, PERIOD), offers[0]),
            "offer_volume": ((BID, PERIOD), offers[1]),
            "regret": (BSP, regret),
            "best_profit": (BSP, best),
            "cleared_profit": (BSP, game.cleared(offers).sum(axis=(1, 2))),
            "ending": found.ending,
        },
        coords={**market.bids.data[list(BID_COORDS)].coords, **over_bsps, PERIOD: market.periods},
    )
    return Equilibrium(
        flat=freeze(describe(flat)),
        market=market,
        clearing=clearing,
        truthful=truthful,
        certificates=certificates,
        is_equilibrium=holds,
        reason=_reason(found, dict(zip(names, regret, strict=True)), method, failed),
        rounds=count[0],
        starts=count[1],
        problems=game.problems,
        price_of_anarchy=_ratio(cost, cost_before),
        payment_ratio=_ratio(payment, payment_before),
    )


def _regret(game: Game, offers: Floats) -> Floats:
    """Return the regret of every BSP over all feeders and periods, (bsp) [EUR]."""
    apart = game.regrets(offers)
    if not bool(held_by_resources(game.market).any()):
        # feeders and periods are problems of their own: what one seems to lose hides nothing of another
        apart = apart.clip(min=0.0)
    total: Floats = apart.sum(axis=(1, 2))
    return total


def _of_bids(market: BalancingMarket, clearing: DsoClearing) -> tuple[xr.DataArray, xr.DataArray]:
    """Return what every bid truly costs, and what it is paid, (bid, period) [EUR/h]."""
    flat = clearing.flat
    spent = bare(market.bids.sign) * bare(market.bids.data.cost) * bare(flat.activation)
    return spent, earned(as_cleared(market, flat), flat)


def _money(market: BalancingMarket, clearing: DsoClearing, of_bids: xr.DataArray) -> float:
    """Return Δ (Σ of bids + Σ σ π^T g + VOLL Σ (s + z)) of a clearing [EUR]."""
    flat, duration = clearing.flat, bare(market.duration)
    of_tbm = (direction_sign() * market.exchange_price * bare(flat.tbm_volume)).sum([FEEDER, DIRECTION])
    lost = sum(bare(array).fillna(0.0).sum("bus") for array in clearing.recourse.data_vars.values())
    return float((duration * (of_bids.sum(BID) + of_tbm + market.rules.value_of_lost_load * lost)).sum())


def _ratio(after: float, before: float) -> float:
    # (24)  C(equilibrium) / C(truthful), where C(truthful) > 0                              [1]
    return after / before if before > 0 else np.nan


def _random(market: BalancingMarket, strategic: xr.DataArray, rng: np.random.Generator) -> Floats:
    """Return offers between cost and cap (up), or floor and cost (down); the others' as they are."""
    data, rules = market.bids.data, market.rules
    sign = bare(market.bids.sign)
    end = sign.copy(data=np.where(sign.values > 0, rules.price_cap, rules.price_floor))
    cost, price = bare(data.cost), bare(data.price)
    drawn = cost + (end - cost) * cost.copy(data=rng.uniform(size=cost.shape))
    drawn = drawn.clip(rules.price_floor, rules.price_cap)
    offers: Floats = drawn.where(strategic, price).transpose(BID, PERIOD).values
    return offers


def _reason(found: Walk, regret: Mapping[str, float], method: Method, failed: Sequence[str]) -> str:
    """Say why these offers are an equilibrium, or why they are not called one."""
    bound = f"ε = {method.tolerance:g} EUR"
    if failed:
        return f"The certificate of the best response does not hold for {some_labels(failed)}."
    worst = max(regret, key=lambda bsp: regret[bsp])
    if regret[worst] <= method.tolerance:
        return f"No BSP can gain more than {regret[worst]:.3g} EUR; {bound}."
    said = f"{worst} could gain {regret[worst]:.4g} EUR, more than {bound}"
    for ending, words in WORDS.items():
        here = found.ending == list(Ending).index(ending)
        if bool(here.any()):
            return f"{said}: {words} at {some_labels(labels_where(here))}."
    return f"{said}, but no offer was found that the tie rule clears at a gain."


def _require_names(names: Sequence[str]) -> None:
    """Refuse nobody, and a BSP that is named twice."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice or not names:
        found = f"{some_labels(twice)} more than once" if twice else "nobody"
        raise_together([Fault("bsps", found, "each strategic BSP once", "Leave it out for all BSPs.")])


def _require_order(method: Method, names: Sequence[str]) -> None:
    if isinstance(method, GaussSeidel) and method.order and sorted(method.order) != sorted(names):
        expected = f"each of {some_labels(names)} once"
        raise_together([Fault("method.GaussSeidel.order", repr(method.order), expected, "Name all of them.")])
