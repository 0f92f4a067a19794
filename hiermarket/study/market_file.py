"""The market of a batch as arrays in a file: written once where networks are read, read by workers."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import xarray as xr

from hiermarket.labels import BUS, PERIOD
from hiermarket.market.balancing_market import BalancingMarket, Transmission
from hiermarket.market.resources import Resources
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeders import Feeders
from hiermarket.study.digest import digest, digest_of_file
from hiermarket.study.manifest import FORMAT
from hiermarket.study.parts import read_bids, read_group, write_part

if TYPE_CHECKING:
    from pathlib import Path

#: How the file beside it ends, which holds its key.
KEY: Final = ".key"


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
            resources=Resources(read_group(self.path, "resources")) if int(tbm.attrs.get("resources", 0)) else None,
        )


def keep_market(market: BalancingMarket, path: Path, made_of: str) -> KeptMarket:
    """Write the arrays of a market to a file, without the TSO's side, and its key beside it.

    Parameters
    ----------
    market : BalancingMarket
        Of some feeders.
    path : Path
        The file.
    made_of : str
        Fingerprint of what the arrays were made of.
    """
    table = market.resources
    rules = {"rules": json.dumps(dataclasses.asdict(market.rules)), "resources": int(table is not None)}
    groups = {
        "feeders": market.feeders.data.assign(imbalance=market.imbalance),
        "bids": market.bids.data,
        "tbm": market.tbm.assign_attrs(rules),
    }
    if table is not None:
        groups["resources"] = table.data
    sidecar = path.with_suffix(KEY)
    sidecar.unlink(missing_ok=True)
    write_part(groups, path)
    # after the file: a key never stands beside a file that is not whole
    draft = sidecar.with_name(f".{sidecar.name}.{os.getpid()}.part")
    draft.write_text(_key(path, made_of), encoding="utf-8")
    draft.replace(sidecar)
    return KeptMarket(path)


def kept_market(path: Path, made_of: str) -> KeptMarket | None:
    """Return the market that a file holds, if its bytes are those that were written, here, of the same inputs.

    Parameters
    ----------
    path : Path
        The file.
    made_of : str
        Fingerprint of the inputs as they are now.
    """
    sidecar = path.with_suffix(KEY)
    try:
        same = sidecar.read_text(encoding="utf-8") == _key(path, made_of)
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return KeptMarket(path) if same else None


def _key(path: Path, made_of: str) -> str:
    """Return the fingerprint of a file, of what it was made of, and of those who made it."""
    return digest(made_of, FORMAT, version("hiermarket"), version("pypsa"), digest_of_file(path))
