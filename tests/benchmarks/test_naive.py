"""The plain implementation has the same mathematics, views and counts, and similar results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.naive.data import Loaders, mean_and_deviation
from benchmarks.naive.train import (
    Setup,
    ascend,
    class_costs,
    class_risks,
    count,
    margin_loss,
    optimizer_and_schedule,
)
from benchmarks.naive.train import train as train_naively
from rkd_core import models, multipliers, objectives
from rkd_core.datasets import Dataset, ImageSet, load
from rkd_core.datasets.batches.batches import (
    EvaluationBatches,
    TrainingBatches,
    normalization_statistics,
)
from rkd_core.specs import (
    DataOptions,
    MultiplierOptions,
    TeacherRef,
    TrainingSpec,
    family_id,
    recipes,
    run_id,
)
from rkd_core.training import optimizer
from rkd_core.training import train as train_ours

ROOT = Path(__file__).resolve().parent.parent.parent
CLASSES = 5


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)

    def simplex(*shape):
        return torch.rand(*shape, generator=generator).softmax(dim=-1)

    logits = 3 * torch.randn(64, CLASSES, generator=generator)
    return logits, simplex(64, CLASSES), simplex(CLASSES), simplex(CLASSES)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.3, 1.0])
def test_the_loss_of_each_objective_is_ours(alpha, drawn):
    logits, targets, priors, weights = drawn
    objective = "standard" if alpha is None else "tradeoff"
    ours = objectives.margin_loss(
        logits, targets, objectives.class_costs(objective, priors, weights, alpha)
    )
    naive = margin_loss(logits, targets, class_costs(alpha, priors, weights))
    # Costs are defined up to a common factor, which leaves the loss as it is.
    torch.testing.assert_close(naive, ours)


def test_the_ascent_is_ours(drawn):
    logits, targets, _, weights = drawn
    risks = class_risks(logits.argmax(dim=1), targets)
    ours = multipliers.class_risks(targets, logits.argmax(dim=1))
    torch.testing.assert_close(risks.double(), ours)
    raised = multipliers.ascend(weights.double().log(), ours, 0.5).exp()
    torch.testing.assert_close(ascend(weights, risks, 0.5).double(), raised)


@pytest.mark.parametrize("name", ["small-images", "digits"])
def test_the_optimizer_and_its_rates_are_ours(name):
    recipe = recipes.get(name).model_copy(update={"epochs": 3})
    model = models.build("digits_cnn", 10, 1, (8, 8), seed=0)
    naive, schedule = optimizer_and_schedule(model, recipe, steps_per_epoch=7)
    rates = []
    for _ in range(21):
        rates.append(naive.param_groups[0]["lr"])
        naive.step()
        schedule.step()
    assert rates == pytest.approx([optimizer.learning_rate(recipe, i, 21) for i in range(21)])

    ours = optimizer.optimizer_for(model, recipe)
    assert {
        id(p): (group["weight_decay"], group["momentum"], group["nesterov"])
        for group in naive.param_groups
        for p in group["params"]
    } == {
        id(p): (group.weight_decay, ours.momentum, ours.nesterov)
        for group in ours.groups
        for p in group.parameters
    }


def image_set(count, side=4, copies=False):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, size=(count, side, side, 3), dtype=np.uint8)
    if copies:
        pixels[:] = pixels[:1]
    return ImageSet(pixels, np.arange(count, dtype=np.int64) % CLASSES)


def dataset(train):
    val, test = image_set(20), image_set(30)
    return Dataset(
        name="random",
        class_names=tuple("abcde"),
        train=train,
        val=val,
        test=test,
        fingerprint="random",
        skipped_images=0,
        train_indices=np.arange(len(train)),
        val_indices=np.arange(20),
        test_indices=np.arange(20, 50),
    )


def test_both_see_the_same_views_about_equally_often():
    """A crop of an image padded by one pixel has 9 positions, each of which may be mirrored."""
    copies = 1800
    recipe = recipes.get("small-images").model_copy(update={"crop_padding": 1, "batch_size": 100})
    data = dataset(image_set(copies, copies=True))
    torch.manual_seed(0)
    naive = torch.cat([images for images, _ in Loaders(data, recipe).training])
    ours = torch.cat([b.images for b in TrainingBatches(data.train, recipe, seed=0).epoch(0)])
    views, times = zip(
        *(
            (images.mul(1e3).round().reshape(copies, -1)).unique(dim=0, return_counts=True)
            for images in (naive, ours.contiguous())
        ),
        strict=True,
    )
    torch.testing.assert_close(views[0], views[1], rtol=0, atol=1.5)
    assert len(views[0]) == 18
    for counted in times:
        assert 60 < counted.min() <= counted.max() < 145  # 100 expected, deviation 10


def test_pixels_for_evaluation_and_statistics_are_ours():
    recipe = recipes.get("small-images")
    data = dataset(image_set(200))
    statistics = normalization_statistics(data.train, recipe)
    for naive, ours in zip(mean_and_deviation(data.train, recipe), statistics, strict=True):
        assert naive == pytest.approx(ours.tolist())
    naive = torch.cat([images for images, _ in Loaders(data, recipe).val])
    batches = EvaluationBatches(data.val, recipe, batch_size=8, statistics=statistics)
    ours = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(naive, ours.contiguous(), rtol=1e-5, atol=1e-5)


def test_counts_are_of_each_class():
    labels = torch.tensor([0, 0, 0, 2, 2, 4])
    predicted = torch.tensor([0, 1, 0, 2, 0, 3])
    scores = F.one_hot(predicted, CLASSES).float()
    batches = [(scores[:4], labels[:4]), (scores[4:], labels[4:])]
    assert count(torch.nn.Identity(), batches, CLASSES) == ([3, 0, 2, 0, 1], [2, 0, 1, 0, 0])


@pytest.mark.benchmark
def test_the_answer_is_about_the_same(tmp_path):
    """A robust teacher and its standard student, on digits."""
    options = DataOptions(limit_train=500)
    data = load("digits", options)
    recipe = recipes.get("digits").model_copy(update={"epochs": 15})
    setup = Setup(recipe, "digits_cnn", "digits_cnn", multiplier_step_size=0.2, seed=0)
    teacher = train_naively(data, setup, 1.0)
    student = train_naively(data, setup, None, teacher.model, 3.0)

    shared = {"dataset": "digits", "data": options, "architecture": "digits_cnn", "recipe": recipe}
    ascent = MultiplierOptions(step_size=0.2, period=None, batch=None, val_labels="true")
    spec = TrainingSpec(
        stage="teacher", objective="tradeoff", alpha=1.0, multipliers=ascent, **shared
    )
    taught_by = TeacherRef(
        run_id=run_id(spec, data.fingerprint),
        family=family_id(spec, data.fingerprint),
        architecture="digits_cnn",
        objective="tradeoff",
        alpha=1.0,
    )
    pupil = TrainingSpec(
        stage="student", objective="standard", temperature=3.0, teacher=taught_by, **shared
    )
    rows = train_ours([spec, pupil], out=tmp_path, data=data)
    for naive, row in zip((teacher, student), rows, strict=True):
        for split in ("val", "test"):
            total = getattr(naive, f"{split}_class_total")
            assert total == row[f"{split}_class_total"]
            accuracy = sum(getattr(naive, f"{split}_class_correct")) / sum(total)
            assert accuracy > 0.8
            assert accuracy == pytest.approx(row[f"{split}_average_accuracy"], abs=0.08)


@pytest.mark.benchmark
def test_a_sweep_ends_with_all_results(tmp_path):
    arguments = (
        "--dataset digits --limit-train 100 --epochs 1 --recipe digits --alphas 1 "
        "--temperatures 2 --teacher-architecture digits_cnn --student-architecture digits_cnn"
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.naive.sweep", *arguments.split(), "--out", tmp_path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "results.json").read_text())
    teachers = [row for row in rows if row["stage"] == "teacher"]
    students = [row for row in rows if row["stage"] == "student"]
    assert sorted(str(row["alpha"]) for row in teachers) == ["1.0", "None"]
    assert {(row["teacher"], row["alpha"], row["temperature"]) for row in students} == {
        (teacher, alpha, 2.0) for teacher in (None, 1.0) for alpha in (None, 1.0)
    }
    data = load("digits", DataOptions(limit_train=100))
    for row in rows:
        for split in ("val", "test"):
            assert row[f"{split}_class_total"] == data.class_counts(split).tolist()
            correct, total = row[f"{split}_class_correct"], row[f"{split}_class_total"]
            assert all(0 <= c <= n for c, n in zip(correct, total, strict=True))
        assert row["train_seconds"] > 0
    networks = sorted(tmp_path.glob("*.pt"))
    assert len(networks) == len(rows) == 6
    model = models.build("digits_cnn", 10, 1, (8, 8), seed=0)
    for file in networks:
        model.load_state_dict(torch.load(file))
