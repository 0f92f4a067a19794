"""The page of reproductions: its tables are read, its tests exist, and a figure that drifts is caught."""

import re

import pytest

from tests.reproduced import page


def test_every_table_has_a_test_that_checks_it():
    text = page.PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[a-z0-9_/]+\.py)`", text))
    assert named
    sources = {name: (page.ROOT / name).read_text(encoding="utf-8") for name in named}
    for name in page.tables():
        assert any(f'check("{name}", ' in source for source in sources.values()), name
    # a mark whose table could not be read would be passed over
    assert text.count("<!-- table:") == len(page.tables())


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (page.Row("12.3", "12.40", "0.1"), 12.41),  # ours is not what was computed
        (page.Row("12.3", "12.40", "0.2"), 12.40),  # a wrong difference
        (page.Row("12.3", "12.36", "rounding"), 12.36),  # published is another number
        (page.Row("12.3", "12.4", "none"), 12.4),
        (page.Row("yes", "no", "none"), "no"),
    ],
)
def test_drift_is_caught(monkeypatch, row, value):
    monkeypatch.setattr(page, "tables", lambda: {"table": {"figure": row}})
    with pytest.raises(AssertionError):
        page.check("table", {"figure": value})


def test_a_figure_that_is_missing_is_caught(monkeypatch):
    monkeypatch.setattr(page, "tables", lambda: {"table": {"figure": page.Row("1", "1", "none")}})
    page.check("table", {"figure": 1.0})
    with pytest.raises(AssertionError):
        page.check("table", {"figure": 1.0, "another": 2.0})


def test_numbers():
    texts = ("1,234.50 EUR", "−0.5", "2.0515e3", "none")
    assert [str(page.number(text)) for text in texts] == ["1234.50", "-0.5", "2051.5", "None"]
    assert float(page.half_unit("2.0515e3")) == 0.05
