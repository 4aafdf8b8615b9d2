"""How long a plan will take: from the records of past trainings, or from a short measurement."""

from __future__ import annotations

import bisect
import dataclasses
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rkd_core.datasets import Dataset
from rkd_core.specs import MultiplierOptions, Recipe
from sweeps.plan import Plan, PlannedRun

if TYPE_CHECKING:
    from rkd_core.execution import Execution

__all__ = ["CostModel", "Kind", "calibrate", "duration", "kind_of"]

Kind = tuple[str, str, bool]
"""Stage, architecture, whether there are multipliers: trainings of one kind take equally long."""

_BATCHES = 4  # of an epoch of the calibration


def kind_of(run: PlannedRun) -> Kind:
    """The kind of a planned training."""
    return run.spec.stage, run.spec.architecture, run.spec.multipliers is not None


class CostModel:
    """Seconds of a training: the median of those seen of its kind, per epoch and image."""

    def __init__(self) -> None:
        self._seen: dict[Kind, list[float]] = defaultdict(list)  # sorted, for their median

    def see(self, kind: Kind, seconds: float, epochs: int, images: int) -> None:
        """Learn from one training."""
        bisect.insort(self._seen[kind], seconds / (epochs * max(images, 1)))

    def see_records(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Learn from the completed records of a results folder."""
        for row in rows:
            if row["status"] == "completed" and row["train_seconds"] and row["train_class_total"]:
                kind = (row["stage"], row["architecture"], row["multipliers"] is not None)
                self.see(kind, row["train_seconds"], row["epochs"], sum(row["train_class_total"]))

    def seconds(self, run: PlannedRun, images: int) -> float | None:
        """Estimate for one run on ``images`` training images; None if nothing alike was seen."""
        return self.seconds_of(kind_of(run), run.spec.recipe.epochs, images)

    def seconds_of(self, kind: Kind, epochs: int, images: int) -> float | None:
        """Estimate for so many epochs of one kind; None if nothing alike was seen."""
        seen = self._seen.get(kind) or self._seen.get((kind[0], kind[1], not kind[2]))
        if not seen:
            return None
        median = (seen[(len(seen) - 1) // 2] + seen[len(seen) // 2]) / 2
        return median * epochs * max(images, 1)

    def total(self, runs: Iterable[PlannedRun], images: int) -> float | None:
        """Sum over runs; None if one of them is unlike anything seen."""
        seconds = [self.seconds(run, images) for run in runs]
        return None if None in seconds else sum(s for s in seconds if s is not None)


def calibrate(plan: Plan, dataset: Dataset, execution: Execution, costs: CostModel) -> None:
    """Teach the model by training a standard teacher and student for two short epochs.

    The second epoch is timed. Multipliers are added by counting: each of their updates is a
    forward pass over validation images, a third of what training on an image costs. Nothing that
    is trained here is kept.
    """
    from rkd_core.training import Progress, train

    def subset(images: Any, count: int) -> Any:
        rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
        return images.subset(np.unique(rows))

    few = _BATCHES * plan.runs[0].spec.recipe.batch_size
    small = dataclasses.replace(
        dataset,
        train=subset(dataset.train, few),
        val=subset(dataset.val, 1),
        test=subset(dataset.test, 1),
    )
    options = next((run.spec.multipliers for run in plan.runs if run.spec.multipliers), None)
    with tempfile.TemporaryDirectory(prefix="rkd-calibrate-") as scratch:
        teacher_id = ""
        for stage in (plan.teachers, plan.students):
            spec = stage[0].spec  # the grid begins with the standard objective
            harmless = {"epochs": 2, "learning_rate": 1e-3, "warmup": 0.0}
            spec = spec.model_copy(update={"recipe": spec.recipe.model_copy(update=harmless)})
            if spec.teacher is not None:
                ref = spec.teacher.model_copy(update={"run_id": teacher_id})
                spec = spec.model_copy(update={"teacher": ref})
            moments: list[float] = []

            def tick(progress: Progress, moments: list[float] = moments) -> None:
                moments.append(time.perf_counter())

            (row,) = train([spec], out=Path(scratch), data=small, execution=execution, report=tick)
            teacher_id = row["run_id"]
            seconds, images = moments[1] - moments[0], len(small.train)
            costs.see((spec.stage, spec.architecture, False), seconds, 1, images)
            if options is not None:
                share = 1 + _updates_share(options, spec.recipe, dataset) / 3
                costs.see((spec.stage, spec.architecture, True), seconds * share, 1, images)


def _updates_share(options: MultiplierOptions, recipe: Recipe, dataset: Dataset) -> float:
    """Validation images that the multipliers of an epoch look at, per training image."""
    steps = max(1, len(dataset.train) // recipe.batch_size)
    updates = 1 if options.period is None else -(-steps // options.period)
    images = min(options.batch or len(dataset.val), len(dataset.val))
    return updates * images / len(dataset.train)


def duration(seconds: float) -> str:
    """A length of time for people: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
