"""Cached teacher logits equal those of the live teacher."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.specs import DataOptions, Recipe
from rkd_core.storage import bundles
from rkd_core.teachers import answers, table_or_live
from rkd_core.teachers.answers import Teacher
from rkd_core.teachers.table_or_live import table_bytes
from rkd_core.training import train
from tests.rkd_core.training.test_loop import colourful, result, student_spec, teacher_spec

CPU = Execution("cpu")
RECIPE = Recipe(epochs=2, batch_size=32, learning_rate=0.05, crop_padding=1, flip=True)
FEW, MANY = 4, 20  # epochs: fewer, and more, than the 18 views of an image


@pytest.fixture(name="taught")
def taught_folder(tmp_path):
    """A results folder with a trained teacher, and a student's spec of it."""
    data = colourful()
    teacher = teacher_spec(architecture="resnet8", recipe=RECIPE, data=DataOptions())
    train([teacher], data=data, out=tmp_path, execution=CPU)
    student = student_spec(teacher, data.fingerprint, data=DataOptions(), recipe=RECIPE)
    return data, student, tmp_path


def over(spec, **changes):
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update=changes)})


def teacher_of(taught, **changes):
    data, student, out = taught
    array_data = ArrayData(over(student, **changes), data, CPU)
    return Teacher(student.teacher, array_data, out), array_data, out


def never(*_):
    raise AssertionError("the teacher was asked again")


@pytest.mark.parametrize("epochs", [FEW, MANY])
def test_the_table_has_the_logits_of_the_live_teacher(taught, epochs):
    teacher, array_data, out = teacher_of(taught, epochs=epochs)
    assert teacher.mode == "table"
    live = rebuild(artifacts.load(out / "artifacts", taught[1].teacher.run_id))
    differ = 0
    for epoch in range(epochs):
        for batch in array_data.batches.epoch(epoch):
            with torch.no_grad():
                expected = live(batch.images)
            found = teacher.logits(batch)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            differ += int((found != teacher.clean[batch.indices]).any(dim=1).sum())
    assert differ > epochs * 30  # of 96 images an epoch: these are not the clean images' logits


@pytest.mark.parametrize("epochs", [FEW, MANY])
def test_every_student_is_answered_by_one_asking(taught, monkeypatch, epochs):
    data, student, out = taught
    student = over(student, epochs=epochs)
    first = student.model_copy(update={"temperature": 5.0})
    (row,) = train([first], data=data, out=out, execution=CPU)
    assert row["teacher_pass"] == "table"
    monkeypatch.setattr(Teacher, "_compute", never)
    monkeypatch.setattr(answers, "rebuild", never)
    train([student], data=data, out=out, execution=CPU)
    other = student.model_copy(update={"seed": 1})
    if epochs == MANY:  # all views are there, so every seed is answered
        train([other], data=data, out=out, execution=CPU)
    else:
        with pytest.raises(AssertionError, match="asked again"):
            train([other], data=data, out=out, execution=CPU)


def test_a_student_learns_the_same_from_the_table_and_live(taught, tmp_path, monkeypatch):
    data, student, out = taught
    student = over(student, epochs=FEW)
    (cached,) = train([student], data=data, out=out, execution=CPU)
    other = tmp_path / "live"
    other.mkdir()
    (tmp_path / "artifacts").rename(other / "artifacts")
    monkeypatch.setattr(table_or_live, "LARGEST_TABLE", 0)
    artifact = other / "artifacts" / cached["run_id"]
    artifact.rename(artifact.with_name(".gone"))
    (live,) = train([student], data=data, out=other, execution=CPU)
    assert (cached["teacher_pass"], live["teacher_pass"]) == ("table", "live")
    assert live["run_id"] == cached["run_id"]
    assert live["train_loss"] == pytest.approx(cached["train_loss"], rel=1e-6)
    kept = [load_file(next(f.glob("teacher_logits/*/logits.safetensors"))) for f in (out, other)]
    assert ["views" in answers for answers in kept] == [True, False]
    assert kept[0]["views"].dtype == torch.float32


def test_without_augmentation_the_clean_pass_is_the_table(taught):
    teacher, array_data, _ = teacher_of(taught, crop_padding=0, flip=False)
    assert teacher.mode == "table"
    for batch in array_data.batches.epoch(0):
        assert torch.equal(teacher.logits(batch), teacher.clean[batch.indices])


def test_damaged_logits_are_computed_again(taught, monkeypatch):
    teacher, array_data, out = teacher_of(taught, epochs=FEW)
    (path,) = (out / "teacher_logits").glob("*/logits.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    again, _, _ = teacher_of(taught, epochs=FEW)
    for batch in array_data.batches.epoch(0):
        assert torch.equal(again.logits(batch), teacher.logits(batch))
    monkeypatch.setattr(Teacher, "_compute", never)  # logits that were computed again are stored
    teacher_of(taught, epochs=FEW)


def test_answers_of_a_teacher_that_was_trained_again_are_not_taken(taught, monkeypatch):
    """The same run id, but other weights: another device, or another number of threads."""
    teacher_of(taught, epochs=FEW)
    load = artifacts.load

    def other(*arguments):
        return dataclasses.replace(load(*arguments), digest="of other weights")

    monkeypatch.setattr(answers.artifacts, "load", other)
    monkeypatch.setattr(Teacher, "_compute", never)
    with pytest.raises(AssertionError, match="asked again"):
        teacher_of(taught, epochs=FEW)


def test_only_the_named_teachers_are_forgotten(taught):
    _, student, out = taught
    teacher_of(taught, epochs=FEW)
    teacher_of(taught, epochs=MANY)
    folder = out / "teacher_logits"
    assert len(list(folder.glob("*-*/logits.safetensors"))) == 2
    bundles.forget(folder, ["another"])
    assert len(list(folder.glob("*-*/logits.safetensors"))) == 2
    bundles.forget(folder, [student.teacher.run_id])
    assert not folder.exists()
    bundles.forget(folder, [student.teacher.run_id])  # nothing is there: nothing happens


def test_two_processes_compute_the_same_logits_once(taught, monkeypatch):
    data, student, out = taught
    student, asking = over(student, epochs=FEW), []
    compute = Teacher._compute

    def slowly(self, *arguments):
        asking.append(1)
        time.sleep(0.3)
        return compute(self, *arguments)

    monkeypatch.setattr(Teacher, "_compute", slowly)

    def one(_):
        return Teacher(student.teacher, ArrayData(student, data, CPU), out).clean

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(one, range(3))
    assert len(asking) == 1
    assert all(torch.equal(first, other) for other in others)


def test_a_damaged_teacher_is_refused_although_its_answers_are_there(taught):
    _, _, out = teacher_of(taught, epochs=FEW)
    path = out / "artifacts" / taught[1].teacher.run_id / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        teacher_of(taught, epochs=FEW)


def test_an_artifact_of_another_revision_of_its_network_is_refused(taught, tmp_path):
    """Its weights might fit, but its logits would differ."""
    _, student, out = taught
    run = student.teacher.run_id
    found = artifacts.load(out / "artifacts", run)
    row = artifacts.committed_record(out / "artifacts", run)
    former = {k: v for k, v in found.model.items() if k != "architecture_revision"}
    google = former | {"architecture": "resnet32_google"}
    for name, model in (("same", former), ("google", google)):  # no revision means the first
        artifacts.save(tmp_path / name, found.spec, model, found.weights, row)
    assert artifacts.load(tmp_path / "same", run).model == former
    with pytest.raises(UserError, match=r"model.json holds revision 1 of resnet32_google, but"):
        artifacts.load(tmp_path / "google", run)
    artifacts.check(tmp_path / "google", run)  # it is not damaged


def test_answers_of_other_pixels_or_precision_are_not_taken(taught, monkeypatch):
    data, student, out = taught
    student = over(student, epochs=FEW)
    Teacher(student.teacher, ArrayData(student, data, CPU), out)
    monkeypatch.setattr(Teacher, "_compute", never)
    Teacher(student.teacher, ArrayData(student, data, CPU), out)
    others = [
        ArrayData(over(student, epochs=FEW + 1), data, CPU),
        ArrayData(over(student, batch_size=16), data, CPU),
        ArrayData(over(student, normalization="centered"), data, CPU),
        ArrayData(over(student, crop_padding=2), data, CPU),
        ArrayData(over(student, crop_fill=0.5), data, CPU),
        ArrayData(student.model_copy(update={"seed": 1}), data, CPU),
        ArrayData(student.model_copy(update={"data": DataOptions(limit_train=5)}), data, CPU),
        ArrayData(student, data, Execution("cpu", "bfloat16")),
        ArrayData(student, dataclasses.replace(data, fingerprint="other"), CPU),
    ]
    for array_data in others:
        with pytest.raises(AssertionError, match="asked again"):
            Teacher(student.teacher, array_data, out)


def test_folding_batch_norms_leaves_the_logits(taught):
    teacher, array_data, out = teacher_of(taught, epochs=FEW)
    live = rebuild(artifacts.load(out / "artifacts", taught[1].teacher.run_id))
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in live.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in teacher._network.modules())
    batch = next(iter(array_data.validation))
    with torch.no_grad():
        torch.testing.assert_close(teacher._network(batch.images), live(batch.images))


def test_logits_of_a_bfloat16_teacher_are_close(taught):
    data, student, out = taught
    exact = Teacher(student.teacher, ArrayData(student, data, CPU), out)
    half = Teacher(student.teacher, ArrayData(student, data, Execution("cpu", "bfloat16")), out)
    assert half.clean.dtype == torch.float32
    spread = float(exact.clean.std())
    assert 0 < float((half.clean - exact.clean).abs().max()) < 0.2 * spread


def test_logits_beyond_float16_stay_finite(taught, monkeypatch):
    """A teacher of few steps has wild running statistics, and with them wild logits."""

    class Wild(torch.nn.Module):
        def forward(self, images):
            return 1e6 * torch.eye(3)[torch.arange(len(images)) % 3]

    monkeypatch.setattr(answers, "rebuild", lambda _: Wild())
    teacher, array_data, _ = teacher_of(taught, epochs=FEW)
    for batch in array_data.batches.epoch(0):
        logits = teacher.logits(batch)
        assert torch.isfinite(logits).all()
        assert (logits.softmax(dim=1).max(dim=1).values == 1).all()


def test_sizes_of_the_papers_tables():
    papers = Recipe(epochs=200, crop_padding=4, flip=True)
    assert papers.views == 162
    assert table_bytes(papers, 12_406, 10) == pytest.approx(80e6, rel=0.01)  # CIFAR-10-LT
    assert table_bytes(papers, 10_847, 100) == pytest.approx(703e6, rel=0.01)  # CIFAR-100-LT

    def way(recipe, images, classes, in_memory=True):
        return table_or_live.teacher_pass(recipe, images, classes, in_memory=in_memory)

    assert way(papers, 12_406, 10) == way(papers, 10_847, 100) == "table"
    assert way(papers, 100_000, 200) == "live"  # TinyImageNet
    assert way(papers.model_copy(update={"epochs": 5}), 100_000, 200) == "table"
    assert way(papers, 12_406, 10, in_memory=False) == "live"
    assert way(Recipe(epochs=200), 10**7, 1000, in_memory=False) == "table"


def test_a_full_disk_does_not_stop_trainings(taught, monkeypatch):
    data, student, out = taught

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(answers.bundles, "write", full)
    teacher = Teacher(student.teacher, ArrayData(student, data, CPU), out)
    assert np.isfinite(teacher.clean.numpy()).all()
    assert not list((out / "teacher_logits").rglob("*.safetensors"))
    monkeypatch.undo()
    assert result(train([student], data=data, out=out, execution=CPU)[0])
