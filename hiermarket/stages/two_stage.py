"""The DSO's clearing in two stages: some bids before the scenario is known, all others after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, PERIOD, SCENARIO, Direction
from hiermarket.market.folding import folded, unfolded
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, linearise, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, freeze, labels_where, positions, raise_together
from hiermarket.solving.program import write_back
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.ac_check import ac_state, checked, injections, scheduled, state_or_linear
from hiermarket.stages.clearing_model import BALANCES, RECOURSE, public
from hiermarket.stages.clearing_program import read_clearing
from hiermarket.stages.dso_clearing import clear_dso
from hiermarket.stages.extensive_form import ExtensiveForm, Solved
from hiermarket.stages.risk import CVaR, Expectation, Risk, cvar

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.scenarios import ScenarioMarket
    from hiermarket.stages.clearing_program import ClearingProgram


@dataclass(frozen=True, slots=True, repr=False)
class TwoStageClearing(Labelled):
    """A distribution balancing market cleared in two stages.

    Arrays: ``price, activation`` (bid), ``nodal_price, reactive_price, voltage, p_flow,
    q_flow, unserved, spilled, reactive_shortage, reactive_surplus`` (bus), ``tbm_volume``
    (feeder, direction) and the AC check ``ac_voltage, undervoltage, overvoltage, overload,
    ac_loss, ac_mismatch, ac_converged``, all by scenario and period; ``scenario_cost,
    probability`` (scenario). Units as in the nomenclature.

    Attributes
    ----------
    here_and_now : DataArray (bid)
        Which bids were decided before: their activation is the same in all scenarios.
    risk : Risk
        What was minimised.
    value : float
        Its value [EUR].
    expected_cost, cvar : float
        E[c] and CVaR_α(c) of the scenarios' costs [EUR], lost load included; α as in `risk`, 0.95
        where it has none.
    evpi : float
        Expected value of perfect information: `value` less that with everything decided
        after [EUR], ≥ 0.
    vss : float
        Value of the stochastic solution: what deciding by the expected inputs would cost
        more [EUR], ≥ 0.
    """

    here_and_now: xr.DataArray
    risk: Risk
    value: float
    expected_cost: float
    cvar: float
    evpi: float
    vss: float


def clear_two_stage(
    market: ScenarioMarket,
    *,
    here_and_now: xr.DataArray,
    risk: Risk | None = None,
    grid: LinDistFlow | None = None,
    solver: SolverOptions | None = None,
) -> TwoStageClearing:
    """Clear the distribution market with slow bids before and everything else after the scenario is known.

    Parameters
    ----------
    market : ScenarioMarket
        The scenarios, with the prices that are bid.
    here_and_now : DataArray (bid) of bool
        The bids that must be decided before, by flat label: ``market.of("calm").bids.of("CHP")``
        are those of a BSP.
    risk : Expectation or CVaR, optional
        What is minimised; the expected cost by default.
    grid : LinDistFlow, optional
        Loss passes and rating polygon; two linearised loss passes by default.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    TwoStageClearing
        Activation, prices and state in every scenario, expected cost, CVaR, EVPI and VSS.

    Raises
    ------
    DataError
        When `here_and_now` does not name the market's bids, a schedule has no power flow,
        resources hold periods together, or bids have a minimum volume.
    SolveError
        With scenario, feeder and period of a block without an optimum.

    Notes
    -----
    Equations (49) to (52) of docs/model.md. Losses are linearised in every scenario, at
    its own state. EVPI and VSS are differences of optima at the losses of the last pass. Ties, over all
    scenarios together, by the rule of `clear_dso`.

    References
    ----------
    J. R. Birge, F. Louveaux, *Introduction to Stochastic Programming*, 2nd ed., Springer
    2011, chapter 4, doi 10.1007/978-1-4614-0237-4.
    """
    grid, risk, solver = grid or LinDistFlow(), risk or Expectation(), solver or SolverOptions()
    raise_together([*_resource_faults(market), *_minimum_faults(market)])
    one = folded(market)
    raise_together(_label_faults(here_and_now, one))
    built = read_clearing(one, grid)
    slow = here_and_now.sel({BID: one.bids.data.indexes[BID]}).values.astype(bool)
    form = ExtensiveForm(built, market, _columns(built, one, slow), risk, solver)
    plan, terms = one.feeders.data, lossless(one.feeders)
    imports = linear_flow(one.feeders, terms, bare(plan.p_scheduled), bare(plan.q_scheduled)).p_interface
    solved = form.solve(terms, imports)
    if grid.loss_passes:
        imports = _known(bare(scheduled(one).p_interface), market)
    for _ in range(grid.loss_passes):
        terms = linearise(one.feeders, _state(built, one, solved), grid.losses)
        solved = form.solve(terms, imports)
    by_mean = clear_dso(market.mean(), grid=grid, solver=solver).require().flat.activation
    before = bare(by_mean).transpose(BID, PERIOD).values[slow]
    foresight = form.solve(terms, imports, apart=True).value
    held = form.solve(terms, imports, held=before).value
    write_back(built.model, built.at(terms, imports), solved.x, solved.dual, solved.value)
    values = _values(built, one, imports, market)
    arrays = {name: unfolded(array, market) for name, array in values.items()}
    cost = xr.DataArray(solved.cost, coords={SCENARIO: market.scenarios}, dims=SCENARIO)
    flat = xr.Dataset(arrays).assign(scenario_cost=cost, probability=market.probability)
    measure = risk if isinstance(risk, CVaR) else CVaR()
    return TwoStageClearing(
        flat=freeze(describe(flat)),
        here_and_now=here_and_now,
        risk=risk,
        value=solved.value,
        expected_cost=float(solved.cost @ market.probability.values),
        cvar=cvar(solved.cost, market.probability.values, measure.alpha),
        evpi=solved.value - foresight,
        vss=held - solved.value,
    )


def _resource_faults(market: ScenarioMarket) -> list[Fault]:
    """Refuse resources: their rows hold periods together."""
    held = [name for name in market.scenarios if market.of(name).resources is not None]
    remedy = "Clear without them: market.of(scenario).without_resources()."
    return [Fault("resources", f"some in {some_labels(held)}", "none in two stages", remedy)] if held else []


def _minimum_faults(market: ScenarioMarket) -> list[Fault]:
    """Refuse minimum volumes: (49) is a linear program, and its multipliers are the prices."""
    whole = [name for name in market.scenarios if not market.of(name).bids.is_divisible]
    remedy = "Leave the minimum volumes out, or clear each scenario by itself (hm.run)."
    return [Fault("bids.minimum", f"some in {some_labels(whole)}", "none in two stages", remedy)] if whole else []


def _label_faults(here_and_now: xr.DataArray, market: BalancingMarket) -> list[Fault]:
    """Report flags that are no flags, or of other bids."""
    if here_and_now.dims != (BID,) or BID not in here_and_now.indexes or here_and_now.dtype != bool:
        found = f"{here_and_now.dtype} over {here_and_now.dims}"
        remedy = "Take market.of(scenario).bids.of(bsp), or compare its labels."
        return [Fault("here_and_now", found, "a labelled bool array over ('bid',)", remedy)]
    apart = list(here_and_now.indexes[BID].symmetric_difference(market.bids.data.indexes[BID]))
    expected = "a flag for each bid of the market"
    return [Fault("here_and_now", some_labels(apart), expected, "Correct the labels.")] if apart else []


def _columns(built: ClearingProgram, market: BalancingMarket, slow: np.ndarray) -> np.ndarray:
    """Return the columns of the slow bids' activation (slow bid, folded period)."""
    labels = built.model.variables["Bid-activation"].labels.transpose(BID, PERIOD)
    at = positions(labels.indexes[BID], market.bids.data.indexes[BID][slow])
    return np.searchsorted(built.program.columns, labels.values[at])


def _known(imports: xr.DataArray, market: ScenarioMarket) -> xr.DataArray:
    """Return P^sched, which must be known everywhere."""
    if bool(imports.isnull().any()):
        gone = unfolded(imports.isnull(), market)
        remedy = "Correct it, or clear without loss passes."
        found = some_labels(labels_where(gone))
        raise DataError(
            [Fault("schedule", f"no AC power flow at {found}", "a schedule that the grid can carry", remedy)]
        )
    return imports


def _state(built: ClearingProgram, market: BalancingMarket, solved: Solved) -> xr.Dataset:
    """Return the AC state of a pass; the linear one where the power flow has no solution."""
    write_back(built.model, built.program, solved.x, solved.dual, solved.value)
    values = {name: bare(built.model.variables[name].solution) for name in built.model.variables}
    buses = market.feeders.data.indexes[BUS]
    recourse = xr.Dataset({public(name): values[name].reindex({BUS: buses}) for name in RECOURSE}).fillna(0.0)
    p, q = injections(market, values["Bid-activation"], recourse)

    def linear() -> xr.Dataset:
        return xr.Dataset(
            {"v": values["Bus-v_sq"].clip(min=0.0) ** 0.5, "p_flow": values["Line-p"], "q_flow": values["Line-q"]}
        )

    return state_or_linear(ac_state(market, p, q), linear)


def _values(
    built: ClearingProgram, market: BalancingMarket, imports: xr.DataArray, scenarios: ScenarioMarket
) -> xr.Dataset:
    """Read the solved model, over folded periods, into arrays under their public names."""
    buses = market.feeders.data.indexes[BUS]
    solved = {name: bare(built.model.variables[name].solution) for name in built.model.variables}
    dual = {name: built.model.constraints[name].dual for name in BALANCES if name in built.model.constraints}
    weight = np.repeat(scenarios.probability.values, len(market.periods) // len(scenarios.scenarios))
    hours = bare(market.duration) * xr.DataArray(weight, coords={PERIOD: market.periods}, dims=PERIOD)
    root = dual["Interface-balance"]
    active, reactive = [root], [xr.zeros_like(root)]
    if len(market.feeders.branches):
        active.append(dual["Bus-nodal_balance"])
        reactive.append(dual["Bus-reactive_balance"])
    # (52)  λ_s = dual / (Δ p_s)                                                            [EUR/MWh]
    nodal, of_reactive = (bare(xr.concat(parts, dim=BUS).sel({BUS: buses}) / hours) for parts in (active, reactive))
    recourse = {public(name): solved[name].reindex({BUS: buses}) for name in RECOURSE}
    g = solved["Interface-tbm"]
    up, down = (g.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    p, q = injections(market, solved["Bid-activation"], xr.Dataset(recourse).fillna(0.0))
    named = {
        "price": bare(market.bids.data.price),
        "activation": solved["Bid-activation"],
        "tbm_volume": g,
        "nodal_price": nodal,
        "reactive_price": of_reactive,
        "voltage": solved["Bus-v_sq"].clip(min=0.0) ** 0.5,
        "p_flow": solved["Line-p"].reindex({BUS: buses}),
        "q_flow": solved["Line-q"].reindex({BUS: buses}),
        **recourse,
        **checked(ac_state(market, p, q), imports + up - down),
    }
    coords = {**market.bids.data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    return xr.Dataset({name: bare(array) for name, array in named.items()}).assign_coords(coords)
