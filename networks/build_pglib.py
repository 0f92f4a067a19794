"""Write `pglib_*.nc`: five cases of PGLib-OPF, with the costs and limits of their generators.

Source: the case files in `pglib/`, release 23.07 of the Power Grid Library, without the notes of the conversion
at their ends; see SOURCES.md for authors and licence. Of the published data stay out: apparent power ratings B and C,
limits of reactive power, start-up costs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hiermarket.network.per_unit import ohms, siemens
from hiermarket.networks.feeder_table import write

if TYPE_CHECKING:
    import pypsa

CASES = ("5_pjm", "14_ieee", "24_ieee_rts", "39_epri", "118_ieee")
FOLDER = Path(__file__).parent / "pglib"

#: How MATPOWER's type of a bus reads in PyPSA.
CONTROL = {1: "PQ", 2: "PV", 3: "Slack"}


def table(text: str, name: str) -> list[list[float]]:
    r"""Return the rows of a matrix of a case file.

    >>> table("mpc.bus = [\n1\t2.5; % a note\n];", "bus")
    [[1.0, 2.5]]
    """
    found = re.search(rf"mpc\.{name} = \[(.*?)\];", text, re.DOTALL)
    if found is None:
        raise ValueError(f"no matrix mpc.{name}")
    rows = (row.partition("%")[0].replace(";", " ").split() for row in found[1].strip().splitlines())
    return [[float(value) for value in row] for row in rows]


def case_network(case: str) -> pypsa.Network:
    """Build the network of a case; generators are scheduled at their least output.

    Parameters
    ----------
    case : str
        One of `CASES`.

    Returns
    -------
    pypsa.Network
        Buses "1", "2", …; lines "1-2", a parallel one "1-2 b"; branches with a tap ratio or
        between two nominal voltages are transformers; generators "G1", "G2", … in the order of
        the file, with the cost c_1 p + c_2 p² and c_0 as the cost of standing by.
    """
    import pypsa

    text = (FOLDER / f"pglib_opf_case{case}.m").read_text(encoding="utf-8")
    buses, generators, costs, branches = (table(text, name) for name in ("bus", "gen", "gencost", "branch"))
    found = re.search(r"mpc\.baseMVA = ([0-9.]+);", text)
    base = float(found[1]) if found else 100.0
    network = pypsa.Network(name=f"pglib_{case}")
    network.add("Carrier", "AC")
    kilovolts, kinds = {}, {}
    for number, kind, active, reactive, g, b, _, _, _, v_nom, _, v_max, v_min in buses:
        label = f"{number:.0f}"
        kilovolts[label], kinds[label] = v_nom, CONTROL[int(kind)]
        network.add("Bus", label, v_nom=v_nom, v_mag_pu_max=v_max, v_mag_pu_min=v_min)
        if active or reactive:
            network.add("Load", label, bus=label, p_set=active, q_set=reactive)
        if g or b:
            # MW and Mvar at 1 p.u.
            shunt = {"g": siemens(g / base, v_nom, base), "b": siemens(b / base, v_nom, base)}
            network.add("ShuntImpedance", label, bus=label, **shunt)
    for number, (row, cost) in enumerate(zip(generators, costs, strict=True), start=1):
        bus, status, most, least = f"{row[0]:.0f}", bool(row[7]), row[8], row[9]
        constant, linear, quadratic = cost[6], cost[5], cost[4]
        network.add(
            "Generator", f"G{number}", bus=bus, control=kinds[bus], carrier="AC", active=status,
            p_nom=most, p_min_pu=least / most if most else 0.0, p_set=least,
            marginal_cost=linear, marginal_cost_quadratic=quadratic, stand_by_cost=constant,
        )  # fmt: skip
        network.buses.loc[bus, "v_mag_pu_set"] = row[5]
    names: set[str] = set()
    for start, end, r, x, b, rating, _, _, ratio, shift, status, _, angle in branches:
        ends = {"bus0": f"{start:.0f}", "bus1": f"{end:.0f}"}
        plain = "-".join(ends.values())
        name = next(label for label in (plain, *(f"{plain} {letter}" for letter in "bcde")) if label not in names)
        names.add(name)
        limits = {"s_nom": rating, "v_ang_max": angle, "active": bool(status)}
        v_nom = kilovolts[ends["bus0"]]
        if ratio or shift or v_nom != kilovolts[ends["bus1"]]:
            # PyPSA's transformer impedances are per unit on their own rating
            values = {"r": r * rating / base, "x": x * rating / base, "b": b * base / rating}
            network.add(
                "Transformer", name, **ends, **limits, **values, tap_ratio=ratio or 1.0, tap_side=0, phase_shift=shift,
                model="pi",
            )  # fmt: skip
        else:
            values = {"r": ohms(r, v_nom, base), "x": ohms(x, v_nom, base), "b": siemens(b, v_nom, base)}
            network.add("Line", name, **ends, **limits, **values)
    return network


if __name__ == "__main__":
    for case in CASES:
        print(write(case_network(case), __file__))
