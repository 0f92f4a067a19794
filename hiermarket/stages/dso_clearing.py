"""Stage 1, lower level: the DSO clears the distribution balancing market on its grid."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.sparse import coo_array

from hiermarket.errors import MarketWarning, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, FEEDER, PERIOD, RESOURCE, Direction
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, LossTerms, linearise, lossless
from hiermarket.nomenclature import describe
from hiermarket.schema import BID_COORDS, BUS_COORDS, Labelled, bare, direction_sign, freeze, labels_where, positions
from hiermarket.solving.blocks import BlockAnswers, BlockSolver, Work
from hiermarket.solving.lexicographic import ZERO
from hiermarket.solving.program import Program, write_back
from hiermarket.solving.solver import Outcome, SolverOptions, failure
from hiermarket.stages.ac_check import ac_state, checked, injections, scheduled, state_or_linear, without
from hiermarket.stages.clearing_model import BALANCES, RECOURSE, public
from hiermarket.stages.clearing_program import ClearingProgram, read_clearing
from hiermarket.stages.dso_screening import ScreenedFeeders, clear_feeders_by_merit_order, is_affordable, root_prices
from hiermarket.stages.integer_decisions import relaxed, solve_whole, untrue_clearing
from hiermarket.stages.reactive_support import support_at_buses, support_of
from hiermarket.stages.resource_check import make_whole, resource_results

if TYPE_CHECKING:
    from collections.abc import Hashable

    import linopy
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket

#: Number of each outcome in ``status``.
STATUS = {outcome: number for number, outcome in enumerate(Outcome)}


@dataclass(frozen=True, slots=True, repr=False)
class DsoClearing(Labelled):
    """The cleared distribution balancing market of all feeders.

    Arrays: ``price, activation`` (bid), ``nodal_price, reactive_price, voltage, p_flow,
    q_flow, unserved, spilled, reactive_shortage, reactive_surplus`` (bus), ``tbm_volume``
    (feeder, direction), ``clearing_cost, status, screened`` (feeder), with a table of resources
    ``resource_output, stored_energy, reactive_support`` (resource), and the AC check
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
    work : Work
        LPs solved, passes of feeders and periods that the merit order decided, time inside
        the solver.
    """

    losses: LossTerms
    scheduled_import: xr.DataArray
    grid: LinDistFlow
    work: Work

    @property
    def recourse(self) -> xr.Dataset:
        """s± and z± by flat bus label [MW, Mvar]."""
        return self.flat[[public(name) for name in RECOURSE]]

    @property
    def beyond_bids(self) -> xr.Dataset:
        """What buses are given beside the bids: `recourse`, and ``reactive_support`` of resources [MW, Mvar]."""
        support = [name for name in ("reactive_support",) if name in self.flat]
        return self.flat[[*self.recourse.data_vars, *support]]

    def of_periods(self, periods: NDArray[np.intp]) -> DsoClearing:
        """Return the clearing of some periods, by position."""
        at = {PERIOD: periods}
        losses, imports = self.losses.isel(at), self.scheduled_import.isel(at)
        return replace(self, flat=self.flat.isel(at), losses=losses, scheduled_import=imports)

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
    unknown = xr.zeros_like(imports, dtype=bool)
    passes = _Passes(market, grid, solver or SolverOptions())
    values = passes.clear(terms, imports)
    if grid.loss_passes:
        true = bare(scheduled(market).p_interface)
        unknown, imports = true.isnull(), true.fillna(imports)
    for _ in range(grid.loss_passes):
        p, q = injections(market, values.activation, values)
        state, support = _state_to_linearise(market, values, p, q), support_at_buses(market, values)
        terms = linearise(market.feeders, state, grid.losses, support=support)
        values = passes.clear(terms, imports)
    flat = _with_ac_check(market, _without_schedule(market, values, unknown), imports)
    flat = flat.assign(resource_results(market, flat.activation) | make_whole(market, flat))
    return DsoClearing(flat=freeze(describe(flat)), losses=terms, scheduled_import=imports, grid=grid, work=passes.work)


class _Passes:
    """The passes of one clearing: merit order first, an LP where a limit of the grid has a part in it.

    The LP is built when it is first needed, and refilled from then on.
    """

    def __init__(self, market: BalancingMarket, grid: LinDistFlow, solver: SolverOptions) -> None:
        self._market, self._grid, self._solver = market, grid, solver
        self._built: ClearingProgram | None = None
        self._blocks: BlockSolver | None = None
        self.work = Work()

    def clear(self, losses: LossTerms, imports: xr.DataArray) -> xr.Dataset:
        """Return the clearing of one pass under its public names."""
        market = self._market
        stacked = clear_feeders_by_merit_order(market, losses, imports, self._grid)
        decided = stacked.decided & self._solver.screening
        self.work += Work(screened=int(decided.sum()))
        values = _described(market, stacked.values)
        if bool(decided.all()):
            return values.assign(status=xr.zeros_like(decided, dtype=np.int8), screened=decided)
        found, status = self._solve(losses, imports, ~decided, stacked)
        status = status.where(~decided, 0).astype(np.int8)
        keep = _where(decided, market)
        merged = {
            name: array.where(keep[array.dims[0]], found[name]) if PERIOD in array.dims else array
            for name, array in values.items()
        }
        known = without(values.assign(merged), status != 0, market)
        return known.assign(price=values.price, status=status, screened=decided)

    def _solve(
        self, losses: LossTerms, imports: xr.DataArray, wanted: xr.DataArray, stacked: ScreenedFeeders
    ) -> tuple[xr.Dataset, xr.DataArray]:
        """Solve the LPs of some feeders and periods; return all values, and the outcome of each of them."""
        market = self._market
        if self._built is None:
            self._built = read_clearing(market, self._grid)
        built = self._built
        program = built.at(losses, imports)
        if self._blocks is None:
            self._blocks = BlockSolver(relaxed(program), self._solver)
        blocks = self._blocks
        asked = np.zeros(blocks.count, dtype=bool)
        asked[blocks.of_column[wanted.values.ravel()[built.case]]] = True
        answers = solve_whole(program, blocks, asked, built.ranks, untrue_clearing(market, built))
        self.work += answers.work
        write_back(built.model, program, answers.x, answers.dual, float(np.nansum(answers.objective)))
        codes = np.array([STATUS[outcome] for outcome in answers.outcome], dtype=np.int8)
        worst = np.zeros(wanted.size, dtype=np.int8)
        np.maximum.at(worst, built.case, codes[answers.block_of_column])
        status = wanted.copy(data=worst.reshape(wanted.shape))
        free = _unlimited(built, program, answers, wanted)
        return _values(built.model, market, stacked, free), status


def _unlimited(built: ClearingProgram, program: Program, answers: BlockAnswers, like: xr.DataArray) -> xr.DataArray:
    """Return the feeders and periods in whose LP no limit of the grid has a price, and no recourse a volume."""
    limited = np.zeros(like.size, dtype=bool)
    model, case = built.model, built.case
    # the voltage of a root is given, not limited
    branches = model.constraints["Line-v_drop"].indexes[BUS]
    for name in ("Bus-v_sq", *RECOURSE):
        labels = model.variables[name].labels
        labels = labels.sel({BUS: branches}) if name == "Bus-v_sq" else labels
        at = np.searchsorted(program.columns, labels.values.ravel())
        size = answers.reduced_cost[at] if name == "Bus-v_sq" else answers.x[at]
        np.logical_or.at(limited, case[at], np.abs(size) > ZERO)
    if "Line-s_max" in model.constraints:
        at = np.searchsorted(program.rows, model.constraints["Line-s_max"].labels.values.ravel())
        # the case of a row is that of any of its columns
        first = program.matrix.indices[program.matrix.indptr[at]]
        np.logical_or.at(limited, case[first], np.abs(answers.dual[at]) > ZERO)
    for name in model.constraints:
        if not name.startswith(("Resource-", "Bid-")):
            continue
        # such a row may hold several periods
        known = model.constraints[name].labels.values.ravel()
        at = np.searchsorted(program.rows, known[known >= 0])
        entries = coo_array(program.matrix[at, :])
        np.logical_or.at(limited, case[entries.col], np.abs(answers.dual[at][entries.row]) > ZERO)
    return like.copy(data=~limited.reshape(like.shape))


def _where(of_case: xr.DataArray, market: BalancingMarket) -> dict[Hashable, xr.DataArray]:
    """Look a flag (feeder, period) up at every bus, bid and resource too: by the first dimension of what it is for."""
    found: dict[Hashable, xr.DataArray] = {FEEDER: of_case}
    for dim, data, owner in ((BUS, market.feeders.data, "bus_feeder"), (BID, market.bids.data, "bid_feeder")):
        at = xr.DataArray(data[owner].values, dims=dim, coords={dim: data.indexes[dim]})
        found[dim] = of_case.sel({FEEDER: at}).drop_vars(FEEDER)
    if market.resources is not None:
        found[RESOURCE] = of_case.sel({FEEDER: market.resources.feeder}).drop_vars(FEEDER)
    return found


def _values(
    model: linopy.Model, market: BalancingMarket, stacked: ScreenedFeeders, unlimited: xr.DataArray
) -> xr.Dataset:
    """Read the solved model into arrays under their public names."""
    duration, buses = bare(market.duration), market.feeders.data.indexes[BUS]
    dual = {name: model.constraints[name].dual for name in BALANCES if name in model.constraints}
    solved = {name: bare(model.variables[name].solution) for name in model.variables}
    # price = dual / Δ; the root's price is the dual of the interface balance
    root_price = dual["Interface-balance"]
    both = [root_price], [xr.zeros_like(root_price)]
    if len(market.feeders.branches):
        both = [root_price, dual["Bus-nodal_balance"]], [xr.zeros_like(root_price), dual["Bus-reactive_balance"]]
    nodal, reactive = (bare(xr.concat(parts, dim=BUS).sel({BUS: buses}) / duration) for parts in both)
    a, g = solved["Bid-activation"], solved["Interface-tbm"]
    # where no limit counts, prices follow the rule of the merit order, also where the LP's dual is not unique
    by_rule = root_prices(stacked.stacks, a, g)
    owner = positions(market.feeder_names, market.feeders.feeder_of.to_numpy())
    roots = positions(buses, market.feeders.roots.to_numpy())
    ruled = by_rule[owner] * stacked.stacks.factor
    free = unlimited & is_affordable(ruled, roots, market.rules.value_of_lost_load)
    nodal, reactive = (
        price.transpose(BUS, PERIOD).where(~_where(free, market)[BUS], by)
        for price, by in zip((nodal, reactive), ruled, strict=True)
    )
    named: dict[str, xr.DataArray] = {
        "activation": a,
        "tbm_volume": g,
        "nodal_price": nodal,
        "reactive_price": reactive,
        "voltage": solved["Bus-v_sq"].clip(min=0.0) ** 0.5,
        "p_flow": solved["Line-p"].reindex({BUS: buses}),
        "q_flow": solved["Line-q"].reindex({BUS: buses}),
        **{public(name): solved[name].reindex({BUS: buses}) for name in RECOURSE},
        **support_of(solved, market),
    }
    return _described(market, xr.Dataset({name: bare(array) for name, array in named.items()}))


def _described(market: BalancingMarket, values: xr.Dataset) -> xr.Dataset:
    """Return a clearing's arrays with what follows from them, their labels, and no recourse where none is given."""
    sign, price, duration = bare(market.bids.sign), bare(market.bids.data.price), bare(market.duration)
    prices = direction_sign() * market.exchange_price
    of_bids = duration * per_feeder(sign * price * values.activation, market)
    of_tbm = duration * (prices * values.tbm_volume).sum(DIRECTION, skipna=False)
    nothing = xr.zeros_like(values.nodal_price)
    roots = market.feeders.data.depth == 0
    recourse = {public(name): nothing if name in RECOURSE[:2] else nothing.where(~bare(roots)) for name in RECOURSE}
    coords = {**market.bids.data[list(BID_COORDS)].coords, **market.feeders.data[list(BUS_COORDS)].coords}
    full = values.assign({name: array for name, array in recourse.items() if name not in values})
    full = full.assign(clearing_cost=of_bids + of_tbm, price=price)
    order = {FEEDER: 0, BID: 0, BUS: 0, DIRECTION: 1, PERIOD: 2}
    return full.transpose(*sorted(full.dims, key=lambda dim: order.get(str(dim), 1))).assign_coords(coords)


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
    return state_or_linear(ac_state(market, p, q), lambda: linear)


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
