"""Feeders of copies and of files: the same market whatever the batch, and faults all at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.study import market_file
from hiermarket.study.digest import digest
from hiermarket.study.example import write_example
from hiermarket.study.market_file import kept_market
from hiermarket.study.replicated import stretched
from hiermarket.study.source import InMemory, KnowsBsps, MarketSource

PERIODS = pd.date_range("2026-01-01", periods=2, freq="h")


def test_a_copy_is_the_same_in_every_batch(tmp_path):
    source = hm.ReplicatedCase("m33", copies=5, periods=3, seed=7)
    together = source.parcel(source.names, tmp_path).market()
    apart = source.parcel(source.names[3:4], tmp_path).market()
    assert list(apart.feeder_names) == ["m33-00004"]
    one = together.of_feeders(["m33-00004"])
    assert digest(one.feeders.data, one.bids.data, one.imbalance) == digest(
        apart.feeders.data, apart.bids.data, apart.imbalance
    )
    assert source.fingerprint(source.names[:2]) == hm.ReplicatedCase("m33", 9, 3, 7).fingerprint(source.names[:2])
    assert source.fingerprint(source.names[:2]) != hm.ReplicatedCase("m33", 5, 3, 8).fingerprint(source.names[:2])
    loads = [float(together.of_feeders([n]).feeders.data["p_scheduled"].sum()) for n in source.names]
    assert len({round(load, 6) for load in loads}) == 5
    assert not any(tmp_path.iterdir())


def test_the_tso_grows_with_the_copies():
    base = hm.load_case("ieee33")
    side = hm.ReplicatedCase("ieee33", copies=3).side()
    assert set(side.transmission.interface.values()) == {"14"}
    assert float(side.transmission.imbalance.sum()) == pytest.approx(3 * float(base.transmission.imbalance.sum()))
    np.testing.assert_allclose(side.transmission.grid.data["s_max"], 3 * base.transmission.grid.data["s_max"])
    assert side.tbm["tbm_limit"].sizes["feeder"] == 3


def test_a_day_in_quarter_hours():
    base = hm.load_case("ieee33")
    fine = stretched(base, 96)
    assert fine.periods[1] - fine.periods[0] == pd.Timedelta(minutes=15)
    np.testing.assert_allclose(fine.duration, 0.25)
    load = [float((m.feeders.data["p_scheduled"] * m.duration).sum()) for m in (base, fine)]
    assert load[1] == pytest.approx(load[0], rel=0.01)
    assert stretched(hm.load_case("two_bus"), 4).duration.values.tolist() == [6.0] * 4


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"copies": 1, "periods": 0}])
def test_copies_are_checked(wrong):
    with pytest.raises(hm.DataError):
        hm.ReplicatedCase("m33", **wrong)


def test_a_market_without_its_transmission_travels(on_a_grid, tmp_path):
    source = MarketSource(on_a_grid)
    parcel = source.parcel(["b"], tmp_path)
    assert isinstance(parcel, InMemory)
    assert parcel.market().transmission.grid is None
    assert source.extent.bids == 4
    assert source.side().transmission.interface == {"a": "T1", "b": "T2", "c": "T1"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The source of the example."""
    return hm.read_study(write_example(tmp_path_factory.mktemp("files") / "example")).source


def test_networks_are_read_once(files, tmp_path, monkeypatch):
    kept = tmp_path / "inputs.nc"
    first = files.parcel(["north", "south"], kept).market()
    monkeypatch.setattr("hiermarket.study.network_files.load_network", None)
    again = files.parcel(["north", "south"], kept).market()
    for part in ("feeders", "bids"):
        assert digest(getattr(first, part).data) == digest(getattr(again, part).data)
    assert digest(first.imbalance, first.tbm) == digest(again.imbalance, again.tbm)
    assert first.rules == again.rules
    # other feeders in the same file, and a file that is cut
    with pytest.raises(TypeError):
        files.parcel(["north"], kept)
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(TypeError):
        files.parcel(["north", "south"], kept)


@pytest.mark.parametrize("other", ["bytes", "hiermarket", "pypsa", "key"])
def test_arrays_of_networks_that_are_not_what_was_written_are_made_anew(files, tmp_path, monkeypatch, other):
    kept = tmp_path / "batch-00000.nc"
    files.parcel(["north"], kept)
    made, written = files.fingerprint(["north"]), kept.read_bytes()
    assert kept_market(kept, made) is not None
    if other == "bytes":  # one number of it, of the same size
        kept.write_bytes(written[:-9] + bytes([written[-9] ^ 1]) + written[-8:])
    elif other == "key":
        kept.with_suffix(".key").unlink()
    else:
        known = market_file.version
        monkeypatch.setattr(market_file, "version", lambda name: "0" if name == other else known(name))
    assert kept_market(kept, made) is None
    files.parcel(["north"], kept)
    assert kept_market(kept, made) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-00000.key", "batch-00000.nc"]


def test_one_table_or_one_for_each_feeder(files, tmp_path):
    rows = [pd.read_csv(str(files.bids).format(feeder=name)).assign(feeder=name) for name in files.names]
    pd.concat(rows).to_csv(tmp_path / "bids.csv", index=False)
    other = hm.NetworkFiles(files.networks, tmp_path / "bids.csv", files.imbalance, files.tbm_prices, files.rules)
    names = ["east", "south"]
    one, two = (source.parcel(names, tmp_path / f"{k}.nc").market() for k, source in enumerate((files, other)))
    assert digest(one.bids.data) == digest(two.bids.data)
    assert other.side().transmission.grid is None
    assert other.extent == files.extent


def test_a_feeder_without_bids(files, tmp_path):
    bids = pd.read_csv(str(files.bids).format(feeder="north")).assign(feeder="north")
    bids.to_csv(tmp_path / "bids.csv", index=False)
    other = hm.NetworkFiles(files.networks, tmp_path / "bids.csv", files.imbalance, files.tbm_prices, files.rules)
    market = other.parcel(["east"], tmp_path / "inputs.nc").market()
    assert market.bids.data.sizes["bid"] == 0


def test_files_are_checked_together(files, tmp_path):
    with pytest.raises(hm.DataError) as caught:
        hm.NetworkFiles({"x": tmp_path / "x.nc"}, tmp_path / "b.csv", files.imbalance, tmp_path, files.rules)
    assert [fault.found for fault in caught.value.faults] == ["no such file", "no such file", "a folder"]
    with pytest.raises(hm.DataError) as caught:
        hm.NetworkFiles({"x": files.networks["north"]}, files.bids.parent / "north.csv", files.imbalance,
                        files.tbm_prices, files.rules)  # fmt: skip
    assert "columns" in caught.value.faults[0].found
    (tmp_path / "none.nc").write_text("no network")
    own = _own(files, tmp_path)
    broken = hm.NetworkFiles({"north": tmp_path / "none.nc"}, files.bids, own, files.tbm_prices, files.rules)
    with pytest.raises(hm.DataError) as caught:
        broken.side()
    assert caught.value.faults[0].where == "network of north (none.nc)"


def _own(files, folder):
    table = pd.read_csv(files.imbalance)
    table[table["feeder"] == "north"].to_csv(folder / "imbalance.csv", index=False)
    return folder / "imbalance.csv"


@pytest.mark.parametrize("value", [None, 1, 2.5, "a", b"a", True, ("a", 1), {"a": (1, None)}, PERIODS, PERIODS[0]])
def test_equal_values_have_equal_fingerprints(value):
    assert digest(value) == digest(value)
    assert digest(value) != digest("another")


def test_fingerprints_tell_values_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(np.zeros(2)) != digest(np.zeros((2, 1)))
    assert digest(np.array(["a"], dtype=object)) == digest(np.array(["a"]))
    assert digest(hm.Options()) != digest(hm.Options(forwarding=hm.SafeBox(undo=True)))
    assert digest(hm.SafeBox()) != digest(hm.MaximumRegulation())
    with pytest.raises(TypeError):
        digest(object())


def _hung(files, **interface):
    """The source of the example, with other interfaces."""
    return dataclasses.replace(files, transmission=dataclasses.replace(files.transmission, interface=interface))


def test_every_interface_is_checked(files):
    """Not only that of the first feeder, which is east."""
    wrong = _hung(files, east="13", north="nowhere", south="114")
    with pytest.raises(hm.DataError) as caught:
        wrong.side()
    found = [(fault.where, fault.found) for fault in caught.value.faults]
    assert found == [
        ("transmission.interface of north", "'nowhere'"),
        ("transmission.interface of south", "'114'"),
    ]
    assert [fault.remedy for fault in caught.value.faults] == ["Correct it.", "Is '14' meant?"]


def test_interfaces_of_other_names_are_told_with_all_else(files):
    with pytest.raises(hm.DataError) as caught:
        _hung(files, east="13", nort="14", south="99")
    assert [fault.found for fault in caught.value.faults] == ["'nort'", "none for north", "'99'"]
    assert caught.value.faults[0].remedy == "Is 'north' meant?"


def test_the_rest_of_the_tso_is_told_with_the_interfaces(files, tmp_path):
    bids = pd.read_csv(files.transmission.bids, dtype={"bus": str})
    bids.assign(bus=bids["bus"].replace(bids["bus"].iloc[0], "far")).to_csv(tmp_path / "bids.csv", index=False)
    own = dataclasses.replace(
        files.transmission, bids=tmp_path / "bids.csv", interface={**files.transmission.interface, "south": "99"}
    )
    with pytest.raises(hm.DataError) as caught:
        dataclasses.replace(files, transmission=own).side()
    assert [fault.found for fault in caught.value.faults] == ["'99'", "far"]


def test_who_bids(files):
    assert files.bsps == hm.ReplicatedCase("ieee33", 2).bsps
    assert isinstance(files, KnowsBsps)
