"""The largest volumes that the limits of the grid allow: the LP behind (12) and (13), where one is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.sparse import csr_array

from hiermarket.labels import BID, FEEDER, PERIOD, Direction
from hiermarket.schema import bare, positions
from hiermarket.solving.blocks import BlockSolver, Work, solve_blocks
from hiermarket.solving.program import program_of, write_back
from hiermarket.solving.sparse_rows import labelled
from hiermarket.stages.integer_decisions import relaxed, solve_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.network.limits import LimitRows, Sites
    from hiermarket.solving.solver import SolverOptions
    from hiermarket.stages.resource_box import ResourceBox

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


#: A limit that all volumes together break by less is kept: rounding, and far less than an LP's tolerance [p.u.², MVA].
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Volumes:
    """Volumes of every bid in its own direction, and of its undo.

    Attributes
    ----------
    own, back : DataArray (bid, period)
        MW ≥ 0. An up bid injects between −back and +own, a down bid between −own and +back.
    """

    own: xr.DataArray
    back: xr.DataArray

    def extremes(self, sign: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the most that every bid injects, U, and the most that it takes, D, both ≥ 0."""
        is_up = sign > 0
        return self.own.where(is_up, self.back), self.back.where(is_up, self.own)

    def of_periods(self, periods: NDArray[np.intp]) -> Volumes:
        """Return the volumes of some periods, by position."""
        return Volumes(self.own.isel({PERIOD: periods}), self.back.isel({PERIOD: periods}))

    def replaced(self, periods: NDArray[np.intp], new: Volumes) -> tuple[Volumes, NDArray[np.intp]]:
        """Return the volumes with others in some periods, and the positions at which one has changed."""
        found, changed = [], np.zeros(len(periods), dtype=bool)
        for old, put in ((self.own, new.own), (self.back, new.back)):
            values = old.transpose(BID, PERIOD).values.copy()
            changed |= (values[:, periods] != put.transpose(BID, PERIOD).values).any(axis=0)
            values[:, periods] = put.transpose(BID, PERIOD).values
            found.append(old.transpose(BID, PERIOD).copy(data=values))
        return Volumes(*found), periods[changed]


@dataclass(frozen=True, slots=True, eq=False)
class CountingRows:
    """Limits that not every volume keeps: Σ up U + down D ≤ room over the sites of a feeder, in a period.

    Attributes
    ----------
    kind : array of str (row,)
        Which limit.
    bus, feeder, period : int arrays (row,)
        Where, by position.
    up, down : arrays (row, rank)
        Coefficients of U and D at each site.
    room : array (row,)
        Right-hand sides.
    resources : ResourceBox or None
        Limits of resources, over all periods.
    """

    kind: NDArray[np.str_]
    bus: Ints
    feeder: Ints
    period: Ints
    up: Floats
    down: Floats
    room: Floats
    resources: ResourceBox | None = None

    def cases(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return (feeder, period): where there is any."""
        found = np.zeros(shape, dtype=bool)
        found[self.feeder, self.period] = True
        return found if self.resources is None else found | self.resources.cases

    def entries(self, feeder: Ints) -> tuple[Ints, Ints]:
        """Return row and bid of every entry: each row has all bids of its feeder.

        Parameters
        ----------
        feeder : int array (bid,)
            Number of each bid's feeder.
        """
        of_feeder = [np.flatnonzero(feeder == number) for number in range(int(feeder.max(initial=-1)) + 1)]
        mine = [of_feeder[f] for f in self.feeder]
        row = np.repeat(np.arange(len(mine)), [len(bids) for bids in mine])
        return row, np.concatenate([*mine, np.zeros(0, dtype=np.int64)])


def counting_rows(
    limits: Iterable[LimitRows],
    who: Sites,
    owner: Ints,
    most: tuple[Floats, Floats],
    directions: tuple[Direction, ...] | None,
    *,
    least: float = ROUNDING,
) -> CountingRows:
    """Keep of all limits those that some volumes break.

    Parameters
    ----------
    limits : iterable of LimitRows
        Linearised limits c'x ≤ h.
    who : Sites
        Of the coefficients.
    owner : int array (bus,)
        The feeder of each bus.
    most : two arrays (bid, period)
        The most of U and D.
    directions : tuple of Direction or None
        (12) for these directions, each by itself; None for (13).
    least : float
        By how much a limit must be broken to be kept [p.u.², MVA]; rounding by default, −∞ keeps
        all of them.

    Notes
    -----
    As 0 ≤ U, D, a row Σ a U + b D ≤ h with h ≥ Σ a⁺ U_max + b⁺ D_max never binds: it is left
    out, and nothing changes.
    """
    high, low = (who.total(values) for values in most)
    parts: list[tuple[NDArray[np.str_], Ints, Ints, Floats, Floats, Floats]] = []
    for limit in limits:
        c, of = limit.coefficient, owner[limit.bus]
        nothing = np.broadcast_to(0.0, c.shape)
        rows = [(np.maximum(c, 0.0), np.maximum(-c, 0.0))] if directions is None else []
        # (12)  Σ_i c_i U_i ≤ h  and  −Σ_i c_i D_i ≤ h      ∀ limits: each direction by itself
        rows += [(c, nothing) if d is Direction.UP else (nothing, -c) for d in directions or ()]
        for up, down in rows:
            # (13)  Σ_i (c_i⁺ U_i + c_i⁻ D_i) ≤ h      ∀ limits: the worst point of the box
            worst = sum(
                np.einsum("nrt,nrt->nt", np.maximum(side, 0.0), size[of])
                for side, size in ((up, high), (down, low))
                if side is not nothing
            )
            at, t = np.nonzero(worst > limit.room + least)
            kind = np.full(len(at), limit.kind)
            parts.append((kind, limit.bus[at], t, up[at, :, t], down[at, :, t], limit.room[at, t]))
    kind, bus, period, up, down, room = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return CountingRows(kind, bus, owner[bus], period, up, down, room)


def together(parts: list[CountingRows], resources: ResourceBox | None = None) -> CountingRows:
    """Put the rows of several linearisations one behind the other, and those of resources beside them."""
    names = ("kind", "bus", "feeder", "period", "up", "down", "room")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return CountingRows(**arrays, resources=resources)


def largest(
    market: BalancingMarket,
    most: Volumes,
    rows: CountingRows,
    who: Sites,
    price: xr.DataArray,
    options: SolverOptions,
) -> tuple[Volumes, Work]:
    """Maximise the volumes under the rows; all of it where a feeder and period has none.

    Parameters
    ----------
    market : BalancingMarket
        Bids, and the labels of what is solved.
    most : Volumes
        What there is.
    rows : CountingRows
        The limits.
    who : Sites
        Of the rows' coefficients.
    price : DataArray (bid, period)
        EUR/MWh: of equally much volume the cheapest first, then the order of the bids.
    options : SolverOptions
        Tolerances and limits.

    Returns
    -------
    Volumes
        The largest.
    Work
        LPs, and how many feeders and periods needed none.
    """
    shape = (len(market.feeder_names), len(market.periods))
    cases = rows.cases(shape)
    screened = Work(screened=int((~cases).sum()))
    if not cases.any():
        return most, screened
    import linopy

    owner = positions(market.feeder_names, market.bids.data.bid_feeder.values)
    needed = xr.DataArray(
        cases[owner], dims=(BID, PERIOD), coords={BID: market.bids.data.indexes[BID], PERIOD: market.periods}
    )
    with linopy.options as settings:
        settings.set_value(semantics="v1")
        model = linopy.Model(sparse=True)
        variables = {}
        for name, volume in (("Bid-forwarded", most.own), ("Bid-forwarded_undo", most.back)):
            mask = needed & (volume > 0)
            if bool(mask.any()):
                variables[name] = model.add_variables(lower=0, upper=volume, mask=mask, name=name)
        if not variables:
            return most, screened
        labels = {name: variable.labels.transpose(BID, PERIOD).values for name, variable in variables.items()}
        if len(rows.room):
            where = _row_labels(market, rows)
            taken = labelled(model, _matrix(market, rows, who, labels, owner), np.zeros(len(rows.room)), where)
            # (12), (13)  Σ c U + c' D ≤ h                                      ∀ limits that count   [p.u.², MVA]
            model.add_constraints(taken <= xr.DataArray(rows.room, coords=where.coords, dims=where.dims), name="Limit")
        box = rows.resources
        if box is not None:
            box.add_rows(model, labels)
        # (12), (13)  max Σ (U + D)                                                      [MW]
        whole = [(1 * variable).sum() for variable in variables.values()]
        model.add_objective(whole[0] if len(whole) == 1 else whole[0] + whole[1], sense="max")
        program = program_of(model)
        then = _cheapest_first(labels, market, price, program.columns)
        if box is None:
            answers = solve_blocks(program, options, then=then)
        else:
            then.append(_earliest_first(labels, program.columns))
            blocks = BlockSolver(relaxed(program), options)
            untrue = partial(box.is_untrue, program.columns, model, labels)
            answers = solve_whole(program, blocks, np.ones(blocks.count, dtype=bool), then, untrue)
        of_column = answers.block_of_column
        answers.require(
            "The forwardable capability", lambda block: _name(block, labels, market, program.columns, of_column)
        )
        write_back(model, program, answers.x, None, float(answers.objective.sum()))
        found = []
        for name, volume in (("Bid-forwarded", most.own), ("Bid-forwarded_undo", most.back)):
            solved = bare(variables[name].solution).transpose(BID, PERIOD) if name in variables else volume
            found.append(volume.where(solved.isnull(), solved.clip(min=0.0)))
    return Volumes(*found), screened + answers.work


def _row_labels(market: BalancingMarket, rows: CountingRows) -> xr.DataArray:
    """Return a number for each row, labelled by limit, bus and period."""
    buses = market.feeders.data["bus"].values[rows.bus]
    periods = market.periods.astype(str).to_numpy()[rows.period]
    names = [f"{kind} {bus} {t} {n}" for n, (kind, bus, t) in enumerate(zip(rows.kind, buses, periods, strict=True))]
    return xr.DataArray(np.arange(len(names)), dims="limit", coords={"limit": names})


def _matrix(market: BalancingMarket, rows: CountingRows, who: Sites, labels: dict[str, Ints], owner: Ints) -> csr_array:
    """Return the rows over labels of variables: every bid of the feeder at its site's coefficients."""
    is_up = bare(market.bids.sign).values > 0
    row, bid = rows.entries(owner)
    period = rows.period[row]
    at_up, at_down = rows.up[row, who.rank[bid]], rows.down[row, who.rank[bid]]
    values = {
        "Bid-forwarded": np.where(is_up[bid], at_up, at_down),
        "Bid-forwarded_undo": np.where(is_up[bid], at_down, at_up),
    }
    parts = []
    for name, label in labels.items():
        column, value = label[bid, period], values[name]
        held = (column >= 0) & (value != 0)
        parts.append((value[held], row[held], column[held]))
    data, r, c = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    width = max(int(label.max()) for label in labels.values()) + 1
    return csr_array((data, (r, c)), shape=(len(rows.room), width))


def _cheapest_first(
    labels: dict[str, Ints], market: BalancingMarket, price: xr.DataArray, columns: Ints
) -> list[Floats]:
    """Further costs by column: the price of what is forwarded, then the order of the bids."""
    sign = bare(market.bids.sign)
    by_price, by_order = np.zeros(len(columns)), np.zeros(len(columns))
    places = np.sqrt(1.0 + np.arange(2 * price.sizes[BID]))
    weights = {"Bid-forwarded": (sign * price, places[::2]), "Bid-forwarded_undo": (-sign * price, places[1::2])}
    for name, label in labels.items():
        bid, t = np.nonzero(label >= 0)
        at = np.searchsorted(columns, label[bid, t])
        cost, place = weights[name]
        by_price[at] = cost.transpose(BID, PERIOD).values[bid, t]
        by_order[at] = place[bid]
    return [by_price, by_order]


def _earliest_first(labels: dict[str, Ints], columns: Ints) -> Floats:
    """Further cost by column: of one bid's volumes in periods that hang together, the earlier one first."""
    cost = np.zeros(len(columns))
    for label in labels.values():
        bid, t = np.nonzero(label >= 0)
        cost[np.searchsorted(columns, label[bid, t])] = np.sqrt(1.0 + t)
    return cost


def _name(block: int, labels: dict[str, Ints], market: BalancingMarket, columns: Ints, of_column: Ints) -> str:
    """Name a block by its feeder and period."""
    first = columns[np.flatnonzero(of_column == block)[0]]
    bid, t = next(at[0] for at in (np.argwhere(label == first) for label in labels.values()) if len(at))
    return f"{FEEDER}={market.bids.data.bid_feeder.values[bid]}, {PERIOD}={market.periods[t]}"
