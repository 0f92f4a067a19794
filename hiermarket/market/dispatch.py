"""The dispatch of a whole transmission network as a balancing market without flexibility in feeders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from hiermarket.labels import BUS, PERIOD
from hiermarket.market.balancing_market import BalancingMarket, Transmission, balancing_market
from hiermarket.market.bids import LABEL_COLUMNS
from hiermarket.market.generator_bids import generator_bids
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.from_pypsa import grid_from_pypsa, load_network
from hiermarket.network.grid import Susceptance, TransmissionGrid

if TYPE_CHECKING:
    from hiermarket.network.from_pypsa import PypsaNetwork

#: The one feeder of such a market: a bus with nothing at it.
NOTHING: Final = "nothing"

#: Blocks of a generator with a quadratic cost.
STEPS: Final = 100


def dispatch_market(network: PypsaNetwork, *, susceptance: Susceptance = Susceptance.REACTANCE) -> BalancingMarket:
    """Return the market in which the TSO finds the cheapest dispatch of a network: its DC optimal power flow.

    Parameters
    ----------
    network : pypsa.Network
        Loads and generators with costs; ``p_set`` is what the generators give in any case.
    susceptance : Susceptance
        What stands for the susceptance of a branch.

    Returns
    -------
    BalancingMarket
        Nothing is scheduled: the load, less what the generators give in any case, is the TSO's
        imbalance, and the generators bid at cost. There is one feeder, of one bus with nothing
        at it. The cost of what is given in any case is no part of the market's cost.

    Raises
    ------
    DataError
        See `grid_from_pypsa` and `generator_bids`.
    """
    grid = grid_from_pypsa(network, susceptance=susceptance)
    need = -grid.data["p_scheduled"]
    periods = pd.DatetimeIndex(grid.data.indexes[PERIOD])
    feeder = feeder_from_table(pd.DataFrame({"parent": [""]}, index=["root"]), name=NOTHING, periods=periods)
    return balancing_market(
        {NOTHING: feeder},
        bids=pd.DataFrame(columns=[*LABEL_COLUMNS, "price", "volume"]),
        imbalance=pd.DataFrame({"feeder": [NOTHING], "bus": ["root"], "imbalance": [0.0]}),
        tbm_prices={"up": 0.0, "down": 0.0},
        rules=MarketRules(price_cap=1000.0, value_of_lost_load=10_000.0),
        transmission=Transmission(
            grid=TransmissionGrid(grid.data.assign(p_scheduled=0.0 * need)),
            interface={NOTHING: str(grid.data.indexes[BUS][0])},
            bids=generator_bids(network, steps=STEPS),
            imbalance=need,
        ),
    )


def pglib(case: str) -> BalancingMarket:
    """Return the DC optimal power flow of a case of PGLib-OPF, by PGLib's own approximation.

    Parameters
    ----------
    case : str
        Name of the network, e.g. ``"pglib_118_ieee"``.
    """
    return dispatch_market(load_network(case), susceptance=Susceptance.SERIES)
