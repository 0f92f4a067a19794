"""Coordination schemes side by side on one market: what each costs whom, and what the grids make of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import DataError, Fault, ModelError, SolveError, some_labels
from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.network.linear_flow import linear_flow
from hiermarket.network.losses import LinDistFlow, lossless
from hiermarket.nomenclature import describe
from hiermarket.results.netcdf import write_results
from hiermarket.results.totals import LIMIT, LIMITS, MEASURE, MEASURES, by_direction, gross_energy, local_costs
from hiermarket.schema import bare, freeze
from hiermarket.stages.ac_check import scheduled
from hiermarket.stages.accounts import ACCOUNT, ITEM, KIND_OF, Item, Kind
from hiermarket.stages.clearing_model import RECOURSE, public
from hiermarket.stages.schemes import Scheme, every_scheme
from hiermarket.stages.tso_model import GRID_BID

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.coordinated import Coordinated

SCHEME, PAYER, KIND, STATISTIC = "scheme", "payer", "kind", "statistic"
#: Who pays, in order.
PAYERS = ("DSOs", "TSO", "imbalance payers")
#: What is said of prices: the mean by duration, the lowest, the highest.
STATISTICS = ("mean", "lowest", "highest")
#: What a DSO pays the TSO for, and what the TSO pays bids for.
OVER_THE_INTERFACE = (Item.TBM_ENERGY, Item.INTERFACE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Schemes side by side; made by `compare`.

    Attributes
    ----------
    data : Dataset
        By ``scheme``: ``cost_to_payer`` (payer, measure), ``total_cost`` (measure),
        ``lost_load_cost, system_cost, mismatch_energy, mismatch_cost, ac_cost, account_balance``
        (kind), ``local_share, tbm_share, netting_share, interface_prices, nodal_prices``
        (statistic), ``forwarded_energy`` (direction), ``withheld_energy,
        energy_not_served, worst_violation`` (limit) and ``seconds``; units and meanings as
        in the nomenclature. A scheme without a result is NaN.
    results : mapping scheme → Coordinated
        What each scheme has made of the market.
    failures : mapping scheme → str
        Why a scheme has no result.
    """

    data: xr.Dataset
    results: Mapping[str, Coordinated]
    failures: Mapping[str, str]

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each scheme, one column for each number, as ``name[label,label]``."""
        import pandas as pd

        columns = {}
        for name, array in self.data.data_vars.items():
            rest = [dim for dim in array.dims if dim != SCHEME]
            flat = array.transpose(SCHEME, *rest).values.reshape(array.sizes[SCHEME], -1)
            labels = pd.MultiIndex.from_product([array.indexes[dim] for dim in rest]) if rest else [()]
            for column, label in zip(flat.T, labels, strict=True):
                columns[f"{name}[{','.join(map(str, label))}]" if rest else str(name)] = column
        return pd.DataFrame(columns, index=pd.Index(self.data[SCHEME].values, name=SCHEME))

    def write(self, path: str | Path) -> Path:
        """Write the numbers to a file, netCDF or CSV by its ending; returns the file.

        Parameters
        ----------
        path : str or Path
            Ends in ``.nc`` or ``.csv``.

        Raises
        ------
        DataError
            For any other ending.
        """
        target = Path(path)
        if target.suffix == ".nc":
            return write_results(xr.DataTree(self.data), target)
        if target.suffix == ".csv":
            self.frame.to_csv(target)
            return target
        raise DataError([Fault("path", target.name, "a name that ends in .nc or .csv", "Choose one of both.")])


def compare(
    market: BalancingMarket,
    schemes: Sequence[Scheme] | None = None,
    *,
    grid: LinDistFlow | None = None,
    solver: SolverOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Balance one market by several coordination schemes, and put the results side by side.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, prices. All schemes take its bids as they are, unless a
        `Sequential` says how BSPs behave.
    schemes : sequence of Scheme, optional
        All of them by default, with every way of forwarding.
    grid : LinDistFlow, optional
        Loss passes and rating polygon, the same for every scheme; two linearised loss passes
        by default.
    solver : SolverOptions, optional
        Tolerances and limits.
    progress : callable, optional
        Called with the name of each scheme before it begins.

    Returns
    -------
    Comparison
        Numbers by scheme, and the results that they are made from.

    Raises
    ------
    DataError
        When two schemes have the same name, none is given, or one is no scheme.

    Notes
    -----
    ``system_cost`` of `Common` is the least of all schemes whose result satisfies the grids,
    for the same bids and the same loss constants: with ``LinDistFlow(loss_passes=0)`` always.
    With losses every scheme linearises at its own state; what the AC power flow imports
    beyond what was cleared is ``mismatch_energy``, and ``ac_cost`` pays it at the price of the
    interface: to first order, the cost of what really flows. `TsoOnly` and schemes that forward
    what the grid cannot carry may be cheaper: ``worst_violation`` says what that breaks.
    """
    chosen = every_scheme() if schemes is None else tuple(schemes)
    strange = [repr(scheme) for scheme in chosen if isinstance(scheme, str | type)]
    if strange:
        remedy = "Give schemes such as hm.Common() or hm.Sequential(hm.OfferCurve())."
        raise DataError([Fault("schemes", some_labels(strange), "values of schemes", remedy)])
    _check_names([scheme.name for scheme in chosen])
    results: dict[str, Coordinated] = {}
    failures: dict[str, str] = {}
    rows: list[xr.Dataset | None] = []
    known_losses = _scheduled_losses(market, grid or LinDistFlow())
    for scheme in chosen:
        if progress is not None:
            progress(scheme.name)
        began = time.perf_counter()
        try:
            found = scheme.coordinate(market, grid=grid or LinDistFlow(), solver=solver)
        except (SolveError, ModelError) as error:
            failures[scheme.name] = str(error)
            rows.append(None)
            continue
        results[scheme.name] = found
        rows.append(_figures(found, known_losses).assign(seconds=time.perf_counter() - began))
    names = xr.DataArray([scheme.name for scheme in chosen], dims=SCHEME, name=SCHEME)
    known = next((row for row in rows if row is not None), None)
    if known is None:
        return Comparison(xr.Dataset(coords={SCHEME: names}), results, failures)
    empty = xr.full_like(known, np.nan)
    data = xr.concat([empty if row is None else row for row in rows], dim=names)
    return Comparison(freeze(describe(data)), results, failures)


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        found = f"{some_labels(twice)} more than once" if twice else "no scheme"
        remedy = "Leave the second one out." if twice else "Name one, or leave the argument out for all."
        raise DataError([Fault("schemes", found, "schemes of different names", remedy)])


def _scheduled_losses(market: BalancingMarket, grid: LinDistFlow) -> xr.DataArray | float:
    """Return what a lossless P^sched leaves out of the scheduled state, (feeder, period) [MW]: nobody's imbalance."""
    if grid.loss_passes:
        return 0.0
    plan = market.feeders.data
    linear = linear_flow(market.feeders, lossless(market.feeders), bare(plan.p_scheduled), bare(plan.q_scheduled))
    return bare(scheduled(market).p_interface) - bare(linear.p_interface)


def _figures(found: Coordinated, known_losses: xr.DataArray | float) -> xr.Dataset:
    """Return the numbers of one scheme."""
    market, flat, duration = found.market, found.flat, bare(found.market.duration)
    cost = _cost_by_payer(found)
    total = cost.sel({PAYER: list(PAYERS[:2])}).sum(PAYER, skipna=False)
    lost, lost_reactive = _not_served(found)
    lost_cost = market.rules.value_of_lost_load * (lost + lost_reactive)
    mismatch = duration * (bare(flat["ac_mismatch"]) - known_losses)
    price = bare(flat["interface_price"])
    mismatch_cost = (mismatch * price).sum(skipna=False)
    system = total.sel({MEASURE: "bid cost"}, drop=True) + lost_cost
    return xr.Dataset(
        {
            "cost_to_payer": cost,
            "total_cost": total,
            "lost_load_cost": lost_cost,
            "system_cost": system,
            "mismatch_energy": mismatch.sum(skipna=False),
            "mismatch_cost": mismatch_cost,
            "ac_cost": system + mismatch_cost,
            "account_balance": _balance(found),
            **_shares(found, lost),
            "interface_prices": _statistics(price, duration),
            "nodal_prices": _statistics(bare(flat["nodal_price"]), duration),
            **_forwarded(found),
            "energy_not_served": lost,
            "worst_violation": xr.DataArray(
                [float(flat[name].max(skipna=False)) for name in LIMITS], coords={LIMIT: list(LIMITS)}
            ),
        }
    )


def _cost_by_payer(found: Coordinated) -> xr.DataArray:
    """Return what DSOs, TSO and imbalance payers pay, as payment, bid cost and true cost, (payer, measure) [EUR].

    What the TSO changes of local bids is the TSO's.
    """
    market, flat = found.market, found.flat
    paid = found.settlement.data["payment"].sum(PERIOD)
    kind = paid[KIND_OF].values
    given = (-paid.isel({ACCOUNT: kind == some}).sum(ACCOUNT) for some in (Kind.DSO, Kind.TSO))
    dso, tso = (amount.to_series() for amount in given)
    interface = float(dso.reindex(OVER_THE_INTERFACE).sum())
    first, final = (local_costs(market, bare(flat[name])) for name in ("activation", "final_activation"))
    grid = _grid_costs(found)
    payers = [Kind.PAYERS, Kind.GRID_PAYERS]
    values = np.full((len(PAYERS), len(MEASURES)), np.nan)
    values[0] = [float(dso.reindex([Item.ACTIVATION]).sum()), *first]
    values[1] = [float(tso.reindex([Item.FORWARDED, Item.GRID_ACTIVATION]).sum()), *np.subtract(final, first) + grid]
    values[0] += interface
    values[1] -= interface
    values[2, 0] = -float(paid.isel({ACCOUNT: np.isin(kind, payers)}).sum())
    return xr.DataArray(values, coords={PAYER: list(PAYERS), MEASURE: list(MEASURES)})


def _grid_costs(found: Coordinated) -> np.ndarray:
    """Bid cost and true cost of the transmission bids [EUR]."""
    offers = found.grid_bids
    energy = bare(found.market.duration) * bare(offers.sign) * _of_grid(found)
    return np.array([float((energy * bare(offers.data[name])).sum()) for name in ("price", "cost")])


def _of_grid(found: Coordinated) -> xr.DataArray:
    return bare(found.flat["grid_activation"]).rename({GRID_BID: BID})


def _balance(found: Coordinated) -> xr.DataArray:
    """Return what all accounts of each kind receive, (kind) [EUR]."""
    total = found.settlement.data["payment"].sum([ITEM, PERIOD])
    of = total[KIND_OF].values
    values = [float(total.values[of == kind].sum()) for kind in Kind]
    return xr.DataArray(values, coords={KIND: [kind.value for kind in Kind]})


def _not_served(found: Coordinated) -> tuple[float, float]:
    """Return the active and the reactive energy that is not served, of feeders and transmission grid [MWh, Mvarh]."""
    flat, duration = found.flat, bare(found.market.duration)
    sums = [(duration * bare(flat[public(name)])).fillna(0.0).sum() for name in RECOURSE]
    grid = (duration * (bare(flat["grid_unserved"]) + bare(flat["grid_spilled"]))).sum()
    return float(sums[0] + sums[1] + grid), float(sums[2] + sums[3])


def _shares(found: Coordinated, lost: float) -> dict[str, float]:
    """Return who covers how much of the gross imbalance energy of feeders and transmission grid."""
    market, own = found.market, found.market.transmission.imbalance
    duration = bare(market.duration)
    gross = float(gross_energy(market.imbalance * duration).sum())
    gross += 0.0 if own is None else float(gross_energy(bare(own) * duration).sum())
    local = float(by_direction(bare(found.flat["final_activation"]) * duration, market.bids).sum())
    tbm = float((_of_grid(found) * duration).sum())
    if gross <= 0:
        return dict.fromkeys(("local_share", "tbm_share", "netting_share"), np.nan)
    shares = {"local_share": local / gross, "tbm_share": tbm / gross}
    return {**shares, "netting_share": 1.0 - (local + tbm + lost) / gross}


def _statistics(price: xr.DataArray, duration: xr.DataArray) -> xr.DataArray:
    """Return the mean over labels, by duration, and the lowest and highest of all [EUR/MWh]."""
    dim = BUS if BUS in price.dims else FEEDER
    mean = (price.mean(dim) * duration).sum() / duration.sum()
    values = [float(mean), float(price.min()), float(price.max())]
    return xr.DataArray(values, coords={STATISTIC: list(STATISTICS)})


def _forwarded(found: Coordinated) -> dict[str, xr.DataArray | float]:
    """Return the energy that is forwarded and withheld; nothing, and NaN, where nothing is ever forwarded."""
    ways = {DIRECTION: list(DIRECTIONS)}
    if found.forwarded is None:
        return {"forwarded_energy": xr.DataArray([0.0, 0.0], coords=ways), "withheld_energy": np.nan}
    flat, duration = found.forwarded.flat, bare(found.market.duration)
    own, undone = (
        by_direction(bare(flat[name]) * duration, found.market.bids) for name in ("forwarded", "forwarded_undo")
    )
    # undoing an up bid is downward regulation, and the reverse
    return {
        "forwarded_energy": xr.DataArray(own + undone[::-1], coords=ways),
        "withheld_energy": float((bare(flat["withheld"]) * duration).sum()),
    }
