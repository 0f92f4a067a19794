"""What a box of forwarded volumes may do to the resources behind the bids: rows over all periods of a feeder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.sparse import csr_array

from hiermarket.labels import BID, PERIOD, RESOURCE
from hiermarket.market.bids import MINIMUM
from hiermarket.market.resource_paths import KEPT, drawn, energy_bounds, output_of, ramp_room, stored_energy
from hiermarket.market.resources import WINDOW, EndLevel
from hiermarket.schema import bare, positions
from hiermarket.solving.sparse_rows import labelled

if TYPE_CHECKING:
    import linopy
    from numpy.typing import NDArray

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.resources import Resources
    from hiermarket.stages.largest_box import Volumes

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]
    Terms = tuple[Ints, Ints, Floats]


def forwardable(market: BalancingMarket, activation: xr.DataArray, most: Volumes) -> Volumes:
    """Return the volumes of which any part may be used without a thought of other periods or of a minimum.

    Nothing of a resource in a window with a rebound, or whose stored energy must end at a given
    level; of a bid with a minimum volume only what lies between its minimum and its volume, where
    it is accepted.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    activation : DataArray (bid, period)
        MW ≥ 0.
    most : Volumes
        What is left of the bids.
    """
    own, back = (array.transpose(BID, PERIOD) for array in (most.own, most.back))
    if not market.bids.is_divisible:
        least = bare(market.bids.data[MINIMUM])
        divisible, accepted = least <= 0, activation >= least - KEPT
        own = own.where(divisible | accepted, 0.0)
        back = back.where(divisible, np.minimum(back, (activation - least).clip(min=0.0)))
    table = market.resources
    if table is not None:
        owner = table.owner_of(market.bids)
        held = (table.data[WINDOW] != "").values | (table.data.end_level == EndLevel.EQUAL.value).values[:, None]
        gone = own.copy(data=(owner[:, None] >= 0) & held[owner])
        own, back = own.where(~gone, 0.0), back.where(~gone, 0.0)
    return type(most)(own, back)


@dataclass(frozen=True, slots=True, eq=False)
class ResourceBox:
    """The limits of resources that not every volume keeps; made by `resource_box`.

    Attributes
    ----------
    market : BalancingMarket
        Bids and resources.
    table : Resources
        Its resources.
    output, energy : arrays (resource, period)
        The path that is activated already [MW, MWh].
    raised, lowered : arrays (resource, period)
        The most that all bids together raise and lower the output [MW].
    every_point : bool
        Whether every point of the box must be possible, (13), or each direction as a whole, (12).
    joint, ramps, emptied, filled : bool arrays
        Which rows count: (resource, period) for the first two, (resource,) for the paths of energy.
    """

    market: BalancingMarket
    table: Resources
    output: Floats
    energy: Floats
    raised: Floats
    lowered: Floats
    every_point: bool
    joint: Bools
    ramps: Bools
    emptied: Bools
    filled: Bools

    @property
    def counts(self) -> Bools:
        """Which resources have a row, (resource, period)."""
        whole = self.emptied | self.filled | self.ramps.any(axis=1)
        return np.asarray(self.joint | whole[:, None])

    @property
    def cases(self) -> Bools:
        """Where there is a row, (feeder, period)."""
        names = self.market.feeder_names
        found: Bools = np.zeros((len(names), len(self.market.periods)), dtype=bool)
        np.logical_or.at(found, positions(names, self.table.data.resource_feeder.values), self.counts)
        return found

    def add_rows(self, model: linopy.Model, labels: dict[str, Ints]) -> None:
        """Add the rows of the resources to the model of a box.

        Parameters
        ----------
        model : linopy.Model
            Of the box.
        labels : mapping name → int array (bid, period)
            Labels of the variables of own volumes and of undone ones.
        """
        rows = _Rows(self, model, labels)
        rows.add_joint()
        rows.add_ramps()
        rows.add_energy(self.emptied, "emptied")
        rows.add_energy(self.filled, "filled")

    def is_untrue(self, columns: Ints, model: linopy.Model, labels: dict[str, Ints], x: Floats) -> Bools:
        """Say at which columns a point fills a storage beyond its bounds, by its true physics.

        Parameters
        ----------
        columns : int array (n,)
            Labels of the columns.
        model : linopy.Model
            With the rows of `add_rows`.
        labels : mapping
            As for `add_rows`.
        x : array (n,)
            Values.
        """
        untrue: Bools = np.zeros(len(columns), dtype=bool)
        values = {
            name: np.where(at >= 0, np.nan_to_num(x[np.searchsorted(columns, np.maximum(at, columns[0]))]), 0.0)
            for name, at in labels.items()
        }
        lowered = _spread(self.market, self.table, values.get(OWN), values.get(BACK))[1]
        broken = _moved(self, -lowered, self.table) > _rooms(self)[1] + KEPT
        at = model.variables["Resource-filled"].labels
        for number in np.flatnonzero(broken.any(axis=1) & self.filled):
            untrue[
                np.searchsorted(columns, at.sel({RESOURCE: str(self.table.data[RESOURCE].values[number])}).values)
            ] = True
        return untrue


#: Names of the variables of a box.
OWN, BACK = "Bid-forwarded", "Bid-forwarded_undo"


def resource_box(
    market: BalancingMarket, activation: xr.DataArray, most: Volumes, *, every_point: bool
) -> ResourceBox | None:
    """Find which limits of resources count for volumes that are forwarded; None where none does.

    Parameters
    ----------
    market : BalancingMarket
        Bids and resources.
    activation : DataArray (bid, period)
        What is activated already, MW ≥ 0.
    most : Volumes
        What there is, of `forwardable`.
    every_point : bool
        True for (13), False for (12).
    """
    table = market.resources
    if table is None:
        return None
    output = output_of(table, market.bids, activation.fillna(0.0))
    volumes = (a.transpose(BID, PERIOD).values for a in (most.own, most.back))
    raised, lowered = _spread(market, table, *volumes)
    energy = stored_energy(table, output, market.duration).values
    nowhere: Bools = np.zeros(raised.shape, dtype=bool)
    nobody: Bools = np.zeros(len(raised), dtype=bool)
    box = ResourceBox(
        market, table, output.values, energy, raised, lowered, every_point, nowhere, nowhere, nobody, nobody
    )
    up, down = _ramp_rooms(box)
    before_up, before_down = (np.pad(a, ((0, 0), (1, 0)))[:, :-1] for a in (raised, lowered))
    with np.errstate(invalid="ignore"):
        over = raised > table.data.p_max.values - box.output, lowered > box.output - table.data.p_min.values
        paths = [
            np.asarray((_moved(box, change, table) > room).any(axis=1)) & table.is_storage
            for change, room in zip((raised, -lowered), _rooms(box), strict=True)
        ]
    found = replace(
        box,
        joint=over[0] | over[1],
        ramps=(raised + before_down > up) | (lowered + before_up > down),
        emptied=paths[0],
        filled=paths[1],
    )
    return found if found.counts.any() else None


def _spread(
    market: BalancingMarket, table: Resources, own: Floats | None, back: Floats | None
) -> tuple[Floats, Floats]:
    """Return what all bids together raise and lower the output of each resource, (resource, period)."""
    owner, is_up = table.owner_of(market.bids), market.bids.sign.values > 0
    shape = (len(table.labels), len(market.periods))
    totals = np.zeros(shape), np.zeros(shape)
    for values, rises in ((own, is_up), (back, ~is_up)):
        if values is not None:
            for total, way in zip(totals, (rises, ~rises), strict=True):
                mine = way & (owner >= 0)
                np.add.at(total, owner[mine], values[mine])
    return totals


def _moved(box: ResourceBox, change: Floats, table: Resources) -> Floats:
    """Return the energy that a change of the output moves until each period, ≥ 0 [MWh]."""
    eta = table.data.charging.values[:, None], table.data.discharging.values[:, None]
    hours = box.market.duration.values
    moved: Floats = np.abs(np.cumsum(hours * (drawn(box.output + change, *eta) - drawn(box.output, *eta)), axis=1))
    return moved


def _rooms(box: ResourceBox) -> tuple[Floats, Floats]:
    """Return what the stored energy may fall and rise by, ≥ 0, (resource, period) [MWh]."""
    low, high = energy_bounds(box.table, box.market.duration)
    return np.maximum(box.energy - low, 0.0), np.maximum(high - box.energy, 0.0)


def _ramp_rooms(box: ResourceBox) -> tuple[Floats, Floats]:
    """Return by how much more the output may rise and fall into each period, ≥ 0, (resource, period) [MW]."""
    up, down = ramp_room(box.table, box.market.duration)
    step = np.diff(box.output, axis=1, prepend=np.nan_to_num(box.table.data.output_before.values)[:, None])
    return np.maximum(up - step, 0.0), np.maximum(down + step, 0.0)


class _Rows:
    """The rows of a box's resources, over a grid (resource, period) that is laid out flat."""

    def __init__(self, box: ResourceBox, model: linopy.Model, labels: dict[str, Ints]) -> None:
        self._box, self._model = box, model
        self._shape = box.output.shape
        owner, is_up = box.table.owner_of(box.market.bids), box.market.bids.sign.values > 0
        self._raises: list[tuple[Ints, Ints]] = []
        self._lowers: list[tuple[Ints, Ints]] = []
        for name, rises in ((OWN, is_up), (BACK, ~is_up)):
            if name in labels:
                for found, way in ((self._raises, rises), (self._lowers, ~rises)):
                    mine = np.flatnonzero(way & (owner >= 0))
                    found.append((owner[mine].astype(np.int64), labels[name][mine]))

    def add_joint(self) -> None:
        """Add p_min ≤ p − D,  p + U ≤ p_max."""
        box, data = self._box, self._box.table.data
        # (44)  U ≤ p_max − p,  D ≤ p − p_min                                            ∀ r, t   [MW]
        self._add("joint_limit_upper", [self._bids(self._raises)], data.p_max.values - box.output, box.joint)
        self._add("joint_limit_lower", [self._bids(self._lowers)], box.output - data.p_min.values, box.joint)

    def add_ramps(self) -> None:
        """Add the rows of the ramps."""
        box = self._box
        rows = np.broadcast_to(box.ramps.any(axis=1, keepdims=True), self._shape)
        up, down = _ramp_rooms(box)
        u, d = self._bids(self._raises), self._bids(self._lowers)
        u_before, d_before = self._bids(self._raises, before=True), self._bids(self._lowers, before=True)
        if box.every_point:
            # (44)  U_t + D_(t−1) ≤ R_up δ − (p_t − p_(t−1)),  D_t + U_(t−1) ≤ R_down δ + …     ∀ r, t   [MW]
            self._add("ramp_up", [u, d_before], up, rows)
            self._add("ramp_down", [d, u_before], down, rows)
            return
        for name, now, then, rise, fall in (("up", u, u_before, up, down), ("down", d, d_before, down, up)):
            # (12)  U_t − U_(t−1) ≤ R_up δ − …, and the other way round                     ∀ r, t   [MW]
            self._add(f"ramp_further_{name}", [now, _times(then, -1.0)], rise, rows)
            self._add(f"ramp_back_{name}", [_times(now, -1.0), then], fall, rows)

    def add_energy(self, which: Bools, name: str) -> None:
        """Add the path of everything up (``emptied``) or of everything down (``filled``)."""
        if not which.any():
            return
        box, table, emptied = self._box, self._box.table, name == "emptied"
        labels, hours = table.labels[which], box.market.duration.values
        # the part of a volume that comes first: less charging, or less discharging
        first = np.maximum(-box.output if emptied else box.output, 0.0)
        most = box.raised if emptied else box.lowered
        room = _rooms(box)[0 if emptied else 1]
        eta_c, eta_d = table.data.charging.values[:, None], table.data.discharging.values[:, None]
        of_first, of_rest = (eta_c, 1 / eta_d) if emptied else (1 / eta_d, eta_c)
        upper = {f"{name}_first": np.minimum(first, most), f"{name}_rest": np.maximum(most - first, 0.0), name: room}
        if not emptied:
            # concave: a part of the rest is cheap in energy, and only there when the first part is all used
            upper[f"{name}_first"] = first
        variables = {}
        for part, bound in upper.items():
            array = xr.DataArray(bound[which], coords={RESOURCE: labels, PERIOD: table.data.indexes[PERIOD]})
            variables[part] = self._on_grid(
                self._model.add_variables(lower=0, upper=array, name=f"Resource-{part}"), which
            )
        at_first, at_rest, at_path = variables.values()
        rows = np.broadcast_to(which[:, None], self._shape)
        # (44)  U = U¹ + U²,  U¹ ≤ max(−p, 0)  and  D = D¹ + D²,  D¹ ≤ max(p, 0)          ∀ storage, t   [MW]
        parts = [self._own(at_first), self._own(at_rest)]
        moves = self._raises if emptied else self._lowers
        self._add(f"{name}_parts", [*parts, _times(self._bids(moves), -1.0)], 0 * room, rows, equal=True)
        # (44)  Σ_(s ≤ t) Δ (η_c U¹ + U²/η_d) ≤ e_t − e_min,   Σ Δ (D¹/η_d + η_c D²) ≤ e_max − e_t   [MWh]
        path = [
            self._own(at_path), self._own(at_path, -1.0, before=True), self._own(at_first, -hours * of_first),
            self._own(at_rest, -hours * of_rest),
        ]  # fmt: skip
        self._add(f"{name}_energy", path, 0 * room, rows, equal=True)
        lossy = (table.data.charging * table.data.discharging).values[:, None] < 1
        both = rows & lossy & (first > KEPT) & (most > first)
        if emptied or not both.any():
            return
        here = both.any(axis=1)
        mask = xr.DataArray(both[here], coords={RESOURCE: table.labels[here], PERIOD: table.data.indexes[PERIOD]})
        b = self._model.add_variables(binary=True, coords=mask.coords, mask=mask, name="Resource-charges")
        at_b = self._on_grid(b, here)
        # (44)  D² ≤ (D_max − p) b,  D¹ ≥ p b,  b ∈ {0, 1}                             ∀ storage, t with p > 0   [MW]
        self._add("rest_after", [self._own(at_rest), self._own(at_b, -np.maximum(most - first, 0.0))], 0 * room, both)
        self._add("first_before", [self._own(at_b, first), self._own(at_first, -1.0)], 0 * room, both)

    def _on_grid(self, variable: linopy.Variable, which: Bools) -> Ints:
        labels = np.full(self._shape, -1, dtype=np.int64)
        labels[which] = variable.labels.transpose(RESOURCE, PERIOD).values
        return labels

    def _own(self, labels: Ints, coefficient: Floats | float = 1.0, *, before: bool = False) -> Terms:
        """Return the terms of one variable on the grid, of the same period or of the one before."""
        row = np.arange(labels.size).reshape(self._shape)
        values = np.broadcast_to(coefficient, self._shape)
        if before:
            row, labels, values = row[:, 1:], labels[:, :-1], values[:, 1:]
        return row.ravel(), labels.ravel(), values.ravel()

    def _bids(self, groups: list[tuple[Ints, Ints]], *, before: bool = False) -> Terms:
        """Return the terms of the sum over bids of each resource, of the same period or of the one before."""
        periods = self._shape[1]
        rows, found = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for resource, labels in groups:
            row = resource[:, None] * periods + np.arange(periods)
            shift = (row[:, 1:], labels[:, :-1]) if before else (row, labels)
            rows.append(shift[0].ravel())
            found.append(shift[1].ravel())
        row = np.concatenate(rows)
        return row, np.concatenate(found), np.ones(len(row))

    def _add(self, name: str, terms: list[Terms], rhs: Floats, mask: Bools, *, equal: bool = False) -> None:
        """Add rows where a mask is true, the right-hand side finite, and there is something on the left."""
        row, label, value = (np.concatenate(arrays) for arrays in zip(*terms, strict=True))
        kept = (label >= 0) & (mask & np.isfinite(rhs)).ravel()[row]
        row, label, value = row[kept], label[kept], value[kept]
        held, place = np.unique(row, return_inverse=True)
        if not len(held):
            return
        matrix = csr_array((value, (place, label)), shape=(len(held), int(label.max()) + 1))
        resources, periods = self._box.table.labels, self._box.market.periods
        names = [f"{resources[r]} {periods[t]}" for r, t in zip(*np.divmod(held, self._shape[1]), strict=True)]
        where = xr.DataArray(np.arange(len(held)), dims=f"{name}_row", coords={f"{name}_row": names})
        left = labelled(self._model, matrix, np.zeros(len(held)), where)
        right = xr.DataArray(np.maximum(rhs.ravel()[held], 0.0), coords=where.coords, dims=where.dims)
        self._model.add_constraints(left == right if equal else left <= right, name=f"Resource-{name}")


def _times(terms: Terms, factor: float) -> Terms:
    row, label, value = terms
    return row, label, value * factor
