"""Run the chain of a market, or a study of many feeders: here, or on a dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from hiermarket.errors import Fault
from hiermarket.market.scenarios import ScenarioMarket
from hiermarket.schema import raise_together
from hiermarket.stages.coordination import Chain, LocalStages, Options, common_stages, local_stages, run_chain
from hiermarket.stages.scenario_runs import ScenarioChain, run_scenarios
from hiermarket.study.batches import join_stages, options_for, require_leader, require_separable, split_market
from hiermarket.study.study import Study
from hiermarket.study.walk import run_study

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.study.opened import StudyResults
    from hiermarket.study.progress import Progress


@overload
def run(
    what: BalancingMarket,
    options: Options | None = None,
    *,
    client: Client | None = None,
    progress: Callable[[str], None] | None = None,
) -> Chain: ...


@overload
def run(
    what: ScenarioMarket,
    options: Options | None = None,
    *,
    client: Client | None = None,
    progress: Callable[[str], None] | None = None,
) -> ScenarioChain: ...


@overload
def run(
    what: Study,
    *,
    client: Client | None = None,
    progress: Callable[[Progress], None] | None = None,
    fresh: bool = False,
) -> StudyResults: ...


def run(
    what: BalancingMarket | ScenarioMarket | Study,
    options: Options | None = None,
    *,
    client: Client | None = None,
    progress: Callable[[str], None] | Callable[[Progress], None] | None = None,
    fresh: bool = False,
) -> Chain | ScenarioChain | StudyResults:
    """Run every stage of the hierarchy.

    Parameters
    ----------
    what : BalancingMarket, ScenarioMarket or Study
        Grids, bids, imbalance, prices of one feeder or many, in memory; the same in several
        scenarios; or a study, whose
        feeders are made batch by batch and whose results go to a folder.
    options : Options, optional
        For a market: behaviour of the BSPs, forwarding method, grid model; everybody
        truthful and `SafeBox` by default. A study has its own.
    client : distributed.Client, optional
        A dask client. The stages of the feeders are then computed on its workers; the
        result is the same. Without a client everything runs in this process.
    progress : callable, optional
        For a market: called with the name of each stage before it begins, and with every
        feeder that is done. For a study: called with `Progress` after every batch.
    fresh : bool
        For a study: compute everything anew, whatever an earlier run has left in its folder.

    Returns
    -------
    Chain, ScenarioChain or StudyResults
        The results of all stages: in memory for a market, by scenario for one in scenarios,
        opened lazily for a study.

    Raises
    ------
    DataError
        With faults of the data of a study, for a leader that bids in no feeder, and for `AllStrategic` in a
        study or with a client.
    SolveError
        With feeder and period, when a stage of a market has no optimum. In a study these are
        told in the results.
    BatchesFailedError
        When batches of a study failed in every attempt (`OnFailure.STOP`); all others are
        kept.
    StudyError
        When the folder of the study cannot be written, another run writes it, the folder holds a study of other feeders
        only, or the cluster is lost.

    Notes
    -----
    A study that was stopped, or killed, is resumed by running it again: parts that are
    there and whose inputs are the same are not computed again. Workers write them, so
    that they must see the study's folder.

    Examples
    --------
    >>> import hiermarket as hm
    >>> chain = hm.run(hm.load_case("two_bus"), hm.Options(grid=hm.LinDistFlow(loss_passes=0)))
    >>> chain.clearing.activation.sel(bsp="A", direction="up").max().item()
    0.2
    """
    tell: Callable[..., None] = progress or (lambda step: None)
    if isinstance(what, Study):
        if options is not None:
            raise_together([Fault("run", "options beside a study", "the study's own", "Make the study with them.")])
        return run_study(what, client=client, tell=tell, fresh=fresh)
    if fresh:
        raise_together([Fault("run", "fresh beside a market", "a study", "Drop it: nothing of a market is kept.")])
    options = options or Options()
    if isinstance(what, ScenarioMarket):

        def one(scenario: str, market: BalancingMarket) -> Chain:
            tell(f"scenario {scenario}")
            return run(market, options, client=client, progress=tell)

        return run_scenarios(what, options, one)
    if client is None or len(what.feeder_names) == 1:
        return run_chain(what, options, progress=tell)
    require_separable(options)
    require_leader(options, what.bids.bsps)
    parts = split_market(what)
    futures = [client.submit(_local, part, options_for(part, options), pure=False) for part in parts]
    done: list[LocalStages] = []
    for part, future in zip(parts, futures, strict=True):
        done.append(future.result())
        tell(f"feeder {part.feeder_names[0]}")
    return common_stages(join_stages(what, done), options, progress=tell)


def _local(market: BalancingMarket, options: Options) -> LocalStages:
    """Compute one part on a worker."""
    return local_stages(market, options)
