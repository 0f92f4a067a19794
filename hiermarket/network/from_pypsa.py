"""The only door to PyPSA: its networks in, checked feeders and transmission grids out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.labels import BUS, LINE, PERIOD
from hiermarket.network.components import active, controlled, ratings, refuse_kinds
from hiermarket.network.feeder import Feeder
from hiermarket.network.grid import Susceptance, TransmissionGrid
from hiermarket.network.one_ports import OnePorts, held_voltages, net_injections
from hiermarket.network.per_unit import radial_arrays
from hiermarket.network.snapshots import periods_of
from hiermarket.network.topology import tree
from hiermarket.schema import option_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pypsa

    #: A network of PyPSA, for annotations elsewhere: this file is the only door to the library.
    PypsaNetwork = pypsa.Network

_ONE_PORTS = ("Generator", "Load", "StorageUnit", "Store")
_BRANCHES = ("Line", "Transformer")
#: What PyPSA needs to calculate the impedances of a component.
_ELECTRICAL = {
    "Bus": ("v_nom", "carrier"),
    "Line": ("bus0", "bus1", "type", "r", "x", "g", "b", "length", "num_parallel", "s_nom", "v_ang_max"),
    "Transformer": (
        "bus0", "bus1", "type", "model", "r", "x", "g", "b", "s_nom", "tap_ratio", "tap_side", "tap_position",
        "phase_shift", "num_parallel", "v_ang_max",
    ),
    "ShuntImpedance": ("bus", "g", "b"),
}  # fmt: skip


def load_network(name: str | Path) -> pypsa.Network:
    """Return a network that the package ships, or one of a file.

    Parameters
    ----------
    name : str or Path
        Name of a file beside SOURCES.md without its ending, e.g. ``"ieee33"``; or a Path.

    Returns
    -------
    pypsa.Network
        A fresh copy.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    import warnings
    from importlib.resources import as_file, files

    folder = files("hiermarket.networks")
    shipped = sorted(item.name.removesuffix(".nc") for item in folder.iterdir() if item.name.endswith(".nc"))
    if not isinstance(name, Path) and name not in shipped:
        remedy = "Open a file of your own with pypsa.Network(path)."
        raise DataError([Fault("load_network", repr(name), f"one of {', '.join(shipped)}", remedy)])
    import pypsa

    with as_file(name if isinstance(name, Path) else folder / f"{name}.nc") as path, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pandas infers the .str. dtype", category=FutureWarning)
        return pypsa.Network(path)


def feeder_from_pypsa(
    network: pypsa.Network, *, name: str, root: str | None = None, buses: Sequence[str] | None = None
) -> Feeder:
    """Read a radial feeder out of a PyPSA network.

    Parameters
    ----------
    network : pypsa.Network
        Never changed. Components with ``active=False`` are left out.
    name : str
        Name of the feeder.
    root : str, optional
        Bus at the interface; that of the generator with control "Slack" by default.
    buses : sequence of str, optional
        The buses of the feeder, root included, where the network holds more. Branches and
        links between the root and other buses are the connection to the rest: left out.

    Returns
    -------
    Feeder
        Impedances, charging and shunts as PyPSA's own power flow sees them; ratings
        s_nom × s_max_pu (s_nom = 0 is no limit); the schedule from p_set and q_set of
        loads, generators, storage units and stores, without the slack generator; periods
        from the snapshots (UTC) and their length from the weightings.

    Raises
    ------
    DataError
        With every fault found: no or several roots, loops, islands, links, voltage
        controlled generators, missing schedules, weightings that contradict the snapshots,
        and all that `Feeder` reports.

    Notes
    -----
    Phase shifts turn all voltages behind a radial transformer by one angle and change
    nothing else: they are ignored.
    """
    refuse_kinds(network, name)
    labels, faults = _labels(network, buses, name)
    periods, duration, more = periods_of(network.snapshots, network.snapshot_weightings, name)
    found_root, root_faults = _root(network, labels, root, name)
    faults += more + root_faults + _ac_faults(network, labels, name)
    faults += _connection_faults(network, labels - {str(found_root)}, labels, name)
    if found_root is None:
        raise DataError(faults)
    ordered = [str(bus) for bus in network.c["Bus"].static.index if bus in labels]
    branches, shunts, more = _electrical(network, labels, name)
    faults += more
    one_ports = _one_ports(network, ordered)
    schedule, more = net_injections([part.without_slack() for part in one_ports], ordered, name)
    faults += more + held_voltages(one_ports, name)
    try:
        found = tree(
            ordered,
            (branches["bus0"].tolist(), branches["bus1"].tolist()),
            found_root,
            edges=branches["name"].tolist(),
            where=name,
        )
    except DataError as error:
        raise DataError([*faults, *error.faults]) from None
    if faults:
        raise DataError(faults)
    data = radial_arrays(branches, ordered, found, shunts)
    limits = network.c["Bus"].static.loc[ordered]
    v_set = network.get_switchable_as_dense("Bus", "v_mag_pu_set")[found_root]
    data = data.assign_coords({PERIOD: periods.to_numpy()}).assign(
        {
            "v_min": (BUS, limits["v_mag_pu_min"].to_numpy()),
            "v_max": (BUS, limits["v_mag_pu_max"].to_numpy()),
            "v_root": (PERIOD, v_set.to_numpy()),
            "duration": (PERIOD, duration),
            "p_scheduled": ((BUS, PERIOD), schedule["p"]),
            "q_scheduled": ((BUS, PERIOD), schedule["q"]),
        }
    )
    return Feeder(data.assign_attrs(name=name, root=found_root))


def grid_from_pypsa(
    network: pypsa.Network,
    *,
    buses: Sequence[str] | None = None,
    susceptance: Susceptance = Susceptance.REACTANCE,
) -> TransmissionGrid:
    """Read the DC approximation of a transmission grid out of a PyPSA network.

    Parameters
    ----------
    network : pypsa.Network
        Never changed. Components with ``active=False`` are left out.
    buses : sequence of str, optional
        The buses of the transmission grid, where the network holds more. Branches and links
        that leave them are the interfaces to feeders: left out.
    susceptance : Susceptance
        What stands for the susceptance of a branch; PyPSA's own by default.

    Returns
    -------
    TransmissionGrid
        Lines and transformers; limits s_nom × s_max_pu (s_nom = 0 is no limit), and no more than
        ``v_ang_max`` allows; the schedule from p_set of generators (a slack without p_set counts
        as 0), loads, storage units and stores.

    Raises
    ------
    DataError
        With every fault found: links within the grid, phase shifts, missing schedules,
        weightings that contradict the snapshots, and all that `TransmissionGrid` reports.

    Notes
    -----
    A limit of the angle is one of the flow, |f| = B |θ_0 − θ_1| ≤ B θ_max: nothing is lost.
    """
    susceptance = option_of(Susceptance, susceptance, "susceptance")
    where = "grid"
    refuse_kinds(network, where)
    labels, faults = _labels(network, buses, where)
    periods, duration, more = periods_of(network.snapshots, network.snapshot_weightings, where)
    faults += more + _ac_faults(network, labels, where)
    for component, label, ends in controlled(network):
        if sum(end in labels for end in ends) > 1:
            faults.append(_link_fault(where, component, label))
    ordered = [str(bus) for bus in network.c["Bus"].static.index if bus in labels]
    branches, _, more = _electrical(network, labels, where)
    faults += more
    schedule, more = net_injections([part.slack_at_zero() for part in _one_ports(network, ordered)], ordered, where)
    faults += more
    turned = branches.loc[branches["phase_shift"] != 0, "name"].tolist()
    if turned:
        remedy = "Set phase_shift = 0, or remove the transformer."
        faults.append(Fault(f"{where}, transformers {some_labels(turned)}", "a phase shift", "none", remedy))
    if faults:
        raise DataError(faults)
    r, x, ratio = (branches[name].to_numpy(dtype=float) for name in ("r", "x", "ratio"))
    with np.errstate(divide="ignore", invalid="ignore"):
        by_angle = 1 / (x * ratio) if susceptance is Susceptance.REACTANCE else x / (r**2 + x**2)
        # |f_l| = B_l |θ_0 − θ_1| ≤ B_l θ_max                                             [MW]
        limit = np.minimum(branches["s_max"].to_numpy(), by_angle * branches["angle_max"].to_numpy())
    data = xr.Dataset(
        {
            "bus0": (LINE, branches["bus0"].to_numpy(dtype=object)),
            "bus1": (LINE, branches["bus1"].to_numpy(dtype=object)),
            "susceptance": (LINE, by_angle),
            "s_max": (LINE, limit),
            "p_scheduled": ((BUS, PERIOD), schedule["p"]),
            "duration": (PERIOD, duration),
        },
        coords={
            BUS: np.array(ordered, dtype=object),
            LINE: branches["name"].to_numpy(dtype=object),
            PERIOD: periods.to_numpy(),
        },
    )
    return TransmissionGrid(data)


def _labels(network: pypsa.Network, buses: Sequence[str] | None, where: str) -> tuple[set[str], list[Fault]]:
    """Return the buses to read, and a fault for those that the network does not have."""
    known = {str(bus) for bus in network.c["Bus"].static.index}
    if buses is None:
        return known, []
    unknown = [bus for bus in buses if bus not in known]
    if not unknown:
        return set(buses), []
    found = f"unknown buses {some_labels(unknown)}"
    return set(buses) & known, [Fault(f"{where}.buses", found, "buses of the network", "Correct their names.")]


def _link_fault(where: str, component: str, label: str) -> Fault:
    remedy = "Replace it by a line, or by a load and a generator with its flow as p_set."
    return Fault(f"{where}, {component.lower()} {label}", "a controlled branch", "lines and transformers", remedy)


def _root(network: pypsa.Network, labels: set[str], root: str | None, where: str) -> tuple[str | None, list[Fault]]:
    """Return the bus at the interface, and the faults that make it ambiguous."""
    generators = active(network, "Generator")
    slack = generators[(generators["control"] == "Slack") & generators["bus"].isin(labels)]
    at = list(dict.fromkeys(slack["bus"]))
    if root is not None and root not in labels:
        remedy = "Name a bus of the feeder, and include it in `buses`."
        return None, [Fault(f"{where}.root", repr(root), "a bus of the feeder", remedy)]
    if root is None and len(at) != 1:
        found = f"slack generators at buses {some_labels(at)}" if at else "no generator with control 'Slack'"
        remedy = "Name the bus at the interface with `root`, or set the control of one generator to 'Slack'."
        return None, [Fault(f"{where}.root", found, "one bus with a slack generator", remedy)]
    elsewhere = [bus for bus in at if root is not None and bus != root]
    if elsewhere:
        found = f"slack generators at {some_labels(elsewhere)}, root {root}"
        remedy = "Set their control to 'PQ' with p_set and q_set, or name that bus as the root."
        return root, [Fault(f"{where}.root", found, "slack generators at the root only", remedy)]
    return root or str(at[0]), []


def _ac_faults(network: pypsa.Network, labels: set[str], where: str) -> list[Fault]:
    static = network.c["Bus"].static
    direct = [str(bus) for bus in static.index[static["carrier"] == "DC"] if bus in labels]
    remedy = "Leave them out with `buses`."
    return [Fault(f"{where}.bus", f"DC buses {some_labels(direct)}", "AC buses", remedy)] if direct else []


def _connection_faults(network: pypsa.Network, inner: set[str], labels: set[str], where: str) -> list[Fault]:
    """Report links in the feeder, and branches that leave it other than at the root."""
    faults = [
        _link_fault(where, component, label)
        for component, label, ends in controlled(network)
        if any(end in inner for end in ends) or (ends and all(end in labels for end in ends))
    ]
    for component in _BRANCHES:
        static = active(network, component)
        ends = static[["bus0", "bus1"]]
        leaving = ends.isin(inner).any(axis=1) & ~ends.isin(labels).all(axis=1)
        for label, pair in ends[leaving].iterrows():
            remedy = "Add the bus to `buses`, or open the branch: a feeder has one interface."
            found = f"a branch to {some_labels([end for end in pair if end not in labels])}"
            faults.append(Fault(f"{where}, {component.lower()} {label}", found, "buses of the feeder", remedy))
    return faults


def _electrical(network: pypsa.Network, labels: set[str], where: str) -> tuple[pd.DataFrame, pd.DataFrame, list[Fault]]:
    """Return the branches and shunts among some buses, with PyPSA's own dependent values."""
    import pypsa

    part = pypsa.Network()
    faults = []
    for component, attributes in _ELECTRICAL.items():
        static = active(network, component)
        ports = [column for column in ("bus", "bus0", "bus1") if column in attributes]
        inside = static[ports].isin(labels).all(axis=1) if ports else static.index.isin(labels)
        chosen = static[inside]
        # PyPSA takes NaN for the default when components are added
        numbers = chosen[list(attributes)].select_dtypes("number").drop(columns="tap_ratio", errors="ignore")
        unknown = list(chosen.index[numbers.isna().any(axis=1)])
        if unknown:
            whom = f"{where}, {network.c[component].list_name} {some_labels(unknown)}"
            remedy = f"Check {', '.join(numbers.columns[numbers.isna().any()])}."
            faults.append(Fault(whom, "NaN", "numbers", remedy))
        if len(chosen):
            _add(part, component, chosen[list(attributes)])
    for component in _BRANCHES:
        types = network.c[f"{component}Type"].static
        used = types[types.index.isin(part.c[component].static["type"])]
        if len(used):
            _add(part, f"{component}Type", used)
    for component in _BRANCHES:
        static, known = part.c[component].static, set(part.c[f"{component}Type"].static.index)
        if missing := sorted(set(static["type"]) - known - {""}):
            used = static.index[static["type"].isin(missing)]
            remedy = f"Add the type, or set type='' and give r and x of the {component.lower()}."
            found = f"unknown types {some_labels(missing)}"
            faults.append(
                Fault(f"{where}, {component.lower()}s {some_labels(list(used))}", found, "known types", remedy)
            )
            part.c[component].static.loc[used, "type"] = ""
    part.calculate_dependent_values()
    tables = []
    for component in _BRANCHES:
        static = part.c[component].static
        rating, more = ratings(network, component, static["s_nom"], where)
        faults += more
        ratio = static["tap_ratio"].fillna(1.0).replace(0.0, 1.0) if "tap_ratio" in static else 1.0
        table = static[["bus0", "bus1"]].assign(name=[str(label) for label in static.index], ratio=ratio, s_max=rating)
        table["at_bus0"] = static["tap_side"] == 0 if "tap_side" in static else True
        table["phase_shift"] = static.get("phase_shift", 0.0)
        table["angle_max"] = np.deg2rad(static["v_ang_max"].astype(float))
        table[["r", "x", "g", "b"]] = static[["r_pu", "x_pu", "g_pu", "b_pu"]]
        broken = table.loc[~np.isfinite(table[["r", "x", "g", "b"]]).all(axis=1), "name"].tolist()
        if broken:
            remedy = "Check r, x, g and b, the s_nom of transformers and the v_nom of the buses."
            whom = f"{where}, {component.lower()}s {some_labels(broken)}"
            faults.append(Fault(whom, "an impedance that is no number", "finite impedances", remedy))
        tables.append(table)
    shunts = part.c["ShuntImpedance"].static.groupby("bus")[["g_pu", "b_pu"]].sum()
    return pd.concat(tables, ignore_index=True), shunts, faults


def _add(network: pypsa.Network, component: str, static: pd.DataFrame) -> None:
    columns: dict[str, Any] = {str(column): static[column] for column in static}
    network.add(component, list(static.index), overwrite=True, **columns)


def _one_ports(network: pypsa.Network, buses: list[str]) -> list[OnePorts]:
    """Return the active loads, generators, storage units and stores at some buses."""
    found = []
    for component in _ONE_PORTS:
        static = active(network, component)
        static = static[static["bus"].isin(buses)]
        control = static["control"] if "control" in static else pd.Series("PQ", index=static.index)
        sets = (network.get_switchable_as_dense(component, f"{power}_set")[static.index] for power in ("p", "q"))
        found.append(OnePorts(component.lower(), static["bus"], static["sign"].astype(float), control, *sets))
    return found
