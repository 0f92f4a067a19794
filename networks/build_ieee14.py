"""Write `ieee14.nc`: the IEEE 14-bus transmission test case.

Source: the IEEE 14-bus power flow test case (a part of the American Electric Power
system as of February 1962) in the Power Systems Test Case Archive of the University of
Washington; values in per unit on 100 MVA, as printed there. Nominal voltages, ratings and
the capacity of the generators are not part of the test case: see SOURCES.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hiermarket.network.per_unit import ohms, siemens
from hiermarket.networks.feeder_table import peak_ratings, write

if TYPE_CHECKING:
    import pypsa

BASE_MVA = 100.0
STEP_MVA = 10.0
V_MIN, V_MAX = 0.90, 1.10
#: Nominal voltages [kV], synthetic.
KILOVOLTS = {**dict.fromkeys(range(1, 6), 132.0), **dict.fromkeys((6, 7, *range(9, 15)), 33.0), 8: 11.0}

#: (bus, active load in MW, reactive load in Mvar)
LOADS = [
    (2, 21.7, 12.7), (3, 94.2, 19.0), (4, 47.8, -3.9), (5, 7.6, 1.6), (6, 11.2, 7.5), (9, 29.5, 16.6),
    (10, 9.0, 5.8), (11, 3.5, 1.8), (12, 6.1, 1.6), (13, 13.5, 5.8), (14, 14.9, 5.0),
]  # fmt: skip

#: (bus, voltage set point in p.u., scheduled output in MW); the first is the slack, whose
#: output balances the schedule without losses: 259.0 − 40.0.
GENERATORS = [(1, 1.060, 219.0), (2, 1.045, 40.0), (3, 1.010, 0.0), (6, 1.070, 0.0), (8, 1.090, 0.0)]

#: (from, to, r, x, total charging b), per unit on 100 MVA
LINES = [
    (1, 2, 0.01938, 0.05917, 0.0528), (1, 5, 0.05403, 0.22304, 0.0492), (2, 3, 0.04699, 0.19797, 0.0438),
    (2, 4, 0.05811, 0.17632, 0.0340), (2, 5, 0.05695, 0.17388, 0.0346), (3, 4, 0.06701, 0.17103, 0.0128),
    (4, 5, 0.01335, 0.04211, 0.0), (6, 11, 0.09498, 0.19890, 0.0), (6, 12, 0.12291, 0.25581, 0.0),
    (6, 13, 0.06615, 0.13027, 0.0), (9, 10, 0.03181, 0.08450, 0.0), (9, 14, 0.12711, 0.27038, 0.0),
    (10, 11, 0.08205, 0.19207, 0.0), (12, 13, 0.22092, 0.19988, 0.0), (13, 14, 0.17093, 0.34802, 0.0),
]  # fmt: skip

#: (from, to, x per unit on 100 MVA, tap ratio at the from end)
TRANSFORMERS = [
    (4, 7, 0.20912, 0.978), (4, 9, 0.55618, 0.969), (5, 6, 0.25202, 0.932), (7, 8, 0.17615, 1.0), (7, 9, 0.11001, 1.0),
]  # fmt: skip

#: Susceptance of the capacitor at bus 9, per unit on 100 MVA.
CAPACITOR = (9, 0.19)


def transmission_network() -> pypsa.Network:
    """Build the network with synthetic ratings."""
    import pypsa

    network = pypsa.Network(name="ieee14")
    network.add("Carrier", "AC")
    for bus, kilovolts in sorted(KILOVOLTS.items()):
        network.add("Bus", str(bus), v_nom=kilovolts, v_mag_pu_min=V_MIN, v_mag_pu_max=V_MAX)
    for bus, active, reactive in LOADS:
        network.add("Load", str(bus), bus=str(bus), p_set=active, q_set=reactive)
    for position, (bus, voltage, output) in enumerate(GENERATORS):
        control = "PV" if position else "Slack"
        capacity = output + 100.0
        network.add("Generator", f"G{bus}", bus=str(bus), control=control, carrier="AC", p_set=output, p_nom=capacity)
        network.buses.loc[str(bus), "v_mag_pu_set"] = voltage
    for start, end, r, x, b in LINES:
        ends = {"bus0": str(start), "bus1": str(end)}
        kilovolts = KILOVOLTS[start]
        values = {"r": ohms(r, kilovolts, BASE_MVA), "x": ohms(x, kilovolts, BASE_MVA)}
        network.add("Line", f"{start}-{end}", **ends, **values, b=siemens(b, kilovolts, BASE_MVA))
    for start, end, x, tap in TRANSFORMERS:
        ends = {"bus0": str(start), "bus1": str(end)}
        network.add("Transformer", f"{start}-{end}", **ends, x=x, s_nom=BASE_MVA, tap_ratio=tap, tap_side=0, model="pi")
    bus, susceptance = CAPACITOR
    network.add("ShuntImpedance", str(bus), bus=str(bus), b=siemens(susceptance, KILOVOLTS[bus], BASE_MVA))
    network.lines["s_nom"] = peak_ratings(network, "Line", STEP_MVA)
    # PyPSA's transformer impedances are per unit on their own rating
    transformer_ratings = peak_ratings(network, "Transformer", STEP_MVA)
    network.transformers["x"] *= transformer_ratings / network.transformers["s_nom"]
    network.transformers["s_nom"] = transformer_ratings
    return network


if __name__ == "__main__":
    print(write(transmission_network(), __file__))
