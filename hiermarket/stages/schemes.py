"""Coordination schemes: who clears what, in which order, and what the other one knows of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xarray as xr

from hiermarket.errors import DataError, Fault
from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.market.balancing_market import warn_of_trades_without_imbalance
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, lossless
from hiermarket.schema import bare, freeze, labels_where
from hiermarket.solving.solver import Outcome, failure
from hiermarket.stages.ac_check import ac_state, checked, injections
from hiermarket.stages.accounts import ITEM, Item
from hiermarket.stages.baseline import tbm_alone
from hiermarket.stages.clearing_model import RECOURSE, no_activation, public
from hiermarket.stages.common_clearing import clear_common
from hiermarket.stages.coordinated import OF_FEEDERS, OF_GRID, OF_STATE, Coordinated, coordinated, of_stages
from hiermarket.stages.coordination import AsBid, Behaviour, OneLeader, Options, run_chain
from hiermarket.stages.decides import PricesAndVolumes
from hiermarket.stages.disaggregation import disaggregate
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.forwarding_methods import (
    Corrective,
    ForwardingMethod,
    Individual,
    MaximumRegulation,
    OfferCurve,
    SafeBox,
    Unfiltered,
)
from hiermarket.stages.interface import interface_offers
from hiermarket.stages.interface_settlement import settle_at_interfaces
from hiermarket.stages.paid_prices import uniform_price
from hiermarket.stages.settlement import Settlement, settle
from hiermarket.stages.tso_clearing import TsoClearing, clear_offers
from hiermarket.stages.tso_model import GRID_BUS, needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions


class Scheme(Protocol):
    """What every coordination scheme tells and does."""

    @property
    def name(self) -> str:
        """What the scheme is called in tables."""

    def coordinate(self, market: BalancingMarket, *, grid: LinDistFlow, solver: SolverOptions | None) -> Coordinated:
        """Balance the market by this scheme."""


@dataclass(frozen=True, slots=True)
class TsoOnly:
    """The TSO balances everything with its own bids; nobody uses local bids or looks at the feeders' limits.

    The baseline. Its cost may be below that of every other scheme, since it ignores the
    grids: the AC check says what that breaks.
    """

    @property
    def name(self) -> str:
        """What the scheme is called in tables."""
        return "TSO only"

    def coordinate(self, market: BalancingMarket, *, grid: LinDistFlow, solver: SolverOptions | None) -> Coordinated:
        """Balance the market by this scheme."""
        baseline = tbm_alone(market, grid=grid, solver=solver)
        exchange, cleared = bare(baseline.flat["exchange"]), baseline.cleared.require()
        if bool(exchange.isnull().any()):
            where = labels_where(exchange.isnull())[0]
            raise failure(Outcome.TROUBLE, what="The AC power flow of TSO only", where=where, status="no solution")
        nothing = xr.zeros_like(bare(market.imbalance))
        owner = market.feeders.feeder_of
        at = xr.DataArray(owner.to_numpy(), dims=BUS, coords={BUS: owner.index})
        price = bare(cleared.flat["interface_price"])
        local = {
            "activation": no_activation(market),
            "nodal_price": price.sel({FEEDER: at}).drop_vars(FEEDER),
            **dict.fromkeys(("reactive_price", *(public(name) for name in RECOURSE)), nothing),
            "interface_exchange": exchange,
            "interface_price": price,
        }
        state = ac_state(market, *injections(market, local["activation"]))
        arrays = {
            **local,
            **{name: array for name, array in checked(state, _linear_import(market, grid)).items() if name in OF_STATE},
            "final_activation": local["activation"],
            **{name: cleared.flat[name] for name in OF_GRID},
        }
        settlement = settle_at_interfaces(market, xr.Dataset(local), cleared)
        return coordinated(market, arrays, grid_bids=cleared.grid_bids, settlement=settlement)


def _linear_import(market: BalancingMarket, grid: LinDistFlow) -> xr.DataArray:
    """Return the interface flow (feeder, period) that the exchange without local bids stands for [MW]."""
    p, q = injections(market, no_activation(market))
    if grid.loss_passes:
        return bare(ac_state(market, p, q).p_interface)
    return bare(linear_flow(market.feeders, lossless(market.feeders), p, q).p_interface)


@dataclass(frozen=True, slots=True)
class LocalOnly:
    """The interface flow stays at its schedule: each operator balances its own side with its own bids.

    What local bids cannot balance within the grid's limits is not served, at the value of
    lost load. This is the fragmented scheme with a fixed exchange.
    """

    @property
    def name(self) -> str:
        """What the scheme is called in tables."""
        return "local only"

    def coordinate(self, market: BalancingMarket, *, grid: LinDistFlow, solver: SolverOptions | None) -> Coordinated:
        """Balance the market by this scheme."""
        closed = market.tbm.assign(tbm_limit=xr.zeros_like(market.tbm["tbm_limit"]))
        return _one_after_the_other(market, replace(market, tbm=freeze(closed)), grid, solver)


@dataclass(frozen=True, slots=True)
class Fragmented:
    """The DSO clears first with its own bids; its exchange is then fixed, and the TSO balances it without them.

    Parameters
    ----------
    interface_price : float or None
        What the DSO pays for energy from the interface and is paid for energy that it
        delivers [EUR/MWh], of either sign; None for the TBM's prices by direction. The
        DSO's limit Ḡ holds either way. At 0 the exchange is free: the DSO buys whatever
        it can sell, or need not buy locally.

    Notes
    -----
    (56) of docs/model.md. Where down energy is paid to the provider, a price x for "net upward
    local activation" is an interface price of −x.

    References
    ----------
    L. Lind, R. Cossent, P. Frías, "TSO–DSO interface flow pricing: a bilevel study on
    efficient coordination", IJEPES 2024, doi 10.1016/j.ijepes.2024.110155.
    """

    interface_price: float | None = None

    @property
    def name(self) -> str:
        """What the scheme is called in tables."""
        return "fragmented" if self.interface_price is None else f"fragmented at {self.interface_price:g} EUR/MWh"

    def coordinate(self, market: BalancingMarket, *, grid: LinDistFlow, solver: SolverOptions | None) -> Coordinated:
        """Balance the market by this scheme.

        Raises
        ------
        DataError
            When the price is not finite, or the value of lost load does not exceed it in size.
        """
        price = self.interface_price
        if price is None:
            return _one_after_the_other(market, market, grid, solver)
        lost_load = market.rules.value_of_lost_load
        if not abs(price) < lost_load:
            expected = f"a number between ±{lost_load:g}, the value of lost load"
            remedy = "Lower the price, or raise the value of lost load."
            raise DataError([Fault("interface_price", f"{price:g}", expected, remedy)])
        priced = market.with_exchange_price(xr.full_like(market.tbm["tbm_price"], price))
        warn_of_trades_without_imbalance(priced)
        return _one_after_the_other(market, priced, grid, solver)


def _one_after_the_other(
    market: BalancingMarket, seen: BalancingMarket, grid: LinDistFlow, solver: SolverOptions | None
) -> Coordinated:
    """Let the DSOs clear the market as they see it, and then the TSO, who has no local bids."""
    clearing = clear_dso(seen, grid=grid, solver=solver).require()
    cleared = clear_offers(market.tso_side, interface_offers(clearing), solver=solver).require()
    final = disaggregate(seen, clearing, None, cleared, solver=solver)
    settled = settle(seen, clearing, cleared, final)
    names = [Item.INTERFACE.value if item == Item.TBM_ENERGY else item for item in settled.data[ITEM].values]
    settlement = Settlement(freeze(settled.data.assign_coords({ITEM: np.array(names, dtype=str)})))
    return of_stages(seen, clearing, cleared, final, settlement)


@dataclass(frozen=True, slots=True)
class Sequential:
    """The hierarchy: the DSO clears first and forwards what is left and what its grid can carry; then the TSO.

    Parameters
    ----------
    forwarding : ForwardingMethod
        How the DSO finds what it forwards.
    behaviour : AsBid, Truthful or OneLeader
        How BSPs bid. Other schemes take the market's bids: only `AsBid` compares like with
        like.
    """

    forwarding: ForwardingMethod = field(default_factory=SafeBox)
    behaviour: Behaviour = field(default_factory=AsBid)

    @property
    def name(self) -> str:
        """What the scheme is called in tables."""
        said = [f"sequential, {_words(self.forwarding)}"]
        if isinstance(self.behaviour, OneLeader):
            volumes = " with volumes" if isinstance(self.behaviour.decides, PricesAndVolumes) else ""
            said.append(f"{self.behaviour.bsp} leads{volumes}")
        elif not isinstance(self.behaviour, AsBid):
            said.append(type(self.behaviour).__name__.lower())
        return ", ".join(said)

    def coordinate(self, market: BalancingMarket, *, grid: LinDistFlow, solver: SolverOptions | None) -> Coordinated:
        """Balance the market by this scheme."""
        options = Options(behaviour=self.behaviour, forwarding=self.forwarding, grid=grid, solver=solver)
        chain = run_chain(market, options)
        return of_stages(
            chain.market,
            chain.clearing,
            chain.cleared,
            chain.disaggregation,
            chain.settlement,
            forwarded=chain.forwarded,
        )


def _words(method: ForwardingMethod) -> str:
    """Name a forwarding method and what of it is not as by default."""
    kind = type(method)
    default, said = kind(), []
    for part in fields(kind):  # type: ignore[arg-type]  # every method is a dataclass
        value = getattr(method, part.name)
        if value != getattr(default, part.name):
            said.append(part.name if value is True else f"no {part.name}" if value is False else f"{part.name} {value}")
    return f"{kind.__name__} ({', '.join(said)})" if said else kind.__name__


@dataclass(frozen=True, slots=True)
class Common:
    """One market over all grids: every bid is used where it is worth most; nobody has to guess.

    The least cost that any scheme can reach whose result satisfies the grids, for the same
    bids and the same losses.
    """

    @property
    def name(self) -> str:
        """What the scheme is called in tables."""
        return "common"

    def coordinate(self, market: BalancingMarket, *, grid: LinDistFlow, solver: SolverOptions | None) -> Coordinated:
        """Balance the market by this scheme."""
        found = clear_common(market, grid=grid, solver=solver).require()
        flat = found.flat
        need = needs(market.tso_side, bare(flat["interface_exchange"])).transpose(BUS, PERIOD)
        mean = uniform_price(flat["grid_price"].transpose(GRID_BUS, PERIOD).values, need.values)
        of_grid = flat[[*OF_GRID]].assign(uniform_price=(PERIOD, mean))
        cleared = TsoClearing(of_grid, grid_bids=found.grid_bids, work=found.work)
        names = (*OF_FEEDERS, *OF_GRID, *OF_STATE, "interface_exchange", "interface_price")
        return coordinated(
            market,
            {**{name: flat[name] for name in names}, "final_activation": flat["activation"]},
            grid_bids=found.grid_bids,
            settlement=settle_at_interfaces(market, flat, cleared),
        )


def every_scheme() -> tuple[Scheme, ...]:
    """Return all schemes with their defaults: the sequential one with every way of forwarding."""
    methods: tuple[Callable[[], ForwardingMethod], ...] = (
        SafeBox, MaximumRegulation, OfferCurve, Individual, Unfiltered, Corrective
    )  # fmt: skip
    return (TsoOnly(), LocalOnly(), Fragmented(), *(Sequential(method()) for method in methods), Common())
