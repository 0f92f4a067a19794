"""Processes: light to start, killed without loss, and never without a guard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import hiermarket as hm
from hiermarket.study.cluster import scheduler_at

ROOT = Path(__file__).parents[2]


def test_what_a_worker_loads():
    slow = {"pypsa", "linopy", "matplotlib", "typer", "rich", "pydantic", "dask", "distributed", "highspy"}
    script = f"import sys, hiermarket.study.tasks; print(*sorted({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    """The other one takes its batch, and a new one takes its place."""
    options = hm.Options(grid=hm.LinDistFlow(loss_passes=0))
    source = hm.ReplicatedCase("two_bus", copies=4)
    killed: list[int] = []

    def kill(step: hm.Progress) -> None:
        if step.phase == "local" and step.batches == 1 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    with hm.local_cluster(2) as client:
        results = hm.run(hm.Study(source, tmp_path / "many", options=options, batch=1), client=client, progress=kill)
        assert killed
        assert killed[0] not in client.run(os.getpid).values()
    assert results.complete
    assert results.missing == ()
    market = source.parcel(source.names, tmp_path).market().truthful()
    wanted = hm.clear_dso(market, grid=options.grid).flat
    xr.testing.assert_allclose(results["clearing"].flat.compute()[["activation"]], wanted[["activation"]], atol=1e-8)


@pytest.mark.parametrize(("guarded", "line"), [(False, 2), (True, 0)])
def test_a_script_without_a_guard(tmp_path, guarded, line):
    start = "    with hm.local_cluster(1):\n        print('running')\n"
    head = 'if __name__ == "__main__":' if guarded else "for _ in range(1):"
    script = tmp_path / "script.py"
    script.write_text(f"import hiermarket as hm\n{head}\n{start}", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], check=False, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120
    )
    if guarded:
        assert done.stdout == "running\n", done.stderr
    else:
        assert done.returncode == 1
        assert 'needs `if __name__ == "__main__":`' in done.stderr
        assert f"{script}, line 3" in done.stderr
        assert "Nanny" not in done.stderr


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("hiermarket.study.cluster.TIMEOUT", 0.2)
    with pytest.raises(hm.StudyError) as caught, scheduler_at("tcp://127.0.0.1:1"):
        pass
    assert caught.value.where == "tcp://127.0.0.1:1"
