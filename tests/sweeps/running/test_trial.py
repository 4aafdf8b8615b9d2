"""Failures in a trial."""

from dataclasses import replace

import pytest
import torch

from rkd_core.datasets import load
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError, StoppedError, UserError
from rkd_core.results import ledger
from rkd_core.specs import DataOptions
from rkd_core.training import TrainingControls
from rkd_core.training.steps import RecordingError, RecordingMemoryError
from sweeps.planning.plan import make_plan
from sweeps.running import trial
from sweeps.running.trial import carry_out
from tests.sweeps.planning.test_plan import SETTINGS

CPU = Execution("cpu", threads=1)


@pytest.fixture(name="world")
def digits_and_plan(tmp_path):
    data = load("digits", DataOptions())
    recipe = SETTINGS.recipe.model_copy(update={"epochs": 1})
    small = replace(SETTINGS, alphas=(0.0, 1.0), temperatures=(1.0,), recipe=recipe)
    return data, make_plan(small, data.fingerprint), tmp_path


def carried(world, runs, students=(), **options):
    data, _, out = world
    return list(
        carry_out(
            [run.spec for run in runs],
            [run.spec for run in students],
            dataset=data,
            out=out,
            **{"execution": CPU} | options,
        )
    )


@pytest.fixture(autouse=True)
def _unspoiled(monkeypatch):
    monkeypatch.setattr(trial, "_spoiled", False)


def test_arrays_too_large_for_the_memory_are_halved(world, monkeypatch):
    real, sizes = trial.train, []

    def train(specs, **options):
        sizes.append(len(specs))
        if len(specs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(specs, **options)

    monkeypatch.setattr(trial, "train", train)
    outcomes = carried(world, world[1].teachers)
    assert sizes == [3, 1, 2, 1, 1]
    assert [o["status"] for o in outcomes] == ["completed"] * 3


def test_a_training_too_large_for_the_memory_fails_alone(world, monkeypatch):
    real, first = trial.train, world[1].teachers[0].spec

    def train(specs, **options):
        if first in specs:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(specs, **options)

    monkeypatch.setattr(trial, "train", train)
    outcomes = carried(world, world[1].teachers)
    assert [o["status"] for o in outcomes] == ["failed", "completed", "completed"]
    assert outcomes[0]["cause"] == "OutOfMemoryError: CUDA out of memory"


def test_students_fail_if_the_logits_of_their_teacher_are_not_finite(world, monkeypatch):
    def train(specs, **options):
        raise DivergedError("the model's logits are not finite")

    monkeypatch.setattr(trial, "train", train)
    outcomes = carried(world, world[1].students[:2])
    assert [o["status"] for o in outcomes] == ["failed"] * 2
    assert outcomes[0]["cause"] == "DivergedError: the model's logits are not finite"


def test_a_broken_device_is_named_before_its_process_goes(world, monkeypatch):
    def train(specs, **options):
        raise torch.AcceleratorError("CUDA error: an illegal memory access")

    monkeypatch.setattr(trial, "train", train)
    data, plan, out = world
    outcomes = carry_out(
        [plan.runs[0].spec],
        [],
        dataset=data,
        out=out,
        execution=CPU,
    )
    words = next(outcomes)
    assert words["status"] == "dying"
    assert "illegal memory access" in words["cause"]
    with pytest.raises(torch.AcceleratorError):
        next(outcomes)


def test_logits_of_new_teachers_are_computed_at_once_if_they_exist(world, monkeypatch):
    plan, asked = world[1], []
    keep = asked.append
    monkeypatch.setattr(trial, "cache_logits", lambda student, *_: keep(student.teacher.run_id))
    waiting = [next(s for s in plan.students if t.run_id in s.depends_on) for t in plan.teachers]
    carried(world, plan.teachers[:2], waiting)
    assert asked == [t.run_id for t in plan.teachers[:2]]


def test_a_teacher_is_trained_even_if_its_logits_cannot_be_computed(world, monkeypatch):
    _, plan, out = world

    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(trial, "cache_logits", broken)
    (outcome,) = carried(world, plan.teachers[:1], plan.students[:1])
    assert outcome["status"] == "completed"
    assert ledger.find(out, plan.teachers[0].run_id) is not None


def test_steps_that_cannot_be_recorded_are_taken_in_another_process(world, monkeypatch, caplog):
    def train(specs, execution, **options):
        assert execution.recorded
        raise RecordingError("the steps cannot be recorded: an item")

    monkeypatch.setattr(trial, "train", train)
    reported = []
    controls = TrainingControls(report=reported.append)
    outcomes = carried(world, world[1].teachers, controls=controls)
    assert [o["status"] for o in outcomes] == ["completed"] * 3
    assert {p.run_id for p in reported} == {o["run_id"] for o in outcomes}
    assert "an item" in caplog.text
    assert trial.spoiled()


def test_compiled_steps_that_cannot_be_recorded_are_recorded_uncompiled_first(world, monkeypatch):
    tried = []

    def train(specs, execution, **options):
        tried.append((execution.compiled, execution.recorded))
        error = RecordingError("the steps cannot be recorded: an item")
        error.compiled = execution.compiled
        raise error if execution.recorded else StoppedError("stopped")

    monkeypatch.setattr(trial, "train", train)
    monkeypatch.setattr(trial, "train_in_new_process", train)
    carried(world, world[1].teachers)
    assert tried == [(True, True), (False, True), (False, False)]


def test_later_trials_of_a_process_that_failed_to_record_do_not_use_it(world, monkeypatch):
    asked = []

    def elsewhere(specs, execution, **options):
        asked.append((len(specs), execution.recorded))
        raise StoppedError("stopped")

    monkeypatch.setattr(trial, "train_in_new_process", elsewhere)
    monkeypatch.setattr(trial, "_spoiled", True)
    outcomes = carried(world, world[1].teachers)
    assert asked == [(3, True)]
    assert {o["status"] for o in outcomes} == {"stopped"}


def test_an_array_that_does_not_fit_while_recorded_is_halved_in_other_processes(world, monkeypatch):
    sizes = []

    def train(specs, **options):
        raise RecordingMemoryError("CUDA out of memory")

    def elsewhere(specs, execution, **options):
        sizes.append(len(specs))
        assert execution.recorded
        raise StoppedError("stopped")

    monkeypatch.setattr(trial, "train", train)
    monkeypatch.setattr(trial, "train_in_new_process", elsewhere)
    carried(world, world[1].teachers)
    assert sizes == [1, 2]


def test_another_process_stops_and_says_why(world, monkeypatch):
    from sweeps.running.new_process import train_in_new_process

    data, plan, out = world
    options = {"out": out, "data": data, "execution": CPU}
    specs = [plan.teachers[0].spec]
    long = specs[0].model_copy(
        update={"recipe": specs[0].recipe.model_copy(update={"epochs": 10**5})}
    )
    with pytest.raises(StoppedError):
        train_in_new_process([long], **options, controls=TrainingControls(stop=lambda: True))
    (missing,) = [world[1].students[0].spec]
    with pytest.raises(UserError, match="artifact"):
        train_in_new_process([missing], **options, controls=TrainingControls())
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="exit code 1"):
        train_in_new_process([missing], **options, controls=TrainingControls())


def test_a_lost_gpu_is_detected_at_once(world, monkeypatch):
    """Errors of a GPU are reported late: without the probe, one more training would fail."""

    def train(specs, **options):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    def synchronize():
        raise torch.AcceleratorError("CUDA error: an illegal memory access")

    monkeypatch.setattr(trial, "train", train)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    data, plan, out = world
    specs = [run.spec for run in plan.teachers[:2]]
    outcomes = carry_out(specs, [], dataset=data, out=out, execution=Execution("cuda", threads=1))
    assert [next(outcomes)["status"] for _ in range(2)] == ["dying"] * 2
    with pytest.raises(torch.AcceleratorError):
        next(outcomes)
    outcomes = carried(world, plan.teachers[:1])  # on a CPU there is nothing to find out
    assert outcomes[0]["status"] == "failed"
