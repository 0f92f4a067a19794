"""What a DSO forwards to the TSO, by BSP, and what its grid holds back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BID, PERIOD
from hiermarket.plot.prices import stack_periods
from hiermarket.plot.style import INK, choose_feeder, colour_of, label, legend_beside, own_axes, period_axis, styled
from hiermarket.schema import bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiermarket.stages.coordination import Chain


def capability(chain: Chain, *, feeder: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the forwarded volumes of a feeder over the periods, and what is withheld.

    Parameters
    ----------
    chain : Chain
        The results of a run.
    feeder : str, optional
        The feeder; the first by default.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Upward regulation above zero, downward regulation below. Undoing an up activation is
        downward regulation, and the reverse.

    Raises
    ------
    DataError
        When there is no such feeder.
    """
    market, flat, data = chain.market, chain.forwarded.flat, chain.market.bids.data
    name = choose_feeder(market, feeder)
    sign = market.bids.sign.values[:, None]
    own, undone, left, undo = (
        bare(flat[array]).transpose(BID, PERIOD).values
        for array in ("forwarded", "forwarded_undo", "remaining", "remaining_undo")
    )
    here = data.bid_feeder.values == name
    stacks = {}
    for bsp, colour in colour_of(market).items():
        mine = here & (data.bid_bsp.values == bsp)
        stacks[bsp] = (np.concatenate([(sign * own)[mine], -(sign * undone)[mine]]), colour)
    held = np.concatenate([(sign * (left - own))[here], -(sign * (undo - undone))[here]])
    stacks["withheld"] = (held, INK)
    with styled():
        axes = own_axes(ax, (9.0, 3.6))
        period_axis(axes, market.periods)
        stack_periods(axes, stacks, hatched=frozenset({"withheld"}))
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_ylabel(label("forwarded"))
        axes.set_title(f"Feeder {name}: capability forwarded to the TSO, up > 0, down < 0")
        axes.grid(axis="y", lw=0.5, alpha=0.5)
        legend_beside(axes)
    return axes
