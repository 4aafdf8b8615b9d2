"""A training that hangs is detected, its stacks are kept, and it is ended."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rkd_core import records
from rkd_core.datasets import load
from rkd_core.datasets.batches import heartbeat
from rkd_core.device.execution import Execution
from rkd_core.specs import DataOptions
from sweeps.running import hangs, serial, trial
from sweeps.running.sweep import Sweep
from tests.sweeps.running.test_sweep import Notes, plan  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    """Reset the heartbeat, whatever other tests have trained."""
    monkeypatch.setattr(heartbeat, "_times", type(heartbeat._times)(maxlen=65))


def test_the_usual_interval_is_a_median(monkeypatch):
    times = iter([0.0, 1, 2, 3, 4, 5, 6, 7, 107, 108])
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: next(times))
    before = heartbeat.beats()
    for _ in range(8):
        heartbeat.beat()
    assert heartbeat.usual_seconds() == 0  # seven intervals are too few
    heartbeat.beat()
    heartbeat.beat()
    assert (heartbeat.beats() - before, heartbeat.usual_seconds()) == (10, 1.0)


def noticed(timeout, seconds, beating=0.0):
    """Return the causes of hangs detected within ``seconds``, with beats at this interval."""
    found = []
    with hangs.watched(timeout, lambda cause, stacks: found.append((cause, stacks))):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if beating:
                heartbeat.beat()
            time.sleep(beating or seconds)
    return found


def test_silence_is_noticed_with_the_stack_of_its_thread():
    (cause, stacks), *_ = noticed(0.2, 3)
    assert cause.startswith("no step for ")
    assert "noticed" in stacks
    assert "time.sleep(beating or seconds)" in stacks


def test_steps_are_no_silence_nor_is_a_timeout_of_0():
    assert noticed(1.0, 2.5, beating=0.05) == []
    assert noticed(0, 0.5) == []


def test_long_steps_are_waited_for(monkeypatch):
    monkeypatch.setattr(heartbeat, "usual_seconds", lambda: 10.0)
    assert noticed(0.1, 1.0) == []


def stuck_once(monkeypatch):
    """Make the first training wait forever."""
    real, calls = trial.train, []

    def train(specs, **options):
        calls.append(len(specs))
        if len(calls) == 1:
            threading.Event().wait()
        return real(specs, **options)

    monkeypatch.setattr(trial, "train", train)


def test_without_ray_it_is_interrupted_and_retried(
    tmp_path,
    plan,  # noqa: F811
    monkeypatch,
    caplog,
):
    stuck_once(monkeypatch)
    data, notes = load("digits", DataOptions()), Notes()
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes, max_failures=1)
    execution = Execution("cpu", threads=1)
    serial.run_serially(sweep, data, tmp_path, execution, hang_timeout=3.0)
    kinds = [kind for kind, _ in notes.events]
    assert kinds.count("retried") >= 1
    assert kinds.count("failed") == 0
    assert set(records.read(tmp_path / "records")["status"].to_pylist()) == {"completed"}
    assert "no step for 3 seconds, so it was ended" in caplog.text
    assert "threading.Event().wait()" in caplog.text


def test_the_process_ends_and_leaves_a_note(tmp_path):
    code = f"""
import pathlib, time
from sweeps.running import hangs
with hangs.watched(0.2, hangs.ending_the_process(pathlib.Path({str(tmp_path)!r}), ["a", "b"])):
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    for run_id in ("a", "b"):
        cause, stacks = hangs.note_of(tmp_path, run_id)
        assert cause.startswith("no step for ")
        assert "time.sleep(60)" in stacks or 'File "<string>"' in stacks
        assert hangs.note_of(tmp_path, run_id) is None
    assert list(tmp_path.iterdir()) == []


def test_a_note_is_the_cause_of_a_lost_process(tmp_path, plan, caplog):  # noqa: F811
    data, notes = load("digits", DataOptions()), Notes()
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes, max_failures=1)
    run = sweep.next().runs[0]
    (tmp_path / ".hangs").mkdir()
    (tmp_path / ".hangs" / run.run_id).write_text("no step for 600 seconds\nThread main: here")
    sweep.lost(run.run_id, "its process died")
    assert notes.events[-1] == ("retried", run.run_id)
    assert "no step for 600 seconds (retry 1 of 1)" in caplog.text
    assert "Thread main: here" in caplog.text
