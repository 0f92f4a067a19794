"""How a table of a report looks: units in every header, numbers rounded, nothing but text in the cells."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

#: Words of a header are broken at this width, or at that of the numbers where these are wider [characters].
HEADER_WIDTH = 7
#: Texts up to this are not broken [characters].
NARROWEST = 20
#: Digits behind the point, by unit.
DIGITS = {"MWh": 3, "MW": 3, "MVA": 4, "p.u.": 4, "EUR/MWh": 2, "EUR": 2, "%": 1, "h": 2, "s": 1, "1": 0}
#: What stands for a number that does not exist.
MISSING = "-"
#: Rows beyond these are counted, not shown.
MOST_ROWS = 48


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    words : str
        The header.
    unit : str
        Unit of its numbers, written below the words; empty for a column of text.
    """

    words: str
    unit: str = ""


def figure(value: float, unit: str) -> str:
    """Write a number with the digits of its unit.

    >>> figure(0.30004, "MWh"), figure(-1e-9, "EUR"), figure(float("nan"), "MW"), figure(float("inf"), "MW")
    ('0.300', '0.00', '-', 'no limit')
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "no limit"
    digits = DIGITS.get(unit, 3)
    # + 0.0 turns −0 into 0
    return f"{round(value, digits) + 0.0:.{digits}f}"


def span(lowest: float, highest: float, unit: str) -> str:
    """Write a range, or one number where both ends are the same.

    >>> span(20.0, 60.0, "EUR/MWh"), span(20.0, 20.0, "EUR/MWh")
    ('20.00 – 60.00', '20.00')
    """
    ends = figure(lowest, unit), figure(highest, unit)
    return ends[0] if ends[0] == ends[1] else " – ".join(ends)


def table(
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[float | str]],
    *,
    note: str = "",
    total: bool = False,
) -> Table:
    """Put rows into a table.

    Parameters
    ----------
    title : str
        Above the table.
    columns : sequence of Column
        Words and units of the headers.
    rows : iterable of sequences
        A number is written with the digits of the column's unit, a text as it is. A row
        whose first text does not begin with a blank stands out where others do.
    note : str
        Below the table.
    total : bool
        Whether the last row is a sum, which a line parts from the others.

    Returns
    -------
    rich.table.Table
        At most `MOST_ROWS` rows; the note says how many more there are.
    """
    every = [list(row) for row in rows]
    more = len(every) - MOST_ROWS
    shown = [*every[: MOST_ROWS - 1], every[-1]] if total and more > 0 else every[:MOST_ROWS]
    said = [note, f"{more} more rows are not shown." if more > 0 else ""]
    built = Table(
        title=Text(title, style="bold"),
        caption=Text("\n".join(part for part in said if part), style="dim") if any(said) else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    cells = [[_cell(value, c) for value, c in zip(row, columns, strict=True)] for row in shown]
    for place, column in enumerate(columns):
        longest = max(len(text) for text in (*(row[place] for row in cells), f"[{column.unit}]"))
        lines = textwrap.wrap(column.words, max(longest, HEADER_WIDTH), break_long_words=False)
        if column.unit:
            header = Text("\n".join([*lines, f"[{column.unit}]"]))
            built.add_column(header, justify="right", vertical="bottom", no_wrap=True)
        else:
            least = max(min(longest, NARROWEST), *map(len, lines), 1)
            built.add_column(Text("\n".join(lines)), overflow="fold", min_width=least)
    indented = any(row[0].startswith(" ") for row in cells)
    for number, row in enumerate(cells):
        last = total and number == len(cells) - 1
        stands_out = last or (indented and not row[0].startswith(" "))
        before_last = total and number == len(cells) - 2
        built.add_row(*map(Text, row), style="bold" if stands_out else None, end_section=before_last)
    return built


def _cell(value: float | str, column: Column) -> str:
    return value if isinstance(value, str) else figure(value, column.unit)


def texts(built: Table) -> list[list[str]]:
    """Return the rows of a table as plain texts.

    >>> texts(table("Bids", [Column("BSP"), Column("Volume", "MW")], [["A", 0.2]]))
    [['A', '0.200']]
    """
    columns = [[str(cell) for cell in column.cells] for column in built.columns]
    return [list(row) for row in zip(*columns, strict=True)]
