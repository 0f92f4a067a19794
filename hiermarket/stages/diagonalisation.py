"""Rounds in which BSPs answer one another's offers, block by block (feeder and period), until nobody gains."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import Fault
from hiermarket.labels import BID, FEEDER, PERIOD
from hiermarket.schema import bare, positions, raise_together
from hiermarket.stages.bidding import best_response
from hiermarket.stages.decides import PricesAndVolumes
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.leader_offers import NEGLIGIBLE, is_whole, offers_of, with_offers, withheld
from hiermarket.stages.leader_payment import profit_of
from hiermarket.stages.paid_prices import pays_own_price, worth
from hiermarket.stages.resource_safety import held_by_resources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.losses import LinDistFlow
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.bidding import Expected
    from hiermarket.stages.decides import Decides

    Floats = NDArray[np.float64]

#: Offers that differ by less are the same when a cycle is looked for [EUR/MWh, MW].
SAME = 1e-6

#: Part of a feeder's and period's share of ε for which a BSP moves.
GAIN = 0.1


@dataclass(frozen=True, slots=True)
class _Rounds:
    """How rounds are gone through.

    Parameters
    ----------
    most_rounds : int
        After so many rounds of one start the search gives up.
    tolerance : float
        ε: the most that a BSP may be able to gain at an equilibrium, over all feeders and
        periods [EUR].
    damping : float
        Part of the old offer that a new one keeps, in [0, 1).
    ticks : tuple of float
        By how much a BSP undercuts where a tie would not be decided in its favour [EUR/MWh];
        where nobody gains with one of them any more, the next one is taken.
    restarts : int
        Further starts, from random offers, where no equilibrium was found.
    seed : int
        Of these offers.
    """

    most_rounds: int = 100
    tolerance: float = 0.05
    damping: float = 0.0
    ticks: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)
    restarts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = {
            "most_rounds": (self.most_rounds < 1, "at least 1"),
            "tolerance": (not self.tolerance > 0, "above 0"),
            "damping": (not 0 <= self.damping < 1, "in [0, 1)"),
            "ticks": (not self.ticks or min(self.ticks, default=0) <= 0, "numbers above 0"),
            "restarts": (self.restarts < 0, "at least 0"),
        }
        name = f"method.{type(self).__name__}"
        raise_together(
            [
                Fault(f"{name}.{key}", repr(getattr(self, key)), expected, "Choose such a value.")
                for key, (bad, expected) in wrong.items()
                if bad
            ]
        )


@dataclass(frozen=True, slots=True)
class GaussSeidel(_Rounds):
    """One BSP after the other, each against the newest offers of all others.

    Parameters are those of `Jacobi`, and

    Parameters
    ----------
    order : tuple of str
        The order of the BSPs; that of the bids where it is empty.
    """

    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Jacobi(_Rounds):
    """All BSPs at once, each against the offers of the round before; see `GaussSeidel`."""


Method = GaussSeidel | Jacobi


class Ending(StrEnum):
    """How the rounds of a feeder and period ended."""

    QUIET = "quiet"
    """Nobody found an offer with which it gains."""
    CYCLE = "cycle"
    """Offers came back that had been there before."""
    ROUNDS = "rounds"
    """The last round came first."""


class Game:
    """The market as a game: what each BSP can earn against given offers; equal questions are answered once.

    Offers are arrays (2, bid, period): prices [EUR/MWh], and volumes [MW].
    """

    def __init__(
        self,
        market: BalancingMarket,
        bsps: Sequence[str],
        decides: Decides,
        *,
        grid: LinDistFlow,
        solver: SolverOptions | None,
    ) -> None:
        self.market, self.bsps, self.decides, self.grid, self.solver = market, tuple(bsps), decides, grid, solver
        self.own = {bsp: market.bids.of(bsp) for bsp in bsps}
        self.problems = 0
        self._known: dict[str, tuple[bytes, Expected]] = {}
        self._last: tuple[bytes, Floats] | None = None
        self.owner = positions(market.feeder_names, market.bids.data.bid_feeder.values)

    @property
    def as_given(self) -> Floats:
        """The offers that the market's bids hold."""
        data = self.market.bids.data
        offers: Floats = np.stack([data[name].transpose(BID, PERIOD).values for name in ("price", "volume")])
        return offers

    def at(self, offers: Floats) -> BalancingMarket:
        """Return the market with these offers."""
        return with_offers(self.market, *self._labelled(offers))

    def best(self, bsp: str, offers: Floats) -> Expected:
        """Return the best response of a BSP, with all of its volume at hand, to the offers of all others."""
        rivals = offers[:, ~self.own[bsp].values].tobytes()
        known = self._known.get(bsp)
        if known is None or known[0] != rivals:
            self.problems += 1
            led = best_response(
                self._against(bsp, offers), bsp, decides=self.decides, grid=self.grid, solver=self.solver
            )
            known = (rivals, led)
            self._known[bsp] = known
        return known[1]

    def optimum(self, bsp: str, offers: Floats) -> Floats:
        """Return the profit of the best response, (feeder, period) [EUR]."""
        profit: Floats = self.best(bsp, offers).profit.values
        return profit

    def cleared(self, offers: Floats) -> Floats:
        """Return the profit of every BSP at offers cleared by the tie rule, (bsp, feeder, period) [EUR]."""
        if self._last is None or self._last[0] != offers.tobytes():
            market = self.at(offers)
            flat = clear_dso(market, grid=self.grid, solver=self.solver).require().flat
            profits = np.array([profit_of(market, self.own[bsp], flat).values for bsp in self.bsps])
            self._last = (offers.tobytes(), profits)
        return self._last[1]

    def regrets(self, offers: Floats) -> Floats:
        """Return what every BSP could gain, (bsp, feeder, period) [EUR]: its optimum less what is cleared."""
        # (22)  ρ = optimum of (10) − profit at the offers, by the tie rule                   [EUR]
        return np.array([self.optimum(bsp, offers) for bsp in self.bsps]) - self.cleared(offers)

    def same(self, one: Floats, other: Floats) -> NDArray[np.bool_]:
        """Return (feeder, period): where offers are the same."""
        different = np.zeros((len(self.market.feeder_names), one.shape[-1]), dtype=bool)
        np.logical_or.at(different, self.owner, (np.abs(one - other) > SAME).any(axis=0))
        return ~different

    def answers(self, bsp: str, offers: Floats, ticks: Floats) -> Iterator[Floats]:
        """Yield the offers with a BSP's best response in them: itself, and by ticks (feeder, period) better.

        With whole volumes first, then, where volumes are decided, with those that it expects to sell.
        """
        market, own, expected = self._against(bsp, offers), self.own[bsp], self.best(bsp, offers).values
        nothing = np.zeros_like(ticks)
        for tick in (nothing, ticks):
            yield self._answer(market, own, expected, tick)
        if isinstance(self.decides, PricesAndVolumes):
            for tick, shade in ((nothing, 0.0), (ticks, self.decides.shade)):
                less = withheld(market, own, expected, shade)
                yield self._answer(with_offers(market, bare(market.bids.data.price), less), own, expected, tick)

    def _answer(self, market: BalancingMarket, own: xr.DataArray, expected: xr.Dataset, ticks: Floats) -> Floats:
        data, sign, rules = market.bids.data, bare(market.bids.sign), market.rules
        chosen = offers_of(market, own, expected, bare(data.price).copy(data=ticks[self.owner]))
        # what is taken whole at a profit is offered at its cost: as good, and no tie can take it away
        gains = sign * (worth(market, expected) - bare(data.cost)) > 0
        taken = is_whole(market, expected) & (expected.activation > NEGLIGIBLE)
        at_cost = bare(own) & taken & gains & ~held_by_resources(market) & ~pays_own_price(market, expected)
        chosen = chosen.where(~at_cost, bare(data.cost).clip(rules.price_floor, rules.price_cap))
        answer: Floats = np.stack([array.transpose(BID, PERIOD).values for array in (chosen, bare(data.volume))])
        return answer

    def _against(self, bsp: str, offers: Floats) -> BalancingMarket:
        """Return the market with these offers of all others, and all of a BSP's own volume."""
        prices, volumes = self._labelled(offers)
        return with_offers(self.market, prices, bare(self.market.bids.data.volume).where(self.own[bsp], volumes))

    def _labelled(self, offers: Floats) -> tuple[xr.DataArray, xr.DataArray]:
        index = {BID: self.market.bids.data.indexes[BID], PERIOD: self.market.periods}
        prices, volumes = (xr.DataArray(values, coords=index, dims=(BID, PERIOD)) for values in offers)
        return prices, volumes


@dataclass(frozen=True, slots=True)
class Walk:
    """What the rounds of one start led to.

    Attributes
    ----------
    offers : array (2, bid, period)
        Prices and volumes, the last ones; of a cycle, in each feeder and period those with the smallest regret.
    ending : DataArray (feeder, period)
        The number of the `Ending`.
    rounds : int
        How many there were.
    """

    offers: Floats
    ending: xr.DataArray
    rounds: int


def walk(game: Game, start: Floats, method: Method) -> Walk:
    """Go through rounds from some offers.

    A BSP moves, in a feeder and period, where an offer is cleared at a gain: first the best response
    itself is tried, then the same a tick better; whole volumes before parts of them.

    Parameters
    ----------
    game : Game
        Who plays.
    start : array (2, bid, period)
        Offers [EUR/MWh, MW].
    method : GaussSeidel or Jacobi
        Options.
    """
    names, periods = game.market.feeder_names, game.market.periods
    shape = (len(names), len(periods))
    # ε is one amount over all feeders and periods; a gain well below a share of it is none
    least = GAIN * method.tolerance / max(1, int(np.prod(shape)))
    offers, level, active = start, np.zeros(shape, dtype=int), np.ones(shape, dtype=bool)
    ending = np.full(shape, list(Ending).index(Ending.ROUNDS), dtype=np.int8)
    past, levels = [offers], [level]
    first, length = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    while len(past) <= method.most_rounds and active.any():
        offers, moved, could = _round(game, offers, np.asarray(method.ticks)[level], active, least, method)
        quiet = active & ~moved
        over = quiet & (~could | (level + 1 == len(method.ticks)))
        ending[over] = list(Ending).index(Ending.QUIET)
        level = np.where(quiet & ~over, level + 1, level)
        active = active & ~over
        for number, (before, its_level) in enumerate(zip(past, levels, strict=True)):
            again = active & moved & game.same(offers, before) & (its_level == level)
            ending[again] = list(Ending).index(Ending.CYCLE)
            first[again], length[again] = number, len(past) - number
            active &= ~again
        past.append(offers)
        levels.append(level)
    if length.any():
        offers = _best_member(game, past, first, length)
    kinds = xr.DataArray(ending, dims=(FEEDER, PERIOD), coords={FEEDER: names, PERIOD: periods})
    return Walk(offers, kinds, len(past) - 1)


def _round(
    game: Game, offers: Floats, ticks: Floats, active: NDArray[np.bool_], least: float, method: Method
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Let every BSP answer once; return the new offers, where somebody moved, and where one could gain."""
    new, moved, wanted = offers.copy(), np.zeros_like(active), np.zeros_like(active)
    order = method.order if isinstance(method, GaussSeidel) and method.order else game.bsps
    for bsp in order:
        at = game.bsps.index(bsp)
        against = new if isinstance(method, GaussSeidel) else offers
        most = game.cleared(against)[at]
        could = active & (game.optimum(bsp, against) - most > least)
        chosen, better = against, np.zeros_like(active)
        for answer in game.answers(bsp, against, ticks) if could.any() else ():
            profit = game.cleared(answer)[at]
            gains = could & (profit > most + least)
            chosen = np.where(gains[game.owner], answer, chosen)
            most, better = np.where(gains, profit, most), better | gains
        mine = game.own[bsp].values[:, None] & better[game.owner]
        new = np.where(mine, method.damping * against + (1 - method.damping) * chosen, new)
        moved |= better
        wanted |= could
    return new, moved, wanted


def _best_member(game: Game, past: list[Floats], first: NDArray[np.int_], length: NDArray[np.int_]) -> Floats:
    """Return, in every feeder and period that cycles, the offers of its cycle with the smallest regret."""
    cycles, best = length > 0, past[-1]
    smallest = np.where(cycles, np.inf, -np.inf)
    for step in range(int(length.max())):
        round_of = np.where(cycles, first + step % np.maximum(length, 1), len(past) - 1)
        of_bid = np.broadcast_to(round_of[game.owner], past[0].shape)
        offers = np.take_along_axis(np.stack(past), of_bid[None], axis=0)[0]
        worst = game.regrets(offers).max(axis=0)
        better = worst < smallest
        best, smallest = np.where(better[game.owner], offers, best), np.where(better, worst, smallest)
    return best
