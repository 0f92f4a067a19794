"""The chain feeder by feeder on a cluster is the chain in one process."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.network.feeder import feeder_from_table
from hiermarket.study.batches import options_for, split_market


@pytest.fixture(scope="module")
def three_feeders():
    """Three feeders of unlike size; the leader A owns nothing in the third."""
    sizes = {"a": 2, "b": 4, "c": 3}
    feeders, rows, deficits = {}, [], []
    for name, size in sizes.items():
        buses = [str(number) for number in range(1, size + 1)]
        table = pd.DataFrame(
            {"parent": ["", *buses[:-1]], "r": [0.0] + [0.01] * (size - 1), "x": [0.0] + [0.008] * (size - 1)},
            index=buses,
        )
        feeders[name] = feeder_from_table(table.assign(v_min=0.9, v_max=1.1), name=name)
        for bsp, price in (("A", 30.0), ("B", 45.0)):
            if (name, bsp) != ("c", "A"):
                row = {"feeder": name, "bsp": bsp, "bus": buses[-1], "price": price, "volume": 0.2}
                rows += [{**row, "direction": "up"}, {**row, "direction": "down", "price": price - 20}]
        deficits.append({"feeder": name, "bus": buses[-1], "imbalance": 0.1 * size - 0.25})
    return hm.balancing_market(
        feeders,
        bids=pd.DataFrame(rows),
        imbalance=pd.DataFrame(deficits),
        tbm_prices={"up": 60.0, "down": 20.0},
        rules=hm.MarketRules(price_cap=100.0, value_of_lost_load=1000.0),
    )


def test_a_part_is_the_market_of_its_feeders(three_feeders):
    parts = split_market(three_feeders, 2)
    assert [list(part.feeder_names) for part in parts] == [["a", "b"], ["c"]]
    assert parts[1].bids.bsps == ["B"]
    assert isinstance(options_for(parts[1], hm.Options(behaviour=hm.OneLeader("A"))).behaviour, hm.AsBid)
    with pytest.raises(hm.DataError) as caught:
        three_feeders.of_feeders(["z"])
    assert caught.value.faults[0].found == "z"


def test_a_leader_that_nobody_knows(three_feeders):
    """Refused before the client is asked for anything."""
    with pytest.raises(hm.DataError) as caught:
        hm.run(three_feeders, hm.Options(behaviour=hm.OneLeader("Z")), client=object())
    assert (caught.value.faults[0].found, caught.value.faults[0].expected) == ("'Z'", "one of A, B")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster_changes_nothing(three_feeders):
    from distributed import Client

    options = hm.Options(behaviour=hm.OneLeader("A"), forwarding=hm.SafeBox(undo=True))
    told: list[str] = []
    alone = hm.run(three_feeders, options)
    # threads: the same code path as processes, without paying for imports twice
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        fanned = hm.run(three_feeders, options, client=client, progress=told.append)
    for stage in ("clearing", "forwarded", "cleared", "disaggregation"):
        one, other = getattr(alone, stage).flat, getattr(fanned, stage).flat
        for name in one:
            assert one[name].dims == other[name].dims
            apart = np.abs(one[name].astype(float) - other[name].astype(float))
            assert float(apart.max()) < 1e-8, (stage, name)
    assert sum(part.objective for part in fanned.bidding) == pytest.approx(alone.bidding[0].objective, abs=1e-7)
    assert [part.bsp for part in fanned.bidding] == ["A", "A"]
    assert told[:3] == ["feeder a", "feeder b", "feeder c"]
    tree = hm.result_tree(fanned)
    assert tree["bidding"].attrs["certificate_holds"] == 1
