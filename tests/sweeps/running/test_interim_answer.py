"""The answer while trainings run: its time and content."""

import json
import os
from types import SimpleNamespace
from typing import ClassVar

import pytest

from analysis.selection.rule_options import Rule
from sweeps.running import interim_answer
from sweeps.running.interim_answer import InterimAnswer, _select
from tests.analysis import worlds


class Process:
    """A fake process whose end is under control."""

    started: ClassVar[list] = []

    def __init__(self, target, args, daemon):
        self.exitcode, self.killed = None, False

    def start(self):
        self.started.append(self)

    def kill(self):
        self.killed = True

    def join(self):
        assert self.killed


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(Process, "started", [])
    context = SimpleNamespace(Process=Process)
    monkeypatch.setattr(interim_answer.multiprocessing, "get_context", lambda _: context)
    return now


def run(stage="student"):
    return SimpleNamespace(spec=SimpleNamespace(stage=stage))


def test_an_answer_follows_the_first_student_after_a_minute_and_then_rarely(clock, tmp_path):
    with InterimAnswer(tmp_path, Rule(), lambda: clock.seconds) as interim:
        for seconds, stage, number in (
            (10, "student", 0),  # a short sweep needs none
            (70, "teacher", 0),
            (80, "student", 1),
            (679, "student", 1),
            (681, "student", 1),  # the first is still being made
        ):
            clock.seconds = seconds
            interim.completed(run(stage), {})
            assert len(Process.started) == number
        Process.started[0].exitcode = 0
        interim.completed(run(), {})
        assert len(Process.started) == 2
        Process.started[1].exitcode = 0
        for seconds, number in ((1280, 2), (1282, 3)):  # the second was made in less than that
            clock.seconds = seconds
            interim.completed(run(), {})
            assert len(Process.started) == number
    assert [process.killed for process in Process.started] == [False, False, True]


def test_nothing_runs_without_students(clock, tmp_path):
    with InterimAnswer(tmp_path, Rule(), lambda: clock.seconds) as interim:
        clock.seconds = 100
        interim.completed(run("teacher"), {})
    assert Process.started == []


def test_the_answer_so_far_says_how_many_trainings_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "nice", lambda _: 0)  # for this process runs the other tests, too
    rows = worlds.sweep(("standard",), ("standard",), (1.0,))
    worlds.write(tmp_path, rows, planned=[*(row["run_id"] for row in rows), "later", "last"])
    _select(tmp_path, Rule())
    content = json.loads((tmp_path / "selection.json").read_text())
    assert content["missing_trainings"] == 2
    assert content["selected"]["alpha_t"] is None


def test_nothing_to_select_from_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "nice", lambda _: 0)
    _select(tmp_path, Rule())
    assert list(tmp_path.iterdir()) == []
