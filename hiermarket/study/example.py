"""A small study in files, to look at and to start from: three unlike feeders on an evening."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from hiermarket.errors import StudyError
from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.network.from_pypsa import load_network

if TYPE_CHECKING:
    from hiermarket.network.from_pypsa import PypsaNetwork

#: The feeders of the example: load and imbalance, beside those of the shipped day.
FEEDERS: Final = {"north": 1.0, "east": 0.8, "south": 0.6}

#: The hours of the shipped day that it covers.
HOURS: Final = slice(16, 20)

#: The file itself.
TEXT: Final = """\
# Three feeders under one TSO, on an evening. Run it with: hiermarket run study.toml

[market]
networks = "feeders/*.nc"        # PyPSA networks; or a table of names and files
bids = "bids/{feeder}.csv"       # a table for each feeder; or one table for all
imbalance = "imbalance.csv"      # MW, > 0 is a deficit
tbm_prices = "tbm_prices.csv"    # EUR/MWh; or { up = 60.0, down = 20.0 }
price_cap = 200.0
value_of_lost_load = 3000.0

[transmission]                   # without this table: one bus, at the prices of the TBM
network = "transmission.nc"
bids = "transmission_bids.csv"
imbalance = "transmission_imbalance.csv"
interface = { north = "14", east = "13", south = "12" }

[options]
behaviour = "truthful"           # or "as-bid"; or leader = "BSP 1"
forwarding = "safe-box"          # or "offer-curve", "maximum-regulation", "individual", "unfiltered"
undo = false
loss_passes = 2

[study]
output = "results"
batch = 2                        # feeders; by default as many as fit into memory
on_failure = "stop"              # or "continue": without the feeders of batches that fail
"""


def write_example(folder: str | Path) -> Path:
    """Write a study of three feeders: networks, tables and the file ``study.toml``.

    Parameters
    ----------
    folder : str or Path
        A new or empty folder.

    Returns
    -------
    Path
        The file, for `hiermarket.read_study`.

    Raises
    ------
    StudyError
        When the folder holds something already.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StudyError("The folder of the example is not empty", where=str(folder), remedy="Name a new folder.")
    for name in ("feeders", "bids"):
        (path / name).mkdir(parents=True)
    periods = _network("ieee33_day").snapshots
    bids, imbalance = (_evening(f"ieee33_day_{name}.csv", periods) for name in ("bids", "imbalance"))
    for name, factor in FEEDERS.items():
        network = _network("ieee33_day")
        loads = network.c["Load"]
        for quantity in ("p_set", "q_set"):
            loads.dynamic[quantity] = loads.dynamic[quantity] * factor
            loads.static[quantity] = loads.static[quantity] * factor
        network.export_to_netcdf(path / "feeders" / f"{name}.nc")
        bids.drop(columns=FEEDER).to_csv(path / "bids" / f"{name}.csv", index=False)
    own = [imbalance.assign(feeder=name, imbalance=imbalance["imbalance"] * f) for name, f in FEEDERS.items()]
    pd.concat(own).to_csv(path / "imbalance.csv", index=False)
    _evening("ieee33_day_tbm.csv", periods).to_csv(path / "tbm_prices.csv", index=False)
    _network("ieee14_day").export_to_netcdf(path / "transmission.nc")
    for name in ("bids", "imbalance"):
        _evening(f"ieee33_day_grid_{name}.csv", periods).to_csv(path / f"transmission_{name}.csv", index=False)
    file = path / "study.toml"
    file.write_text(TEXT, encoding="utf-8")
    return file


def _network(name: str) -> PypsaNetwork:
    network = load_network(name)
    network.set_snapshots(list(network.snapshots[HOURS]))
    return network


def _evening(name: str, periods: pd.Index) -> pd.DataFrame:
    """Return the rows of a shipped table in some periods; a table without periods as it is."""
    with resources.as_file(resources.files("hiermarket.networks") / name) as path:
        table = pd.read_csv(path, parse_dates=[PERIOD], dtype={BUS: str})
    return table[table[PERIOD].isin(periods)]
