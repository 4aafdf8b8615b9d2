import pytest

from rkd_core import records
from rkd_core.datasets import load
from rkd_core.execution import Execution
from rkd_core.specs import DataOptions
from sweeps import serial
from sweeps.plan import make_plan
from sweeps.sweep import Sweep
from tests.sweeps.test_plan import SETTINGS


class Notes:
    def __init__(self):
        self.events = []

    def started(self, run):
        self.events.append(("started", run.run_id))

    def progressed(self, run, progress):
        self.events.append(("progressed", run.run_id))

    def completed(self, run, row):
        self.events.append(("completed", run.run_id))

    def failed(self, run, cause):
        self.events.append(("failed", run.run_id))


@pytest.fixture
def plan():
    from dataclasses import replace

    recipe = SETTINGS.recipe.model_copy(update={"epochs": 1})
    small = replace(SETTINGS, alphas=(1.0,), temperatures=(1.0,), recipe=recipe)
    return make_plan(small, load("digits", DataOptions()).fingerprint)


def test_a_failed_teacher_fails_its_students_and_the_rest_goes_on(tmp_path, plan, monkeypatch):
    data, notes = load("digits", DataOptions()), Notes()
    broken = plan.teachers[0]
    real = serial.train

    def train(specs, **options):
        if specs[0] == broken.spec:
            raise RuntimeError("out of luck\nwith details")
        return real(specs, **options)

    monkeypatch.setattr(serial, "train", train)
    sweep = Sweep(plan, set(), tmp_path, data.fingerprint, notes)
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))

    rows = {row["run_id"]: row for row in records.read(tmp_path / "records").to_pylist()}
    assert set(rows) == {run.run_id for run in plan.runs}
    for run in plan.runs:
        row = rows[run.run_id]
        if run is broken:
            assert (row["status"], row["cause"]) == ("failed", "RuntimeError: out of luck")
        elif run.depends_on == broken.run_id:
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
    monkeypatch.setattr(serial, "train", real)
    completed = {run_id for run_id, row in rows.items() if row["status"] == "completed"}
    again = Notes()
    sweep = Sweep(plan, completed, tmp_path, data.fingerprint, again)
    serial.run_serially(sweep, data, tmp_path, Execution("cpu", threads=1))
    statuses = records.read(tmp_path / "records")["status"].to_pylist()
    assert statuses == ["completed"] * len(plan)
    assert {r for kind, r in again.events if kind == "started"} == {
        run.run_id for run in plan.runs if run is broken or run.depends_on == broken.run_id
    }
