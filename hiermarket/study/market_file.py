"""The market of a batch as arrays in a file: written once where networks are read, read by workers."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import xarray as xr

from hiermarket.labels import BUS, PERIOD
from hiermarket.market.balancing_market import BalancingMarket, MarketRules, Transmission
from hiermarket.network.feeders import Feeders
from hiermarket.study.parts import open_group, read_bids, read_group, write_part

if TYPE_CHECKING:
    from pathlib import Path

#: The attribute that names what the arrays were made of.
MADE_OF: Final = "made_of"


@dataclass(frozen=True, slots=True)
class KeptMarket:
    """The file of a batch's arrays."""

    path: Path

    def market(self) -> BalancingMarket:
        """Return the market of the batch's feeders, without the TSO's side."""
        feeders, tbm = read_group(self.path, "feeders"), read_group(self.path, "tbm")
        imbalance = feeders["imbalance"]
        return BalancingMarket(
            feeders=Feeders(feeders.drop_vars("imbalance")),
            bids=read_bids(self.path, "bids"),
            imbalance=xr.DataArray(imbalance.values, coords=[feeders.indexes[d] for d in (BUS, PERIOD)]),
            tbm=tbm.drop_attrs(deep=False),
            rules=MarketRules(**json.loads(tbm.attrs["rules"])),
            transmission=Transmission(),
        )


def keep_market(market: BalancingMarket, path: Path, made_of: str) -> KeptMarket:
    """Write the arrays of a market to a file, without the TSO's side.

    Parameters
    ----------
    market : BalancingMarket
        Of some feeders.
    path : Path
        The file.
    made_of : str
        Fingerprint of what the arrays were made of.
    """
    rules = {"rules": json.dumps(dataclasses.asdict(market.rules)), MADE_OF: made_of}
    groups = {
        "feeders": market.feeders.data.assign(imbalance=market.imbalance),
        "bids": market.bids.data,
        "tbm": market.tbm.assign_attrs(rules),
    }
    write_part(groups, path)
    return KeptMarket(path)


def kept_market(path: Path, made_of: str) -> KeptMarket | None:
    """Return the market that a file holds, if it is whole and was made of the same inputs."""
    try:
        with open_group(path, "tbm") as found:
            return KeptMarket(path) if found.attrs.get(MADE_OF) == made_of else None
    except (OSError, KeyError):
        return None
