"""Pruning of students that are very unlikely to be selected (``--prune``).

A student stops after certain shares of its epochs. Its final worst-class and average accuracies are
predicted by regressions of the final accuracies of completed students of the same sweep on their
accuracies at the same epoch. A student whose prediction is too low to be selected, up to a small
probability, is ``pruned``: its counts and its checkpoint are kept, and a sweep without ``--prune``
continues it. Teachers, other methods and standard distillation are never pruned, and no student is
pruned before enough others are completed. Students are compared with those of the same network.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.selection.criteria import Constrained
from rkd_core.metrics import arcsine_scaled, average_accuracy, worst_k_accuracy
from rkd_core.training.validation_schedule import ValidationSchedule
from sweeps.planning.plan import PlannedRun

__all__ = ["RUNGS", "Pruner"]

RUNGS = (0.25, 0.5)
"""Shares of the epochs after which students are examined."""
_ENOUGH = 8
"""Least number of completed students for a prediction."""
_DOUBT = 0.002
"""Predicted probability of being selected below which a student is pruned."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Figures:
    """Worst-k and average accuracy on the arcsine scale, which equalizes their noise."""

    worst: float
    average: float


@dataclass
class _Seen:
    """Completed students of one network."""

    completed: dict[str, tuple[dict[int, _Figures], _Figures]] = field(default_factory=dict)
    by_cell: defaultdict[object, list[_Figures]] = field(default_factory=lambda: defaultdict(list))
    """Final figures of each combination over seeds."""
    standard: list[float] = field(default_factory=list)
    """Average accuracies of standard distillation."""


class Pruner:
    """Rule that decides which stopped students are not continued.

    Args:
        criterion: Selection rule.
    """

    def __init__(self, criterion: Constrained) -> None:
        self._criterion, self._worst_k = criterion, criterion.worst_k
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)  # by architecture
        self._images: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._stopped: dict[str, Row] = {}

    def spares(self, run: PlannedRun) -> bool:
        """Return whether a run is never pruned."""
        spec = run.spec
        on_grid = spec.stage == "student" and spec.variant is None and spec.teacher is not None
        return not on_grid or _is_standard(run) or not _rungs(run)

    def until(self, run: PlannedRun) -> int | None:
        """Return the number of epochs after which to stop a run next; None for its end."""
        if self.spares(run) or len(self._seen[run.spec.architecture].completed) < _ENOUGH:
            return None
        row = self._stopped.get(run.run_id)
        done = 0 if row is None else row["epochs_trained"]
        return next((epochs for epochs in _rungs(run) if epochs > done), None)

    def see(self, run: PlannedRun, row: Row) -> None:
        """Take the record of a completed or pruned student into account."""
        if run.spec.stage != "student" or run.spec.variant is not None:
            return
        if row["status"] == "pruned":
            self._stopped[run.run_id] = row
            return
        self._stopped.pop(run.run_id, None)
        total = row["val_class_total"]
        looks = zip(row["val_epochs"] or (), row["val_epoch_class_correct"] or (), strict=True)
        on_the_way = {epochs: self._figures(correct, total) for epochs, correct in looks}
        final = self._figures(row["val_class_correct"], total)
        seen = self._seen[run.spec.architecture]
        seen.completed[run.run_id] = on_the_way, final
        seen.by_cell[_cell(run)].append(final)
        self._images = np.array(total)
        if _is_standard(run):
            seen.standard.append(float(row["val_average_accuracy"]))

    def hopeless(self, run: PlannedRun) -> bool:
        """Return whether a stopped run need not be continued."""
        row, seen = self._stopped.get(run.run_id), self._seen[run.spec.architecture]
        if row is None or self.spares(run) or not seen.standard:
            return False
        alike = [
            (looks[row["epochs_trained"]], final)
            for looks, final in seen.completed.values()
            if row["epochs_trained"] in looks
        ]
        if len(alike) < _ENOUGH:
            return False
        now = self._figures(row["val_class_correct"], row["val_class_total"])
        least = self._least_average(seen)
        bar = self._bar(seen, least)
        if bar is None:
            return False
        worst = _chance([(at.worst, f.worst) for at, f in alike], now.worst, bar)
        average = _chance([(at.average, f.average) for at, f in alike], now.average, least)
        return min(worst, average) < _DOUBT

    def _figures(self, correct: Sequence[int], total: Sequence[int]) -> _Figures:
        worst = float(worst_k_accuracy(correct, total, self._worst_k))
        average = average_accuracy(correct, total)
        return _Figures(float(arcsine_scaled(worst)), float(arcsine_scaled(average)))

    def _least_average(self, seen: _Seen) -> float:
        """Return the least average accuracy for a selection, scaled."""
        least = self._criterion.least_average(seen.standard, int(self._images.sum()))
        return float(arcsine_scaled(least))

    def _bar(self, seen: _Seen, least: float) -> float | None:
        """Return the worst-k accuracy of the best feasible combination, scaled; None without one.

        It is reduced by its standard error and by that of the compared student.
        """
        counted = np.sort(self._images[self._images > 0])[: self._worst_k]
        error = 1 / math.sqrt(4 * float(counted.sum()) + 2)
        bars = [
            float(np.mean([f.worst for f in seeds])) - error / math.sqrt(len(seeds))
            for seeds in seen.by_cell.values()
            if float(np.mean([f.average for f in seeds])) >= least
        ]
        return max(bars) - error if bars else None


def _chance(pairs: Iterable[tuple[float, float]], now: float, bar: float) -> float:
    """Return the probability that a final figure reaches the bar, by a regression on others."""
    from scipy import stats  # takes a fifth of a second, which only pruning needs

    at, final = np.array(list(pairs)).T
    n = at.size
    centered = at - at.mean()
    square = float(centered @ centered)
    slope = float(centered @ final) / square if square > 0 else 0.0
    slope = max(slope, 0.0)  # a better student now is not predicted to be worse
    residual = final - final.mean() - slope * centered
    spread = math.sqrt(float(residual @ residual) / (n - 2))
    distance = now - float(at.mean())
    lever = 1 + 1 / n + (distance**2 / square if square > 0 else 0.0)
    expected = float(final.mean()) + slope * distance
    if spread == 0:
        return float(expected >= bar)
    return float(stats.t.sf((bar - expected) / (spread * math.sqrt(lever)), n - 2))


def _rungs(run: PlannedRun) -> list[int]:
    return sorted(ValidationSchedule(shares=RUNGS).at(run.spec.epochs))


def _cell(run: PlannedRun) -> object:
    spec = run.spec
    teacher = None if spec.teacher is None else (spec.teacher.objective, spec.teacher.alpha)
    return teacher, spec.objective, spec.alpha, spec.temperature, spec.tuning


def _is_standard(run: PlannedRun) -> bool:
    spec = run.spec
    teacher = spec.teacher
    if teacher is None or spec.tuned is not None:
        return False
    return teacher.objective == spec.objective == "standard"
