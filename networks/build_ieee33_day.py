"""Write the day of the case `ieee33`: two networks with 24 snapshots, and tables of bids, imbalance and prices.

The grids are those of `build_ieee33.py` and `build_ieee14.py`. Everything else is
synthetic and seeded: a day *shaped* like that of M. Khojasteh et al., Energy 267, 2023,
126461, whose data are not public: 4.672 MWh of gross imbalance on the 33-bus feeder, and
distributed generation, storage and demand response of several BSPs. No number was tuned
to the results of that paper.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pypsa
import xarray as xr

from hiermarket.market.storage import Storage, energy_safe
from hiermarket.networks.feeder_table import write

HERE = Path(__file__).parent
SEED = 20260115
PERIODS = pd.date_range("2026-01-15", periods=24, freq="h", name="snapshot")

#: Gross imbalance energy of the day [MWh], the figure of the paper.
GROSS_ENERGY = 4.672

#: Load by hour, share of the published load: a cold working day whose peak is 20 % above it.
LOAD = np.array([
    0.62, 0.59, 0.56, 0.55, 0.56, 0.62, 0.74, 0.88, 0.95, 0.96, 0.96, 0.97,
    0.96, 0.94, 0.92, 0.94, 1.00, 1.12, 1.20, 1.19, 1.12, 1.01, 0.86, 0.72,
])  # fmt: skip

#: Output of photovoltaics by hour, share of the installed power.
SUN = np.array([0, 0, 0, 0, 0, 0, 0, 0.02, 0.12, 0.27, 0.40, 0.47, 0.49, 0.44, 0.32, 0.16, 0.04, *[0] * 7])

#: Hours in which the batteries offer their energy: the morning and the evening ramp.
OFFERED = np.isin(np.arange(24), [7, 8, 9, 17, 18, 19, 20]).astype(float)

#: Prices of the transmission balancing market by hour [EUR/MWh].
TBM_UP = np.array([
    58, 56, 55, 55, 56, 60, 68, 78, 84, 82, 78, 76, 74, 72, 72, 76, 84, 92, 96, 94, 86, 76, 68, 62,
])  # fmt: skip
TBM_DOWN = np.array([
    12, 11, 10, 10, 11, 13, 16, 19, 21, 20, 19, 18, 17, 16, 16, 18, 21, 23, 24, 23, 21, 18, 15, 13,
])  # fmt: skip

#: (bsp, resource, kind, bus, scheduled MW, up MW, down MW, cost up, cost down [EUR/MWh], Mvar/MW)
RESOURCES = [
    ("BSP 1", "CHP 18", "generator", 18, 0.12, 0.06, 0.12, 46.0, 34.0, 0.30),
    ("BSP 1", "CHP 33", "generator", 33, 0.08, 0.05, 0.08, 49.0, 33.0, 0.30),
    ("BSP 1", "Battery 30", "storage", 30, 0.0, 0.25, 0.25, 52.0, 30.0, 0.0),
    ("BSP 2", "CHP 22", "generator", 22, 0.06, 0.04, 0.06, 51.0, 32.0, 0.30),
    ("BSP 2", "Cold store 25", "demand", 25, 0.0, 0.05, 0.05, 64.0, 26.0, 0.20),
    ("BSP 3", "Battery 14", "storage", 14, 0.0, 0.15, 0.15, 54.0, 29.0, 0.0),
    ("BSP 3", "Pumps 8", "demand", 8, 0.0, 0.04, 0.04, 68.0, 25.0, 0.20),
    ("BSP 4", "Photovoltaics 29", "sun", 29, 0.30, 0.0, 0.30, 1.0, 1.0, 0.0),
    ("BSP 4", "Heat pumps 7", "demand", 7, 0.0, 0.04, 0.04, 72.0, 27.0, 0.20),
]

#: Usable energy of the batteries [MWh], half full, at rest in the schedule.
BATTERIES = {"Battery 30": Storage(0.25, 0.0, 1.0), "Battery 14": Storage(0.15, 0.0, 0.6)}

#: (provider, bus of the 14-bus grid, MW up and down, up and down price as share of the TBM's)
GRID_BIDS = [
    ("Hydro", 2, 6.0, 0.90, 1.10), ("Gas", 3, 20.0, 1.00, 1.00), ("Coal", 1, 30.0, 1.15, 0.85),
    ("Turbine", 6, 20.0, 1.40, 0.60),
]  # fmt: skip

#: The feeder hangs at this bus of the 14-bus grid.
INTERFACE = "14"


def imbalance(rng: np.random.Generator, load: pd.Series) -> pd.DataFrame:
    """Return the imbalance of every bus and hour: a common error of the hour, spread by load with noise."""
    common = np.zeros(len(PERIODS))
    for hour in range(len(PERIODS)):
        # colder than forecast: deficits prevail
        common[hour] = 0.6 * (common[hour - 1] if hour else 0.0) + rng.normal(0.4, 1.0)
    noise = rng.uniform(0.5, 1.5, (len(load), len(PERIODS)))
    values = common * noise * load.to_numpy()[:, None] * LOAD
    values *= GROSS_ENERGY / np.abs(values).sum()
    # rounded to a watt; the last figure takes up what rounding leaves, so that the sum is exact
    rounded = np.round(values, 6)
    largest = np.unravel_index(np.abs(rounded).argmax(), rounded.shape)
    rounded[largest] += np.sign(rounded[largest]) * round(GROSS_ENERGY - float(np.abs(rounded).sum()), 6)
    table = pd.DataFrame(rounded, index=load.index.rename("bus"), columns=PERIODS.rename("period"))
    return table.stack().rename("imbalance").reset_index().assign(feeder="ieee33")


def bid_rows() -> pd.DataFrame:
    """Return a row for every bid and hour."""
    rows = []
    one = xr.DataArray(np.ones(len(PERIODS)), coords={"period": PERIODS.to_numpy()}, dims="period")
    for bsp, name, kind, bus, scheduled, up, down, cost_up, cost_down, ratio in RESOURCES:
        volumes = {"up": np.full(len(PERIODS), up), "down": np.full(len(PERIODS), down)}
        if kind == "storage":
            battery = BATTERIES[name]
            half = 0.5 * (battery.energy_min + battery.energy_max) * one
            safe = energy_safe(battery, half, 0 * one, one, one.copy(data=OFFERED))
            volumes = {d: np.round(safe[d].to_numpy(), 6) for d in ("up", "down")}
        elif kind == "sun":
            volumes["down"] = scheduled * SUN
        for direction, cost in (("up", cost_up), ("down", cost_down)):
            if not volumes[direction].any():
                continue
            rows += [
                {"feeder": "ieee33", "bsp": bsp, "bus": str(bus), "resource": name, "direction": direction,
                 "period": period, "volume": round(float(volume), 6), "price": cost, "cost": cost,
                 "reactive_ratio": ratio}
                for period, volume in zip(PERIODS, volumes[direction], strict=True)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def grid_rows() -> pd.DataFrame:
    """Return the transmission bids, a row for every bid and hour."""
    return pd.DataFrame([
        {"feeder": "transmission", "bsp": provider, "bus": str(bus), "direction": direction, "period": period,
         "volume": volume, "price": round(float(share * price), 4)}
        for provider, bus, volume, share_up, share_down in GRID_BIDS
        for direction, share, prices in (("up", share_up, TBM_UP), ("down", share_down, TBM_DOWN))
        for period, price in zip(PERIODS, prices, strict=True)
    ])  # fmt: skip


def feeder_day() -> pypsa.Network:
    """Return the 33-bus feeder over the day, with its scheduled resources."""
    network = pypsa.Network(HERE / "ieee33.nc")
    peak = network.loads[["p_set", "q_set"]].copy()
    network.set_snapshots(PERIODS)
    for column in ("p_set", "q_set"):
        profile = pd.DataFrame(np.outer(LOAD, peak[column]), index=PERIODS, columns=network.loads.index)
        network.c["Load"].dynamic[column] = profile
    for bsp, name, kind, bus, scheduled, up, *_ in RESOURCES:
        if kind == "generator":
            network.add("Generator", name, bus=str(bus), p_nom=scheduled + up, p_set=scheduled, carrier=bsp)
        elif kind == "sun":
            output = pd.Series(scheduled * SUN, index=PERIODS)
            network.add("Generator", name, bus=str(bus), p_nom=scheduled, p_set=output, carrier=bsp)
        elif kind == "storage":
            hours = BATTERIES[name].energy_max / up
            network.add("StorageUnit", name, bus=str(bus), p_nom=up, p_set=0.0, max_hours=hours, carrier=bsp)
    network.add("Carrier", [f"BSP {number}" for number in range(1, 5)])
    network.name = "ieee33_day"
    return network


def grid_day() -> pypsa.Network:
    """Return the 14-bus grid over the day; the slack generator balances the schedule without losses."""
    network = pypsa.Network(HERE / "ieee14.nc")
    load, output = network.loads[["p_set", "q_set"]].copy(), network.generators["p_set"].copy()
    network.set_snapshots(PERIODS)
    for column in ("p_set", "q_set"):
        profile = pd.DataFrame(np.outer(LOAD, load[column]), index=PERIODS, columns=network.loads.index)
        network.c["Load"].dynamic[column] = profile
    schedule = pd.DataFrame(np.outer(LOAD, output), index=PERIODS, columns=network.generators.index)
    network.c["Generator"].dynamic["p_set"] = schedule
    network.name = "ieee14_day"
    return network


def main() -> None:
    """Write every file of the day."""
    rng = np.random.default_rng(SEED)
    feeder, grid = feeder_day(), grid_day()
    load = pypsa.Network(HERE / "ieee33.nc").loads.set_index("bus")["p_set"]
    imbalance(rng, load).to_csv(HERE / "ieee33_day_imbalance.csv", index=False)
    bid_rows().to_csv(HERE / "ieee33_day_bids.csv", index=False)
    grid_rows().to_csv(HERE / "ieee33_day_grid_bids.csv", index=False)
    prices = pd.DataFrame({"period": PERIODS, "up": TBM_UP, "down": TBM_DOWN})
    prices.to_csv(HERE / "ieee33_day_tbm.csv", index=False)
    own = np.round(rng.normal(0.0, 9.0, len(PERIODS)), 3)
    rows = pd.DataFrame({"bus": "4", "period": PERIODS, "imbalance": own})
    rows.to_csv(HERE / "ieee33_day_grid_imbalance.csv", index=False)
    for network in (feeder, grid):
        write(network, __file__)


if __name__ == "__main__":
    main()
