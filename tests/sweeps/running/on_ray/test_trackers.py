"""Trackers: what they receive, refusals, and failures that cost no training."""

import importlib.util
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from rkd_core.errors import UserError
from sweeps.cli.checks import _check_tracking as check_tracking
from sweeps.cli.checks import check
from sweeps.cli.options import Tracking
from sweeps.cli.parse import parse
from sweeps.running.on_ray.tracker import Tracker
from sweeps.running.on_ray.trackers import connect_trackers

OWN = {"time_total_s": 3.0, "pid": 7, "trial_id": "t", "config": {"specs": ["..."]}}


class Recorder:
    def __init__(self, fails=None):
        self.calls, self.fails = [], fails

    def __getattr__(self, name):
        def called(*args, **info):
            if name == self.fails:
                raise ConnectionError("no answer\nfor minutes")
            self.calls.append((name, args))

        return called

    def sent(self):
        return [args[-1] for name, args in self.calls if name == "log_trial_result"]


class Trial:
    """The part of Ray's trial that its logger callbacks read."""

    trial_id, experiment_dir_name, local_path = "t", "sweep", "/somewhere"

    def __init__(self, runs=1):
        own = {"alpha_t": 0.5, "alpha_s": None, "temperature": 3.0, "seed": 0}
        self.config = {"run_id": "a", "label": "student", **own, "specs": ["long"] * runs}
        self.config["students"] = ["longer"]

    def __str__(self):
        return "a"


def tracked(runs=1, fails=None):
    inner, lines, trial = Recorder(fails), [], Trial(runs)
    tracker = Tracker("--mlflow", inner, lines.append)
    tracker.log_trial_start(trial)
    return tracker, trial, inner, lines


def test_figures_of_a_training():
    tracker, trial, inner, lines = tracked()
    epoch = {"run_id": "a", "epoch": 2, "epochs": 3, "train_loss": 0.5, "training_iteration": 1}
    steps = {"timesteps_total": 2}
    tracker.log_trial_result(
        1, trial, epoch | steps | OWN
    )  # not validated: costs more than it tells
    validated = {"val_average_accuracy": 0.75, "val_worst_class_accuracy": 0.0}
    tracker.log_trial_result(2, trial, epoch | steps | validated | OWN)
    tracker.log_trial_result(3, trial, {"run_id": "a", "status": "completed"} | validated | OWN)
    tracker.log_trial_end(trial)
    tracker.on_experiment_end([trial])
    assert [name for name, _ in inner.calls] == [
        "setup",
        "log_trial_start",
        "log_trial_result",
        "log_trial_result",
        "log_trial_end",
        "on_experiment_end",
    ]
    first = {"epoch": 2, "train_loss": 0.5, "training_iteration": 1, **steps}
    assert inner.sent() == [first | validated, validated]
    shown = inner.calls[1][1][0]
    assert str(shown) == "a"
    assert shown.config == {
        "run_id": "a",
        "label": "student",
        "alpha_t": 0.5,
        "temperature": 3.0,
        "seed": 0,
    }
    assert all(args[1] is shown for name, args in inner.calls if name == "log_trial_result")
    assert inner.calls[-2][1] == (shown, False)
    assert lines == []


def test_figures_of_trainings_side_by_side_have_names_of_their_own():
    tracker, trial, inner, _ = tracked(runs=2)
    figures = {"val_average_accuracy": 0.5, "epoch": 1}
    tracker.log_trial_result(1, trial, {"run_id": "b", "b": figures, "training_iteration": 4} | OWN)
    tracker.log_trial_result(2, trial, {"run_id": "b", "status": "completed", **figures})
    assert inner.sent() == [{"training_iteration": 4, "b": figures}, {"b": figures}]


@pytest.mark.parametrize("status", ["failed", "dying"])
def test_a_training_that_failed_is_a_run_that_failed(status):
    tracker, trial, inner, _ = tracked()
    tracker.log_trial_result(1, trial, {"run_id": "a", "status": status, "cause": "x"})
    tracker.log_trial_end(trial)
    assert inner.sent() == []
    assert inner.calls[-1][1][1] is True


@pytest.mark.parametrize(
    "fails", ["log_trial_start", "log_trial_result", "log_trial_end", "on_experiment_end"]
)
def test_a_tracker_that_fails_is_let_go(fails):
    tracker, trial, inner, lines = tracked(fails=fails)
    for _ in range(2):
        tracker.log_trial_result(1, trial, {"run_id": "a", "val_average_accuracy": 0.5})
    tracker.log_trial_end(trial)
    tracker.log_trial_start(trial)
    for _ in range(2):
        tracker.on_experiment_end([trial])
    assert lines == ["--mlflow failed (no answer); training goes on without it"]
    assert fails not in [name for name, _ in inner.calls]


def test_a_tracker_that_cannot_begin_is_refused():
    with pytest.raises(UserError, match=r"^--mlflow x: no answer$"):
        Tracker("--mlflow x", Recorder(fails="setup"), print)


def test_ray_may_pickle_it():
    """A connection cannot be pickled, so the copy does nothing."""
    tracker, trial, inner, _ = tracked()
    inner.connection = (i for i in range(3))
    with pytest.raises(TypeError, match="generator"):
        pickle.dumps(inner.connection)
    again = pickle.loads(pickle.dumps(tracker))
    again.log_trial_start(trial)
    again.log_trial_end(trial)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mlflow", "a", "b"], "--mlflow takes one URI, not 2"),
        (["--mlflow", " "], "--mlflow is empty"),
        (["--wandb", ""], "--wandb is empty"),
        (["--mlflow", "--serial"], "--mlflow goes through Ray: leave --serial out"),
        (["--wandb", "x", "--serial"], "--wandb goes through Ray: leave --serial out"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(UserError, match=words):
        check(parse(arguments))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)])
def test_a_package_that_is_not_there_is_named(monkeypatch, name, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    given = {"mlflow": ()} if name == "mlflow" else {"wandb": "project"}
    words = rf"--{name}: the package {name} is not installed here; pip install -e '\.\[{name}\]'"
    with pytest.raises(UserError, match=words):
        check_tracking(Tracking(**given), serial=False)


def test_nothing_is_asked_for_by_default():
    assert parse([]).tracking == Tracking(mlflow=None, wandb=None)
    assert parse(["--mlflow"]).tracking.mlflow == ()
    assert parse(["--mlflow", "sqlite:///m.db"]).tracking.mlflow == ("sqlite:///m.db",)
    assert connect_trackers(Tracking(), "digits", Path("out"), print) == []
