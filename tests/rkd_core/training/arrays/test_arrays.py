"""An array gives the records of trainings one by one; recorded steps are plain steps."""

import pytest
import torch

from rkd_core import models
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.batches import TrainingBatches
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError
from rkd_core.specs import Augmentation, DataOptions, MultiplierOptions, Recipe, run_id
from rkd_core.teachers.answers import Teacher
from rkd_core.training import loop, train
from rkd_core.training.array import begin_step
from rkd_core.training.run import Run
from rkd_core.training.steps import CudaRecorder, EagerSteps, PlainRecorder, RecordedSteps
from tests.rkd_core.training.test_loop import (
    CPU,
    RECIPE,
    colourful,
    student_spec,
    teacher_spec,
    timeless,
)


def apart_from_company(row):
    return {k: v for k, v in timeless(row).items() if k != "trained_together"}


def robust(period=2):
    return MultiplierOptions(step_size=0.5, period=period, batch=100)


# A large epsilon, because Adam amplifies rounding where gradients are close to zero.
AUGMENTED = {"augmentation": Augmentation.parse("random_resized_crop,color_jitter,cutmix,mixup")}
ADAMW = {"optimizer": "adamw", "epsilon": 1e-3, "gradient_clip": 1.0, "ema_decay": 0.9}


@pytest.mark.parametrize(
    "changes",
    [{}, ADAMW | {"learning_rate": 1e-3}, AUGMENTED],
    ids=["sgd", "adamw", "augmented"],
)
def test_an_array_of_students_gives_the_records_of_single_runs(digits, tmp_path, changes):
    recipe = RECIPE.model_copy(update=changes)
    teacher = teacher_spec(objective="tradeoff", alpha=0.25, recipe=recipe)

    def student(**changes):
        return student_spec(teacher, digits.fingerprint, recipe=recipe, **changes)

    students = [
        student(),
        student(temperature=5.0),
        student(objective="balanced", architecture="resnet8"),
        student(objective="tradeoff", alpha=0.5, multipliers=robust()),
        student(objective="robust", multipliers=robust(period=None)),
    ]
    together, apart = tmp_path / "together", tmp_path / "apart"
    for out in (together, apart):
        train([teacher], data=digits, out=out, execution=CPU)
    array = train(students, data=digits, out=together, execution=CPU)
    singles = [train([s], data=digits, out=apart, execution=CPU)[0] for s in students]
    assert [r["trained_together"] for r in array] == [5] * 5
    assert [r["trained_together"] for r in singles] == [1] * 5
    for one, other in zip(array, singles, strict=True):
        assert apart_from_company(one) == apart_from_company(other)  # on a CPU to the last bit
    for row in array:
        names = [p / "artifacts" / row["run_id"] / "weights.safetensors" for p in (together, apart)]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_teachers_share_an_array_and_come_before_their_students(digits, tmp_path):
    teachers = [teacher_spec(), teacher_spec(objective="balanced"), teacher_spec(seed=1)]
    student = student_spec(teachers[1], digits.fingerprint)
    rows = train([*teachers, student], data=digits, out=tmp_path, execution=CPU)
    assert [r["trained_together"] for r in rows] == [2, 2, 1, 1]  # another seed, other batches
    assert [r["teacher_id"] for r in rows] == [None, None, None, rows[1]["run_id"]]


def test_students_share_one_stream_and_one_pass_of_the_teacher(digits, tmp_path, monkeypatch):
    teacher = teacher_spec()
    train([teacher], data=digits, out=tmp_path, execution=CPU)
    epochs, answers = [], []
    whole, logits = TrainingBatches.epoch, Teacher.logits
    monkeypatch.setattr(
        TrainingBatches, "epoch", lambda self, *e: epochs.append(e) or whole(self, *e)
    )
    monkeypatch.setattr(Teacher, "logits", lambda self, b: answers.append(1) or logits(self, b))
    students = [student_spec(teacher, digits.fingerprint, temperature=t) for t in (1.0, 2.0, 3.0)]
    train(students, data=digits, out=tmp_path, execution=CPU)
    assert epochs == [(0, 0), (1, 0), (2, 0)]
    assert len(answers) == 3 * (len(digits.train) // 64)


def test_a_repeated_spec_is_trained_once(digits):
    first, second = train([teacher_spec(), teacher_spec()], data=digits, execution=CPU)
    assert first == second
    assert first["trained_together"] == 1


def test_one_that_diverges_takes_no_other_with_it(digits, tmp_path, monkeypatch):
    good, bad = teacher_spec(), teacher_spec(objective="balanced")
    step = Run.step

    def broken(self, *batch):
        loss = step(self, *batch)
        return loss * float("nan") if self.spec.objective == "balanced" else loss

    monkeypatch.setattr(Run, "step", broken)
    with pytest.raises(DivergedError, match="epoch 0, step 0") as caught:
        train([bad, good], data=digits, out=tmp_path, execution=CPU)
    lost = run_id(bad, digits.fingerprint)
    assert list(caught.value.causes) == [lost]
    kept = [p.stem for p in (tmp_path / "records").glob("*.parquet")]
    assert kept == [run_id(good, digits.fingerprint)]
    assert not (tmp_path / "artifacts" / lost).exists()
    monkeypatch.undo()
    alone = train([good], data=digits, execution=CPU)[0]
    row = train([good], data=digits, out=tmp_path, execution=CPU)[0]
    assert apart_from_company(row) == apart_from_company(alone)


class Replay(PlainRecorder):
    """A replacement for a CUDA graph on the CPU that counts its calls."""

    def __init__(self):
        self.branches, self.joined, self.warm, self.recorded = [], 0, 0, 0

    def branch(self, number):
        self.branches.append(number)
        return super().branch(number)

    def join(self):
        self.joined += 1

    def warm_up(self, function):
        self.warm += 1
        super().warm_up(function)

    def record(self, function):
        self.recorded += 1
        return super().record(function)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize(
    "changes",
    [{}, {"drop_last": False}, ADAMW, AUGMENTED],
    ids=["sgd", "short batches", "adamw", "augmented"],
)
def test_recorded_steps_are_plain_steps(device, changes, tmp_path):
    data = colourful()
    recipe = Recipe(**{"epochs": 3, "batch_size": 28, "learning_rate": 0.02} | changes)
    execution = Execution(device)
    teacher = teacher_spec(architecture="resnet8", recipe=recipe, data=DataOptions())
    train([teacher], data=data, out=tmp_path, execution=CPU)

    def student(**changes):
        return student_spec(teacher, data.fingerprint, data=DataOptions(), recipe=recipe, **changes)

    specs = [
        student(architecture="resnet8"),
        student(architecture="resnet8", temperature=4.0),
        student(architecture="resnet14", objective="robust", multipliers=robust()),
    ]
    array_data = ArrayData(specs[0], data, execution)
    live_teacher = Teacher(specs[0].teacher, array_data, tmp_path)
    rate = torch.tensor(0.0, device=device)
    plain = [Run(spec, "plain", array_data, live_teacher) for spec in specs]
    recorded = [Run(spec, "recorded", array_data, live_teacher, rate) for spec in specs]
    recorder = Replay() if device == "cpu" else CudaRecorder(device, len(specs))
    both = EagerSteps(plain), RecordedSteps(recorded, rate, 28, recorder)
    number = 0
    for epoch in range(recipe.epochs):
        for step, batch in enumerate(array_data.batches.epoch(epoch)):
            begin_step([*plain, *recorded], epoch, step)
            logits, now = live_teacher.logits(batch), 0.02 / (1 + number)
            losses = [steps(batch, logits, now).clone() for steps in both]
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
            number += 1
    for one, other in zip(plain, recorded, strict=True):
        for own, others in ((one.model, other.model), (one.final(), other.final())):
            for name, value in own.state_dict().items():
                torch.testing.assert_close(
                    others.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name
                )
        # On a GPU the sums of weight gradients depend on the order of their parts.
        tolerance = 0 if device == "cpu" else 1e-3
        if one.multipliers is not None:
            assert other.multipliers == pytest.approx(one.multipliers, rel=tolerance)
    if device == "cpu":
        assert (recorder.recorded, recorder.warm) == (1, 3)  # one recording for all steps
        assert recorder.branches[:3] == [0, 1, 2]
        assert recorder.joined == number + 3


@pytest.mark.parametrize("changes", [{}, ADAMW], ids=["sgd", "adamw"])
def test_warming_up_leaves_no_trace(changes):
    """A recorded run that takes no step is the network as it was built."""
    data = colourful()
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.5, **changes)
    spec = teacher_spec(architecture="resnet8", recipe=recipe, data=DataOptions())
    array_data = ArrayData(spec, data, CPU)
    rate = torch.tensor(0.5)
    run = Run(spec, "id", array_data, None, rate)
    steps = RecordedSteps([run], rate, 32, Replay())
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    steps._record(next(iter(array_data.batches.epoch(0))), None)
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
    for values in run.optimizer.state.values():
        assert len(values) == len(list(run.model.parameters()))
        assert all(not value.any() for value in values.values())
    assert all(torch.equal(v, before[k]) for k, v in run.final().state_dict().items())


def test_trainings_on_a_gpu_are_made_to_be_recorded(monkeypatch):
    """Their optimiser reads its rate from the tensor that the steps fill."""
    made = {}
    monkeypatch.setattr(loop, "CudaRecorder", lambda device, n: made.update(n=n) or Replay())
    array_data = ArrayData(
        teacher_spec(architecture="resnet8", data=DataOptions()), colourful(), CPU
    )
    rate = torch.tensor(0.1)
    runs = [Run(teacher_spec(recipe=RECIPE), str(i), array_data, None, rate) for i in range(2)]
    assert isinstance(loop._steps(runs, rate, array_data), RecordedSteps)
    assert made == {"n": 2}
    assert not isinstance(loop._steps(runs, None, array_data), RecordedSteps)
    assert all(run.optimizer.rate is rate for run in runs)


def test_the_seed_of_the_weights_is_the_same_for_all(digits):
    """Students of a seed start from the same weights, so pairs differ in their settings alone."""
    array_data = ArrayData(teacher_spec(), digits, CPU)
    runs = [Run(teacher_spec(objective=o), o, array_data, None) for o in ("standard", "balanced")]
    states = [run.model.state_dict() for run in runs]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert models.architectures()
