"""The published TSO–DSO case of Lind, Cossent and Frías in all its schemes, beside LPs of its own.

The reference is the published model written row by row below, with the published data typed anew, in the convention of
its authors: whoever activates is paid, up and down alike; x is what a DSO pays the TSO per MW of net upward activation.
"""

import warnings

import numpy as np
import pytest
from scipy.optimize import linprog

import hiermarket as hm
from tests.reproduced.page import check

#: Lossless, and limits of the active power alone.
GRID = hm.LinDistFlow(loss_passes=0, sides=2)

BASE = 100.0
LINES = {
    ("T1", "T2"): (0.0281, 400), ("T2", "T3"): (0.0304, 400), ("T3", "T4"): (0.0064, 400), ("T1", "T4"): (0.0108, 400),
    ("T4", "T5"): (0.0297, 400), ("T5", "T1"): (0.0297, 400), ("T2", "S1"): (0.0344, 400),
}  # fmt: skip
BUSES = ["T1", "T2", "T3", "T4", "T5", "S1"]
DEMAND, GENERATION = {"T2": 100, "T3": 300, "T4": 600}, {"T3": 1010}
#: name → (bus, sign of the injection, limit, price paid)
LOCAL = {"FSP1": ("D1", -1, 2, 10), "FSP2": ("D1", -1, 2, 30), "FSP3 up": ("D2", 1, 5, 60), "FSP3": ("D2", -1, 5, 60)}
OF_TSO = {
    "G3 up": ("T3", 1, 500, 50),
    "G3": ("T3", -1, 500, 50),
    "G4": ("T4", 1, 300, 20),
    "G4 down": ("T4", -1, 300, 20),
}
COLUMNS = [*LOCAL, *OF_TSO, *BUSES]


def row(values):
    found = np.zeros(len(COLUMNS))
    for name, value in values.items():
        found[COLUMNS.index(name)] += value
    return found


def net(at=("D1", "D2")):
    return {name: sign for name, (bus, sign, *_) in LOCAL.items() if bus in at}


def dso_limits():
    """|flow| on S1–D1 and D1–D2, and the voltage of D2 within 0.9 and 1.1 with D1 at 1."""
    rows, right = [], []
    for at, limit in ((("D1", "D2"), 10), (("D2",), 6)):
        flow = row(net(at))  # 10 MW less what is activated
        rows += [-flow, flow]
        right += [limit - 10, limit + 10]
    fall = 2 * (0.003 + 0.006 * 0.3285) / BASE  # of the squared voltage, per MW
    base = 1 - 2 * (0.003 * 10 + 0.006 * 3.287) / BASE
    rows += [-fall * row(net(("D2",))), fall * row(net(("D2",)))]
    right += [base - 0.9**2, 1.1**2 - base]
    return rows, right


def tso_rows():
    """DC power flow with limits; the S1 bus draws 10 MW less the net activation."""
    equal, right, less, most = [], [], [], []
    for bus in BUSES:
        balance = row({name: sign for name, (at, sign, *_) in OF_TSO.items() if at == bus})
        for (a, b), (x, _) in LINES.items():
            if bus in (a, b):
                away = 1 if bus == a else -1
                balance -= row({a: away * BASE / x, b: -away * BASE / x})
        if bus == "S1":
            balance += row(net())
        equal.append(balance)
        right.append(DEMAND.get(bus, 0) - GENERATION.get(bus, 0) + (10 if bus == "S1" else 0))
    for (a, b), (x, limit) in LINES.items():
        flow = row({a: BASE / x, b: -BASE / x})
        less += [flow, -flow]
        most += [limit, limit]
    return equal, right, less, most


def price(names):
    return row({name: {**LOCAL, **OF_TSO}[name][3] for name in names})


def minimum(cost, *, fixed=(), with_tso=True):
    """Minimise over both grids, or the feeder alone, with further equations."""
    less, most = dso_limits()
    equal, right = [], []
    if with_tso:
        equal, right, more, limits = tso_rows()
        less, most = less + more, most + limits
    for extra, value in fixed:
        equal, right = [*equal, extra], [*right, value]
    bounds = [(0, {**LOCAL, **OF_TSO}[name][2]) for name in (*LOCAL, *OF_TSO)] + [(0, 0), *[(None, None)] * 5]
    found = linprog(cost, less, most, equal or None, right or None, bounds=bounds)
    assert found.status == 0, found.message
    return found


def fragmented(x):
    """The DSO first; of its optima the one that is best for the TSO, whose exchange is then fixed."""
    cost = price(LOCAL) + x * row(net())
    first = minimum(cost, with_tso=False)
    then = minimum(price(OF_TSO) - x * row(net()), fixed=[(cost, first.fun)])
    return {"dso": first.fun, "tso": then.fun, "net": float(row(net()) @ then.x)}


@pytest.fixture(scope="module")
def reference():
    both = minimum(price(LOCAL) + price(OF_TSO))
    values = dict(zip(COLUMNS, both.x, strict=True))
    at_zero = fragmented(0.0)
    # between the prices of the bids the TSO gains or loses along a straight line: only these prices can be the best
    best = min((fragmented(x) | {"x": x} for x in (0.0, 10.0, 30.0, 60.0, 100.0)), key=lambda found: found["tso"])
    fixed = minimum(price(OF_TSO), fixed=[(row(net()), at_zero["net"]), (price(LOCAL), 240.0)])
    more = minimum(price(OF_TSO), fixed=[(row(net()), at_zero["net"] - 1e-3), (price(LOCAL), 240.0 + 1e-2)])
    return {
        "common: cost [EUR]": both.fun,
        "common: G3 [MW]": values["G3 up"] - values["G3"],
        "common: G4 [MW]": values["G4"] - values["G4 down"],
        "common: FSP3 [MW]": values["FSP3 up"] - values["FSP3"],
        "common: FSP1 [MW]": -values["FSP1"],
        "fragmented, x = 0: DSO [EUR]": at_zero["dso"],
        "fragmented, x = 0: TSO [EUR]": at_zero["tso"],
        "fragmented, x = 0: together [EUR]": at_zero["dso"] + at_zero["tso"],
        **{f"fragmented, x = {x}: net activation [MW]": fragmented(x)["net"] for x in (5, 10, 20, 31)},
        "one MW less drawn at S1, to the TSO [EUR/MWh]": (fixed.fun - more.fun) / 1e-3,
        "the TSO sets x: x [EUR/MWh]": best["x"],
        "the TSO sets x: TSO [EUR]": best["tso"],
        "the TSO sets x: DSO [EUR]": best["dso"],
        "the TSO sets x: together [EUR]": best["dso"] + best["tso"],
    }


@pytest.fixture(scope="module")
def ours():
    market = hm.load_case("lind")
    schemes = {x: hm.Fragmented(-float(x)) for x in (0, 5, 10, 20, 31)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.MarketWarning)  # at a price of the interface, bids trade by themselves
        found = hm.compare(market, [*schemes.values(), hm.Common()], grid=GRID)
    assert not found.failures
    common = found.results["common"]
    up_less_down = market.bids.sign * common.flat.activation.isel(period=0)
    of_grid = common.grid_bids.sign.values * common.flat.grid_activation.values[:, 0]
    local = up_less_down.groupby("bid_bsp").sum()
    grid = {name: of_grid[common.grid_bids.data.bid_bsp.values == name].sum() for name in common.grid_bids.bsps}
    at = found.data.cost_to_payer.sel(scheme=schemes[0].name, measure="bid cost")
    led = hm.price_interface(market, grid=GRID)
    assert led.certificate.ok
    cost = found.data.system_cost
    return {
        "common: cost [EUR]": float(cost.sel(scheme="common")),
        "common: G3 [MW]": grid["G3"],
        "common: G4 [MW]": grid["G4"],
        "common: FSP3 [MW]": float(local.sel(bid_bsp="FSP3")),
        "common: FSP1 [MW]": float(local.sel(bid_bsp="FSP1")),
        "fragmented, x = 0: DSO [EUR]": float(at.sel(payer="DSOs")),
        "fragmented, x = 0: TSO [EUR]": float(at.sel(payer="TSO")),
        "fragmented, x = 0: together [EUR]": float(cost.sel(scheme=schemes[0].name)),
        **{
            f"fragmented, x = {x}: net activation [MW]": -float(found.results[schemes[x].name].interface_exchange.sum())
            for x in (5, 10, 20, 31)
        },
        # what one MW more costs that is drawn there, with the other sign
        "one MW less drawn at S1, to the TSO [EUR/MWh]": -float(common.interface_price.sum()),
        "the TSO sets x: x [EUR/MWh]": -float(led.interface_price.sum()),
        "the TSO sets x: TSO [EUR]": led.tso_cost,
        "the TSO sets x: DSO [EUR]": led.dso_cost,
        "the TSO sets x: together [EUR]": led.tso_cost + led.dso_cost,
    }


def test_the_published_model_has_the_published_figure(reference):
    # the authors' own output says 18.53
    assert reference["one MW less drawn at S1, to the TSO [EUR/MWh]"] == pytest.approx(18.53, abs=0.01)


def test_all_figures(ours, reference):
    assert list(ours) == list(reference)
    for name, value in reference.items():
        assert ours[name] == pytest.approx(value, abs=1e-4), name


def test_the_page(ours, reference):
    check("lind", ours, reference=reference)


def test_sequential_schemes_find_the_common_optimum():
    market = hm.load_case("lind")
    methods = (hm.OfferCurve(undo=True), hm.SafeBox())
    found = hm.compare(market, [hm.Sequential(method) for method in methods], grid=GRID)
    assert found.data.system_cost.values == pytest.approx(15108.45, abs=0.005)


def test_the_announced_price_is_a_tick_off_the_tie():
    # at x = 30 the DSO does not care whether FSP2 is activated: 29.99 leaves no doubt
    led = hm.price_interface(hm.load_case("lind"), grid=GRID)
    assert led.market.exchange_price.values == pytest.approx(-29.99)
    assert led.clearing.flat.tbm_volume.sel(direction="down").item() == pytest.approx(2.0)


def test_ratings_of_the_apparent_power_are_another_case():
    # with the reactive power, 6 MVA carry less than 6 MW, and FSP3 must give more
    found = hm.clear_dso(hm.load_case("lind"), grid=hm.LinDistFlow(loss_passes=0)).require()
    assert float(found.activation.sel(bsp="FSP3", direction="up").sum()) > 4.1
