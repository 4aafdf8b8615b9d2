"""The answer is prepared once, while trainings run, without delaying them."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweeps.running import prepare_answer as module
from sweeps.running.prepare_answer import preparing


def test_the_answer_is_prepared_once_and_finished_at_the_end(monkeypatch):
    begun, finished = threading.Event(), []

    def prepare():
        begun.set()
        finished.append(threading.current_thread())

    monkeypatch.setattr(module, "prepare", prepare)
    with preparing(after=0.0):
        assert begun.wait(600)
    assert len(finished) == 1
    assert not finished[0].is_alive()


def test_a_short_sweep_does_without(monkeypatch):
    monkeypatch.setattr(module, "prepare", lambda: pytest.fail("not asked for"))
    with preparing(after=60.0):
        pass
    assert not any(isinstance(t, threading.Timer) for t in threading.enumerate())


def test_errors_in_the_preparation_fail_only_with_the_answer(monkeypatch):
    def prepare():
        raise ModuleNotFoundError("matplotlib")

    monkeypatch.setattr(module, "prepare", prepare)
    with preparing(after=0.0):
        pass


def test_nothing_heavy_is_left_to_import():
    code = (
        "import sys\nfrom analysis.select import prepare\nprepare()\n"
        "needed = {'matplotlib.figure', 'plotly.offline', 'jinja2', 'analysis.selection.outcome'}\n"
        "assert needed <= {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
