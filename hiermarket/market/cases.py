"""Markets shipped with the package: `load_case("ieee33")`."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

import pandas as pd

from hiermarket.errors import DataError, Fault
from hiermarket.labels import BUS, PERIOD
from hiermarket.market.balancing_market import BalancingMarket, Transmission, balancing_market
from hiermarket.market.bids import bids
from hiermarket.market.dispatch import pglib
from hiermarket.market.published_cases import lind
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.from_pypsa import feeder_from_pypsa, grid_from_pypsa, load_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.resources.abc import Traversable

#: Cases of PGLib-OPF.
PGLIB: Final = ("pglib_5_pjm", "pglib_14_ieee", "pglib_24_ieee_rts", "pglib_39_epri", "pglib_118_ieee")

#: Where the 33-bus feeder hangs in the 14-bus grid.
INTERFACE: Final = "14"


def two_bus() -> BalancingMarket:
    """Return one period on two buses, small enough for a calculation by hand.

    A root and one bus behind r = x = 0.01 (1/MVA), no load. Deficit 0.5 MW at the bus.
    A offers 0.2 MW up at 30, B 0.3 MW down at 25, the TBM sells at 60 and buys at 20
    EUR/MWh. Without losses: A gives 0.2, the TBM 0.3 MW, the price is 60 at both buses.
    """
    line = {"parent": ["", "root"], "r": [0.0, 0.01], "x": [0.0, 0.01]}
    feeder = feeder_from_table(pd.DataFrame(line, index=["root", "end"]), name="feeder")
    offers = {
        "feeder": "feeder", "bsp": ["A", "B"], "bus": "end", "direction": ["up", "down"],
        "price": [30.0, 25.0], "volume": [0.2, 0.3],
    }  # fmt: skip
    return balancing_market(
        {"feeder": feeder},
        bids=pd.DataFrame(offers),
        imbalance=pd.DataFrame({"feeder": ["feeder"], "bus": ["end"], "imbalance": [0.5]}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    )


def m33() -> BalancingMarket:
    """Return the micro-case on the 33-bus feeder: one hour at peak, deficit of 15 % of every load.

    Five resources of three BSPs, TBM at 60 and 20 EUR/MWh, voltages 0.90–1.05, no line
    limits. Without losses every figure can be checked by hand: activation .15 .10 .10
    .15 .05725 MW, price 50, bid cost 21.0625 EUR, baseline 33.435 EUR.
    """
    network = load_network("ieee33")
    # no line limits in this case: PyPSA's s_nom = 0 stands for none
    network.c["Line"].static["s_nom"] = 0.0
    feeder = feeder_from_pypsa(network, name="m33")
    volume_up, volume_down = [0.15, 0.10, 0.10, 0.15, 0.20], [0.10] * 5
    at = {"feeder": "m33", "bsp": ["A", "A", "B", "B", "C"], "bus": ["18", "33", "22", "25", "14"]}
    up = pd.DataFrame({**at, "direction": "up", "price": [30.0, 34.0, 40.0, 42.0, 50.0], "volume": volume_up})
    down = pd.DataFrame({**at, "direction": "down", "price": [25.0, 25.0, 22.0, 22.0, 21.0], "volume": volume_down})
    load = -feeder.data["p_scheduled"].isel({PERIOD: 0})
    deficit = {"feeder": "m33", "bus": load[BUS].to_numpy(), "imbalance": 0.15 * load.to_numpy()}
    return balancing_market(
        {"m33": feeder},
        bids=pd.concat([up, down], ignore_index=True),
        imbalance=pd.DataFrame(deficit),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=MarketRules(price_cap=200.0, value_of_lost_load=3000.0),
    )


def ieee33() -> BalancingMarket:
    """Return a day of 24 hours on the 33-bus feeder under the 14-bus transmission grid.

    4.672 MWh of gross imbalance; generators, batteries, photovoltaics and demand response
    of four BSPs. Everything but the grids is synthetic and seeded; see SOURCES.md beside
    the files.
    """
    feeder = feeder_from_pypsa(load_network("ieee33_day"), name="ieee33")
    periods = pd.DatetimeIndex(feeder.data.indexes[PERIOD])
    prices = _table("ieee33_day_tbm.csv").set_index(PERIOD)
    own = _table("ieee33_day_grid_imbalance.csv").astype({BUS: str})
    side = Transmission(
        grid=grid_from_pypsa(load_network("ieee14_day")),
        interface={"ieee33": INTERFACE},
        bids=bids(_table("ieee33_day_grid_bids.csv"), periods),
        imbalance=own.set_index([BUS, PERIOD])["imbalance"].to_xarray(),
    )
    return balancing_market(
        {"ieee33": feeder},
        bids=_table("ieee33_day_bids.csv"),
        imbalance=_table("ieee33_day_imbalance.csv"),
        tbm_prices=prices,
        rules=MarketRules(price_cap=200.0, value_of_lost_load=3000.0),
        transmission=side,
    )


def _dispatch_of(name: str) -> Callable[[], BalancingMarket]:
    def build() -> BalancingMarket:
        return pglib(name)

    build.__doc__ = f"Return the DC optimal power flow of the case {name.removeprefix('pglib_')} of PGLib-OPF."
    return build


def _folder() -> Traversable:
    return resources.files("hiermarket.networks")


def _table(name: str) -> pd.DataFrame:
    with resources.as_file(_folder() / name) as path:
        return pd.read_csv(path, parse_dates=[PERIOD])


#: The shipped cases by name.
CASES: Final[dict[str, Callable[[], BalancingMarket]]] = {
    "ieee33": ieee33,
    "lind": lind,
    "m33": m33,
    **{name: _dispatch_of(name) for name in PGLIB},
    "two_bus": two_bus,
}


def load_case(name: str) -> BalancingMarket:
    """Return a market that is shipped with the package.

    Parameters
    ----------
    name : "ieee33", "m33", "two_bus", "lind", or "pglib_5_pjm", …
        A day on the 33-bus feeder; one hour on it; one hour on two buses; the case of Lind,
        Cossent and Frías; the DC optimal power flow of a case of PGLib-OPF as a market of the TSO
        alone.

    Returns
    -------
    BalancingMarket
        Checked and read-only.

    Raises
    ------
    DataError
        When there is no case of that name.

    >>> load_case("two_bus").bids.bsps
    ['A', 'B']
    """
    if name not in CASES:
        raise DataError([Fault("load_case", repr(name), f"one of {', '.join(CASES)}", "Choose a shipped case.")])
    return CASES[name]()
