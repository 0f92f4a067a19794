"""Stopped half way, damaged, changed: what is right is kept, the rest is computed again."""

from __future__ import annotations

import json

import pytest

import hiermarket as hm
from hiermarket.study.lock import LOCK, Owner, locked, this_process
from hiermarket.study.manifest import MANIFEST, Phase, append, read_manifest
from hiermarket.study.tasks import FinalJob, LocalJob
from hiermarket.study.tidy import forget
from tests.study.conftest import QUICK, assert_same


@pytest.fixture
def computed(monkeypatch):
    """What is computed from here on: (phase, batch)."""
    done: list[tuple[str, int]] = []
    for kind in (LocalJob, FinalJob):

        def compute(self, whole=kind.compute):
            done.append((self.phase.value, self.batch))
            return whole(self)

        monkeypatch.setattr(kind, "compute", compute)
    return done


def study(folder, market, **options):
    return hm.Study(market, folder, options=QUICK, batch=1, **options)


def test_nothing_is_computed_twice(three_feeders, three_done, computed):
    before = {path: path.stat().st_mtime_ns for path in three_done.rglob("*.nc")}
    hm.run(study(three_done, three_feeders))
    assert computed == []
    assert before == {path: path.stat().st_mtime_ns for path in three_done.rglob("*.nc")}
    hm.run(study(three_done, three_feeders), fresh=True)
    assert computed == [("local", 0), ("local", 1), ("local", 2), ("final", 0), ("final", 1), ("final", 2)]


def test_fresh_deletes_nothing_before_it_can_begin(three_feeders, three_done):
    with locked(three_done), pytest.raises(hm.StudyError):
        hm.run(study(three_done, three_feeders), fresh=True)
    with pytest.raises(hm.DataError):
        hm.run(
            hm.Study(three_feeders, three_done, options=hm.Options(behaviour=hm.OneLeader("Z")), batch=1), fresh=True
        )
    assert hm.open_study(three_done).complete
    with pytest.raises(hm.DataError, match="fresh beside a market"):
        hm.run(three_feeders, QUICK, fresh=True)


def test_what_is_forgotten(three_done):
    """Arrays of networks, too; what is not ours stays."""
    inputs = three_done / "inputs"
    inputs.mkdir()
    (inputs / "batch-00000.nc").write_text("")
    forget(three_done)
    assert not inputs.exists()
    assert read_manifest(three_done).plan is None
    inputs.mkdir()
    (inputs / "my.nc").write_text("")
    forget(three_done)
    assert (inputs / "my.nc").exists()


@pytest.mark.parametrize("phase", [LocalJob, FinalJob])
def test_a_study_that_was_stopped_goes_on(three_feeders, quick_chain, tmp_path, monkeypatch, computed, phase):
    whole = phase.compute

    def stop(self):
        if self.batch == 1:
            raise KeyboardInterrupt
        return whole(self)

    with monkeypatch.context() as patch:
        patch.setattr(phase, "compute", stop)
        with pytest.raises(KeyboardInterrupt):
            hm.run(study(tmp_path, three_feeders))
    assert not (tmp_path / LOCK).exists()
    assert not hm.open_study(tmp_path).complete
    computed.clear()
    results = hm.run(study(tmp_path, three_feeders))
    first = [("local", 1), ("local", 2)] if phase is LocalJob else []
    assert computed == [*first, *([("final", 0)] if first else []), ("final", 1), ("final", 2)]
    assert_same(quick_chain, results)


def test_lines_that_are_not_whole_do_not_count(three_feeders, three_done, computed):
    path = three_done / MANIFEST
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line"] for line in lines] == ["plan"] + ["part"] * 8
    # killed while the third batch's line was being written
    path.write_text("\n".join(lines[:3]) + "\n" + lines[3][:40], encoding="utf-8")
    results = hm.run(study(three_done, three_feeders))
    assert computed == [("local", 2), ("final", 0), ("final", 1), ("final", 2)]
    assert results.complete
    # what was appended after the broken line can be read
    assert len(read_manifest(three_done).parts) == 8
    path.write_text(
        path.read_text(encoding="utf-8") + '{"line": "part", "phase": "nonsense"}\n[]\n\x00', encoding="utf-8"
    )
    assert hm.open_study(three_done).complete


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "draft"])
def test_parts_that_are_not_whole_are_computed_again(three_feeders, quick_chain, three_done, computed, damage):
    part = three_done / "local" / "batch-00001.nc"
    content = part.read_bytes()
    if damage == "cut":
        part.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        part.unlink()
    else:
        part.rename(part.with_name(f".{part.name}.1.part"))
    if damage != "changed":  # seen by its size, without reading it
        assert list(hm.open_study(three_done)["clearing"].flat["feeder"].values) == ["a", "c"]
    results = hm.run(study(three_done, three_feeders))
    assert computed == [("local", 1)]
    assert_same(quick_chain, results)


def test_other_inputs_redo_their_batch(three_feeders, three_done, computed):
    """One clearing of the TSO is fed by all; what it clears for the others may stay the same."""
    market = three_feeders
    cost = market.bids.data["cost"].copy()
    cost.loc[{"bid": "b/B/4/0/up"}] = 44.0
    other = market.with_bids(market.bids.data.assign(cost=cost))
    results = hm.run(study(three_done, other))
    assert [step for step in computed if step[0] == "local"] == [("local", 1)]
    assert ("final", 1) in computed
    assert_same(hm.run(other, QUICK), results)
    computed.clear()
    hm.run(hm.Study(other, three_done, options=hm.Options(grid=QUICK.grid, forwarding=hm.SafeBox(undo=True)), batch=1))
    assert [step for step in computed if step[0] == "local"] == [("local", 0), ("local", 1), ("local", 2)]


def test_fewer_feeders_leave_no_ghosts(three_feeders, three_done):
    two = three_feeders.of_feeders(["a", "b"])
    results = hm.run(study(three_done, two))
    assert results.feeders == ("a", "b")
    assert_same(hm.run(two, QUICK), results)


@pytest.mark.parametrize("way", ["a file", "a file above", "read-only"])
def test_a_folder_that_cannot_be_written(three_feeders, tmp_path, monkeypatch, way):
    folder = place = tmp_path / "results"
    if way == "read-only":  # whatever the user may do here

        def refuse(path, *args, **kwargs):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(type(folder), "open", refuse)
        place = folder / LOCK
    else:
        folder.write_text("")
        folder = folder / "below" if way == "a file above" else folder
    with pytest.raises(hm.StudyError) as caught:
        hm.run(study(folder, three_feeders))
    assert str(place) in caught.value.where
    assert "can be made and written" in caught.value.remedy
    assert isinstance(caught.value.__cause__, OSError)


def test_another_study_is_not_overwritten(three_done, three_feeders):
    other = hm.ReplicatedCase("two_bus", 2)
    before = {path: path.read_bytes() for path in three_done.rglob("*") if path.is_file()}
    with pytest.raises(hm.StudyError) as caught:
        hm.run(study(three_done, other))
    assert "of other feeders: a, b, c" in caught.value.what
    assert caught.value.where == str(three_done)
    assert before == {path: path.read_bytes() for path in three_done.rglob("*") if path.is_file()}
    assert hm.run(study(three_done, other), fresh=True).feeders == other.names
    assert not (three_done / "local" / "batch-00002.nc").exists()
    with pytest.raises(hm.StudyError):
        hm.run(study(three_done, three_feeders))


def test_what_no_plan_names_is_deleted(three_feeders, three_done):
    local = three_done / "local"
    ours = [local / ".batch-00000.nc.12.part", three_done / ".tso.nc.12.part", local / "batch-00002.nc"]
    theirs = [local / "batch-00002.txt", local / ".notes.part", three_done / "batch-00009.nc"]
    for path in (*ours[:2], *theirs):
        path.write_text("")
    hm.run(study(three_done, three_feeders.of_feeders(["a", "b"])))
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)
    assert not (three_done / "final" / "batch-00002.nc").exists()


def test_one_run_at_a_time(three_feeders, tmp_path):
    with locked(tmp_path), pytest.raises(hm.StudyError) as caught:
        hm.run(study(tmp_path, three_feeders))
    assert f"process {this_process().pid}" in str(caught.value)
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("left", ["{", json.dumps({"host": this_process().host, "pid": 2**22 + 1, "since": 0.0})])
def test_a_lock_of_a_process_that_is_gone(tmp_path, left):
    (tmp_path / LOCK).write_text(left)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == this_process().pid
    assert list(tmp_path.iterdir()) == []


def test_whose_lock_is_alive():
    me = this_process()
    assert me.alive
    assert not Owner(me.host, me.pid, me.since - 3600).alive, "the number is that of a later process"
    assert Owner("another machine", me.pid, 0.0).alive, "nobody can tell"


def test_a_manifest_of_nothing(tmp_path):
    assert read_manifest(tmp_path).plan is None
    append(tmp_path, [])
    assert read_manifest(tmp_path).find(Phase.LOCAL, 0, "") is None
