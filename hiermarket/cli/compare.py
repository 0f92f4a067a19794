"""`hiermarket compare`: coordination schemes side by side on one case."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiermarket.cli.commands import app
from hiermarket.cli.terminal import Stopwatch, consoles, plain_words
from hiermarket.stages.forwarding_methods import Forwarding

if TYPE_CHECKING:
    from collections.abc import Callable

    from hiermarket.stages.schemes import Scheme

#: Room for the name of a scheme [characters].
WIDTH = 30
#: Kinds of files that numbers are written to.
ENDINGS = (".csv", ".nc")


class SchemeWord(StrEnum):
    """A coordination scheme, as written on the command line."""

    TSO_ONLY = "tso-only"
    LOCAL_ONLY = "local-only"
    FRAGMENTED = "fragmented"
    SEQUENTIAL = "sequential"
    COMMON = "common"


@app.command()
def compare(  # noqa: PLR0913  (a parameter for each option of the command line)
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="A shipped case (see `hiermarket cases`).", show_default=False)
    ],
    *,
    scheme: Annotated[
        list[SchemeWord] | None, typer.Option(help="A scheme; give it again for more.", show_default="all")
    ] = None,
    forwarding: Annotated[
        list[Forwarding] | None,
        typer.Option(help="Sequential: how volumes for the TSO are found; again for more.", show_default="all"),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Sequential: let the TSO undo activations of the DSO.")] = False,
    interface_price: Annotated[
        float | None,
        typer.Option(help="Fragmented: price of the exchange [EUR/MWh].", show_default="prices of the TBM"),
    ] = None,
    truthful: Annotated[
        bool, typer.Option("--truthful", help="Every BSP bids its cost, not the prices of the case's bids.")
    ] = False,
    loss_passes: Annotated[int, typer.Option(min=0, help="Passes of linearised losses; 0 is lossless.")] = 2,
    output: Annotated[Path | None, typer.Option(help="File for the numbers, .csv or .nc.", show_default="none")] = None,
) -> None:
    """Balance a case by several coordination schemes; show them side by side."""
    if output is not None and output.suffix not in ENDINGS:
        raise typer.BadParameter(f"--output {output}: the name must end in {' or '.join(ENDINGS)}")
    asked = list(dict.fromkeys(scheme or SchemeWord))
    for given, word, name in (
        (bool(forwarding) or undo, SchemeWord.SEQUENTIAL, "--forwarding and --undo"),
        (interface_price is not None, SchemeWord.FRAGMENTED, "--interface-price"),
    ):
        if given and word not in asked:
            raise typer.BadParameter(f"{name}: only for the scheme {word}")
    out, progress = consoles()
    with plain_words(progress):
        from hiermarket.market.cases import load_case
        from hiermarket.network.losses import LinDistFlow
        from hiermarket.results.comparison import compare as compare_schemes
        from hiermarket.results.scheme_table import scheme_table

        clock = Stopwatch(progress, width=WIDTH)
        with clock.running(f"Case {case}"):
            market = load_case(case)
        ways = list(dict.fromkeys(forwarding or Forwarding))
        chosen = [one for word in asked for one in _schemes(word, ways, interface_price, undo=undo)]
        with clock.running("Compare"):
            found = compare_schemes(
                market.truthful() if truthful else market,
                chosen,
                grid=LinDistFlow(loss_passes=loss_passes),
                progress=clock,
            )
        out.print(scheme_table(found))
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            out.print(f"Written: {found.write(output)}", highlight=False, soft_wrap=True)


def _schemes(word: SchemeWord, ways: list[Forwarding], interface_price: float | None, *, undo: bool) -> list[Scheme]:
    """Return the schemes that a word stands for."""
    from hiermarket.stages.schemes import Common, Fragmented, LocalOnly, Sequential, TsoOnly

    if word is SchemeWord.SEQUENTIAL:
        return [Sequential(way.method(undo=undo or None)) for way in ways]
    if word is SchemeWord.FRAGMENTED:
        return [Fragmented(interface_price)]
    kinds: dict[SchemeWord, Callable[[], Scheme]] = {
        SchemeWord.TSO_ONLY: TsoOnly,
        SchemeWord.LOCAL_ONLY: LocalOnly,
        SchemeWord.COMMON: Common,
    }
    return [kinds[word]()]
