"""Specs and helpers of the GPU checks and measurements.

Without a GPU (or with TINY=1) everything is tiny and ``PlainRecorder`` replaces CUDA graphs.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rkd_core.datasets import Dataset, ImageSet
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.device.hardware import use_all_queues
from rkd_core.models import features
from rkd_core.models.compiled import CompiledForward
from rkd_core.specs import (
    DataOptions,
    MultiplierOptions,
    TeacherRef,
    TrainingSpec,
    family_id,
    recipes,
    run_id,
)
from rkd_core.training.run import Run
from rkd_core.training.steps import CudaRecorder, EagerSteps, PlainRecorder, RecordedSteps

use_all_queues()
GPU = torch.cuda.is_available()
TINY = not GPU or bool(os.environ.get("TINY"))
DEVICE = "cuda" if GPU else "cpu"
NETWORK = "resnet8" if TINY else "resnet56"
SIDE = 16 if TINY else 32
OUT = Path(os.environ.get("OUT") or Path(tempfile.gettempdir()) / "rkd-gpu")
OUT.mkdir(parents=True, exist_ok=True)
BATCH = 128 if not TINY else 16


def emit(name: str, **fields: Any) -> None:
    """Write one line of JSON to the output and to $OUT/results.jsonl."""
    line = json.dumps({"name": name} | fields, default=str)
    print(line, flush=True)
    with (OUT / "results.jsonl").open("a") as file:
        file.write(line + "\n")


class Warnings(logging.Handler):
    """A handler that keeps warnings, because a fallback from recording is only logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        logging.getLogger("rkd_core").addHandler(self)
        logging.getLogger("sweeps").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage()[:300])


def made(side: int = SIDE, train: int = 0, val: int = 0, test: int = 0) -> Dataset:
    """Return random images of ten classes with a long tail; by default as many as CIFAR-10-LT."""
    train, val, test = train or (320 if TINY else 12406), val or (64 if TINY else 5000), test or 64
    rng = np.random.default_rng(0)
    share = 100.0 ** (-np.arange(10) / 9)
    share /= share.sum()

    def some(count: int, p: Any) -> ImageSet:
        labels = np.sort(rng.choice(10, size=count, p=p)).astype(np.int64)
        labels[:10] = np.arange(10)
        pixels = rng.integers(0, 256, size=(count, side, side, 3), dtype=np.uint8)
        pixels[..., 0] = np.minimum(
            255, pixels[..., 0] // 4 + 19 * labels[:, None, None]
        )  # learnable
        return ImageSet(pixels, labels)

    sets = some(train, share), some(val, None), some(test, None)
    return Dataset(
        name="made",
        class_names=tuple("0123456789"),
        train=sets[0],
        val=sets[1],
        test=sets[2],
        fingerprint=f"made {side} {train} {val} {test}",
        skipped_images=0,
        train_indices=np.arange(train),
        val_indices=np.arange(val),
        test_indices=np.arange(val, val + test),
    )


def recipe(epochs: int = 200, **changes: Any) -> Any:
    """Return the recipe of CIFAR-10-LT: batches of 128, crops of 2, flips, Nesterov."""
    base = recipes.get("logit-adjustment-cifar10-lt")
    changes = {"epochs": epochs, "batch_size": BATCH, "learning_rate": 0.05} | changes
    return base.model_copy(update=changes)


def teacher_spec(network: str = NETWORK, epochs: int = 200, **changes: Any) -> TrainingSpec:
    """Return a teacher; with the paper's multipliers if its objective has any."""
    fields = {
        "stage": "teacher",
        "dataset": "made",
        "data": DataOptions(),
        "architecture": network,
        "objective": "standard",
        "recipe": recipe(epochs),
    } | changes
    ascends = fields["objective"] == "robust" or bool(fields.get("alpha"))
    if ascends and "multipliers" not in fields:
        fields["multipliers"] = (
            MultiplierOptions(period=4, batch=32) if TINY else MultiplierOptions()
        )
    return TrainingSpec(**fields)


def student_spec(of: TrainingSpec, data: Dataset, **changes: Any) -> TrainingSpec:
    """Return a student of a teacher."""
    ref = TeacherRef(
        run_id=run_id(of, data.fingerprint),
        family=family_id(of, data.fingerprint),
        architecture=of.architecture,
        objective=of.objective,
        alpha=of.alpha,
    )
    fields = {"network": changes.pop("architecture", of.architecture), "epochs": of.recipe.epochs}
    given = {"stage": "student", "teacher": ref, "temperature": 2.0, "recipe": of.recipe}
    return teacher_spec(**fields, **(given | changes))


class StubTeacher:
    """A teacher with random logits, if only speed or a comparison of two sides matters."""

    asked = "table"

    def __init__(self, array_data: ArrayData) -> None:
        torch.manual_seed(1)
        classes = array_data.dataset.classes
        self.clean = torch.randn(len(array_data.dataset.train), classes).to(DEVICE) * 3
        self.validation = torch.randn(len(array_data.dataset.val), classes).to(DEVICE) * 3

    def logits(self, batch: Any) -> torch.Tensor:
        return self.clean[batch.indices]


def execution(precision: str = "bfloat16") -> Execution:
    """Return the execution of all checks and measurements."""
    return Execution(DEVICE, precision, 1).prepared((SIDE, SIDE))


def recorder(branches: int) -> Any:
    """Return the recorder of a CUDA graph, or its replacement on a CPU."""
    return CudaRecorder(DEVICE, branches) if GPU else PlainRecorder()


def steps_of(
    specs: Any,
    array_data: ArrayData,
    teacher: Any,
    *,
    recorded: bool,
    make: Any = Run,
    forward: Any = features.forward,
) -> Any:
    """Return the runs of specs, and their steps."""
    rate = torch.tensor(0.01, device=DEVICE) if recorded else None
    runs = [make(spec, str(k), array_data, teacher, rate) for k, spec in enumerate(specs)]
    size = array_data.recipe.batch_size
    if rate is None:
        return runs, EagerSteps(runs)
    return runs, RecordedSteps(runs, rate, size, recorder(len(runs)), forward)


def compiled() -> CompiledForward:
    """Return compiled forward passes; without a GPU, only traced."""
    return CompiledForward("inductor" if GPU else "aot_eager")


def endless(array_data: ArrayData) -> Any:
    """Return batches of one epoch after the other, without end."""
    return itertools.chain.from_iterable(array_data.batches.epoch(e) for e in itertools.count())


def sync() -> None:
    if GPU:
        torch.cuda.synchronize()


def speed(steps: Any, array_data: ArrayData, teacher: Any, runs: int, count: int = 0) -> float:
    """Return images per second of all runs together."""
    count, batches = count or (3 if TINY else 40), endless(array_data)
    for batch in itertools.islice(batches, 3):
        steps(batch, None if teacher is None else teacher.logits(batch), 0.01)
    sync()
    start = time.perf_counter()
    for batch in itertools.islice(batches, count):
        steps(batch, None if teacher is None else teacher.logits(batch), 0.01)
    sync()
    return runs * array_data.recipe.batch_size * count / (time.perf_counter() - start)


def distance(a: Any, b: Any) -> float:
    """Return the largest relative difference of two lists of tensors, each by its own norm."""
    return max(
        float((x.double() - y.double()).norm() / y.double().norm().clamp_min(1e-6))
        for x, y in zip(a, b, strict=True)
    )
