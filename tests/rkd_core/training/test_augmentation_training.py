"""Trainings with augmentation whose views cannot be enumerated, and with mixed labels."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rkd_core import records
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.transforms import LabelMix
from rkd_core.errors import UserError
from rkd_core.specs import Augmentation, Recipe, TrainingSpec, Variant
from rkd_core.teachers.answers import Teacher
from rkd_core.teachers.table_or_live import teacher_pass
from rkd_core.training import train
from rkd_core.training.run import Run
from sweeps.cli.parse import parse
from sweeps.planning.settings import resolve
from tests.rkd_core.training.test_loop import CPU, RECIPE, student_spec, teacher_spec

ROOT = Path(__file__).parents[3]
MIXED = RECIPE.model_copy(update={"augmentation": Augmentation(mixup=1.0)})


def first_loss(run, batch, logits, mix):
    """Loss of the first step, which does not yet depend on the step."""
    return float(run.step(batch.images, batch.labels, logits, mix))


def test_the_loss_of_mixed_labels_is_the_weighted_sum_of_both(digits, tmp_path):
    """Margin losses and losses of methods, with and without smoothing, by the losses of both."""
    teacher = teacher_spec(recipe=MIXED)
    train([teacher], data=digits, out=tmp_path, execution=CPU)
    smooth = MIXED.model_copy(update={"label_smoothing": 0.1})

    def student(**changes):
        return student_spec(teacher, digits.fingerprint, recipe=MIXED, **changes)

    dkd = student(variant=Variant(method="dkd"), temperature=4.0)
    specs = [teacher, teacher_spec(objective="balanced", recipe=smooth), student(), dkd]
    for spec in specs:
        data = ArrayData(spec, digits, CPU)
        live_teacher = None if spec.teacher is None else Teacher(spec.teacher, data, tmp_path)
        batch = next(iter(data.batches.epoch(0)))
        assert batch.mix is not None
        logits = None if live_teacher is None else live_teacher.logits(batch)
        losses = [
            first_loss(
                Run(spec, "run", data, live_teacher), batch, logits, LabelMix(batch.mix.labels, s)
            )
            for s in (torch.tensor(1.0), torch.tensor(0.0), batch.mix.share)
        ]
        share = float(batch.mix.share)
        assert losses[2] == pytest.approx(share * losses[0] + (1 - share) * losses[1], rel=1e-5)
        plain = first_loss(Run(spec, "run", data, live_teacher), batch, logits, None)
        assert losses[0] == pytest.approx(plain, rel=1e-6)
        if spec.stage == "student" and spec.variant is None:
            assert losses[0] == losses[1]  # the labels are those of the teacher


def test_the_teacher_sees_the_mixed_image(digits, tmp_path):
    teacher = teacher_spec(recipe=MIXED)
    train([teacher], data=digits, out=tmp_path, execution=CPU)
    spec = student_spec(teacher, digits.fingerprint, recipe=MIXED)
    (row,) = train([spec], data=digits, out=tmp_path, execution=CPU)
    assert row["teacher_pass"] == "live"
    data = ArrayData(spec, digits, CPU)
    live_teacher = Teacher(spec.teacher, data, tmp_path)
    batch = next(iter(data.batches.epoch(0)))
    assert not torch.allclose(live_teacher.logits(batch), live_teacher.clean[batch.indices])
    torch.testing.assert_close(
        live_teacher.logits(batch), live_teacher._network(batch.images).float()
    )


def test_views_that_cannot_be_enumerated_are_answered_live():
    assert teacher_pass(RECIPE, 100, 10, in_memory=True) == "table"
    for text in ("mixup", "color_jitter", "random_erasing", "trivial_augment"):
        recipe = RECIPE.model_copy(update={"augmentation": Augmentation.parse(text)})
        assert teacher_pass(recipe, 100, 10, in_memory=True) == "live"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mixupp", "unknown augmentation 'mixupp': did you mean mixup"),
        ("", "unknown augmentation ''"),
        ("mixup=x", "mixup takes a number, such as mixup=0.2"),
        ("mixup=", "mixup takes a number"),
        ("mixup=0", "mixup: Input should be greater than 0"),
        ("cutmix=nan", "cutmix: Input should be a finite number"),
        ("randaugment=31", "randaugment: Input should be less than or equal to 30"),
        ("random_erasing=1.5", "random_erasing: Input should be less than or equal to 1"),
        ("trivial_augment=3", "trivial_augment takes no strength"),
        ("mixup,mixup=1", "mixup is given twice"),
        ("randaugment,trivial_augment", "either randaugment or trivial_augment"),
    ],
)
def test_a_wrong_text_is_refused(text, says):
    with pytest.raises(UserError, match=says):
        Augmentation.parse(text)


def test_default_strengths_and_none():
    assert Augmentation.parse("none") == Augmentation()
    assert Augmentation.parse(" randaugment , mixup") == Augmentation(randaugment=9, mixup=0.2)
    with pytest.raises(ValueError, match="takes the place of crop_padding"):
        Recipe(epochs=1, crop_padding=4, augmentation=Augmentation(random_resized_crop=0.5))


def test_a_method_with_a_state_takes_no_mixed_labels(digits):
    options = parse(["--augmentation", "mixup", "--methods", "kd,group_dro"])
    with pytest.raises(UserError, match="which group_dro cannot use"):
        resolve(options, digits, gpu=False)
    with pytest.raises(ValueError, match="group_dro takes no mixed labels"):
        teacher_spec(stage="student", recipe=MIXED, variant=Variant(method="group_dro"))


def command(tmp_path, *options):
    line = [sys.executable, "sweeps/pareto.py", "--serial", "--out", str(tmp_path / "out")]
    small = ["--scale", "small", "--epochs", "2", "--alphas", "1", "--temperatures", "1"]
    return subprocess.run(
        [*line, *small, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_trains_and_a_second_run_trains_nothing(tmp_path):
    text = "random_resized_crop=0.5,randaugment=5,color_jitter=0.2,random_erasing=0.25,mixup,cutmix"
    options = ["--augmentation", text, "--methods", "tradeoff,kd"]
    ended = command(tmp_path, *options)
    assert ended.returncode == 0, ended.stderr
    assert "the teacher runs on every batch" in ended.stdout
    rows = records.read(tmp_path / "out" / "records").to_pylist()
    for row in rows:
        recipe = TrainingSpec.model_validate_json(row["spec"]).recipe
        assert recipe.augmentation == Augmentation.parse(text)
        assert row["teacher_pass"] == (None if row["teacher_id"] is None else "live")
    again = command(tmp_path, *options)
    assert again.returncode == 0, again.stderr
    assert len(records.read(tmp_path / "out" / "records").to_pylist()) == len(rows)


def test_a_wrong_text_ends_the_command_before_anything_is_written(tmp_path):
    ended = command(tmp_path, "--augmentation", "mixupp")
    assert ended.returncode == 2
    assert "--augmentation: unknown augmentation 'mixupp': did you mean mixup" in ended.stderr
    assert not (tmp_path / "out").exists()
