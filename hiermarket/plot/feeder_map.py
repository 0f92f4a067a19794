"""Map of a feeder: voltages, limits that bind or are broken, resources, interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BUS, PERIOD
from hiermarket.network.rating_polygon import rating_polygon
from hiermarket.plot.style import (
    ALARM,
    FAINT,
    INK,
    MARKERS,
    NEUTRAL,
    choose_feeder,
    choose_period,
    colour_of,
    label,
    own_axes,
    styled,
)
from hiermarket.plot.tree_layout import layout
from hiermarket.schema import bare

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from hiermarket.schema import Labelled
    from hiermarket.stages.coordination import Chain

    Places = dict[str, tuple[float, int]]

#: A limit counts as binding this close to it, as broken this far beyond it [p.u., MVA].
NEAR = 1e-5
#: Above this many buses, only the buses with resources or at a limit are named.
MOST_NAMES = 100
#: Width and height of a bus and a row of the map [inches].
_STEP = (0.52, 0.85)


@dataclass(frozen=True, slots=True)
class _State:
    """What the map shows of each bus of a feeder, by position: worst over the periods drawn."""

    buses: list[str]
    voltage: NDArray[np.float64]
    broken: NDArray[np.bool_]
    binding: NDArray[np.bool_]
    overloaded: NDArray[np.bool_]
    full: NDArray[np.bool_]


def feeder_map(
    chain: Chain,
    *,
    state: Labelled | None = None,
    feeder: str | None = None,
    period: object | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a feeder as a tree, coloured by its voltages.

    Parameters
    ----------
    chain : Chain
        The results of a run.
    state : DsoClearing or Disaggregation, optional
        Whose AC check is drawn; the DSO's clearing by default. Limits that bind are those
        of the clearing in either case.
    feeder : str, optional
        The feeder; the first by default.
    period : timestamp or text, optional
        The start of one period. By default the colour is the lowest voltage of all
        periods, and a limit is marked when it binds or is broken in any.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    DataError
        When there is no such feeder or period.
    """
    market = chain.market
    name = choose_feeder(market, feeder)
    at = choose_period(market, period)
    shown = _state(chain, state or chain.clearing, name, at)
    grid = market.feeders.data
    owner = market.feeders.feeder_of
    parents = market.feeders.parents
    mine = {str(bus): str(up) for bus, up in parents.items() if owner[str(bus)] == name}
    places = layout(mine, str(market.feeders.roots[name]))
    rows = [y for _, y in places.values()]
    size = (max(x for x, _ in places.values()) * _STEP[0] + 2.6, (max(rows) - min(rows)) * _STEP[1] + 2.6)
    with styled():
        axes = own_axes(ax, (min(max(size[0], 6.5), 22.0), min(max(size[1], 3.0), 14.0)))
        _branches(axes, mine, places, shown)
        _buses(axes, places, shown)
        offset = _resources(axes, chain, name, places)
        busy = {*offset, *(bus for bus, b, v in zip(shown.buses, shown.broken, shown.binding, strict=True) if b or v)}
        names = dict(zip(map(str, grid[BUS].values), map(str, grid.bus_name.values), strict=True))
        # on a white ground: branches to laterals pass behind the names
        for bus, (x, y) in places.items():
            if len(places) <= MOST_NAMES or bus in busy:
                ground = {"fc": "white", "ec": "none", "pad": 0.6}
                axes.annotate(
                    names[bus], (x, y), (0, -9), textcoords="offset points", ha="center", va="top", fontsize=7.5,
                    bbox=ground,
                )  # fmt: skip
        axes.annotate(
            "interface", places[str(market.feeders.roots[name])], (0, 11), textcoords="offset points", ha="center",
            fontsize=7.5, style="italic",
        )  # fmt: skip
        _titles(axes, chain, shown, name, at)
        axes.set_axis_off()
        axes.set_xlim(-0.8, max(x for x, _ in places.values()) + 0.8)
        axes.set_ylim(min(rows) - 0.6, max(rows) + 0.6)
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=5,
            columnspacing=1.4,
            handletextpad=0.4,
            scatterpoints=1,
        )
    return axes


def _titles(axes: Axes, chain: Chain, shown: _State, feeder: str, period: int | None) -> None:
    periods = chain.market.periods
    if period is None and len(periods) > 1:
        when = f"lowest voltages of {len(periods)} periods"
    else:
        when = f"voltages at {periods[period or 0]:%Y-%m-%d %H:%M}"
    axes.set_title(f"Feeder {feeder}: {when}")
    if np.isfinite(shown.voltage).any():
        k = int(np.nanargmin(shown.voltage))
        bus = str(chain.market.feeders.data.bus_name.sel({BUS: shown.buses[k]}).item())
        text = f"lowest {shown.voltage[k]:.4f} p.u. at bus {bus}"
    else:
        text = "no AC solution"
    axes.set_title(text, loc="right", fontweight="normal", fontsize=9)


def _state(chain: Chain, result: Labelled, feeder: str, period: int | None) -> _State:
    grid = chain.market.feeders.data
    here = {BUS: np.flatnonzero(grid.bus_feeder.values == feeder)}
    when = slice(None) if period is None else slice(period, period + 1)

    def values(array: xr.DataArray) -> NDArray[np.float64]:
        labels = grid.indexes[BUS][here[BUS]]
        picked: NDArray[np.float64] = bare(array).sel({BUS: labels}).transpose(BUS, PERIOD).values[:, when]
        return picked

    flat, clearing = result.flat, chain.clearing
    broken = np.maximum(values(flat.undervoltage), values(flat.overvoltage)) > NEAR
    linear = values(clearing.flat.voltage)
    low, high, rating = (grid[n].isel(here).values[:, None] for n in ("v_min", "v_max", "s_max"))
    inner = (grid.depth.isel(here).values > 0)[:, None]
    binding = inner & ((linear < low + NEAR) | (linear > high - NEAR))
    cos, sin, reach = rating_polygon(clearing.grid.sides)
    cos, sin = cos[:, None, None], sin[:, None, None]
    # the largest side of the polygon (4): max_j α_j P + β_j Q
    used = (cos * values(clearing.flat.p_flow) + sin * values(clearing.flat.q_flow)).max(axis=0)
    full = used > rating * reach - NEAR
    return _State(
        buses=[str(bus) for bus in grid.indexes[BUS][here[BUS]]],
        voltage=np.fmin.reduce(values(flat.ac_voltage), axis=1),
        broken=np.any(broken, axis=1),
        binding=binding.any(axis=1),
        overloaded=np.any(values(flat.overload) > NEAR, axis=1),
        full=full.any(axis=1),
    )


def _branches(axes: Axes, parents: dict[str, str], places: Places, shown: _State) -> None:
    kinds = {"branch over its rating": (shown.overloaded, ALARM, 3.0), "branch at its rating": (shown.full, INK, 3.0)}
    told: set[str] = set()
    for k, bus in enumerate(shown.buses):
        if bus not in parents:
            continue
        (x0, y0), (x1, y1) = places[parents[bus]], places[bus]
        kind = next((word for word, (mask, _, _) in kinds.items() if mask[k]), "")
        colour, width = kinds[kind][1:] if kind else (NEUTRAL, 1.3)
        axes.plot(
            [x0, x1], [y0, y1], color=colour, lw=width, zorder=1, label=kind if kind not in told and kind else None
        )
        told.add(kind)


def _buses(axes: Axes, places: Places, shown: _State) -> None:
    x, y = np.array([places[bus] for bus in shown.buses], dtype=float).T
    known = np.isfinite(shown.voltage)
    if not known.all():
        axes.scatter(x[~known], y[~known], s=75, color=FAINT, zorder=2, label="no AC solution")
    dots = axes.scatter(
        x[known], y[known], s=75, c=shown.voltage[known], cmap="cividis", zorder=3, edgecolors="white", lw=0.6
    )
    for mask, colour, words in (
        (shown.binding & ~shown.broken, INK, "voltage at its limit"), (shown.broken, ALARM, "voltage beyond its limit")
    ):  # fmt: skip
        if mask.any():
            axes.scatter(x[mask], y[mask], s=150, facecolors="none", edgecolors=colour, lw=1.6, zorder=4, label=words)
    axes.scatter(x[:1], y[:1], s=120, marker="s", color=INK, zorder=3)
    bar = axes.figure.colorbar(dots, ax=axes, fraction=0.025, pad=0.01, aspect=22)
    bar.set_label(label("ac_voltage"))
    bar.outline.set_visible(False)


def _resources(axes: Axes, chain: Chain, feeder: str, places: Places) -> set[str]:
    """Mark the resources of every BSP above their buses; returns these buses."""
    from matplotlib.transforms import ScaledTranslation

    data = chain.market.bids.data
    above: dict[str, int] = {}
    for k, (bsp, colour) in enumerate(colour_of(chain.market).items()):
        mine = (data.bid_bsp.values == bsp) & (data.bid_feeder.values == feeder)
        told = False
        for bus in dict.fromkeys(map(str, data.bid_node.values[mine])):
            above[bus] = above.get(bus, 0) + 1
            shift = ScaledTranslation(0, (3 + 11 * above[bus]) / 72, axes.figure.dpi_scale_trans)
            axes.scatter(
                *places[bus], s=46, marker=MARKERS[k % len(MARKERS)], color=colour, zorder=5,
                transform=axes.transData + shift, label=None if told else bsp,
            )  # fmt: skip
            told = True
    return set(above)
