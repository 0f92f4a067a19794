"""The tables of docs/reproduced.md, read so that no figure in them can drift from what the package computes.

A table has the columns `figure | published | ours | difference` and a mark `<!-- table: name -->` two lines above.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reproduced.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: texts as they stand on the page."""

    published: str
    ours: str
    difference: str


def number(text):
    """The number that begins a text such as "1,234.50 EUR"; None where there is none."""
    match = re.match(r"[−-]?[0-9][0-9,]*(\.[0-9]+)?(e[0-9]+)?", text)
    return None if match is None else Decimal(match[0].replace(",", "").replace("−", "-"))


def half_unit(text):
    """Half a unit of the last digit that a text shows."""
    return Decimal(10) ** number(text).as_tuple().exponent / 2


def tables():
    """Name → figure → row."""
    found = {}
    for name, body in re.findall(r"<!-- table: ([a-z0-9 ]+) -->\n\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8")):
        head, _, *lines = ([cell.strip() for cell in line.strip("|\n ").split("|")] for line in body.splitlines())
        assert head == ["figure", "published", "ours", "difference"], name
        found[name] = {figure: Row(*cells) for figure, *cells in lines}
        assert len(found[name]) == len(lines), f"{name}: a figure stands twice"
    return found


def check(name, ours):
    """Every figure of a table is one that was computed, to the digits shown, and every computed one is in it.

    A text is compared as a text. The difference is that of what is shown; "rounding" says that what is published is
    what was computed, rounded.
    """
    rows = tables()[name]
    assert list(rows) == list(ours)
    for figure, row in rows.items():
        value = ours[figure]
        if isinstance(value, str):
            assert row.ours == value, f"{name}, {figure}: the page says {row.ours}, computed is {value}"
            assert (row.difference == "none") == (row.published == value), f"{name}, {figure}"
            continue
        assert abs(Decimal(float(value)) - number(row.ours)) <= half_unit(row.ours) + Decimal("1e-9"), (
            f"{name}, {figure}: the page says {row.ours}, computed is {value}"
        )
        if row.difference == "rounding":
            gap = abs(Decimal(float(value)) - number(row.published))
            assert gap <= half_unit(row.published) * Decimal("1.0001"), (
                f"{name}, {figure}: {value} is no {row.published}"
            )
        elif row.difference == "none":
            assert number(row.ours) == number(row.published), f"{name}, {figure}"
        elif number(row.published) is not None:
            assert number(row.difference) == number(row.ours) - number(row.published), f"{name}, {figure}"
