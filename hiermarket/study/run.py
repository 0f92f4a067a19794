"""Run the chain: in this process, or feeder by feeder on a dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.stages.coordination import Chain, LocalStages, Options, common_stages, local_stages, run_chain
from hiermarket.study.batches import join_stages, options_for, split_market

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from hiermarket.market.balancing_market import BalancingMarket


def run(
    market: BalancingMarket,
    options: Options | None = None,
    *,
    client: Client | None = None,
    progress: Callable[[str], None] | None = None,
) -> Chain:
    """Run every stage of the hierarchy.

    Parameters
    ----------
    market : BalancingMarket
        Grids, bids, imbalance, prices; one feeder or many.
    options : Options, optional
        Behaviour of the BSPs, forwarding method, grid model; everybody truthful and
        `SafeBox` by default.
    client : distributed.Client, optional
        A dask client. The stages before the TSO are then computed on its workers, a task
        for each feeder; the result is the same. Without a client, and for one feeder,
        everything runs in this process.
    progress : callable, optional
        Called with the name of each stage before it begins, and with every feeder that
        is done.

    Returns
    -------
    Chain
        The results of all stages.

    Raises
    ------
    SolveError
        With feeder and period, when a stage has no optimum.

    Examples
    --------
    >>> import hiermarket as hm
    >>> chain = hm.run(hm.load_case("two_bus"), hm.Options(grid=hm.LinDistFlow(loss_passes=0)))
    >>> chain.clearing.activation.sel(bsp="A", direction="up").max().item()
    0.2
    """
    options = options or Options()
    if client is None or len(market.feeder_names) == 1:
        return run_chain(market, options, progress=progress)
    tell = progress or (lambda stage: None)
    parts = split_market(market)
    futures = [client.submit(_local, part, options_for(part, options), pure=False) for part in parts]
    done: list[LocalStages] = []
    for part, future in zip(parts, futures, strict=True):
        done.append(future.result())
        tell(f"feeder {part.feeder_names[0]}")
    return common_stages(join_stages(market, done), options, progress=progress)


def _local(market: BalancingMarket, options: Options) -> LocalStages:
    """Compute one part on a worker."""
    return local_stages(market, options)
