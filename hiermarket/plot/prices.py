"""Prices and activation over the periods: nodal price band, TBM prices, who balances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, BUS, DIRECTION, DIRECTIONS, FEEDER, PERIOD
from hiermarket.plot.style import (
    ALARM,
    COLOURS,
    INK,
    NEUTRAL,
    choose_feeder,
    colour_of,
    label,
    legend_beside,
    own_axes,
    period_axis,
    styled,
)
from hiermarket.schema import bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from hiermarket.stages.coordination import Chain

#: Width and height of the picture of two panels, and of one panel alone [inches].
_BOTH, _ONE = (9.0, 6.2), (9.0, 3.3)
#: A volume below this is not drawn [MW].
_NOTHING = 1e-9


def prices(chain: Chain, *, feeder: str | None = None) -> Figure:
    """Draw the nodal prices of a feeder above what balances it.

    Parameters
    ----------
    chain : Chain
        The results of a run.
    feeder : str, optional
        The feeder; the first by default.

    Returns
    -------
    Figure
        Two panels with the same periods: `nodal_prices` and `activation`.

    Raises
    ------
    DataError
        When there is no such feeder.
    """
    import matplotlib.pyplot as plt

    with styled():
        name = choose_feeder(chain.market, feeder)
        figure, (above, below) = plt.subplots(2, 1, figsize=_BOTH, sharex=True, layout="constrained")
        nodal_prices(chain, feeder=name, ax=above)
        activation(chain, feeder=name, ax=below)
        above.set_xlabel("")
    return figure


def nodal_prices(chain: Chain, *, feeder: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the range of the nodal prices of a feeder, the price at its root, and those of the TBM.

    Parameters
    ----------
    chain : Chain
        The results of a run.
    feeder : str, optional
        The feeder; the first by default.
    ax : Axes, optional
        Where to draw.

    Raises
    ------
    DataError
        When there is no such feeder.
    """
    market = chain.market
    name = choose_feeder(market, feeder)
    mine = np.flatnonzero(chain.clearing.flat.bus_feeder.values == name)
    price: NDArray[np.float64] = chain.clearing.flat.nodal_price.transpose(BUS, PERIOD).values[mine]
    root = chain.clearing.flat.nodal_price.sel({BUS: str(market.feeders.roots[name])}).values
    with styled():
        axes = own_axes(ax, _ONE)
        edges = period_axis(axes, market.periods)
        low, high = np.fmin.reduce(price), np.fmax.reduce(price)
        axes.fill_between(
            edges,
            _to_end(low),
            _to_end(high),
            step="post",
            color=COLOURS[4],
            alpha=0.45,
            lw=0,
            label="range of all buses",
        )
        axes.stairs(root, edges, baseline=None, color=COLOURS[0], lw=1.8, label="at the root")
        for direction, dashes in zip(DIRECTIONS, ((4, 2), (1, 1.4)), strict=True):
            tbm = market.exchange_price.sel({FEEDER: name, DIRECTION: direction}).values
            axes.stairs(tbm, edges, baseline=None, color=INK, lw=1.2, ls=(0, dashes), label=f"TBM {direction}")
        axes.set_ylabel(label("nodal_price"))
        axes.set_title(f"Feeder {name}: prices")
        axes.grid(axis="y", lw=0.5, alpha=0.5)
        legend_beside(axes)
    return axes


def activation(chain: Chain, *, feeder: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw who balances a feeder: local bids by BSP and the TBM, up above and down below zero.

    Parameters
    ----------
    chain : Chain
        The results of a run.
    feeder : str, optional
        The feeder; the first by default.
    ax : Axes, optional
        Where to draw.

    Raises
    ------
    DataError
        When there is no such feeder.
    """
    market, flat, data = chain.market, chain.clearing.flat, chain.market.bids.data
    name = choose_feeder(market, feeder)
    signed = (bare(market.bids.sign) * bare(flat.activation)).transpose(BID, PERIOD).values
    tbm = bare(flat.tbm_volume).sel({FEEDER: name})
    stacks = {
        bsp: (signed[(data.bid_bsp.values == bsp) & (data.bid_feeder.values == name)], colour)
        for bsp, colour in colour_of(market).items()
    }
    both = np.stack([tbm.sel({DIRECTION: "up"}).values, -tbm.sel({DIRECTION: "down"}).values])
    stacks["TBM"] = (both, NEUTRAL)
    here = np.flatnonzero(flat.bus_feeder.values == name)
    lost = (bare(flat.unserved) - bare(flat.spilled)).transpose(BUS, PERIOD).values[here]
    stacks["not served"] = (lost, ALARM)
    buses = flat.indexes[BUS][here]
    need = market.imbalance.sel({BUS: buses}).transpose(BUS, PERIOD).values.sum(axis=0)
    with styled():
        axes = own_axes(ax, _ONE)
        edges = period_axis(axes, market.periods)
        stack_periods(axes, stacks, hatched=frozenset({"not served"}))
        axes.stairs(need, edges, baseline=None, color=INK, lw=1.3, label="net imbalance")
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_ylabel(label("activation").replace(" a ", " σa "))
        axes.set_title("Activation: up > 0, down < 0")
        axes.grid(axis="y", lw=0.5, alpha=0.5)
        legend_beside(axes)
    return axes


def stack_periods(
    axes: Axes, stacks: dict[str, tuple[NDArray[np.float64], str]], *, hatched: frozenset[str] = frozenset()
) -> None:
    """Stack bars over the periods, what is positive upwards and what is negative downwards.

    Parameters
    ----------
    axes : Axes
        Period k lies between k and k + 1.
    stacks : mapping name → (values (any, period), colour)
        In the order from zero outwards; rows are summed by sign. What is zero everywhere
        has no entry in the legend.
    hatched : frozenset of str
        Names that are drawn hatched instead of filled.
    """
    count = next(iter(stacks.values()))[0].shape[1]
    middle, width = np.arange(count) + 0.5, 0.82 if count > 1 else 0.3
    base = {1: np.zeros(count), -1: np.zeros(count)}
    for name, (values, colour) in stacks.items():
        told = False
        fill = "none" if name in hatched else colour
        for sign, parts in ((1, values.clip(min=0.0)), (-1, values.clip(max=0.0))):
            height = np.nansum(parts, axis=0)
            some = np.abs(height) > _NOTHING
            if some.any():
                bars = axes.bar(
                    middle[some], height[some], width, base[sign][some], lw=0.6, facecolor=fill, edgecolor=colour,
                    label=None if told else name,
                )  # fmt: skip
                for bar in bars if name in hatched else ():
                    bar.set_hatch("////")
                base[sign] = base[sign] + height
                told = True
    axes.use_sticky_edges = False


def _to_end(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Repeat the last value, for steps drawn from edge to edge."""
    return np.append(values, values[-1])
