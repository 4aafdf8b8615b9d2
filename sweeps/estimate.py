"""How long a plan will take: from the records of past trainings, or from a short measurement."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rkd_core.datasets import Dataset
from sweeps.plan import Plan, PlannedRun

__all__ = ["CostModel", "calibrate", "duration"]

_Kind = tuple[str, str, bool]  # stage, architecture, has multipliers


class CostModel:
    """Seconds of a training: the median of those seen of its kind, per epoch and image."""

    def __init__(self) -> None:
        self._seen: dict[_Kind, list[float]] = defaultdict(list)

    def see(self, kind: _Kind, seconds: float, epochs: int, images: int) -> None:
        """Learn from one training."""
        self._seen[kind].append(seconds / (epochs * max(images, 1)))

    def see_records(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Learn from the completed records of a results folder."""
        for row in rows:
            if row["status"] == "completed" and row["train_seconds"] and row["train_class_total"]:
                kind = (row["stage"], row["architecture"], row["multipliers"] is not None)
                self.see(kind, row["train_seconds"], row["epochs"], sum(row["train_class_total"]))

    def seconds(self, run: PlannedRun, images: int) -> float | None:
        """Estimate for one run on ``images`` training images; None if nothing alike was seen."""
        spec = run.spec
        kind = (spec.stage, spec.architecture, spec.multipliers is not None)
        alike = self._seen.get(kind) or self._seen.get((kind[0], kind[1], not kind[2]))
        if not alike:
            return None
        return statistics.median(alike) * spec.recipe.epochs * max(images, 1)

    def total(self, runs: Iterable[PlannedRun], images: int) -> float | None:
        """Sum over runs; None if one of them is unlike anything seen."""
        seconds = [self.seconds(run, images) for run in runs]
        return None if None in seconds else sum(s for s in seconds if s is not None)


def calibrate(plan: Plan, dataset: Dataset, model: CostModel) -> None:
    """Teach the model by training a teacher and a student of the plan for a few steps.

    Nothing that is measured here is kept. Takes seconds: two epochs of at most 16 batches each,
    of which the second is timed.
    """
    from rkd_core.training import Progress, train

    def subset(images: Any, count: int) -> Any:
        positions = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
        return images.subset(np.unique(positions))

    with tempfile.TemporaryDirectory(prefix="rkd-calibrate-") as scratch:
        teacher_id = ""
        for stage in (plan.teachers, plan.students):
            spec = next((r.spec for r in stage if r.spec.multipliers), None)
            if spec is None:
                continue
            recipe = spec.recipe.model_copy(update={"epochs": 2})
            images = min(16 * recipe.batch_size, len(dataset.train))
            # Validation shrinks with training, so that it weighs in the epoch as it really does.
            share = images / len(dataset.train)
            small = dataclasses.replace(
                dataset,
                train=subset(dataset.train, images),
                val=subset(dataset.val, max(1, round(share * len(dataset.val)))),
                test=subset(dataset.test, 1),
            )
            moments: list[float] = []

            def tick(progress: Progress, moments: list[float] = moments) -> None:
                moments.append(time.perf_counter())

            multipliers = spec.multipliers
            if multipliers is not None:
                multipliers = multipliers.model_copy(update={"averaged_iterates": None})
            short = spec.model_copy(update={"recipe": recipe, "multipliers": multipliers})
            if short.teacher is not None:
                short = short.model_copy(
                    update={"teacher": short.teacher.model_copy(update={"run_id": teacher_id})}
                )
            (row,) = train([short], out=Path(scratch), data=small, report=tick)
            teacher_id = row["run_id"]
            model.see((spec.stage, spec.architecture, True), moments[1] - moments[0], 1, images)


def duration(seconds: float) -> str:
    """A length of time for people: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
