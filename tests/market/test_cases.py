"""The shipped cases are what their descriptions say."""

import numpy as np
import pytest

from hiermarket.errors import DataError
from hiermarket.market.cases import CASES, load_case


def test_two_bus():
    market = load_case("two_bus")
    assert market.bids.bsps == ["A", "B"]
    assert market.imbalance.sum() == 0.5
    assert market.feeders.data.r.sel(bus="feeder/end") == 0.01


def test_m33():
    market = load_case("m33")
    # 15 % of 3.715 MW; TBM alone 0.55725 × 60 = 33.435 EUR
    assert market.imbalance.sum().item() == pytest.approx(0.55725)
    assert (market.imbalance.sum() * market.tbm.tbm_price.sel(direction="up")).item() == pytest.approx(33.435)
    assert np.isinf(market.feeders.data.s_max).all()
    assert market.bids.data.volume.sum().item() == pytest.approx(1.20)


def test_the_day():
    market = load_case("ieee33")
    assert len(market.periods) == 24
    assert float((abs(market.imbalance) * market.duration).sum()) == pytest.approx(4.672, abs=1e-9)
    assert market.bids.bsps == ["BSP 1", "BSP 2", "BSP 3", "BSP 4"]
    assert market.transmission.interface == {"ieee33": "14"}
    assert market.transmission.grid.data.sizes["bus"] == 14


def test_unknown():
    with pytest.raises(DataError) as error:
        load_case("ieee34")
    (fault,) = error.value.faults
    assert fault.found == "'ieee34'"
    assert fault.expected == f"one of {', '.join(CASES)}"
