"""Estimates of the duration of a plan, from past trainings or a short measurement."""

from __future__ import annotations

import bisect
import dataclasses
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rkd_core.datasets import Dataset
from rkd_core.specs import MultiplierOptions, Recipe, Stage
from rkd_core.teachers.table_or_live import TeacherPass, views_per_image
from sweeps.planning.plan import Plan, PlannedRun

if TYPE_CHECKING:
    from rkd_core.device.execution import Execution

__all__ = [
    "COLUMNS",
    "CostModel",
    "Kind",
    "asking_epochs",
    "calibrate",
    "duration",
    "kind_of",
    "span",
]

COLUMNS = ("stage", "architecture", "method", "multipliers", "status", "train_seconds",
           "train_class_total", "epochs")  # fmt: skip
"""Columns of a record that a ``CostModel`` reads."""


class Kind(NamedTuple):
    """Kind of training; trainings of one kind take equally long."""

    stage: Stage
    architecture: str
    multipliers: bool
    method: str | None = None
    """Method of students outside of the grid, else None."""


_BATCHES = 4  # batches in an epoch of the calibration
_ALIKE = 3.0  # factor by which another kind of training may differ
_SURE = 1.25  # largest ratio of the ends of a range that is stated as one figure


_PLAIN = ("standard", "tradeoff")
"""Methods whose trainings differ only in their multipliers."""


def kind_of(run: PlannedRun) -> Kind:
    """Return the kind of a planned training."""
    spec = run.spec
    method = None if spec.method in _PLAIN else spec.method
    return Kind(spec.stage, spec.architecture, spec.multipliers is not None, method)


class CostModel:
    """Estimated seconds of a training: the median of its kind, per epoch and image.

    Args:
        asking: Cost of a teacher's logits for its students, in epochs of its training.
        rows: Records of a results folder; the completed ones are taken into account.
    """

    def __init__(self, asking: float = 0.0, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._asking = asking
        self._seen: dict[Kind, list[float]] = defaultdict(list)  # sorted, for their median
        for row in rows:
            measured = row["train_seconds"] and row["train_class_total"] and row["epochs"]
            if row["status"] == "completed" and measured:
                method = None if row["method"] in _PLAIN else row["method"]
                multiplied = row["multipliers"] is not None
                kind = Kind(row["stage"], row["architecture"], multiplied, method)
                self.see(kind, row["train_seconds"], row["epochs"], sum(row["train_class_total"]))

    def see(self, kind: Kind, seconds: float, epochs: float, images: int) -> None:
        """Take one training of one or more epochs into account."""
        bisect.insort(self._seen[kind], seconds / (epochs * max(images, 1)))

    def seconds(self, run: PlannedRun, images: int) -> float | None:
        """Return the estimate for a run on this many images; None if no similar one was seen."""
        return self.seconds_of(kind_of(run), run.spec.epochs, images)

    def seconds_of(self, kind: Kind, epochs: int, images: int) -> float | None:
        """Return the estimate for epochs of one kind; None if no similar one was seen."""
        work = self.work(kind, epochs) * max(images, 1)
        if work == 0:  # only measured, which takes almost no time
            return 0.0
        seen = self._like(kind)[1]
        return (seen[(len(seen) - 1) // 2] + seen[len(seen) // 2]) / 2 * work if seen else None

    def range_of(self, kind: Kind, epochs: int, images: int) -> tuple[float, float] | None:
        """Return the least and most seconds to expect of one kind; None without a similar one.

        The range is the middle half of the ``n`` trainings seen, widened by the factor
        ``1 + 1 / n``, or by 3 if only a similar kind was seen.
        """
        work = self.work(kind, epochs) * max(images, 1)
        if work == 0:
            return 0.0, 0.0
        known, seen = self._like(kind)
        if not seen:
            return None
        wider, cut = 1 + 1 / len(seen) if known else _ALIKE, (len(seen) - 1) // 4
        return seen[cut] / wider * work, seen[-1 - cut] * wider * work

    def work(self, kind: Kind, epochs: int) -> float:
        """Return the work of a training in epochs, for a teacher including its logits."""
        return epochs + (self._asking if kind.stage == "teacher" else 0.0)

    def _like(self, kind: Kind) -> tuple[bool, list[float]]:
        """Return whether the exact kind was seen, and measurements of it or a similar kind."""
        on_grid = kind._replace(method=None)
        like = kind, on_grid, on_grid._replace(multipliers=not kind.multipliers)
        found = next((k for k in like if self._seen.get(k)), None)
        return found == kind, [] if found is None else self._seen[found]

    def total(self, runs: Iterable[PlannedRun], images: int) -> float | None:
        """Return the sum of ``seconds`` over runs; None if one has no estimate."""
        seconds = [self.seconds(run, images) for run in runs]
        return None if None in seconds else sum(s for s in seconds if s is not None)

    def total_range(self, runs: Iterable[PlannedRun], images: int) -> tuple[float, float] | None:
        """Return the sums of ``range_of`` over runs; None if one has no estimate."""
        low = high = 0.0
        for run in runs:
            found = self.range_of(kind_of(run), run.spec.epochs, images)
            if found is None:
                return None
            low, high = low + found[0], high + found[1]
        return low, high


def asking_epochs(recipe: Recipe, asked: TeacherPass) -> float:
    """Return the cost of a teacher's logits in epochs; a forward pass is a third of a step.

    Args:
        recipe: Recipe of the students.
        asked: Whether the logits come from a table or are computed for every batch.
    """
    if asked == "live" or recipe.views == 1:
        return 0.0
    return views_per_image(recipe) / 3


Sighting = tuple[Kind, float, int, int]
"""Arguments of ``CostModel.see``."""


def calibrate(
    plan: Plan, dataset: Dataset, execution: Execution, asked: TeacherPass, together: int
) -> list[Sighting]:
    """Measure this machine by training a standard teacher and student for two short epochs.

    There is one student for each network.

    The second epoch is timed. The cost of multipliers is added by calculation: each update is a
    forward pass over validation images, a third of the cost of training on as many. The same holds
    for a teacher that runs ``live`` for ``together`` students, since the logits of the few images
    here always come from a table. No trained model is kept. On a GPU this happens in a separate
    process, so that all memory is released.
    """
    arguments = plan, dataset, execution, asked, together
    if not execution.on_gpu:
        return _measured(*arguments)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, *arguments).result()


def _measured(
    plan: Plan, dataset: Dataset, execution: Execution, asked: TeacherPass, together: int
) -> list[Sighting]:
    from rkd_core.training import Progress, train

    few = {"train": _BATCHES * plan.students[0].spec.recipe.batch_size, "val": 1, "test": 1}
    parts: dict[str, Any] = {}
    for split, count in few.items():
        images = getattr(dataset, split)
        spaced = np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)
        chosen = np.unique(spaced)
        parts[split] = images.subset(chosen)
        parts[f"{split}_indices"] = getattr(dataset, f"{split}_indices")[chosen]
    small = dataclasses.replace(dataset, **parts)
    seen: list[Sighting] = []
    options = next((run.spec.multipliers for run in plan.runs if run.spec.multipliers), None)
    with tempfile.TemporaryDirectory(prefix="rkd-calibrate-") as scratch:
        teacher_id, answering_network, answering = "", "", 0.0
        first: dict[str, PlannedRun] = {}  # the grid starts with the standard objective
        for run in plan.students:
            first.setdefault(run.spec.architecture, run)
        for run in (plan.teachers[0], *first.values()):
            spec = run.spec
            if spec.given_logits is not None:  # the student's network answers in its place
                own = plan.students[0].spec
                network = own.model_dump(include={"architecture", "network_digest"})
                spec = spec.model_copy(
                    update={**network, "recipe": own.recipe, "given_logits": None}
                )
            harmless = {"epochs": 2, "learning_rate": 1e-3, "warmup": 0.0}
            recipe = spec.recipe.model_copy(update=harmless)
            spec = spec.model_copy(update={"recipe": recipe, "initial_weights": None})
            specs = [spec]
            if spec.teacher is not None:
                ref = spec.teacher.model_copy(
                    update={"run_id": teacher_id, "architecture": answering_network}
                )
                specs = [
                    spec.model_copy(update={"teacher": ref, "temperature": 1.0 + place})
                    for place in range(together if execution.on_gpu else 1)
                ]
            ended: dict[int, float] = {}

            def tick(progress: Progress, ended: dict[int, float] = ended) -> None:
                ended[progress.epoch] = time.perf_counter()  # overwritten by the last of them

            rows = train(
                specs,
                out=Path(scratch),
                data=small,
                execution=execution,
                report=tick,
                shifts=False,
                keep_predictions="none",
            )
            seconds, images = (ended[2] - ended[1]) / len(specs), len(small.train)
            if spec.stage == "teacher":
                teacher_id, answering_network = rows[0]["run_id"], spec.architecture
                answering = seconds / 3 / together if asked == "live" else 0.0
            else:
                seconds += answering
            seen.append((Kind(spec.stage, spec.architecture, False), seconds, 1, images))
            if options is not None:
                share = 1 + _updates_share(options, spec.recipe, dataset) / 3
                kind = Kind(spec.stage, spec.architecture, True)
                seen.append((kind, seconds * share, 1, images))
    return seen


def _updates_share(options: MultiplierOptions, recipe: Recipe, dataset: Dataset) -> float:
    """Return the validation images that multipliers use in an epoch, per training image."""
    steps = max(1, len(dataset.train) // recipe.batch_size)
    updates = 1 if options.period is None else -(-steps // options.period)
    images = min(options.batch or len(dataset.val), len(dataset.val))
    return updates * images / len(dataset.train)


def span(low: float, high: float) -> str:
    """Return a range of time as text: ``2 min to 6 min``, or ``about 4 min`` if it is narrow."""
    if high <= low * _SURE or duration(low) == duration(high):
        return f"about {duration((low + high) / 2)}"
    return f"{duration(low)} to {duration(high)}"


def duration(seconds: float) -> str:
    """Return a duration as text: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
