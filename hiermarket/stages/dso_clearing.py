"""Stage 1, lower level: the DSO clears the distribution balancing market on its grid."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import MarketWarning, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, LossTerms, linearise, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, direction_sign, freeze, labels_where, positions
from hiermarket.solving.blocks import BlockAnswers, components, solve_blocks
from hiermarket.solving.program import Program, program_of, write_back
from hiermarket.solving.solver import Outcome, SolverOptions, failure
from hiermarket.stages.ac_check import ac_state, checked, injections, scheduled, state_or_linear, without
from hiermarket.stages.clearing_model import RECOURSE, clearing_cost, clearing_model, tie_costs

if TYPE_CHECKING:
    import linopy

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.program import Floats

#: Number of each outcome in ``status``.
STATUS = {outcome: number for number, outcome in enumerate(Outcome)}


@dataclass(frozen=True, slots=True)
class DsoClearing(Labelled):
    """The cleared distribution balancing market of all feeders.

    Arrays: ``price, activation`` (bid), ``nodal_price, reactive_price, voltage, p_flow,
    q_flow, unserved, spilled, reactive_shortage, reactive_surplus`` (bus), ``tbm_volume``
    (feeder, direction), ``clearing_cost, status`` (feeder) and the AC check
    ``ac_voltage, undervoltage, overvoltage, overload, ac_loss, ac_mismatch,
    ac_converged``; all by period, units as in the nomenclature.

    Attributes
    ----------
    losses : LossTerms
        The linearised losses of the last pass.
    scheduled_import : DataArray (feeder, period)
        P^sched of the last pass [MW].
    grid : LinDistFlow
        The grid model that was used.
    solves : int
        How many LPs were solved.
    """

    losses: LossTerms
    scheduled_import: xr.DataArray
    grid: LinDistFlow
    solves: int

    @property
    def recourse(self) -> xr.Dataset:
        """s± and z± by flat bus label [MW, Mvar]."""
        return self.flat[[public(name) for name in RECOURSE]]

    def require(self) -> DsoClearing:
        """Return the clearing, or raise the error of the first feeder and period without one.

        Raises
        ------
        SolveError
            Of the kind of the first failed block.
        """
        for (feeder, t), code in np.ndenumerate(self.flat.status.values):
            if code != STATUS[Outcome.OPTIMAL]:
                outcome = list(Outcome)[int(code)]
                labels = self.flat.status.indexes
                where = f"feeder={labels[FEEDER][feeder]}, period={labels[PERIOD][t]}"
                raise failure(outcome, what="The DSO's clearing", where=where, status=outcome.value)
        return self


def public(variable: str) -> str:
    """Return the public name of a model's variable: ``Bus-unserved`` → ``unserved``."""
    return variable.partition("-")[2]


def clear_dso(
    market: BalancingMarket, *, grid: LinDistFlow | None = None, solver: SolverOptions | None = None
) -> DsoClearing:
    """Clear the distribution balancing market of every feeder and period.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, TBM prices and rules.
    grid : LinDistFlow, optional
        Loss passes and rating polygon; two linearised loss passes by default.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    DsoClearing
        Activation by the tie rule, nodal prices, grid state and AC check. A feeder and
        period without an optimum has NaN values and its outcome in ``status``.

    Notes
    -----
    Equations (1)–(8) of docs/model.md. Ties are decided lexicographically: minimum
    cost, then minimum TBM volume, then minimum gross activation, then the order of the
    bids. Prices are those of the first step. Each loss pass linearises around the AC
    state of the pass before. Without a power flow of the schedule itself there is no
    exchange to compare with: a warning, and no clearing of that feeder and period.

    References
    ----------
    M. E. Baran, F. F. Wu, "Optimal capacitor placement on radial distribution systems",
    IEEE Trans. Power Delivery 4(1), 1989, doi 10.1109/61.19265.
    """
    grid = grid or LinDistFlow()
    plan = market.feeders.data
    terms = lossless(market.feeders)
    imports = linear_flow(market.feeders, terms, bare(plan.p_scheduled), bare(plan.q_scheduled)).p_interface
    unknown, solves = xr.zeros_like(imports, dtype=bool), 0
    cleared = _one_pass(market, terms, imports, grid, solver)
    solves += cleared.answers.solves
    if grid.loss_passes:
        true = bare(scheduled(market).p_interface)
        unknown, imports = true.isnull(), true.fillna(imports)
    for _ in range(grid.loss_passes):
        p, q = injections(market, cleared.values.activation, cleared.values)
        terms = linearise(market.feeders, _state_to_linearise(market, cleared.values, p, q), grid.losses)
        cleared = _one_pass(market, terms, imports, grid, solver)
        solves += cleared.answers.solves
    flat = _with_ac_check(market, _without_schedule(market, cleared.values, unknown), imports)
    return DsoClearing(flat=freeze(describe(flat)), losses=terms, scheduled_import=imports, grid=grid, solves=solves)


@dataclass(frozen=True, slots=True)
class _Pass:
    values: xr.Dataset
    answers: BlockAnswers


def _one_pass(
    market: BalancingMarket,
    losses: LossTerms,
    imports: xr.DataArray,
    grid: LinDistFlow,
    solver: SolverOptions | None,
) -> _Pass:
    import linopy

    with linopy.options as options:
        options.set_value(semantics="v1")
        model = clearing_model(market, losses, imports, grid)
        model.add_objective(clearing_cost(model, market, market.bids.data.price))
        program = program_of(model)
        blocks = components(program)
        answers = solve_blocks(program, solver, block_of_column=blocks, then=_ranks(model, market, program))
        write_back(model, program, answers.x, answers.dual, float(np.nansum(answers.objective)))
        return _Pass(_values(model, market, _outcomes(model, market, program, answers)), answers)


def _ranks(model: linopy.Model, market: BalancingMarket, program: Program) -> list[Floats]:
    """Return the tie rule's costs by column."""
    place = np.full(int(program.columns.max()) + 1, -1)
    place[program.columns] = np.arange(len(program.columns))
    ranks = []
    for name, weights in tie_costs(model, market).items():
        variable = model.variables["Bid-activation" if name == "order" else name]
        cost = np.zeros(len(program.columns))
        cost[place[variable.labels.values.ravel()]] = weights.transpose(*variable.labels.dims).values.ravel()
        ranks.append(cost)
    return ranks


def _outcomes(model: linopy.Model, market: BalancingMarket, program: Program, answers: BlockAnswers) -> xr.DataArray:
    """Return the worst outcome of the blocks of each feeder and period, (feeder, period).

    A branch without impedance or losses leaves voltages, or reactive flows, in blocks of
    their own: a feeder's period has a clearing when all of them have.
    """
    names, bids = market.feeder_names, market.bids.data
    owner = {BUS: market.feeders.feeder_of, BID: pd.Series(bids.bid_feeder.values, index=bids.indexes[BID])}
    codes = np.array([STATUS[outcome] for outcome in answers.outcome], dtype=np.int8)
    worst = np.zeros((len(names), len(market.periods)), dtype=np.int8)
    for name in model.variables:
        variable = model.variables[name]
        dim = next(d for d in (FEEDER, BUS, BID) if d in variable.dims)
        labels = variable.labels.transpose(dim, PERIOD, ...)
        of = labels.indexes[dim]
        feeder = positions(names, of if dim == FEEDER else owner[dim].loc[of].to_numpy())
        found = codes[answers.block_of_column[np.searchsorted(program.columns, labels.values)]]
        np.maximum.at(worst, feeder, found if found.ndim == 2 else found.max(axis=2))
    return xr.DataArray(worst, dims=(FEEDER, PERIOD), coords={FEEDER: names, PERIOD: market.periods})


def _values(model: linopy.Model, market: BalancingMarket, status: xr.DataArray) -> xr.Dataset:
    """Read the solved model into arrays under their public names."""
    duration = bare(market.duration)
    dual = {name: model.constraints[name].dual for name in model.constraints}
    solved = {name: model.variables[name].solution for name in model.variables}
    # price = dual / Δ; the root's price is the dual of the interface balance
    root_price = dual["Interface-balance"]
    nodal = xr.concat([root_price, dual["Bus-nodal_balance"]], dim=BUS) / duration
    reactive = xr.concat([xr.zeros_like(root_price), dual["Bus-reactive_balance"]], dim=BUS) / duration
    buses = market.feeders.data.indexes[BUS]
    price = bare(market.bids.data.price)
    sign = bare(market.bids.sign)
    direction = direction_sign()
    a, g = solved["Bid-activation"], solved["Interface-tbm"]
    of_bids = duration * per_feeder(sign * price * a, market)
    of_tbm = duration * (direction * bare(market.tbm.tbm_price) * g).sum(DIRECTION, skipna=False)
    named = {
        "activation": a,
        "tbm_volume": g,
        "nodal_price": nodal.sel({BUS: buses}),
        "reactive_price": reactive.sel({BUS: buses}),
        "voltage": np.sqrt(solved["Bus-v_sq"].clip(min=0.0)),
        "p_flow": solved["Line-p"].reindex({BUS: buses}),
        "q_flow": solved["Line-q"].reindex({BUS: buses}),
        **{public(name): solved[name].reindex({BUS: buses}) for name in RECOURSE},
        "clearing_cost": of_bids + of_tbm,
    }
    coords = {**market.bids.data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    values = without(xr.Dataset({name: bare(array) for name, array in named.items()}), status != 0, market)
    return values.assign(price=price, status=status).assign_coords(coords)


def per_feeder(per_bid: xr.DataArray, market: BalancingMarket) -> xr.DataArray:
    """Sum values (bid, period) over the bids of each feeder; 0 for a feeder without bids."""
    names = market.feeder_names
    place = positions(names, market.bids.data.bid_feeder.values)
    total = np.zeros((len(names), per_bid.sizes[PERIOD]))
    np.add.at(total, place, per_bid.transpose(BID, PERIOD).values)
    return xr.DataArray(total, dims=(FEEDER, PERIOD), coords={FEEDER: names, PERIOD: per_bid.indexes[PERIOD]})


def _state_to_linearise(market: BalancingMarket, values: xr.Dataset, p: xr.DataArray, q: xr.DataArray) -> xr.Dataset:
    """Return the AC state of a clearing; the linear one where the power flow has no solution."""
    linear = values[["voltage", "p_flow", "q_flow"]].rename(voltage="v")
    return state_or_linear(ac_state(market, p, q), linear)


def _without_schedule(market: BalancingMarket, values: xr.Dataset, unknown: xr.DataArray) -> xr.Dataset:
    """Take the clearing away, with a warning, where the schedule itself has no power flow."""
    if not bool(unknown.any()):
        return values
    warnings.warn(
        f"The schedule has no AC power flow at {some_labels(labels_where(unknown))}: correct it, or clear without "
        "loss passes. These feeders and periods have no clearing.",
        MarketWarning,
        stacklevel=3,
    )
    status = values.status.where(~unknown.values, STATUS[Outcome.TROUBLE])
    return without(values, unknown, market).assign(price=values.price, status=status)


def _with_ac_check(market: BalancingMarket, values: xr.Dataset, imports: xr.DataArray) -> xr.Dataset:
    """Add the AC check of a clearing to its values."""
    p, q = injections(market, values.activation, values)
    up, down = (values.tbm_volume.sel({DIRECTION: d.value}, drop=True) for d in Direction)
    return values.assign(checked(ac_state(market, p, q), imports + up - down))
