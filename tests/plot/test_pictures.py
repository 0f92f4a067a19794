"""Pictures: labels with units, what is drawn, faults of what is asked for."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from hiermarket import plot
from hiermarket.errors import DataError
from hiermarket.market.balancing_market import balancing_market
from hiermarket.market.rules import MarketRules
from hiermarket.network.feeder import feeder_from_table
from hiermarket.network.losses import LinDistFlow
from hiermarket.plot.style import COLOURS, label
from hiermarket.stages.coordination import Chain, Options, run_chain


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def bars(axes, colour: str) -> float:
    """Signed height of all bars of a colour."""
    return sum(bar.get_height() for bar in axes.patches if to_hex(bar.get_facecolor()) == colour.lower())


def test_labels_come_from_the_nomenclature():
    assert label("ac_voltage") == "AC voltage |V| [p.u.]"
    assert label("payment") == "Payment [EUR]"
    assert label("tbm_price") == "TBM price π$^{\\mathrm{T}}$ [EUR/MWh]"


# --- map


def test_map_of_one_period(m33: Chain):
    axes = plot.feeder_map(m33)
    assert axes.get_title("left") == "Feeder m33: voltages at 2026-01-01 00:00"
    assert len(axes.lines) == 32  # branches
    names = [text.get_text() for text in axes.texts]
    assert sorted(names) == sorted([*map(str, range(1, 34)), "interface"])
    assert legend(axes) == ["A", "B", "C"]
    dots = axes.collections[0]
    assert len(dots.get_offsets()) == 33
    bar = next(other for other in axes.figure.axes if other is not axes)
    assert bar.get_ylabel() == "AC voltage |V| [p.u.]"


def test_map_marks_what_binds(two_feeders_with_losses: Chain):
    """Energy not served holds the south's bus b at 0.97 on the first day; nothing binds on the second."""
    chain = two_feeders_with_losses
    south = plot.feeder_map(chain, feeder="south")
    assert "voltage at its limit" in legend(south)
    assert "lowest voltages of 2 periods" in south.get_title("left")
    assert south.get_title("right") == "lowest 0.9700 p.u. at bus b"
    later = plot.feeder_map(chain, feeder="south", period="2026-03-02 12:00")
    assert "voltage at its limit" not in legend(later)
    assert plot.feeder_map(chain).get_title("left").startswith("Feeder north")


def test_map_marks_what_is_broken(two_feeders: Chain):
    """Without losses in the clearing, the AC voltage falls below the limit that the clearing keeps."""
    assert "voltage beyond its limit" in legend(plot.feeder_map(two_feeders, feeder="south"))


def test_map_of_full_branches():
    """A branch of 0.3 MVA that carries the TBM's 0.3 MW is at its rating of the polygon."""
    line = {"parent": ["", "root"], "r": [0.0, 0.01], "x": [0.0, 0.01], "s_max": [np.inf, 0.3]}
    market = balancing_market(
        {"f": feeder_from_table(pd.DataFrame(line, index=["root", "end"]), name="f")},
        bids=pd.DataFrame(
            {"feeder": ["f"], "bsp": ["A"], "bus": ["end"], "direction": ["up"], "price": [70.0], "volume": [0.5]}
        ),
        imbalance=pd.DataFrame({"feeder": ["f"], "bus": ["end"], "imbalance": [0.5]}),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    )
    axes = plot.feeder_map(run_chain(market, Options(grid=LinDistFlow(loss_passes=0))))
    assert "branch at its rating" in legend(axes)
    assert axes.lines[0].get_linewidth() == 3.0


def test_map_of_another_state(m33: Chain):
    axes = plot.feeder_map(m33, state=m33.disaggregation)
    lowest = float(m33.disaggregation.flat.ac_voltage.min())
    assert f"{lowest:.4f}" in axes.get_title("right")


def test_no_labels_overlap(m33: Chain):
    axes = plot.feeder_map(m33)
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not [1 for k, box in enumerate(boxes) for other in boxes[:k] if box.overlaps(other)]


# --- prices and activation


def test_prices(two_feeders: Chain):
    figure = plot.prices(two_feeders, feeder="north")
    above, below = figure.axes
    assert above.get_ylabel() == "Nodal price λ [EUR/MWh]"
    assert below.get_ylabel() == "Activation σa [MW]"
    assert legend(above) == ["range of all buses", "at the root", "TBM up", "TBM down"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["01 Mar 12:00", "02 Mar 12:00"]
    # first period: A 0.2 MW up and 0.3 from the TBM; second: B 0.1 MW down
    assert bars(below, COLOURS[0]) == pytest.approx(0.2)
    assert bars(below, COLOURS[1]) == pytest.approx(-0.1)
    root = above.patches[0].get_data().values
    np.testing.assert_allclose(root, [60.0, 25.0])


def test_what_is_not_served_is_seen(two_feeders: Chain):
    axes = plot.activation(two_feeders, feeder="south")
    assert "not served" in legend(axes)
    assert "B" not in legend(axes)  # has no bids there


def test_prices_of_one_period(m33: Chain):
    above, below = plot.prices(m33).axes
    assert below.get_xlabel() == "Start of the period (UTC), 2026-01-01"
    assert len(below.containers) == 3
    assert plot.nodal_prices(m33).get_title("left") == above.get_title("left")


# --- capability, merit order, settlement


def test_capability(two_feeders: Chain):
    axes = plot.capability(two_feeders, feeder="north")
    assert axes.get_ylabel() == "Forwarded U [MW]"
    # A up: 0.2 in the second period; B down: 0.3 and then 0.2
    assert bars(axes, COLOURS[0]) == pytest.approx(0.2)
    assert bars(axes, COLOURS[1]) == pytest.approx(-0.5)


def test_merit_order(m33: Chain):
    axes = plot.merit_order(m33)
    assert axes.get_ylabel() == "Price π [EUR/MWh]"
    assert "Volume ā [MW]" in axes.get_xlabel()
    assert len(axes.patches) == 2 * 10
    steps = [bar.get_height() for bar in axes.patches[::2]]
    assert steps == [30.0, 34.0, 40.0, 42.0, 50.0, 25.0, 25.0, 22.0, 22.0, 21.0]
    words = [text.get_text() for text in axes.texts]
    assert words == ["TBM up\n60.00", "0.557 MW activated", "TBM down\n20.00"]


def test_merit_order_of_a_period(two_feeders: Chain):
    axes = plot.merit_order(two_feeders, feeder="north", period="2026-03-02 12:00")
    assert "2026-03-02 12:00" in axes.get_title("left")
    assert "0.100 MW activated" in [text.get_text() for text in axes.texts]


def test_settlement(m33: Chain):
    axes = plot.settlement(m33.settlement)
    assert axes.get_xlabel().startswith("Payment [EUR]")
    accounts = [tick.get_text() for tick in axes.get_yticklabels()]
    assert accounts[0] == "imbalance payers m33"
    assert accounts[-1] == "BSP B"
    totals = dict(zip(accounts, [text.get_text() for text in axes.texts], strict=True))
    assert totals["BSP A"] == "+12.50"  # 0.25 MWh at 50
    assert totals["DSO m33"] == "0.00"


def test_settlement_with_transmission(two_feeders: Chain):
    without, whole = (plot.settlement(two_feeders.settlement, transmission=t) for t in (False, True))
    assert "transmission activation" not in legend(without)
    assert "transmission activation" in legend(whole)
    assert "TBM" in [tick.get_text() for tick in whole.get_yticklabels()]


# --- what holds for all


PICTURES = [plot.activation, plot.capability, plot.feeder_map, plot.merit_order, plot.nodal_prices, plot.prices]


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_unknown_feeder(m33: Chain, draw):
    with pytest.raises(DataError) as caught:
        draw(m33, feeder="east")
    assert caught.value.faults[0].where == "feeder"
    assert "m33" in caught.value.faults[0].expected


@pytest.mark.parametrize("draw", [plot.feeder_map, plot.merit_order], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("period", ["2026-01-01 07:00", "noon", 7])
def test_unknown_period(m33: Chain, draw, period: object):
    with pytest.raises(DataError) as caught:
        draw(m33, period=period)
    assert caught.value.faults[0].where == "period"


def test_drawn_where_it_is_asked_for(m33: Chain):
    import matplotlib.pyplot as plt

    for draw in (plot.activation, plot.capability, plot.feeder_map, plot.merit_order, plot.nodal_prices):
        axes = plt.subplots()[1]
        assert draw(m33, ax=axes) is axes
    axes = plt.subplots()[1]
    assert plot.settlement(m33.settlement, ax=axes) is axes


def test_settings_of_the_user_stay(m33: Chain):
    before = dict(mpl.rcParams)
    plot.prices(m33)
    assert dict(mpl.rcParams) == before


def test_public_names():
    assert sorted(plot.__all__) == plot.__all__
    assert all(callable(getattr(plot, name)) for name in plot.__all__)
