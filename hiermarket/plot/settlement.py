"""Who pays whom: the accounts as bars, a part for each item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import PERIOD
from hiermarket.plot.style import COLOURS, INK, NEUTRAL, label, legend_below, own_axes, styled
from hiermarket.stages.accounts import ACCOUNT, ITEM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hiermarket.stages.settlement import Settlement

#: Less than this is not drawn [EUR].
_ROUNDING = 5e-3
#: How the items begin that concern the transmission grid alone.
_AMONG_TRANSMISSION = ("transmission", "congestion rent")
#: Accounts beyond these, the smallest, are left out.
MOST_ACCOUNTS = 24


def settlement(settled: Settlement, *, transmission: bool = False, ax: Axes | None = None) -> Axes:
    """Draw what every account receives and pays over all periods.

    Parameters
    ----------
    settled : Settlement
        The settlement of a run.
    transmission : bool
        Whether the payments among TSO, transmission providers and transmission imbalance
        are drawn too, which may dwarf those of the feeders.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        A row for each account: received to the right, paid to the left, the total marked.
        Accounts of less than a cent are left out.
    """
    paid = settled.data["payment"].sum(PERIOD).transpose(ACCOUNT, ITEM)
    items = [str(item) for item in paid.indexes[ITEM]]
    kept = [
        k for k, item in enumerate(items) if transmission or not item.startswith(("transmission", "congestion rent"))
    ]
    values = paid.values[:, kept]
    gross = np.abs(values).sum(axis=1)
    order = [int(k) for k in np.argsort(-gross, kind="stable")[:MOST_ACCOUNTS] if gross[k] > _ROUNDING]
    order = sorted(order, key=lambda k: float(values[k].sum()))
    names = [str(account) for account in paid.indexes[ACCOUNT]]
    palette = [*COLOURS, NEUTRAL, "#000000"]
    with styled():
        axes = own_axes(ax, (9.0, 0.36 * len(order) + 1.8))
        base = {1: np.zeros(len(order)), -1: np.zeros(len(order))}
        rows = np.arange(len(order))
        for place, column in enumerate(kept):
            amounts = values[order, place]
            if np.abs(amounts).max(initial=0.0) <= _ROUNDING:
                continue
            colour = palette[len(axes.get_legend_handles_labels()[1]) % len(palette)]
            for sign, part in ((1, amounts.clip(min=0.0)), (-1, amounts.clip(max=0.0))):
                told = items[column] if sign > 0 else None
                axes.barh(rows, part, 0.66, base[sign], color=colour, edgecolor="white", lw=0.5, label=told)
                base[sign] = base[sign] + part
        totals = values[order].sum(axis=1)
        word = "sum" if transmission else "sum of these items"
        axes.plot(totals, rows, "D", color="white", mec=INK, mew=1.2, ms=5, label=word, ls="none")
        axes.axvline(0, color=INK, lw=0.8)
        widest = float(max(base[1].max(initial=0.0), -base[-1].min(initial=0.0), 1e-9))
        for row, total in enumerate(totals):
            text = f"{total:+.2f}" if abs(total) > _ROUNDING else "0.00"
            axes.text(float(base[1][row]) + 0.03 * widest, row, text, va="center", fontsize=8.0)
        axes.use_sticky_edges = False
        axes.set_yticks(rows, [names[k] for k in order])
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12, y=0.04)
        axes.set_xlabel(label("payment") + "   (> 0 is received, < 0 is paid)")
        axes.set_title("Settlement" if transmission else "Settlement, without the payments in the transmission grid")
        axes.grid(axis="x", lw=0.5, alpha=0.5)
        legend_below(axes, columns=4)
    return axes
