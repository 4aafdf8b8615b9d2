import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.batches import TrainingBatches
from rkd_core.device.execution import Execution
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.specs import DataOptions, MultiplierOptions, Recipe
from rkd_core.teachers.answers import Teacher
from rkd_core.training import train
from rkd_core.training.multiplier_updates import Ascent, cycled_positions, update_all
from rkd_core.training.targets import OneHotTargets, TeacherTargets, true_probabilities
from tests.rkd_core.training.test_loop import colourful, student_spec, teacher_spec

CPU = Execution("cpu")
AUGMENTED = Recipe(epochs=1, batch_size=32, crop_padding=2, flip=True)
PLAIN = Recipe(epochs=1, batch_size=32)


def taught(tmp_path, data, teacher_recipe, recipe, temperature, execution=CPU):
    teacher = teacher_spec(architecture="resnet8", recipe=teacher_recipe, data=DataOptions())
    (row,) = train([teacher], data=data, out=tmp_path, execution=CPU)
    student = student_spec(teacher, data.fingerprint, data=DataOptions())
    array_data = ArrayData(student.model_copy(update={"recipe": recipe}), data, execution)
    live_teacher = Teacher(student.teacher, array_data, tmp_path)
    artifact = artifacts.load(tmp_path / "artifacts", row["run_id"])
    return (
        TeacherTargets(live_teacher, temperature),
        live_teacher,
        array_data.batches,
        rebuild(artifact),
        artifact,
    )


def probabilities(model, artifact, images, temperature):
    """Return softmax(z / T) of raw uint8 images, with the teacher's own normalisation, by hand."""
    mean, std = (torch.tensor(artifact.model["normalization"][k]) for k in ("mean", "std"))
    scaled = torch.from_numpy(images).double() / 255
    inputs = ((scaled - mean) / std).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return F.softmax(model(inputs).double() / temperature, dim=1)


@pytest.mark.parametrize("teacher_normalization", ["per_channel", "centered"])
@pytest.mark.parametrize("recipe", [PLAIN, AUGMENTED], ids=["plain", "augmented"])
def test_priors_and_validation_are_one_clean_pass_at_the_temperature(
    tmp_path, teacher_normalization, recipe
):
    data = colourful()
    own = AUGMENTED.model_copy(update={"normalization": teacher_normalization})
    targets, _, _, model, artifact = taught(tmp_path, data, own, recipe, 3.0)
    train_p = probabilities(model, artifact, data.train.images, 3.0)
    torch.testing.assert_close(targets.priors, train_p.mean(0), rtol=1e-4, atol=1e-5)
    val_p = probabilities(model, artifact, data.val.images, 3.0)
    torch.testing.assert_close(targets.validation, val_p, rtol=1e-4, atol=1e-5)
    assert targets.priors.dtype == targets.validation.dtype == torch.float64


def test_one_hot_targets(digits):
    targets = OneHotTargets(digits, "cpu")
    counts = np.bincount(digits.train.labels)
    assert targets.priors.tolist() == pytest.approx((counts / counts.sum()).tolist())
    batch = next(iter(TrainingBatches(digits.train, PLAIN, seed=0).epoch(0)))
    q = targets(batch.labels, None)
    assert torch.equal(q.argmax(1), batch.labels)
    assert torch.equal(q.sum(1), torch.ones(32))
    assert torch.equal(targets.validation, true_probabilities(digits, "cpu"))


def test_smoothed_labels_are_those_of_cross_entropy(digits):
    targets = OneHotTargets(digits, "cpu", smoothing=0.2)
    labels = torch.tensor([3, 0, 9])
    q = targets(labels, None)
    for row, label in zip(q.tolist(), labels.tolist(), strict=True):
        assert row == pytest.approx([0.82 if y == label else 0.02 for y in range(10)])
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    loss = -(q * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.2))
    shares = [count / len(digits.train) for count in digits.class_counts("train")]
    assert targets.priors.tolist() == pytest.approx([0.8 * share + 0.02 for share in shares])
    assert torch.equal(targets.validation, true_probabilities(digits, "cpu"))  # never smoothed


def test_a_student_without_logits_of_its_teacher_is_a_bug(tmp_path):
    targets, live_teacher, *_ = taught(tmp_path, colourful(), PLAIN, PLAIN, 2.0)
    with pytest.raises(ValueError, match="need its teacher's logits"):
        targets(torch.tensor([0]), None)
    logits = live_teacher.clean[:4]
    torch.testing.assert_close(targets(torch.zeros(4), logits), F.softmax(logits / 2, 1))


@pytest.mark.parametrize(("n", "size"), [(10, 1), (10, 3), (10, 10), (10, 25), (7, 4), (1, 3)])
def test_batches_of_validation_follow_each_other_without_gaps(n, size):
    batches = [cycled_positions(n, size, update, seed=1) for update in range(3 * n)]
    assert {len(batch) for batch in batches} == {size}
    stream = np.concatenate(batches)
    for start in range(0, len(stream) - n + 1, n):
        assert sorted(stream[start : start + n]) == list(range(n))


def test_validation_batches_are_shuffled_and_cycled():
    stream = np.concatenate([cycled_positions(10, 4, k, seed=1) for k in range(10)])
    for number in range(4):
        assert sorted(stream[number * 10 : number * 10 + 10]) == list(range(10))
    assert stream[:10].tolist() != stream[10:20].tolist()
    assert cycled_positions(10, 4, 7, seed=1).tolist() == stream[28:32].tolist()
    assert cycled_positions(10, 4, 0, seed=2).tolist() != stream[:4].tolist()


def test_the_period_restarts_each_epoch():
    def due(period, steps):
        options = MultiplierOptions(period=period)
        ascent = Ascent.__new__(Ascent)
        ascent._options = options
        return [step for step in range(steps) if ascent.due(step)]

    assert due(32, 97) == [0, 32, 64, 96]
    assert due(None, 97) == [0]


def test_a_batch_uses_the_class_shares_of_the_whole_validation_set(digits):
    """Compare with Algorithm 1 in loops; shares of the batch would be near zero for a class."""

    class Stuck(torch.nn.Module):
        """A network that predicts class 3 for every image."""

        def forward(self, images):
            return F.one_hot(torch.full((len(images),), 3), 10).float()

    options = MultiplierOptions(step_size=0.5, batch=20)
    data = ArrayData(teacher_spec(), digits, CPU)
    ascent = Ascent(options, true_probabilities(digits, "cpu"), data)
    labels = digits.val.labels.tolist()
    seen = [labels[i] for i in cycled_positions(len(labels), 20, 0, seed=teacher_spec().seed)]
    grown = []
    for c in range(10):
        risk = 0.0 if c == 3 else (seen.count(c) / 20) / (labels.count(c) / len(labels))
        grown.append(math.exp(0.5 * risk))
    update_all([ascent], [Stuck()], data)
    expected = [g / math.fsum(grown) for g in grown]
    assert ascent.log_multipliers.exp().tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [None, 7, 398, 10**6])
def test_multipliers_rise_for_the_class_that_is_missed(digits, size):
    class Stuck(torch.nn.Module):
        """A network that predicts class 3 for every image."""

        def forward(self, images):
            return F.one_hot(torch.full((len(images),), 3), 10).float()

    options = MultiplierOptions(step_size=0.5, batch=size)
    data = ArrayData(teacher_spec(), digits, CPU)
    ascent = Ascent(options, true_probabilities(digits, "cpu"), data)
    for _ in range(40):
        update_all([ascent], [Stuck()], data)
    multipliers = ascent.log_multipliers.exp()
    assert ascent.updates == 40
    assert multipliers.argmin() == 3
    assert multipliers.sum() == pytest.approx(1)
    if size is None or size >= 398:  # every other class has risk 1, class 3 has risk 0
        others = multipliers[[c for c in range(10) if c != 3]]
        assert torch.allclose(others / multipliers[3], torch.tensor(np.exp(20.0)))
