"""A market in parts, feeder by feeder, and the parts' results put together again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import xarray as xr

from hiermarket.errors import Fault, meant, some_labels
from hiermarket.network.losses import LossTerms
from hiermarket.schema import freeze, join_flat, raise_together
from hiermarket.solving.blocks import Work
from hiermarket.stages.coordination import AllStrategic, AsBid, LocalStages, OneLeader, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket


def split_market(market: BalancingMarket, size: int = 1) -> list[BalancingMarket]:
    """Split a market into parts of some feeders each.

    Parameters
    ----------
    market : BalancingMarket
        The whole.
    size : int
        Feeders in a part.
    """
    names = list(market.feeder_names)
    return [market.of_feeders(names[start : start + size]) for start in range(0, len(names), size)]


def options_for(part: BalancingMarket, options: Options) -> Options:
    """Return the options for a part: where the leader owns no bid, all bid as their bids say."""
    behaviour = options.behaviour
    if isinstance(behaviour, OneLeader) and behaviour.bsp not in part.bids.bsps:
        # the rivals of a leader bid what the market's bids hold
        return replace(options, behaviour=AsBid())
    return options


def require_separable(options: Options) -> None:
    """Refuse what is not computed batch by batch.

    Raises
    ------
    DataError
        When every BSP is strategic, or exchange prices are iterated.
    """
    if options.exchange_prices is not None:
        remedy = "Run the market in memory, without a client: hm.run(market, options)."
        raise_together(
            [Fault("options.exchange_prices", "FixedPoint", "None, where feeders run once and apart", remedy)]
        )
    if isinstance(options.behaviour, AllStrategic):
        remedy = "Run the market in memory, without a client: hm.run(market, options)."
        expected = "Truthful, AsBid or OneLeader, where feeders are computed apart"
        raise_together([Fault("options.behaviour", "AllStrategic", expected, remedy)])


def require_leader(options: Options, bsps: Sequence[str]) -> None:
    """Refuse a leader that bids in none of the feeders, where `options_for` would let all bid as their bids say.

    Parameters
    ----------
    options : Options
        Of the whole.
    bsps : sequence of str
        Who bids in some feeder.

    Raises
    ------
    DataError
        Naming the leader and who bids.
    """
    behaviour = options.behaviour
    if isinstance(behaviour, OneLeader) and behaviour.bsp not in bsps:
        remedy = meant(behaviour.bsp, bsps, otherwise="Name a BSP that has bids in some feeder.")
        raise_together([Fault("leader", repr(behaviour.bsp), f"one of {some_labels(bsps)}", remedy)])


def join_stages(market: BalancingMarket, parts: Sequence[LocalStages]) -> LocalStages:
    """Put the local stages of all parts together.

    Parameters
    ----------
    market : BalancingMarket
        The whole market, as it was split.
    parts : sequence of LocalStages
        In the order of the split.

    Returns
    -------
    LocalStages
        As if all feeders had been computed in one call.
    """
    prices = join_flat([part.market.bids.data for part in parts])
    first = parts[0]
    clearing = replace(
        first.clearing,
        flat=freeze(join_flat([part.clearing.flat for part in parts])),
        losses=_join_losses([part.clearing.losses for part in parts]),
        scheduled_import=xr.concat([part.clearing.scheduled_import for part in parts], dim="feeder"),
        work=sum((part.clearing.work for part in parts), start=Work()),
    )
    forwarded = replace(
        first.forwarded,
        flat=freeze(join_flat([part.forwarded.flat for part in parts])),
        work=sum((part.forwarded.work for part in parts), start=Work()),
    )
    order = market.bids.data.indexes["bid"]
    return LocalStages(
        market=market.with_bids(market.bids.data.assign(price=prices.price.sel(bid=order))),
        bidding=tuple(bidding for part in parts for bidding in part.bidding),
        clearing=replace(clearing, flat=freeze(clearing.flat.sel(bid=order))),
        forwarded=replace(forwarded, flat=freeze(forwarded.flat.sel(bid=order))),
    )


def _join_losses(parts: Sequence[LossTerms]) -> LossTerms:
    names = ("constant", "by_p", "by_q", "by_w")
    joined = {name: xr.concat([getattr(part, name) for part in parts], dim="bus") for name in names}
    if all(part.support is None for part in parts):
        return LossTerms(**joined)
    held = [xr.zeros_like(part.by_q) if part.support is None else part.support for part in parts]
    return LossTerms(**joined, support=xr.concat(held, dim="bus"))
