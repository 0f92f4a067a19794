"""A study in a folder is the chain in memory; what failed is told, the rest is there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.study.manifest import Phase
from hiermarket.study.source import Extent, MarketSource
from hiermarket.study.study import BYTES_PER_BID, BYTES_PER_BUS, MOST_FEEDERS, batch_size
from hiermarket.study.tasks import LocalJob
from tests.study.conftest import QUICK, UNDO, assert_same, market_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("batch", [3, 2])
def test_a_study_is_the_chain(on_a_grid, grid_chain, tmp_path, batch):
    told: list[hm.Progress] = []
    results = hm.run(hm.Study(on_a_grid, tmp_path, options=UNDO, batch=batch), progress=told.append)
    assert results.complete
    assert results.missing == results.failures == results.failed == ()
    assert_same(grid_chain, results)
    assert [step.phase for step in told if step.batches == step.of_batches] == list(Phase)
    assert str(told[0]) == f"Distribution markets: 0 of {'1 batch' if batch == 3 else '2 batches'}, 0 feeders"
    assert told[1].rate > 0
    assert np.isfinite(told[1].left)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_threads_of_a_cluster_change_nothing(on_a_grid, grid_chain, tmp_path):
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        results = hm.run(hm.Study(on_a_grid, tmp_path, options=UNDO, batch=2), client=client)
    assert_same(grid_chain, results)


def test_a_leader_bids_in_a_study_too(three_feeders, tmp_path):
    options = hm.Options(behaviour=hm.OneLeader("A"), grid=QUICK.grid)
    results = hm.run(hm.Study(three_feeders, tmp_path, options=options, batch=1))
    chain = hm.run(three_feeders, options)
    offered = results["bidding"].sel(bsp="A", feeder=["a", "b"])
    wanted = chain.bidding[0].flat
    bids = offered.flat.indexes["bid"]
    found = offered.flat["offer_price"].compute()
    np.testing.assert_allclose(found.values, wanted["offer_price"].sel(bid=bids).values, atol=1e-6)
    # nobody leads in c
    assert set(results["bidding"].flat["bid_feeder"].values) == {"a", "b"}


class _Silent(MarketSource):
    """A source that cannot tell who bids."""

    bsps = ()


@pytest.mark.parametrize("source", [MarketSource, _Silent])
def test_a_leader_that_nobody_knows(three_feeders, tmp_path, source):
    options = hm.Options(behaviour=hm.OneLeader("AA"), grid=QUICK.grid)
    with pytest.raises(hm.DataError) as caught:
        hm.run(hm.Study(source(three_feeders), tmp_path, options=options, batch=1))
    (fault,) = caught.value.faults
    assert (fault.found, fault.expected, fault.remedy) == ("'AA'", "one of A, B", "Is 'A' meant?")
    # told before anything is computed, where that is possible
    assert (tmp_path / "local").exists() == (source is _Silent)


def test_labels_select_from_lazily_opened_arrays(grid_chain, grid_done):
    results = hm.open_study(grid_done)
    clearing = results["clearing"]
    assert clearing.flat["activation"].chunks is not None
    assert clearing.flat["bid_feeder"].values.tolist() == ["a"] * 4 + ["b"] * 4 + ["c"] * 2
    one = clearing.sel(feeder="b", bsp="A", bus="4", direction="up")
    assert one.data["activation"].dims == ("feeder", "bsp", "bus", "block", "direction", "period")
    assert one.data["activation"].shape == (1, 1, 1, 1, 1, 2)
    assert one.data["nodal_price"].shape == (1, 1, 2)
    assert one.data["tbm_volume"].shape == (1, 1, 2)
    two = clearing.sel(feeder=["c", "a"], period="2026-01-01 01:00")
    assert two["nodal_price"].sizes == {"feeder": 2, "bus": 3, "period": 1}
    assert np.isnan(two["nodal_price"].sel(feeder="a", bus="3").item())
    late = clearing.sel(period=slice("2026-01-01 01:00", None))
    assert late.flat.sizes["period"] == 1
    accounts = results["settlement"].sel(feeder="b").flat["account"].values
    assert set(accounts) == {"DSO b", "imbalance payers b", "congestion and losses b"}
    payment = results["settlement"].flat["payment"].sum("account").compute()
    assert float(abs(payment).max()) < 1e-9
    # the same in memory
    chosen = grid_chain.clearing.sel(feeder="b", bsp="A").data
    xr.testing.assert_allclose(chosen, clearing.sel(feeder="b", bsp="A").data)
    assert "tso" in results.stages
    assert "bidding" not in results.stages


def test_labels_that_are_not_there(grid_done):
    results = hm.open_study(grid_done)
    with pytest.raises(hm.DataError) as caught:
        results["clearing"].sel(feeder="z", bsp="A", buss="4")
    assert [fault.where for fault in caught.value.faults] == ["sel(feeder)", "sel"]
    assert caught.value.faults[0].found == "z"
    assert caught.value.faults[0].expected == "labels such as a, b, c"
    assert "'bus'" in caught.value.faults[1].remedy
    with pytest.raises(hm.DataError) as caught:
        results["clearing"].sel(bus="44")
    assert "Is '4' meant?" in caught.value.faults[0].remedy
    with pytest.raises(hm.DataError) as caught:
        results["clearing"]["activatoin"]
    assert caught.value.faults[0].remedy == "Is 'activation' meant?"
    with pytest.raises(hm.DataError) as caught:
        results["clearin"]
    assert "'clearing'" in caught.value.faults[0].remedy
    with pytest.raises(hm.DataError) as caught:
        results["bidding"]
    assert "tso" in caught.value.faults[0].expected


def test_what_is_of_all_feeders_is_not_of_some(grid_done):
    settlement = hm.open_study(grid_done)["settlement"]
    assert "profit" not in settlement.sel(feeder="b").flat
    assert "payment" in settlement.sel(feeder="b").flat
    assert settlement.sel(bsp="A")["profit"].sizes["bsp"] == 1


def test_a_study_says_what_it_is(three_feeders, grid_done, tmp_path):
    whole = hm.Study(three_feeders, tmp_path, batch=2)
    assert repr(whole) == f"<Study of 3 feeders (a, b, c) in {tmp_path}: Truthful, SafeBox; feeders in a batch: 2>"
    assert "as many as fit" in repr(hm.Study(three_feeders, tmp_path))
    said = repr(hm.open_study(grid_done))
    wanted = f"<StudyResults of 3 feeders in {grid_done}: 3 of 3 batches, complete, no feeder missing; stages: input, "
    assert said.startswith(wanted)


def test_no_study_in_a_folder(tmp_path):
    with pytest.raises(hm.StudyError) as caught:
        hm.open_study(tmp_path)
    assert caught.value.where == str(tmp_path)


class _Broken(MarketSource):
    """One feeder cannot be made."""

    def parcel(self, names, kept):
        if "b" in names:
            raise hm.StudyError("No such grid", where="b", remedy="Draw it.")
        return super().parcel(names, kept)


def _break(monkeypatch, error):
    whole = LocalJob.compute

    def compute(self):
        if "b" in self.feeders:
            raise error
        return whole(self)

    monkeypatch.setattr(LocalJob, "compute", compute)


@pytest.mark.parametrize("where", ["client", "worker", "machine"])
def test_a_batch_that_always_fails(three_feeders, tmp_path, monkeypatch, where):
    source = MarketSource(three_feeders)
    if where == "client":
        source = _Broken(three_feeders)
    elif where == "worker":
        _break(monkeypatch, hm.StudyError("No such grid", where="b", remedy="Draw it."))
    else:
        _break(monkeypatch, OSError("No such grid"))
    with pytest.raises(hm.BatchesFailedError) as caught:
        hm.run(hm.Study(source, tmp_path, options=QUICK, batch=1))
    failure = caught.value.failures[0]
    assert (failure.batch, failure.feeders, failure.phase) == (1, ("b",), "Distribution markets")
    assert "Distribution markets, batch 1 (b): " in str(caught.value)
    assert "No such grid" in failure.reason
    results = hm.open_study(tmp_path)
    assert not results.complete
    assert "0 of 3 batches, not at its end, without a, b, c; stages: input, " in repr(results)
    assert results.failures == caught.value.failures
    assert results.stages == ("input", "clearing", "forwarded", "baseline")
    assert list(results["clearing"].flat["feeder"].values) == ["a", "c"]


def test_a_study_can_go_on_without_a_batch(three_feeders, tmp_path):
    source = _Broken(three_feeders)
    with pytest.warns(hm.MarketWarning, match="went on without b"):
        results = hm.run(hm.Study(source, tmp_path, options=QUICK, batch=1, on_failure=hm.OnFailure.CONTINUE))
    assert results.complete
    assert results.missing == ("b",)
    assert [f.feeders for f in results.failures] == [("b",)]
    assert_same(hm.run(three_feeders.of_feeders(["a", "c"]), QUICK), results)
    assert [built.title.plain for built in hm.study_report(results)][-1] == "Batches that failed"


def test_errors_of_the_machine_are_tried_again(three_feeders, tmp_path, monkeypatch):
    whole, calls = LocalJob.compute, []

    def compute(self):
        calls.append(self.batch)
        if len(calls) == 1:
            raise OSError("the disk is full")
        return whole(self)

    monkeypatch.setattr(LocalJob, "compute", compute)
    assert hm.run(hm.Study(three_feeders, tmp_path, options=QUICK, batch=2)).complete
    assert calls == [0, 0, 1]


def test_a_period_without_a_clearing_sinks_nothing_else(tmp_path):
    """30 MW through 0.03 p.u. of resistance: the schedule of b has no power flow in its last period."""
    market = market_of({"a": 2, "b": 4}, periods=2, load={"b": 30.0}, grid=True)
    with pytest.warns(hm.MarketWarning) as told:
        results = hm.run(hm.Study(market, tmp_path, batch=1))
    assert any("Without a clearing: feeder=b, period=2026-01-01T01:00:00" in str(w.message) for w in told)
    assert any("no AC power flow" in str(w.message) for w in told)
    assert [(f.feeder, f.period, f.outcome) for f in results.failed] == [
        ("b", "2026-01-01T01:00:00", "numerical trouble")
    ]
    assert results.complete
    status = results["clearing"].flat["status"].compute()
    assert status.sel(feeder="b").values.tolist() == [0, 4]
    final = results["disaggregation"].sel(feeder="b")["final_activation"]
    assert np.isnan(final.isel(period=1)).all()
    assert final.isel(period=0).notnull().any()
    alone = hm.run(market.of_feeders(["a"]), hm.Options())
    np.testing.assert_allclose(
        results["clearing"].sel(feeder="a").flat["activation"].compute(), alone.clearing.flat["activation"], atol=1e-9
    )
    assert hm.study_report(results)[-1].title.plain == "Without a clearing"


@pytest.mark.parametrize(("deficit", "why"), [(0.0, "(C0 ≤ 0)"), (9.0, "energy is not served")])
def test_why_there_is_no_saving(tmp_path, deficit, why):
    """Nothing to balance, or 9 MW where the bids and the TBM have 1.4: no saving, and the reason below the table."""
    market = market_of({"a": 2, "b": 2})
    need = market.imbalance * 0.0
    need.loc[{"bus": [label for label in need["bus"].values if label.endswith("2")]}] = deficit
    tbm = market.tbm.assign(tbm_limit=xr.full_like(market.tbm["tbm_limit"], 0.5))
    results = hm.run(hm.Study(dataclasses.replace(market, imbalance=need, tbm=tbm), tmp_path, options=QUICK))
    assert bool(results["indicators"].flat["saving"].isnull().all())
    note = str(hm.study_report(results)[1].caption)
    assert note.endswith(f"{why}.")
    assert "A saving is undefined (-) where " in note


def test_a_study_is_checked(three_feeders, tmp_path):
    with pytest.raises(hm.DataError) as caught:
        hm.Study(three_feeders, tmp_path, batch=0, retries=-1)
    assert [fault.where for fault in caught.value.faults] == ["study.batch", "study.retries"]
    with pytest.raises(hm.DataError, match="options beside a study"):
        hm.run(hm.Study(three_feeders, tmp_path), QUICK)
    assert list(tmp_path.iterdir()) == []


def test_batches_fit_into_memory():
    feeder = Extent(buses=33, bids=17, periods=96)
    assert batch_size(feeder, memory=2e9) in (40, 41)
    assert batch_size(Extent(10_000, 10_000, 1_000)) == 1
    assert batch_size(Extent(2, 2, 1)) == MOST_FEEDERS


PEAK = """
import pathlib, re
import highspy, linopy
import hiermarket as hm
from hiermarket.study.tasks import LocalJob
source = hm.ReplicatedCase("ieee33", copies=20)
parcel = source.parcel(source.names, pathlib.Path())
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
before = peak()
LocalJob(0, "", source.names, pathlib.Path(), parcel, hm.Options()).compute()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_batch_takes_the_memory_that_it_is_said_to():
    done = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True, cwd=ROOT)
    said = 20 * 24 * (33 * BYTES_PER_BUS + 17 * BYTES_PER_BID)
    assert said / 8 < int(done.stdout) < said
