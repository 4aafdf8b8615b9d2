"""A teacher's network with shifted logits, as a run like any other."""

import dataclasses

import numpy as np
import pytest
import torch

from rkd_core.datasets import ImageSet
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.models.inference import class_counts, predictions_of_all
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.specs import Derivation, MultiplierOptions, Variant, family_id, run_id
from rkd_core.training import logit_shift, train
from tests.rkd_core.training.test_loop import CPU, RECIPE, student_spec, teacher_spec


def shift_spec(fingerprint, teacher=None, options=None):
    return student_spec(
        teacher or teacher_spec(),
        fingerprint,
        temperature=None,
        architecture="digits_cnn",
        variant=Variant(method="post_shift", options=options or {}),
    )


@pytest.fixture(name="taught")
def folder_with_a_teacher(digits, tmp_path):
    train([teacher_spec()], data=digits, out=tmp_path, execution=CPU)
    return tmp_path


def network(out, run):
    return rebuild(artifacts.load(out / "artifacts", run))


def test_the_artifact_is_the_teacher_plus_a_constant_for_each_class(digits, taught):
    spec = shift_spec(digits.fingerprint)
    (row,) = train([spec], data=digits, out=taught, execution=CPU)
    images = torch.randn(5, digits.channels, *digits.image_size)
    shift = network(taught, row["run_id"])(images) - network(taught, row["teacher_id"])(images)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-5)
    assert shift.abs().max() > 1e-3
    assert (row["stage"], row["method"], row["epochs"]) == ("student", "post_shift", 0)
    assert row["multipliers"] is None
    model = artifacts.load(taught / "artifacts", row["run_id"]).model
    assert model == artifacts.load(taught / "artifacts", row["teacher_id"]).model


def test_no_search_is_the_teacher_and_a_search_is_never_worse_on_validation(digits, taught):
    (teacher,) = train([teacher_spec()], data=digits, out=taught, execution=CPU)
    none = shift_spec(digits.fingerprint, options={"steps": 0, "sweeps": 0})
    same, found = train(
        [none, shift_spec(digits.fingerprint)], data=digits, out=taught, execution=CPU
    )
    for split in ("val", "test"):
        assert same[f"{split}_class_correct"] == teacher[f"{split}_class_correct"]
    assert found["val_worst_class_accuracy"] >= teacher["val_worst_class_accuracy"]


def test_it_sees_validation_and_nothing_else(digits, taught, tmp_path):
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, digits.test.images.shape, dtype=np.uint8)
    other = dataclasses.replace(digits, test=ImageSet(images, digits.test.labels))
    copy = tmp_path / "copy"
    copy.mkdir()
    train([teacher_spec()], data=digits, out=copy, execution=CPU)
    spec = shift_spec(digits.fingerprint)
    kept = []
    for data, out in ((digits, taught), (other, copy)):
        (row,) = train([spec], data=data, out=out, execution=CPU)
        kept.append(artifacts.load(out / "artifacts", row["run_id"]).digest)
    assert kept[0] == kept[1]
    assert not (taught / "teacher_logits").exists()  # nobody was asked about training images


def test_other_images_are_brought_to_the_teachers_normalisation(digits, taught):
    recipe = RECIPE.model_copy(update={"normalization": "centered"})
    none = {"steps": 0, "sweeps": 0}
    spec = shift_spec(digits.fingerprint, options=none).model_copy(update={"recipe": recipe})
    (row,) = train([spec], data=digits, out=taught, execution=CPU)
    (teacher,) = train([teacher_spec()], data=digits, out=taught, execution=CPU)
    assert row["test_class_correct"] == teacher["test_class_correct"]
    assert (
        artifacts.load(taught / "artifacts", row["run_id"]).model["normalization"]
        == (artifacts.load(taught / "artifacts", row["teacher_id"]).model["normalization"])
    )


def test_averaged_iterates_are_all_shifted(digits, tmp_path):
    multipliers = MultiplierOptions(averaged_iterates=2)
    teacher = teacher_spec(objective="robust", multipliers=multipliers)
    (taught,) = train([teacher], data=digits, out=tmp_path, execution=CPU)
    spec = shift_spec(digits.fingerprint, teacher)
    (row,) = train([spec], data=digits, out=tmp_path, execution=CPU)
    images = torch.randn(5, digits.channels, *digits.image_size)
    shift = network(tmp_path, row["run_id"])(images) - network(tmp_path, taught["run_id"])(images)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-5)
    assert row["val_worst_class_accuracy"] >= taught["val_worst_class_accuracy"]
    before, after = (
        artifacts.load(tmp_path / "artifacts", run["run_id"]).weights for run in (taught, row)
    )
    for number in range(2):
        name = f"iterates.{number}.classifier.bias"
        torch.testing.assert_close(after[name] - before[name], shift[0], rtol=0, atol=1e-5)


def test_its_family_is_its_teachers(digits):
    spec = shift_spec(digits.fingerprint)
    assert family_id(spec, digits.fingerprint) == spec.teacher.family


def test_a_network_of_another_kind_is_refused(digits):
    with pytest.raises(ValueError, match="post_shift keeps its teacher's network"):
        type(spec := shift_spec(digits.fingerprint)).model_validate(
            spec.model_dump() | {"architecture": "resnet8"}
        )


def test_half_precision_is_for_trainings(digits, taught):
    """The teacher's record, whatever the precision, is what a shift of nothing gives."""
    none = shift_spec(digits.fingerprint, options={"steps": 0, "sweeps": 0})
    (teacher,) = train([teacher_spec()], data=digits, out=taught, execution=CPU)
    execution = Execution("cpu", "bfloat16", 1)
    (row,) = train([none], data=digits, out=taught, execution=execution)
    difference = np.subtract(row["test_class_correct"], teacher["test_class_correct"])
    assert abs(difference).max() <= 2


@pytest.mark.parametrize("kind", ["post_shift", "shifted teacher"])
def test_shifted_counts_in_bfloat16_are_those_measured(digits, tmp_path, monkeypatch, kind):
    """The logits used to find the shift, plus the shift, give the counts of the shipped network."""
    execution = Execution("cpu", "bfloat16", 1)
    train([teacher_spec()], data=digits, out=tmp_path, execution=execution)
    source = student_spec(teacher_spec(), digits.fingerprint).teacher
    derived = Derivation(by="shifted", source=source)
    spec = (
        shift_spec(digits.fingerprint)
        if kind == "post_shift"
        else teacher_spec(objective="tradeoff", alpha=0.5, derived=derived, multipliers=None)
    )
    promised = {}
    find = logit_shift.shift_of

    def noted(spec, logits, dataset):
        shift, multipliers = find(spec, logits, dataset)
        right = (logits + shift).argmax(axis=1) == dataset.val.labels
        promised["correct"] = np.bincount(dataset.val.labels[right], minlength=10).tolist()
        return shift, multipliers

    monkeypatch.setattr(logit_shift, "shift_of", noted)
    (row,) = train([spec], data=digits, out=tmp_path, execution=execution)
    assert row["val_class_correct"] == promised["correct"]
    array_data = ArrayData(spec, digits, execution)
    shipped = network(tmp_path, row["run_id"])
    ((predictions, finite),) = predictions_of_all([shipped], array_data.validation, execution)
    assert finite
    assert class_counts(digits.val.labels, predictions, 10)[1] == promised["correct"]


def test_without_results_there_is_no_teacher(digits):
    with pytest.raises(UserError, match="a student needs `out`"):
        train([shift_spec(digits.fingerprint)], data=digits, execution=CPU)
    assert run_id(shift_spec(digits.fingerprint), "x") != run_id(shift_spec("other"), "x")
