"""Students with a hold-out: the data of their initial teacher, and their inputs."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rkd_core import methods
from rkd_core.datasets import ImageSet
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.splits import hold_out
from rkd_core.errors import UserError
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.specs import HoldoutRule, TeacherRef, TrainingSpec, Variant, run_id
from rkd_core.teachers.answers import Teacher
from rkd_core.teachers.holdouts import Holdouts
from rkd_core.training import train
from tests.rkd_core.training.test_loop import CPU, RECIPE, student_spec, teacher_spec

ADA = ("ada_margin", "ada_alpha", "ada_alpha_remove_hardest", "ada_alpha_shuffled")
RULE = HoldoutRule()


def ada_spec(fingerprint, method="ada_alpha", options=None, initial=RULE, **changes):
    """A student of the standard teacher, judged by an initial one unless that is None."""
    judged = None
    if initial is not None:
        spec = teacher_spec(held_out=initial)
        judged = TeacherRef(
            run_id=run_id(spec, fingerprint),
            family="f",
            architecture=spec.architecture,
            objective="standard",
        )
    variant = Variant(method=method, options=options or {})
    fields = {"variant": variant, "initial": judged, "temperature": 1.0} | changes
    return student_spec(teacher_spec(), fingerprint, **fields)


@pytest.fixture(scope="module", name="taught")
def folder_with_both_teachers(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("taught")
    train([teacher_spec(), teacher_spec(held_out=RULE)], data=digits, out=out, execution=CPU)
    return out


def test_the_initial_teacher_never_sees_the_held_out_images(digits, taught, tmp_path):
    kept, held = hold_out(digits.train.labels, RULE)
    assert len(held) > 10
    # Noise with other labels, where they lie, would change it if it saw any. The rule goes by the
    # labels, so these change among the held-out images only and keep the classes' sizes.
    images, labels = digits.train.images.copy(), digits.train.labels
    images[held] = np.random.default_rng(0).integers(0, 256, images[held].shape, dtype=np.uint8)
    other = dataclasses.replace(digits, train=ImageSet(images, labels))
    spec = teacher_spec(held_out=RULE)
    (row,) = train([spec], data=other, out=tmp_path, execution=CPU)
    own = artifacts.load(taught / "artifacts", row["run_id"])
    without = artifacts.load(tmp_path / "artifacts", row["run_id"])
    assert own.digest == without.digest
    counts = np.bincount(labels[kept], minlength=digits.classes)
    assert row["train_class_total"] == counts.tolist()
    # The other teacher does see them.
    (row,) = train([teacher_spec()], data=other, out=tmp_path, execution=CPU)
    seen = artifacts.load(taught / "artifacts", row["run_id"])
    assert artifacts.load(tmp_path / "artifacts", row["run_id"]).digest != seen.digest


def test_it_is_trained_like_any_teacher_on_what_is_kept(digits, taught, tmp_path):
    kept, held = hold_out(digits.train.labels, RULE)
    smaller = digits.with_training_rows(kept)
    assert not set(smaller.train_indices) & set(digits.train_indices[held])
    (plain,) = train([teacher_spec()], data=smaller, out=tmp_path, execution=CPU)
    initial = run_id(teacher_spec(held_out=RULE), digits.fingerprint)
    assert plain["run_id"] != initial
    ours = artifacts.load(taught / "artifacts", initial)
    assert artifacts.load(tmp_path / "artifacts", plain["run_id"]).digest == ours.digest


def test_the_hold_out_has_logits_of_the_initial_teacher_on_unseen_images(digits, taught):
    spec = ada_spec(digits.fingerprint)
    array_data = ArrayData(spec, digits, CPU)
    found = Holdouts(array_data, Teacher(spec.teacher, array_data, taught), taught).of(spec)
    _, held = hold_out(digits.train.labels, RULE)
    assert found.labels.tolist() == digits.train.labels[held].tolist()
    artifact = artifacts.load(taught / "artifacts", spec.initial.run_id)
    normalization = artifact.model["normalization"]
    mean, std = (np.reshape(normalization[key], (-1, 1, 1)) for key in ("mean", "std"))
    pixels = digits.train.images[held].transpose(0, 3, 1, 2) / 255.0
    images = torch.from_numpy(((pixels - mean) / std).astype(np.float32))
    expected = rebuild(artifact)(images)
    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-4)


def test_each_rule_has_images_of_its_own_side_by_side(digits, taught):
    other = HoldoutRule(by="per_class", per_class=3)
    specs = [
        ada_spec(digits.fingerprint),
        ada_spec(digits.fingerprint, options={"holdout": other.model_dump()}, initial=other),
    ]
    train([teacher_spec(held_out=other)], data=digits, out=taught, execution=CPU)
    array_data = ArrayData(specs[0], digits, CPU)
    holdouts = Holdouts(array_data, Teacher(specs[0].teacher, array_data, taught), taught)
    for spec, rule in zip([*specs, *specs], [RULE, other] * 2, strict=True):
        _, held = hold_out(digits.train.labels, rule)
        assert holdouts.of(spec).labels.tolist() == digits.train.labels[held].tolist()
    assert holdouts.of(specs[1]) is holdouts.of(specs[1])  # asked once


def test_on_validation_it_is_the_teacher_itself(digits, taught):
    spec = ada_spec(digits.fingerprint, options={"holdout": "validation"}, initial=None)
    array_data = ArrayData(spec, digits, CPU)
    teacher = Teacher(spec.teacher, array_data, taught)
    found = Holdouts(array_data, teacher, taught).of(spec)
    assert found.labels.tolist() == digits.val.labels.tolist()
    assert torch.equal(found.logits, teacher.validation)


@pytest.mark.parametrize("method", ADA)
def test_each_of_the_methods_is_trained(digits, taught, tmp_path, method):
    spec = ada_spec(digits.fingerprint, method)
    shutil.copytree(taught, tmp_path / "out")
    (row,) = train([spec], data=digits, out=tmp_path / "out", execution=CPU)
    assert row["method"] == method
    assert sum(row["train_class_total"]) == len(digits.train)  # the student sees all of them


def test_the_kind_of_hold_out_changes_the_weights(digits, taught):
    by_rule = ada_spec(digits.fingerprint)
    on_validation = ada_spec(digits.fingerprint, options={"holdout": "validation"}, initial=None)
    rows = train([by_rule, on_validation], data=digits, out=taught, execution=CPU)
    assert rows[0]["trained_together"] == 2
    digests = {artifacts.load(taught / "artifacts", row["run_id"]).digest for row in rows}
    assert len(digests) == 2


def test_distilling_from_the_initial_teacher(digits, taught):
    options = {"distil_from": "initial"}
    spec = ada_spec(digits.fingerprint, options=options)
    own = spec.model_copy(update={"teacher": spec.initial})
    assert methods.create("ada_alpha", options).needs.teacher == "initial"
    (row,) = train([own], data=digits, out=taught, execution=CPU)
    assert row["teacher_id"] == spec.initial.run_id


def test_a_missing_initial_teacher_is_an_error(digits, tmp_path):
    train([teacher_spec()], data=digits, out=tmp_path, execution=CPU)
    spec = ada_spec(digits.fingerprint)
    with pytest.raises(UserError, match=spec.initial.run_id):
        train([spec], data=digits, out=tmp_path, execution=CPU)


def test_specs_that_make_no_sense(digits):
    good = ada_spec(digits.fingerprint)
    assert TrainingSpec.model_validate_json(good.model_dump_json()) == good
    with pytest.raises(ValidationError, match="nothing held out"):
        teacher_spec(
            held_out=RULE, initial_weights="0" * 64, recipe=RECIPE.model_copy(update={"epochs": 0})
        )
    for changes, said in (
        ({"initial": None}, "ada_alpha has an initial teacher"),
        ({"variant": {"method": "kd"}, "temperature": 4.0}, "kd has no initial teacher"),
        ({"variant": None}, "a variant that goes by a hold-out"),
        ({"held_out": {}}, "only a teacher is trained without"),
        ({"recipe": good.recipe.model_dump() | {"epochs": 0}}, "0 epochs are those of"),
    ):
        with pytest.raises(ValidationError, match=said):
            TrainingSpec.model_validate(good.model_dump() | changes)
