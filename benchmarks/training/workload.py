"""Images, recipe and specs of the training benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rkd_core.datasets import Dataset, ImageSet, load
from rkd_core.device.execution import Execution
from rkd_core.specs import DataOptions, Recipe, TeacherRef, TrainingSpec, family_id, recipes, run_id

__all__ = [
    "BATCH",
    "OURS",
    "images",
    "made_images",
    "recipe",
    "robust",
    "student",
    "teacher",
]

OURS = Execution("cpu", "auto", 1)
"""Execution of a sweep's training on one core of a CPU."""
BATCH = 128


def images(
    small: bool, data_dir: Path | None, limit: int | None = None, *, whole: bool = False
) -> Dataset:
    """Return CIFAR-10-LT with ``limit`` training images, or a few tiny random images.

    Args:
        small: Return random images of 8 x 8 pixels, which need no data.
        data_dir: Folder in which CIFAR-10 is looked for, before ``$RKD_DATA_DIR``.
        limit: Number of training images; None for all 12,406.
        whole: Keep validation and test. Otherwise they have only 64 images each, so that
            evaluation takes little of the measured time.
    """
    if not small:
        options = DataOptions(imbalance=100.0, limit_train=limit)
        dataset = load("cifar10-lt", options, data_dir=data_dir)
        if whole:
            return dataset
        few = np.arange(64)
        assert isinstance(dataset.val, ImageSet)
        assert isinstance(dataset.test, ImageSet)
        return replace(
            dataset,
            val=dataset.val.subset(few),
            test=dataset.test.subset(few),
            val_indices=dataset.val_indices[few],
            test_indices=dataset.test_indices[few],
        )
    return made_images(8, 2 * BATCH)


def made_images(side: int, count: int) -> Dataset:
    """Return random color images in ten classes, ``count`` of them for training."""
    rng = np.random.default_rng(0)

    def some(count: int) -> ImageSet:
        pixels = rng.integers(0, 256, size=(count, side, side, 3), dtype=np.uint8)
        return ImageSet(pixels, np.arange(count, dtype=np.int64) % 10)

    train, val, test = some(count), some(64), some(64)
    return Dataset(
        name="random",
        class_names=tuple("0123456789"),
        train=train,
        val=val,
        test=test,
        fingerprint=f"random {side} {count}",
        skipped_images=0,
        train_indices=np.arange(len(train)),
        val_indices=np.arange(64),
        test_indices=np.arange(64, 128),
    )


def recipe(epochs: int) -> Recipe:
    """Return a recipe with batches of 128, padded crops, flips and SGD."""
    return recipes.get("small-images").model_copy(update={"epochs": epochs, "batch_size": BATCH})


def teacher(architecture: str, epochs: int, seed: int = 0) -> TrainingSpec:
    """Return a training from labels with the standard objective."""
    return TrainingSpec(
        stage="teacher",
        dataset="benchmark",
        architecture=architecture,
        objective="standard",
        recipe=recipe(epochs),
        seed=seed,
    )


def robust(of: TrainingSpec) -> TrainingSpec:
    """Return the same training with the robust objective and one multiplier update per epoch."""
    labels = "true" if of.stage == "teacher" else "teacher"
    ascent = {"step_size": 0.5, "period": None, "batch": None, "val_labels": labels}
    return TrainingSpec(**(of.model_dump() | {"objective": "robust", "multipliers": ascent}))


def student(
    of: TrainingSpec, dataset: Dataset, architecture: str, temperature: float
) -> TrainingSpec:
    """Return a student of a teacher with the standard objective and the same recipe."""
    ref = TeacherRef(
        run_id=run_id(of, dataset.fingerprint),
        family=family_id(of, dataset.fingerprint),
        architecture=of.architecture,
        objective=of.objective,
        alpha=of.alpha,
    )
    changes = {
        "stage": "student",
        "architecture": architecture,
        "objective": "standard",
        "multipliers": None,
        "teacher": ref,
        "temperature": temperature,
    }
    return TrainingSpec(**(of.model_dump() | changes))
