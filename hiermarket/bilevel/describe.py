"""The KKT system in words and in LaTeX, a line for each labelled family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hiermarket.bilevel.canonical import Family, System
    from hiermarket.bilevel.complementarity import PairFamily
    from hiermarket.bilevel.mpec import Mpec

_SIGNS = {-1: r"\le", 0: "=", 1: r"\ge"}
_WORDS = {-1: "<=", 0: "=", 1: ">="}


@dataclass(frozen=True, slots=True)
class Line:
    """One family of the system.

    Attributes
    ----------
    name : str
        The family's name in the model.
    dims : tuple[str, ...]
        Its dimensions.
    count : int
        How many elements it has.
    words, latex : str
        What it says.
    """

    name: str
    dims: tuple[str, ...]
    count: int
    words: str
    latex: str

    @property
    def in_words(self) -> str:
        """The family, its size and what it says."""
        over = f"({', '.join(self.dims)})" if self.dims else ""
        return f"  {self.name}{over} × {self.count}: {self.words}"

    @property
    def forall(self) -> str:
        """For which labels it holds, in LaTeX."""
        return f"\\forall\\, {', '.join(_tex(dim) for dim in self.dims)}"

    def __str__(self) -> str:
        return f"{self.in_words}\n      ${self.latex}$"


@dataclass(frozen=True, slots=True)
class Description:
    """What `describe` returns: print it, or read its lines.

    Attributes
    ----------
    headings : tuple[str, ...]
        One for each follower.
    lines : tuple[tuple[Line, ...], ...]
        The lines under each heading.
    """

    headings: tuple[str, ...]
    lines: tuple[tuple[Line, ...], ...]

    @property
    def words(self) -> str:
        """What the families say, without formulas."""
        return "\n".join(
            "\n".join([head, *(line.in_words for line in lines)])
            for head, lines in zip(self.headings, self.lines, strict=True)
        )

    @property
    def latex(self) -> str:
        """The system as one ``align*`` environment (amsmath), ready for a paper's appendix."""
        rows = []
        for head, lines in zip(self.headings, self.lines, strict=True):
            rows.append(f"  &\\text{{{_escaped(head)}}}")
            rows += [f"  &{line.latex}" + (f" && {line.forall}" if line.dims else "") for line in lines]
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def __str__(self) -> str:
        blocks = ("\n".join([head, *map(str, lines)]) for head, lines in zip(self.headings, self.lines, strict=True))
        return "\n".join(blocks)


def describe(mpec: Mpec) -> Description:
    r"""Describe the KKT system of every follower, family by family.

    Parameters
    ----------
    mpec : Mpec
        The problem.

    Returns
    -------
    Description
        Rows, stationarity and pairs, in words and in LaTeX.

    Examples
    --------
    >>> import linopy, hiermarket.bilevel as bl
    >>> model = linopy.Model()
    >>> volume = model.add_variables(0, name="volume")
    >>> need = model.add_constraints(1 * volume >= 2, name="need")
    >>> mpec = bl.kkt(model, bl.Follower(variables=[volume], constraints=[need], cost=3 * volume))
    >>> print(bl.describe(mpec))
    Follower 1 minimises its linear cost over volume
      need × 1: row >=, with dual-need
          $a^{need}(volume) \ge b^{need}$
      stationarity-volume × 1: marginal cost = value at the duals of need, with the multipliers of its bounds
          $\partial_{volume} c - y^{need} \partial_{volume} a^{need} - \mu^-_{volume} = 0$
      need × 1: either the row is tight or its dual is zero
          $0 \le a^{need}(volume) - b^{need} \perp y^{need} \ge 0$
      lower-volume × 1: either volume is at its lower bound or lower-volume is zero
          $0 \le volume - \underline{volume} \perp \mu^-_{volume} \ge 0$
    """
    headings, lines = [], []
    for number, system in enumerate(mpec.systems):
        verb = "minimises" if system.sense > 0 else "maximises"
        kind = "linear" if system.is_linear else "quadratic"
        names = ", ".join(family.name for family in system.variables)
        led = ", with products of the leader's variables" if system.cross.nnz else ""
        headings.append(f"Follower {number + 1} {verb} its {kind} cost{led} over {names}")
        pairs = [family for family in mpec.pairs.families if family.follower == number]
        lines.append((*_rows(system), *_stationarity(mpec, system), *(_pair(system, family) for family in pairs)))
    return Description(tuple(headings), tuple(lines))


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&").replace("#", r"\#")


def _tex(name: str) -> str:
    """Return a name as LaTeX: one of several words or with a hyphen is text, not a difference."""
    return _escaped(name) if name.isalnum() else f"\\text{{{_escaped(name)}}}"


def _touched(system: System, family: Family) -> str:
    """Return the names of the follower's variables in one row family; x stands for all others."""
    columns = np.unique(system.own[family.start : family.stop, :].indices)
    names = [_tex(v.name) for v in system.variables if ((columns >= v.start) & (columns < v.stop)).any()]
    leader = ["x"] if system.other[family.start : family.stop, :].nnz else []
    return ", ".join([*leader, *names])


def _rows(system: System) -> Iterator[Line]:
    for family in system.constraints:
        kinds = np.unique(system.kind[family.start : family.stop])
        name = _tex(family.name)
        words = " and ".join(_WORDS[int(kind)] for kind in kinds)
        signs = r"\;\text{or}\;".join(_SIGNS[int(kind)] for kind in kinds)
        yield Line(
            name=family.name,
            dims=family.dims,
            count=family.stop - family.start,
            words=f"row {words}, with dual-{family.name}",
            latex=f"a^{{{name}}}({_touched(system, family)}) {signs} b^{{{name}}}",
        )


def _stationarity(mpec: Mpec, system: System) -> Iterator[Line]:
    by_column = system.own.tocsc()
    for family in system.variables:
        rows = np.unique(by_column[:, family.start : family.stop].indices)
        touching = [c for c in system.constraints if ((rows >= c.start) & (rows < c.stop)).any()]
        name = _tex(family.name)
        sign = "" if system.sense > 0 else "-"
        minus = "-" if system.sense > 0 else "+"
        terms = [f"{sign}\\partial_{{{name}}} c"]
        terms += [f"{minus} y^{{{_tex(c.name)}}} \\partial_{{{name}}} a^{{{_tex(c.name)}}}" for c in touching]
        bounded = False
        for kept, term in ((mpec.lower, r"- \mu^-"), (mpec.upper, r"+ \mu^+"), (mpec.fixed, r"- \rho")):
            if family.name in kept:
                terms.append(f"{term}_{{{name}}}")
                bounded = True
        duals = ", ".join(c.name for c in touching)
        words = "marginal cost = " + (f"value at the duals of {duals}" if duals else "0")
        yield Line(
            name=f"stationarity-{family.name}",
            dims=family.dims,
            count=family.stop - family.start,
            words=words + (", with the multipliers of its bounds" if bounded else ""),
            latex=" ".join(terms) + " = 0",
        )


def _pair(system: System, family: PairFamily) -> Line:
    name = _tex(family.of)
    dims = tuple(str(dim) for dim in family.labels.dims)
    count = family.stop - family.start
    if family.kind == "row":
        row = next(c for c in system.constraints if c.name == family.of)
        kinds = np.unique(system.kind[row.start : row.stop])
        body = f"a^{{{name}}}({_touched(system, row)})"
        alone = int(kinds[0]) if len(kinds) == 1 else 0
        slack = {1: f"{body} - b^{{{name}}}", -1: f"b^{{{name}}} - {body}"}.get(alone, f"|{body} - b^{{{name}}}|")
        size = f"y^{{{name}}}" if alone * system.sense > 0 else f"-y^{{{name}}}" if alone else f"|y^{{{name}}}|"
        words = "either the row is tight or its dual is zero"
        return Line(family.name, dims, count, words, f"0 \\le {slack} \\perp {size} \\ge 0")
    lower = family.kind == "lower bound"
    bound = f"\\underline{{{name}}}" if lower else f"\\overline{{{name}}}"
    slack = f"{name} - {bound}" if lower else f"{bound} - {name}"
    words = f"either {family.of} is at its {family.kind} or {family.multiplier} is zero"
    return Line(
        family.name, dims, count, words, f"0 \\le {slack} \\perp \\mu^{'-' if lower else '+'}_{{{name}}} \\ge 0"
    )
