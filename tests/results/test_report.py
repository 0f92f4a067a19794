"""The tables of a run: what they say, against answers worked out by hand."""

import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from hiermarket.market.cases import load_case
from hiermarket.network.losses import LinDistFlow
from hiermarket.results.report import Outcome, behaviour_table, outcome, report
from hiermarket.results.table import MOST_ROWS, Column, figure, span, table, texts
from hiermarket.stages.coordination import Chain, Options, Truthful, run_chain
from hiermarket.stages.forwarding_methods import SafeBox

LOSSLESS = LinDistFlow(loss_passes=0)


def run(case: str, *, undo: bool = False) -> Chain:
    return run_chain(load_case(case), Options(behaviour=Truthful(), grid=LOSSLESS, forwarding=SafeBox(undo=undo)))


@pytest.fixture(scope="module")
def two_bus() -> Chain:
    return run("two_bus", undo=True)


@pytest.fixture(scope="module")
def m33() -> Chain:
    return run("m33")


def titled(chain: Chain, title: str) -> Table:
    return next(found for found in report(chain) if str(found.title).startswith(title))


def rows_of(chain: Chain, title: str) -> dict[str, list[str]]:
    """First cell → the other cells."""
    return {row[0]: row[1:] for row in texts(titled(chain, title))}


def headers(built: Table) -> list[str]:
    return [str(column.header).replace("\n", " ") for column in built.columns]


# --- how a table looks


def test_numbers_are_rounded_by_their_unit():
    assert [figure(1.23456, unit) for unit in ("MWh", "p.u.", "EUR", "%", "1")] == [
        "1.235", "1.2346", "1.23", "1.2", "1",
    ]  # fmt: skip


def test_what_is_no_number():
    assert figure(math.nan, "EUR") == "-"
    assert figure(math.inf, "MWh") == "no limit"
    assert figure(-1e-12, "EUR") == "0.00"
    assert span(1.0, 1.0, "MW") == "1.000"


def test_brackets_in_names_are_no_markup():
    built = table("[bold]", [Column("BSP")], [["[red]A"]])
    written = io.StringIO()
    Console(width=40, file=written).print(built)
    text = written.getvalue()
    assert "[bold]" in text
    assert "[red]A" in text


def test_long_tables_count_what_they_leave_out():
    rows = [[str(k), 1.0] for k in range(MOST_ROWS + 7)]
    built = table("t", [Column("name"), Column("v", "MW")], rows, total=True)
    shown = texts(built)
    assert len(shown) == MOST_ROWS
    assert shown[-1][0] == str(MOST_ROWS + 6)  # the sum stays
    assert "7 more rows" in str(built.caption)


# --- two buses by hand: deficit 0.5 MW, A gives 0.2 at 30, the TBM 0.3 at 60, price 60 at both buses


def test_inputs(two_bus: Chain):
    assert rows_of(two_bus, "Inputs: feeders")["feeder"] == ["2", "1", "1.00", "2", "0.500", "0.000"]
    bids = rows_of(two_bus, "Inputs: bids")
    assert bids["A"] == ["1", "0.200", "30.00", "0.000", "-"]
    assert bids["B"] == ["1", "0.000", "-", "0.300", "25.00"]
    assert bids["TBM"] == ["", "no limit", "60.00", "no limit", "20.00"]


def test_activation(two_bus: Chain):
    found = rows_of(two_bus, "DSO clearing: activated bids")
    # profit of A: 0.2 MWh · (60 − 30) EUR/MWh
    assert found["A"] == ["0.200", "30.00", "60.00", "0.000", "-", "-", "6.00"]
    assert found["  bus end"] == ["0.000", "-", "-", "0.000", "-", "-", "0.00"]  # of B, the last of that name


def test_periods(two_bus: Chain):
    found = rows_of(two_bus, "DSO clearing: periods")["00:00"]
    assert found[:8] == ["0.500", "0.000", "0.200", "0.000", "0.300", "0.000", "60.00", "60.00"]
    assert found[8] == "60.00"
    assert found[10] == "end"


def test_forwarded(two_bus: Chain):
    # nothing limits the grid: B's 0.3 MW down and the undo of A's 0.2 MW up
    built = titled(two_bus, "Forwarding: volumes")
    assert headers(built)[1:5] == ["Left up [MWh]", "Forwarded up [MWh]", "Undo up [MWh]", "Withheld up [MWh]"]
    found = rows_of(two_bus, "Forwarding: volumes")
    assert found["A"] == ["0.000", "0.000", "0.200", "0.000", "0.000", "0.000", "0.000", "0.000"]
    assert found["B"] == ["0.000", "0.000", "0.000", "0.000", "0.300", "0.300", "0.000", "0.000"]
    assert found["All"][2] == "0.200"
    assert {row[-1] for row in rows_of(two_bus, "Forwarding: AC check").values()} == {"none"}


def test_tso(two_bus: Chain):
    found = rows_of(two_bus, "TSO clearing: activated bids")
    # the need is the 0.3 MW of the DSO, the TBM's provider serves it at 60
    assert found["Need"][:2] == ["0.300", "0.000"]
    assert found["  TBM"] == ["0.300", "0.000", "", "60.00", "18.00"]
    at = rows_of(two_bus, "TSO clearing: interfaces")["feeder at transmission"]
    assert at == ["0.300", "0.000", "60.00", "20.00", "60.00", "0.00", "00:00"]


def test_accounts_sum_to_zero(two_bus: Chain):
    found = rows_of(two_bus, "Settlement: who pays whom")
    # the payers pay 0.5 · 60; A receives 12; 18 go through the TSO to the TBM
    assert found["imbalance payers feeder"][-1] == "-30.00"
    assert found["BSP A"][-1] == "12.00"
    assert found["TBM"][-1] == "18.00"
    assert set(found["Sum"]) == {"0.00"}
    assert rows_of(two_bus, "Settlement: profits")["A"] == ["12.00", "6.00", "6.00"]


def test_indicators(two_bus: Chain):
    found = rows_of(two_bus, "Indicators: energy")["distribution"]
    assert found == ["0.500", "0.000", "0.200", "0.000", "0.300", "0.000", "40.0", "60.0", "0.0"]
    savings = {(row[0], row[1]): row[2:] for row in texts(titled(two_bus, "Indicators: savings"))}
    # C0 = 30; bids cost 0.2 · 30 + 0.3 · 60 = 24
    assert savings["distribution", "payment"] == ["30.00", "30.00", "0.0"]
    assert savings["distribution", "bid cost"] == ["30.00", "24.00", "20.0"]


# --- the micro-case of docs: .15 .10 .10 .15 .05725 MW, price 50, bid cost 21.0625, baseline 33.435


def test_m33(m33: Chain):
    found = rows_of(m33, "DSO clearing: activated bids")
    assert found["C"][:3] == ["0.057", "50.00", "50.00"]
    assert found["  bus 18"][0] == "0.150"
    assert found["A"][1] == "31.60"  # (.15 · 30 + .10 · 34)/.25
    savings = {(row[0], row[1]): row[2:] for row in texts(titled(m33, "Indicators: savings"))}
    assert savings["distribution", "bid cost"][1] == "21.06"
    assert not [found for found in report(m33) if "lines" in str(found.title)]  # no transmission grid


# --- all tables


@pytest.mark.parametrize("width", [100, 120])
def test_tables_fit(m33: Chain, two_bus: Chain, width: int):
    console = Console(width=width)
    for chain in (m33, two_bus):
        for built in report(chain):
            assert console.measure(built).minimum <= width, built.title
            lines = console.render_lines(built, pad=False)
            assert "…" not in "".join(segment.text for line in lines for segment in line), built.title


def test_numbers_have_units_in_their_headers(m33: Chain):
    for built in report(m33):
        for column in built.columns:
            if column.justify == "right":
                assert re.search(r"\[(1|%|h|MW|MWh|MVA|p\.u\.|EUR|EUR/MWh)\]$", str(column.header)), column.header


# --- behaviours side by side


def test_outcome_without_a_leader(m33: Chain):
    found = outcome(m33)
    assert found.leader == ""
    assert math.isnan(found.leading)
    assert found.mean_price == pytest.approx(50.0)
    assert found.local_share == pytest.approx(1.0)
    assert found.certified is None


def test_behaviours_side_by_side(m33: Chain):
    led = replace(outcome(m33), leader="A", at_cost=4.6, expected=5.0, leading=4.9, saving=math.nan, certified=False)
    built = behaviour_table({"all truthful": outcome(m33), "A leads": led, "B leads": "The clearing is infeasible."})
    found = {row[0]: row[1:] for row in texts(built)}
    assert found["all truthful"][:4] == ["-", "-", "-", "-"]
    assert found["all truthful"][-1] == "-"
    assert found["A leads"][:3] == ["4.60", "5.00", "4.90"]
    assert found["A leads"][-2:] == ["undefined", "FAILS"]
    assert found["B leads"][-1] == "no result"
    assert "B leads: The clearing is infeasible." in str(built.caption)
    assert isinstance(led, Outcome)
