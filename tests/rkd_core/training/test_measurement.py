"""Measurements of a finished training, against plain loops over its network's outputs."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rkd_core.datasets.batches.batches import EvaluationBatches
from rkd_core.errors import DivergedError
from rkd_core.metrics import calibration
from rkd_core.models.inference import class_confidence, regularization_samples
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.training import measurement, train
from rkd_core.training.run import Run
from tests.rkd_core.training.test_loop import CPU, student_spec, teacher_spec


@pytest.fixture(scope="module", name="trained")
def teacher_and_student(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    specs = [teacher_spec(), student_spec(teacher_spec(), digits.fingerprint, temperature=3.0)]
    return out, train(specs, data=digits, out=out, execution=CPU)


def probabilities(out, row, images, temperature=1.0):
    """Return the softmax of a stored model's logits, in plain floats."""
    artifact = artifacts.load(out / "artifacts", row["run_id"])
    normalization = artifact.model["normalization"]
    mean, std = (np.reshape(normalization[key], (-1, 1, 1)) for key in ("mean", "std"))
    pixels = (images.images.transpose(0, 3, 1, 2) / 255.0 - mean) / std
    found = []
    for logits in rebuild(artifact)(torch.from_numpy(pixels.astype(np.float32))).tolist():
        top = max(logits)
        powers = [math.exp((z - top) / temperature) for z in logits]
        found.append([power / sum(powers) for power in powers])
    return found


@pytest.mark.parametrize("split", ["val", "test"])
def test_log_loss_and_margin_by_class(digits, trained, split):
    out, rows = trained
    images = {"val": digits.val, "test": digits.test}[split]
    for row in rows:
        losses = [[] for _ in range(digits.classes)]
        margins = [[] for _ in range(digits.classes)]
        for p, y in zip(probabilities(out, row, images), images.labels, strict=True):
            losses[y].append(-math.log(p[y]))
            margins[y].append(p[y] - max(q for label, q in enumerate(p) if label != y))
        for name, values in (("log_loss", losses), ("margin", margins)):
            expected = [sum(v) / len(v) for v in values]
            assert row[f"{split}_class_{name}"] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_teachers_bins_are_those_of_its_probabilities(digits, trained):
    out, (teacher, student) = trained
    for split, images in (("val", digits.val), ("test", digits.test)):
        expected = calibration.fill_bins(probabilities(out, teacher, images), images.labels)
        for name in ("images", "positives", "probability"):
            found = teacher[f"{split}_calibration_{name}"]
            np.testing.assert_allclose(found, getattr(expected, name), rtol=1e-3, atol=1e-4)
            assert student[f"{split}_calibration_{name}"] is None
    assert teacher["teacher_calibration_error"] is None


def test_a_student_has_its_teachers_error_at_its_temperature(digits, trained):
    out, (teacher, student) = trained
    softened = probabilities(out, teacher, digits.val, student["temperature"])
    expected = calibration.errors(calibration.fill_bins(softened, digits.val.labels))
    np.testing.assert_allclose(student["teacher_calibration_error"], expected, rtol=1e-3)


def test_regularization_samples_are_counted_one_by_one(digits, trained):
    out, (teacher, student) = trained
    for name, images in (("train", digits.train), ("val", digits.val)):
        counts = [0] * digits.classes
        unsure = [0] * digits.classes
        pairs = zip(
            probabilities(out, student, images),
            probabilities(out, teacher, images),
            images.labels,
            strict=True,
        )
        for p, q, y in pairs:
            counts[y] += p[y] > q[y]
            unsure[y] += abs(p[y] - q[y]) < 1e-4
        found = student[f"{name}_regularization_samples"]
        assert (np.abs(np.subtract(found, counts)) <= unsure).all()
        assert 0 < sum(found) < len(images)
        assert teacher[f"{name}_regularization_samples"] is None


def test_each_training_image_is_compared_with_its_own_teacher_logits(monkeypatch):
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 11)
    student, teacher = (torch.from_numpy(random.normal(0, 3, (11, 4))) for _ in range(2))
    parts = [[student[a:b]] for a, b in ((0, 5), (5, 10), (10, 11))]
    monkeypatch.setattr(measurement, "shared_logits", lambda *_: iter(parts))
    dataset = SimpleNamespace(classes=4, train=SimpleNamespace(labels=labels))
    data = SimpleNamespace(dataset=dataset, evaluation_batches=lambda _: None, execution=None)
    expected = [0] * 4
    for f, z, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        p, q = (math.exp(v[y]) / sum(map(math.exp, v)) for v in (f, z))
        expected[y] += p > q
    (found,) = measurement._compared_with_teacher([None], data, SimpleNamespace(clean=teacher))
    assert found == expected
    assert 0 < sum(expected) < 11


def test_corners_of_confidence():
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    losses, margins = class_confidence(np.array([1, 1]), logits, 3)
    assert losses == [None, (2e4 + math.log(3)) / 2, None]
    assert margins == [None, -0.5, None]
    assert class_confidence(np.array([0]), torch.zeros(1, 1), 1) == ([0.0], [1.0])
    assert regularization_samples(np.array([0, 1]), logits[:, :2], logits[:, :2], 2) == [0, 0]


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_figures_do_not_depend_on_the_number_of_images_at_a_time(monkeypatch, chunk):
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 50)
    logits, others = (torch.from_numpy(random.standard_normal((50, 5))).float() for _ in range(2))
    confidence = class_confidence(labels, logits, 5)
    samples = regularization_samples(labels, logits, others, 5)
    monkeypatch.setattr("rkd_core.models.inference._CHUNK", chunk)
    assert class_confidence(labels, logits, 5) == confidence
    assert regularization_samples(labels, logits, others, 5) == samples


@pytest.mark.parametrize(("limit", "passes"), [(2**30, 1), (1, 3)])
def test_students_share_the_passes_over_all_sets(digits, tmp_path, monkeypatch, limit, passes):
    teacher = teacher_spec()
    train([teacher], data=digits, out=tmp_path, execution=CPU)
    students = [student_spec(teacher, digits.fingerprint, temperature=t) for t in (1.0, 2.0, 3.0)]
    monkeypatch.setattr(measurement, "_BYTES", limit)
    read = []
    whole = EvaluationBatches.__iter__
    monkeypatch.setattr(
        EvaluationBatches, "__iter__", lambda self: read.append(len(self)) or whole(self)
    )
    train(students, data=digits, out=tmp_path, execution=CPU, checkpoint_every=None)
    sizes = [math.ceil(len(part) / 256) for part in (digits.val, digits.test, digits.train)]
    assert read[-3 * passes :] == sizes * passes


def test_one_student_that_is_not_finite_takes_no_other_with_it(digits, tmp_path, monkeypatch):
    teacher = teacher_spec()
    train([teacher], data=digits, out=tmp_path, execution=CPU)
    students = [student_spec(teacher, digits.fingerprint, temperature=t) for t in (1.0, 2.0)]
    final = Run.final

    def broken(run):
        model = final(run)
        if run.spec.temperature == 1.0:
            model.classifier.weight.data.fill_(math.inf)
        return model

    monkeypatch.setattr(Run, "final", broken)
    with pytest.raises(DivergedError, match="logits are not finite") as caught:
        train(students, data=digits, out=tmp_path, execution=CPU)
    assert len(caught.value.causes) == 1
    assert len(list((tmp_path / "artifacts").glob("*/weights.safetensors"))) == 2
