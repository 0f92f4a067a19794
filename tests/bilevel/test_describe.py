"""The KKT system in words and LaTeX, the gradient, and what importing the package costs."""

import subprocess
import sys

import linopy
import pandas as pd
import pytest
import xarray as xr

import hiermarket.bilevel as bl
from hiermarket.bilevel.gradient import gradient

HOUR, UNIT = pd.Index([1, 2], name="hour"), pd.Index(["a", "b"], name="unit")


@pytest.fixture
def follower():
    model = linopy.Model()
    p = model.add_variables(lower=0, upper=5, coords=[HOUR, UNIT], name="p")
    x = model.add_variables(lower=0, upper=9, coords=[HOUR], name="x")
    need = model.add_constraints(p.sum("unit") <= 4 + x, name="need")
    benefit = (xr.DataArray([1.0, 2.0], coords=[UNIT]) * p).sum() + (x * p.sel(unit="a")).sum() - (p * p).sum()
    return bl.Follower(variables=[p], constraints=[need], cost=benefit, sense="max")


def test_a_line_for_each_family_with_its_dims(follower):
    description = bl.describe(bl.kkt(follower.model, follower))
    assert description.headings == (
        "Follower 1 maximises its quadratic cost, with products of the leader's variables over p",
    )
    lines = description.lines[0]
    assert [(line.name, line.dims, line.count) for line in lines] == [
        ("need", ("hour",), 2),
        ("stationarity-p", ("hour", "unit"), 4),
        ("need", ("hour",), 2),
        ("lower-p", ("hour", "unit"), 4),
        ("upper-p", ("hour", "unit"), 4),
    ]
    assert lines[0].latex == r"a^{need}(x, p) \le b^{need}"
    assert lines[1].latex == r"-\partial_{p} c + y^{need} \partial_{p} a^{need} - \mu^-_{p} + \mu^+_{p} = 0"
    assert lines[2].latex == r"0 \le b^{need} - a^{need}(x, p) \perp y^{need} \ge 0"
    assert lines[4].latex == r"0 \le \overline{p} - p \perp \mu^+_{p} \ge 0"


def test_the_gradient_is_labelled_and_holds_leader_and_quadratic_terms(follower):
    text = str(gradient(follower)["p"])
    assert "[1, a]: -2 p[1, a] + 1 x[1] + 1" in text
    assert "[2, b]: -2 p[2, b] + 2" in text


def test_importing_the_package_loads_neither_linopy_nor_a_solver():
    code = "import sys, hiermarket.bilevel as bl; bl.kkt; print({'linopy', 'highspy', 'xarray'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_public_names_are_what_they_should_be():
    assert bl.__all__ == sorted(bl.__all__, key=lambda name: (name.islower(), not name.isupper(), name))
    assert all(callable(getattr(bl, name)) for name in bl.__all__)


def test_latex_reads_as_an_appendix():
    model = linopy.Model()
    hour = pd.Index([1, 2], name="hour")
    offer = model.add_variables(0, 200, coords=[hour], name="offer_price")
    volume = model.add_variables(0, 4, coords=[hour], name="Generator-p")
    need = model.add_constraints(volume >= 3, name="Bus-nodal_balance")
    mpec = bl.kkt(model, bl.Follower([volume], [need], (offer * volume).sum()))
    described = bl.describe(mpec)
    rows = described.latex.splitlines()
    assert rows[0] == r"\begin{align*}"
    assert rows[-1] == r"\end{align*}"
    # a hyphen would read as a minus, an underscore as an index
    balance, volume_name = r"\text{Bus-nodal\_balance}", r"\text{Generator-p}"
    assert rows[2] == rf"  &a^{{{balance}}}({volume_name}) \ge b^{{{balance}}} && \forall\, hour \\"
    assert all(row.endswith(r" \\") for row in rows[1:-2])
    assert "$" not in described.words
    assert len(described.words.splitlines()) == 1 + len(described.lines[0])
