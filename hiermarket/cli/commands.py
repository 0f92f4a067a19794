"""The command line: run a shipped case or a study, list the cases. Libraries are loaded once a run begins."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiermarket.cli.terminal import Stopwatch, consoles, plain_words
from hiermarket.errors import HiermarketError
from hiermarket.stages.forwarding_methods import Forwarding

if TYPE_CHECKING:
    from rich.console import Console

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.coordination import Behaviour, Chain, Options

#: Options of `run` that only a study has, and that only a case has: a study has them in its file.
OF_A_STUDY = ("workers", "scheduler", "fresh")
OF_A_CASE = (
    "leader",
    "volumes",
    "truthful",
    "as_bid",
    "forwarding",
    "undo",
    "loss_passes",
    "pictures",
    "behaviours",
    "consistent_prices",
)

#: What a shell gets from a command that was stopped by Ctrl-C.
STOPPED = 130

app = typer.Typer(
    help="Hierarchical TSO-DSO balancing markets.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _version(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"hiermarket {version_of('hiermarket')}")
        raise typer.Exit


@app.command()
def cases() -> None:
    """List the cases that are shipped, one line each."""
    from hiermarket.market.cases import CASES

    width = max(map(len, CASES))
    for name, build in CASES.items():
        about = (build.__doc__ or "").partition("\n")[0].removeprefix("Return ").rstrip(".")
        typer.echo(f"{name:<{width}}  {about[:1].upper()}{about[1:]}")


@app.command()
def example(folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)]) -> None:
    """Write a small study of three feeders, in files: networks, tables and study.toml."""
    out, progress = consoles()
    with plain_words(progress):
        from hiermarket.study.example import write_example

        file = write_example(folder)
        out.print(f"Written: {folder}. Run it with: hiermarket run {file}", highlight=False, soft_wrap=True)


@app.command()
def run(  # noqa: PLR0913  (a parameter for each option of the command line)
    context: typer.Context,
    case: Annotated[
        str,
        typer.Argument(
            metavar="CASE|STUDY.toml",
            help="A shipped case (see `hiermarket cases`), or the file of a study.",
            show_default=False,
        ),
    ],
    *,
    leader: Annotated[
        str | None, typer.Option(help="The BSP that bids strategically.", show_default="the one that offers most")
    ] = None,
    volumes: Annotated[bool, typer.Option("--volumes", help="The leader may withhold volumes, too.")] = False,
    truthful: Annotated[bool, typer.Option("--truthful", help="Nobody leads: every BSP bids its cost.")] = False,
    as_bid: Annotated[bool, typer.Option("--as-bid", help="Nobody leads: the prices of the case's bids.")] = False,
    forwarding: Annotated[Forwarding, typer.Option(help="How volumes for the TSO are found.")] = Forwarding.SAFE_BOX,
    undo: Annotated[bool, typer.Option("--undo", help="Let the TSO undo activations of the DSO.")] = False,
    consistent_prices: Annotated[
        bool, typer.Option("--consistent-prices", help="Repeat until DSOs count on the prices that the TSO pays.")
    ] = False,
    loss_passes: Annotated[int, typer.Option(min=0, help="Passes of linearised losses; 0 is lossless.")] = 2,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results.", show_default="this one; of a study, as in its file")
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Write three pictures.")] = True,
    behaviours: Annotated[
        bool | None,
        typer.Option(
            "--behaviours/--no-behaviours", help="Run every other behaviour too.", show_default="with two BSPs or more"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Study: processes on this machine.", show_default="one for each processor and batch"),
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Study: address of a dask cluster's scheduler.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Study: compute everything anew.")] = False,
) -> None:
    """Run a case, or a study of many feeders, through every stage; show tables, write results."""
    _refuse_folder(case)
    is_study = Path(case).suffix == ".toml"
    if is_study:
        _refuse(context, OF_A_CASE, "only for a case; a study has its options in its file")
    else:
        _refuse(context, OF_A_STUDY, "only for a study; a case runs in this process")
    if is_study:
        _run_study(Path(case), output, workers, scheduler, fresh=fresh)
        return
    if sum([leader is not None, truthful, as_bid]) > 1:
        raise typer.BadParameter("give only one of --leader, --truthful and --as-bid")
    if volumes and (truthful or as_bid):
        raise typer.BadParameter("--volumes: only where a BSP leads")
    out, progress = consoles()
    with plain_words(progress):
        from hiermarket.market.cases import load_case
        from hiermarket.results.report import report
        from hiermarket.stages.coordination import AsBid, OneLeader, Truthful
        from hiermarket.stages.decides import PricesAndVolumes, PricesOnly

        clock = Stopwatch(progress)
        with clock.running(f"Case {case}"):
            market = load_case(case)
        behaviour: Behaviour = Truthful() if truthful else AsBid()
        if not (truthful or as_bid):
            decides = PricesAndVolumes() if volumes else PricesOnly()
            behaviour = OneLeader(leader if leader is not None else largest_bsp(market), decides)
        options = _options(behaviour, forwarding, loss_passes, undo=undo, consistent=consistent_prices)
        chain = _chain(market, options, clock)
        for table in report(chain):
            out.print(table, "")
        for path in _write(chain, case, output or Path(), pictures=pictures):
            out.print(f"Written: {path}", highlight=False, soft_wrap=True)
        if behaviours if behaviours is not None else len(market.bids.bsps) > 1:
            _behaviours(chain, market, clock, out)


def _refuse_folder(case: str) -> None:
    """Name the study in a folder, where a folder was typed."""
    files = sorted(Path(case).glob("*.toml")) if Path(case).is_dir() else []
    if files:
        from hiermarket.market.cases import CASES

        if case not in CASES:
            known = Path(case) / "study.toml"
            again = shlex.join(["hiermarket", "run", str(known if known in files else files[0])])
            raise typer.BadParameter(f"{case} is a folder; for the study in it: {again}")


def _refuse(context: typer.Context, names: tuple[str, ...], whose: str) -> None:
    """Refuse options that were typed and would do nothing."""
    source = context.get_parameter_source
    typed = [f"--{name.replace('_', '-')}" for name in names if "COMMANDLINE" in str(source(name))]
    if typed:
        raise typer.BadParameter(f"{', '.join(typed)}: {whose}")


def _typed(**options: object) -> list[str]:
    """Return options as they are typed, those that were given."""
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]


def _run_study(file: Path, output: Path | None, workers: int | None, scheduler: str | None, *, fresh: bool) -> None:
    """Run a study, here or on a cluster, and say what came of it."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("give only one of --workers and --scheduler")
    out, progress = consoles()
    with plain_words(progress):
        from hiermarket.study.cluster import cluster_for
        from hiermarket.study.progress_bar import shown
        from hiermarket.study.report import study_report
        from hiermarket.study.run import run as run_study
        from hiermarket.study.study_file import read_study

        study = read_study(file, output=output)
        try:
            with cluster_for(study, workers=workers, scheduler=scheduler) as client, shown(progress) as tell:
                results = run_study(study, client=client, progress=tell, fresh=fresh)
        except KeyboardInterrupt:
            again = shlex.join(
                ["hiermarket", "run", str(file), *_typed(output=output, workers=workers, scheduler=scheduler)]
            )
            said = f"Stopped. Batches that are done are kept in {study.folder}; to resume: {again}"
            progress.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(STOPPED) from None
        for built in study_report(results):
            out.print(built, "")
        out.print(f"Written: {study.folder}", highlight=False, soft_wrap=True)


def largest_bsp(market: BalancingMarket) -> str:
    """Return the BSP that offers the most energy, up and down together; the first of several.

    Parameters
    ----------
    market : BalancingMarket
        Bids and durations of the periods.

    Returns
    -------
    str
        The default leader of a run.
    """
    offered = (market.bids.data["volume"] * market.duration).sum("period")
    return max(market.bids.bsps, key=lambda bsp: float(offered.values[market.bids.of(bsp).values].sum()))


def _options(
    behaviour: Behaviour, forwarding: Forwarding, loss_passes: int, *, undo: bool, consistent: bool
) -> Options:
    from hiermarket.network.losses import LinDistFlow
    from hiermarket.stages.coordination import Options
    from hiermarket.stages.price_iteration import FixedPoint

    grid = LinDistFlow(loss_passes=loss_passes)
    # without the word, as the method has it
    method = forwarding.method(undo=undo or None)
    prices = FixedPoint() if consistent else None
    return Options(behaviour=behaviour, forwarding=method, grid=grid, exchange_prices=prices)


def _chain(market: BalancingMarket, options: Options, clock: Stopwatch) -> Chain:
    from hiermarket.stages.coordination import run_chain

    with clock.running(f"Run: {_words(options.behaviour)}"):
        return run_chain(market, options, progress=clock)


def _words(behaviour: Behaviour) -> str:
    """Name a behaviour."""
    from hiermarket.stages.coordination import OneLeader, Truthful
    from hiermarket.stages.decides import PricesAndVolumes

    if isinstance(behaviour, OneLeader):
        return f"{behaviour.bsp} leads{' with volumes' if isinstance(behaviour.decides, PricesAndVolumes) else ''}"
    return "all truthful" if isinstance(behaviour, Truthful) else "as bid"


def _write(chain: Chain, case: str, folder: Path, *, pictures: bool) -> list[Path]:
    """Write the results and the pictures of a run; returns the files."""
    from hiermarket.results.netcdf import write_results
    from hiermarket.results.results import result_tree

    folder.mkdir(parents=True, exist_ok=True)
    written = [write_results(result_tree(chain), folder / f"{case}.nc")]
    if pictures:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt

        from hiermarket import plot

        drawn = {"feeder": plot.feeder_map(chain), "prices": plot.prices(chain), "capability": plot.capability(chain)}
        for name, picture in drawn.items():
            figure = picture.get_figure(root=True)
            if figure is not None:
                path = folder / f"{case}_{name}.png"
                figure.savefig(path, dpi=160, bbox_inches="tight")
                plt.close(figure)
                written.append(path)
    return written


def _behaviours(chain: Chain, market: BalancingMarket, clock: Stopwatch, out: Console) -> None:
    """Run every other behaviour of the market, and show them side by side."""
    from hiermarket.results.report import Outcome, behaviour_table, outcome
    from hiermarket.stages.coordination import OneLeader, Truthful
    from hiermarket.stages.decides import PricesOnly

    outcomes: dict[str, Outcome | str] = {}
    asked = chain.options.behaviour
    decides = asked.decides if isinstance(asked, OneLeader) else PricesOnly()
    behaviours: list[Behaviour] = [Truthful(), *(OneLeader(bsp, decides) for bsp in market.bids.bsps)]
    if chain.options.behaviour not in behaviours:
        behaviours.insert(0, chain.options.behaviour)
    for behaviour in behaviours:
        if behaviour == chain.options.behaviour:
            outcomes[_words(behaviour)] = outcome(chain)
            continue
        try:
            outcomes[_words(behaviour)] = outcome(_chain(market, replace(chain.options, behaviour=behaviour), clock))
        except HiermarketError as error:
            outcomes[_words(behaviour)] = str(error)
    out.print(behaviour_table(outcomes))
