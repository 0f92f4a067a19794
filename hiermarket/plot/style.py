"""How every picture looks: colours that the colour-blind tell apart, labels out of the nomenclature."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.nomenclature import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from hiermarket.market.balancing_market import BalancingMarket

#: Colours and markers of the BSPs, in order: Okabe and Ito's palette without its yellow and black.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#7B4FA3")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "h")
#: What is no BSP's: the TBM and everything else, lines of text and grid, and what is broken.
NEUTRAL: Final = "#A6A6A6"
INK: Final = "#333333"
FAINT: Final = "#D9D9D9"
ALARM: Final = "#D55E00"

_SETTINGS: Final[dict[str, object]] = {
    "font.size": 9.0, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelsize": 9.0, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "legend.frameon": False, "legend.fontsize": 8.5, "figure.dpi": 120.0, "savefig.dpi": 160.0,
    "savefig.bbox": "tight", "hatch.linewidth": 0.6, "font.family": "DejaVu Sans",
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of the package; the user's own settings are as before afterwards."""
    from matplotlib import style

    with style.context(_SETTINGS):
        yield


def label(name: str) -> str:
    """Return the axis label of a quantity: its name, symbol and unit as in the nomenclature.

    >>> label("nodal_price")
    'Nodal price λ [EUR/MWh]'
    """
    row = QUANTITIES[name]
    words = name.replace("_", " ")
    acronyms = re.sub(r"\b(ac|tbm|tso|dso)\b", lambda found: found[0].upper(), words)
    raised = re.sub(r"\^(\w+)", r"$^{\\mathrm{\1}}$", row.symbol)
    symbol = f" {raised}" if raised else ""
    return f"{acronyms[:1].upper()}{acronyms[1:]}{symbol} [{row.unit}]"


def colour_of(market: BalancingMarket) -> dict[str, str]:
    """Return the colour of every BSP; they repeat where there are more BSPs than colours."""
    return {bsp: COLOURS[k % len(COLOURS)] for k, bsp in enumerate(market.bids.bsps)}


def choose_feeder(market: BalancingMarket, feeder: str | None) -> str:
    """Return the feeder that is drawn: the one named, or the first.

    Raises
    ------
    DataError
        When there is no such feeder.
    """
    names = [str(name) for name in market.feeder_names]
    if feeder is None:
        return names[0]
    if feeder not in names:
        raise DataError([Fault("feeder", repr(feeder), f"one of {some_labels(names)}", "Name a feeder of the run.")])
    return feeder


def choose_period(market: BalancingMarket, period: object | None) -> int | None:
    """Return the position of a period; None for all of them.

    Parameters
    ----------
    period : timestamp or text, optional
        The start of a period.

    Raises
    ------
    DataError
        When no period starts there.
    """
    if period is None:
        return None
    start = pd.to_datetime(str(period), errors="coerce")
    position = int(market.periods.get_indexer(pd.DatetimeIndex([start]))[0]) if pd.notna(start) else -1
    if position < 0:
        expected = f"the start of a period ({market.periods[0]} … {market.periods[-1]})"
        raise DataError([Fault("period", repr(str(period)), expected, "Name one of market.periods.")])
    return position


def period_axis(ax: Axes, periods: pd.DatetimeIndex) -> np.ndarray:
    """Label an axis of periods, and return the edges of the periods along it.

    Parameters
    ----------
    ax : Axes
        Period k lies between k and k + 1.
    periods : DatetimeIndex
        Their starts.
    """
    count = len(periods)
    step = max(1, -(-count // 8))
    # a step that divides a day reads better than one that does not
    step = next((nice for nice in (1, 2, 3, 4, 6, 8, 12, 24) if nice >= step), step)
    days = pd.DatetimeIndex(periods).normalize().unique()
    form = "%H:%M" if len(days) == 1 else "%d %b %H:%M"
    shown = np.arange(0, count, step)
    ax.set_xticks(shown + 0.5 if count == 1 else shown, [periods[int(k)].strftime(form) for k in shown])
    ax.set_xlim(0, count)
    ax.set_xlabel("Start of the period (UTC)" + (f", {days[0]:%Y-%m-%d}" if len(days) == 1 else ""))
    return np.arange(count + 1)


def legend_below(ax: Axes, *, columns: int = 6, offset: float = -0.2) -> None:
    """Put the legend of an axis below it, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, offset), ncols=min(columns, len(handles)),
            columnspacing=1.4, handlelength=1.5,
        )  # fmt: skip


def legend_beside(ax: Axes, handles: Sequence[Artist] | None = None) -> None:
    """Put the legend of an axis to its right, where it hides nothing."""
    found = ax.get_legend_handles_labels()[0] if handles is None else list(handles)
    if found:
        ax.legend(handles=found, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def own_axes(ax: Axes | None, size: Sequence[float]) -> Axes:
    """Return the axes given, or new ones on a figure of a size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(size[0], size[1]), layout="constrained")[1]
