"""All scenarios of a market as one market, in which they are further periods; and the way back."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import MarketWarning
from hiermarket.labels import PERIOD, SCENARIO
from hiermarket.market.balancing_market import BalancingMarket, Transmission
from hiermarket.market.bids import Bids
from hiermarket.network.feeders import Feeders

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hiermarket.market.scenarios import ScenarioMarket


def folded(market: ScenarioMarket) -> BalancingMarket:
    """Return the feeders' market in which the periods of every scenario come one after the other.

    Scenarios share nothing but what is decided before: they are further periods to everything
    that treats periods apart. The timestamps are those of the first scenario, moved by the
    length of all periods for each further one; `unfolded` gives the labels back. The TSO's
    side is left out.

    Parameters
    ----------
    market : ScenarioMarket
        Without resources, which hold periods together.
    """
    markets = [market.of(name) for name in market.scenarios]
    first = markets[0]
    span = first.periods[-1] - first.periods[0] + pd.Timedelta(hours=float(first.duration.values[-1]))
    every = pd.DatetimeIndex([t + k * span for k in range(len(markets)) for t in first.periods], name=PERIOD)

    def joined(parts: list[xr.Dataset]) -> xr.Dataset:
        by_period = [name for name, array in parts[0].data_vars.items() if PERIOD in array.dims]
        found = {
            name: xr.concat(
                [part[name] for part in parts], dim=PERIOD, coords="minimal", compat="override", join="override"
            ).assign_coords({PERIOD: every})
            for name in by_period
        }
        return parts[0].drop_dims(PERIOD).assign(found)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarketWarning)
        return replace(
            first,
            feeders=Feeders(joined([one.feeders.data for one in markets])),
            bids=Bids(joined([one.bids.data for one in markets])),
            imbalance=joined([one.imbalance.to_dataset(name="imbalance") for one in markets])["imbalance"],
            tbm=joined([one.tbm for one in markets]),
            transmission=Transmission(),
        )


def unfolded(array: xr.DataArray, market: ScenarioMarket) -> xr.DataArray:
    """Return an array of the folded market with its dimension ``scenario`` in front; one without periods as it is."""
    if PERIOD not in array.dims:
        return array
    periods = market.of(market.scenarios[0]).periods
    rest: list[Hashable] = [dim for dim in array.dims if dim != PERIOD]
    last = array.transpose(*rest, PERIOD)
    shape = (*last.shape[:-1], len(market.scenarios), len(periods))
    kept = {name: coord for name, coord in array.coords.items() if PERIOD not in coord.dims}
    return xr.DataArray(
        np.moveaxis(last.values.reshape(shape), -2, 0),
        dims=(SCENARIO, *rest, PERIOD),
        coords={**kept, SCENARIO: market.scenarios, PERIOD: periods},
        name=array.name,
        attrs=array.attrs,
    )
