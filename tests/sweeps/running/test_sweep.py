import errno
import itertools
from dataclasses import replace

import pytest

from rkd_core import records
from rkd_core.datasets import load
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError
from rkd_core.specs import DataOptions
from rkd_core.training import TrainingControls
from rkd_core.training.run import Run
from sweeps.planning.packing import PerTrial
from sweeps.planning.plan import make_plan
from sweeps.running import serial, trial
from sweeps.running.sweep import Sweep
from sweeps.running.watcher import Watcher
from sweeps.stop import Stop
from tests.sweeps.planning.test_plan import SETTINGS


class Notes(Watcher):
    def __init__(self):
        self.events = []

    def added(self, runs):
        self.events += [("added", run.run_id) for run in runs]

    def started(self, runs):
        self.events += [("started", run.run_id) for run in runs]

    def progressed(self, run, progress):
        self.events.append(("progressed", run.run_id))

    def completed(self, run, row):
        self.events.append(("completed", run.run_id))

    def paused(self, run, pruned):
        self.events.append(("pruned" if pruned else "paused", run.run_id))

    def retried(self, run, cause):
        self.events.append(("retried", run.run_id))

    def failed(self, run, cause):
        self.events.append(("failed", run.run_id))


@pytest.fixture
def plan():
    recipe = SETTINGS.recipe.model_copy(update={"epochs": 1})
    small = replace(SETTINGS, alphas=(1.0,), temperatures=(1.0,), recipe=recipe)
    return make_plan(small, load("digits", DataOptions()).fingerprint)


def test_a_failed_teacher_fails_its_students_and_the_rest_goes_on(tmp_path, plan, monkeypatch):
    data, notes = load("digits", DataOptions()), Notes()
    broken = plan.teachers[0]
    real = trial.train

    def train(specs, **options):
        if specs[0] == broken.spec:
            raise RuntimeError("out of luck\nwith details")
        return real(specs, **options)

    monkeypatch.setattr(trial, "train", train)
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes)
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))

    rows = {row["run_id"]: row for row in records.read(tmp_path / "records").to_pylist()}
    assert set(rows) == {run.run_id for run in plan.runs}
    for run in plan.runs:
        row = rows[run.run_id]
        if run is broken:
            assert (row["status"], row["cause"]) == ("failed", "RuntimeError: out of luck")
        elif broken.run_id in run.depends_on:
            assert row["status"] == "failed"
            assert broken.run_id in row["cause"]
            assert "out of luck" in row["cause"]
            assert (row["stage"], row["teacher_id"]) == ("student", broken.run_id)
            assert row["val_class_total"] is None
        else:
            assert row["status"] == "completed"
    assert len(sweep.failures) == 3
    assert sweep.all_failures() == sweep.failures
    assert ("progressed", plan.teachers[1].run_id) in notes.events

    # The next run of the same command mends the teacher and trains its students, nothing else.
    monkeypatch.setattr(trial, "train", real)
    completed = {run_id for run_id, row in rows.items() if row["status"] == "completed"}
    again = Notes()
    sweep = Sweep(plan, completed, tmp_path, data.fingerprint, again)
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))
    statuses = records.read(tmp_path / "records")["status"].to_pylist()
    assert statuses == ["completed"] * len(plan)
    assert {r for kind, r in again.events if kind == "started"} == {
        run.run_id for run in plan.runs if run is broken or broken.run_id in run.depends_on
    }


def test_runs_of_an_array_share_a_trial_and_the_last_ones_are_spread(tmp_path, plan):
    """3 teachers at 2 slots: 2 and 1; then 3 students of each teacher, never of two teachers."""
    wide = make_plan(replace(SETTINGS, alphas=(0.0, 1.0), temperatures=(1.0,)), "data")
    sweep = Sweep(wide, set(), tmp_path, "data", Notes(), per_trial=PerTrial(8, 8), slots=2)
    teachers = [sweep.next(), sweep.next()]
    assert [len(t.runs) for t in teachers] == [2, 1]
    assert sweep.next() is None
    for taken in teachers:  # one student of each asks for its teacher's answers
        assert [s.teacher.run_id for s in taken.students] == [r.run_id for r in taken.runs]
    row = {"val_worst_class_accuracy": 0.5, "val_average_accuracy": 0.5}
    for taken in teachers:
        for run in taken.runs:
            sweep.completed(run.run_id, row)
    trials = []
    while (taken := sweep.next()) is not None:
        assert len({run.depends_on for run in taken.runs}) == 1
        assert taken.students == ()
        trials.append(len(taken.runs))
    assert sum(trials) == 9
    assert trials[0] == 3
    assert trials[-1] == 1  # the last of them is not kept waiting beside an idle slot


def test_side_by_side_gives_the_records_of_one_by_one(tmp_path, plan, monkeypatch):
    data = load("digits", DataOptions())
    rows = []
    for per_trial in (1, 8):
        out = tmp_path / str(per_trial)
        sweep = Sweep(
            plan, set(), out, data.fingerprint, Notes(), per_trial=PerTrial(per_trial, per_trial)
        )
        serial.run_serially(sweep, data, out, Execution("cpu", threads=1))
        rows.append(records.read(out / "records").drop_columns(["train_seconds", "started_at"]))
    together = rows[1]["trained_together"].to_pylist()
    assert sorted(together) == [2] * len(plan)
    apart = "trained_together"
    assert rows[0].drop_columns([apart]).equals(rows[1].drop_columns([apart]))


def test_of_trainings_side_by_side_only_the_one_that_diverges_fails(tmp_path, plan, monkeypatch):
    data, notes = load("digits", DataOptions()), Notes()
    broken = plan.teachers[1]
    real = Run.step

    def step(self, *batch):
        loss = real(self, *batch)
        return loss * float("nan") if self.run_id == broken.run_id else loss

    monkeypatch.setattr(Run, "step", step)
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes, per_trial=PerTrial(8, 8))
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))
    rows = {row["run_id"]: row for row in records.read(tmp_path / "records").to_pylist()}
    lost = {run.run_id for run in plan.runs if broken.run_id in (run.run_id, *run.depends_on)}
    assert {r for r, row in rows.items() if row["status"] == "failed"} == lost
    assert rows[broken.run_id]["cause"] == "DivergedError: the loss is nan at epoch 0, step 0"


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_failed_run_is_restarted_and_then_recorded(tmp_path, plan, monkeypatch, failures):
    data, notes = load("digits", DataOptions()), Notes()
    bad, real, tried = plan.teachers[0], trial.train, []

    def train(specs, **options):
        if specs[0] == bad.spec:
            tried.append(1)
            if len(tried) <= failures:
                raise DivergedError(f"the loss is nan, try {len(tried)}")
        return real(specs, **options)

    monkeypatch.setattr(trial, "train", train)
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes, max_failures=2)
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))
    rows = {row["run_id"]: row for row in records.read(tmp_path / "records").to_pylist()}
    assert set(rows) == {run.run_id for run in plan.runs}
    failed = {run_id for run_id, row in rows.items() if row["status"] == "failed"}
    assert notes.events.count(("retried", bad.run_id)) == min(failures, 2)
    assert len(tried) == min(failures, 2) + 1
    if failures < 3:
        assert not failed
        return
    assert failed == {bad.run_id} | {r.run_id for r in plan.runs if bad.run_id in r.depends_on}
    assert rows[bad.run_id]["cause"] == "DivergedError: the loss is nan, try 3"
    for run in plan.students:
        if run.run_id in failed:
            assert f"teacher {bad.run_id} failed" in rows[run.run_id]["cause"]


def test_a_run_that_fails_in_an_array_is_restarted_alone(tmp_path):
    """It is unknown which of them caused the failure."""
    wide = make_plan(replace(SETTINGS, alphas=(0.0, 1.0), temperatures=(1.0,)), "data")
    sweep = Sweep(wide, set(), tmp_path, "data", Notes(), per_trial=PerTrial(8, 8), max_failures=1)
    first = sweep.next()
    assert len(first.runs) == 3
    for run in first.runs:
        sweep.failed(run.run_id, "its process died")
    again = [sweep.next() for _ in range(3)]
    assert [trial.runs for trial in again] == [(run,) for run in first.runs]
    assert sweep.next() is None
    for run in first.runs[:2]:
        sweep.failed(run.run_id, "its process died")  # for good
    sweep.completed(
        first.runs[2].run_id, {"val_worst_class_accuracy": 0.5, "val_average_accuracy": 0.5}
    )
    assert len(sweep.next().runs) == 3  # the students of the one that is left
    assert len(sweep.failures) == 8
    assert sweep.next() is None


def test_a_full_disk_stops_the_sweep_and_costs_no_training_its_name(tmp_path, plan, monkeypatch):
    data, stop, begun = load("digits", DataOptions()), Stop(), []

    def train(specs, **options):
        begun.append(specs)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trial, "train", train)
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, Notes(), max_failures=2, stop=stop)
    with pytest.raises(OSError, match="No space left"), stop.saving():
        serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))
    assert len(begun) == 1
    assert sweep.all_failures() == []
    assert not (tmp_path / "records").exists()  # the next run begins it again


def test_a_stopped_run_saves_and_the_next_one_continues(tmp_path, plan):
    data, stop, notes = load("digits", DataOptions()), Stop(), Notes()
    steps = itertools.count()

    def asked():
        if next(steps) == 3:
            stop.ask("interrupted")
        return stop.asked

    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes, stop=stop)
    serial.run_serially(
        sweep, data, tmp_path, Execution("cpu", threads=1), TrainingControls(stop=asked)
    )
    assert [path.name for path in tmp_path.glob("checkpoints/*/*")] == ["step-3"]
    assert [kind for kind, _ in notes.events] == ["started"]
    assert sweep.over
    assert sweep.all_failures() == []
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes)
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))
    statuses = records.read(tmp_path / "records")["status"].to_pylist()
    assert statuses == ["completed"] * len(plan)
