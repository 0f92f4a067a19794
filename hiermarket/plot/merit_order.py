"""The bids of one period in merit order, beside the TBM's prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, DIRECTION, FEEDER, PERIOD, Direction
from hiermarket.plot.style import INK, choose_feeder, choose_period, colour_of, label, legend_beside, own_axes, styled
from hiermarket.schema import bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiermarket.stages.coordination import Chain

#: Volumes below this are no step [MW].
_NOTHING = 1e-9


def merit_order(
    chain: Chain, *, period: object | None = None, feeder: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the bids of a period in merit order: up bids to the right, down bids to the left.

    Parameters
    ----------
    chain : Chain
        The results of a run.
    period : timestamp or text, optional
        The start of the period; by default the one with the most activated volume.
    feeder : str, optional
        The feeder; the first by default.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        A step for each bid, the activated part of it filled. Where the grid binds or losses
        count, bids are activated out of this order.

    Raises
    ------
    DataError
        When there is no such feeder or period.
    """
    from matplotlib.patches import Patch

    market, data = chain.market, chain.market.bids.data
    name = choose_feeder(market, feeder)
    here = data.bid_feeder.values == name
    price, volume, active = (
        bare(array).transpose(BID, PERIOD).values
        for array in (chain.clearing.flat.price, data.volume, chain.clearing.flat.activation)
    )
    chosen = choose_period(market, period)
    t = int(np.nansum(active[here], axis=0).argmax()) if chosen is None else chosen
    colours = colour_of(market)
    drawn: set[str] = set()
    with styled():
        axes = own_axes(ax, (8.0, 4.0))
        for direction in Direction:
            sign = direction.sign
            mine = np.flatnonzero(here & (data.bid_direction.values == direction.value) & (volume[:, t] > _NOTHING))
            # dearest down bids first: who pays most for the energy
            order = mine[np.argsort(sign * price[mine, t], kind="stable")]
            edge = 0.0
            for k in order:
                bsp = str(data.bid_bsp.values[k])
                for width, alpha in ((volume[k, t], 0.28), (np.nan_to_num(active[k, t]), 1.0)):
                    box = axes.bar(edge, price[k, t], sign * width, align="edge", color=colours[bsp], alpha=alpha)
                    box[0].set(edgecolor="white", linewidth=0.5)
                ends = (edge, edge + sign * volume[k, t])
                axes.plot(ends, (price[k, t], price[k, t]), color=colours[bsp], lw=2.0, solid_capstyle="butt")
                edge += sign * float(volume[k, t])
                drawn.add(bsp)
            cleared = float(np.nansum(active[mine, t]))
            tbm = float(market.exchange_price.sel({FEEDER: name, DIRECTION: direction.value}).values[t])
            ends = (0.0, edge or 0.05 * sign)
            axes.plot(ends, (tbm, tbm), color=INK, lw=1.2, ls="--")
            axes.annotate(
                f"TBM {direction.value}\n{tbm:.2f}", (ends[1], tbm), (4 * sign, 0), textcoords="offset points",
                ha="left" if sign > 0 else "right", va="center", fontsize=8.0,
            )  # fmt: skip
            if cleared > _NOTHING:
                axes.axvline(sign * cleared, color=INK, lw=1.0, ls=":")
                axes.annotate(
                    f"{cleared:.3f} MW activated", (sign * cleared, 1.0), (-4 * sign, -2), textcoords="offset points",
                    xycoords=("data", "axes fraction"), ha="right" if sign > 0 else "left", va="top", fontsize=8.0,
                )  # fmt: skip
        axes.axvline(0, color=INK, lw=0.8)
        axes.margins(x=0.14, y=0.16)
        axes.xaxis.set_major_formatter(lambda x, _: f"{abs(x):g}")
        axes.set_xlabel("← down     " + label("volume") + "     up →")
        axes.set_ylabel(label("price"))
        axes.set_title(f"Feeder {name}: bids of {market.periods[t]:%Y-%m-%d %H:%M}, activated part filled")
        patches = [Patch(color=colour, label=bsp) for bsp, colour in colours.items() if bsp in drawn]
        legend_beside(axes, patches)
    return axes
