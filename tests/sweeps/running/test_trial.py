"""What a trial does when something goes wrong in it."""

from dataclasses import replace

import pytest
import torch

from rkd_core.datasets import load
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError
from rkd_core.results import ledger
from rkd_core.specs import DataOptions
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


def carried(world, runs, students=()):
    data, _, out = world
    return list(
        carry_out(
            [run.spec for run in runs],
            [run.spec for run in students],
            dataset=data,
            out=out,
            execution=CPU,
        )
    )


def test_what_does_not_fit_side_by_side_is_halved(world, monkeypatch):
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


def test_what_does_not_fit_alone_fails_alone(world, monkeypatch):
    real, first = trial.train, world[1].teachers[0].spec

    def train(specs, **options):
        if first in specs:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(specs, **options)

    monkeypatch.setattr(trial, "train", train)
    outcomes = carried(world, world[1].teachers)
    assert [o["status"] for o in outcomes] == ["failed", "completed", "completed"]
    assert outcomes[0]["cause"] == "OutOfMemoryError: CUDA out of memory"


def test_a_teacher_whose_answers_are_not_finite_is_every_students_cause(world, monkeypatch):
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


def test_new_teachers_are_asked_at_once_and_only_those_that_are_there(world, monkeypatch):
    plan, asked = world[1], []
    keep = asked.append
    monkeypatch.setattr(trial, "cache_logits", lambda student, *_: keep(student.teacher.run_id))
    waiting = [next(s for s in plan.students if t.run_id in s.depends_on) for t in plan.teachers]
    carried(world, plan.teachers[:2], waiting)
    assert asked == [t.run_id for t in plan.teachers[:2]]


def test_a_teacher_that_cannot_be_asked_is_trained_all_the_same(world, monkeypatch):
    _, plan, out = world

    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(trial, "cache_logits", broken)
    (outcome,) = carried(world, plan.teachers[:1], plan.students[:1])
    assert outcome["status"] == "completed"
    assert ledger.find(out, plan.teachers[0].run_id) is not None
