"""Which students are hopeless: ``--prune``.

A student stops at shares of its epochs and is looked at. What becomes of a student from there, the
completed ones of the same sweep say: the regression of their final accuracies on those at the same
epoch, worst class and average each, with the spread around it. One whose prediction, at the upper
end, still falls short of what could be selected stays ``pruned``: its counts and its checkpoint are
kept, and a sweep without ``--prune`` goes on with it. Teachers, other methods and standard
distillation are never pruned, and nobody is before enough others have been seen to the end.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.selection.criteria import Constrained
from rkd_core.metrics import arcsine_scaled, average_accuracy, worst_k_accuracy
from rkd_core.training.validation_schedule import Looks
from sweeps.planning.plan import PlannedRun

__all__ = ["RUNGS", "Pruner"]

RUNGS = (0.25, 0.5)
"""Shares of the epochs after which students are looked at."""
_ENOUGH = 8
"""Completed students from which others are foretold."""
_DOUBT = 0.002
"""Chance to be selected after all, by the prediction, of a student that is pruned."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Figures:
    """Worst-k and average accuracy, on the arcsine scale, on which their noise is alike."""

    worst: float
    average: float


class Pruner:
    """Says of students that have stopped whether to go on.

    Args:
        criterion: The selection rule.
    """

    def __init__(self, criterion: Constrained) -> None:
        self._criterion, self._worst_k = criterion, criterion.worst_k
        self._completed: dict[str, tuple[dict[int, _Figures], _Figures]] = {}
        self._by_cell: defaultdict[object, list[_Figures]] = defaultdict(list)  # over seeds
        self._standard: list[float] = []  # averages of standard distillation
        self._images: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._stopped: dict[str, Row] = {}

    def spares(self, run: PlannedRun) -> bool:
        """Whether a run is trained to its end whatever it looks like."""
        spec = run.spec
        on_grid = spec.stage == "student" and spec.variant is None and spec.teacher is not None
        return not on_grid or _is_standard(run) or not _rungs(run)

    def until(self, run: PlannedRun) -> int | None:
        """Epochs after which to stop and look at it next; None: at its end."""
        if self.spares(run) or len(self._completed) < _ENOUGH:
            return None
        row = self._stopped.get(run.run_id)
        done = 0 if row is None else row["epochs_trained"]
        return next((epochs for epochs in _rungs(run) if epochs > done), None)

    def see(self, run: PlannedRun, row: Row) -> None:
        """Take a student's record, completed or pruned, into account."""
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
        self._completed[run.run_id] = on_the_way, final
        self._by_cell[_cell(run)].append(final)
        self._images = np.array(total)
        if _is_standard(run):
            self._standard.append(float(row["val_average_accuracy"]))

    def hopeless(self, run: PlannedRun) -> bool:
        """Whether a run that has stopped can be left as it is."""
        row = self._stopped.get(run.run_id)
        if row is None or self.spares(run) or not self._standard:
            return False
        alike = [
            (looks[row["epochs_trained"]], final)
            for looks, final in self._completed.values()
            if row["epochs_trained"] in looks
        ]
        if len(alike) < _ENOUGH:
            return False
        now = self._figures(row["val_class_correct"], row["val_class_total"])
        least = self._least_average()
        bar = self._bar(least)
        if bar is None:
            return False
        worst = _chance([(at.worst, f.worst) for at, f in alike], now.worst, bar)
        average = _chance([(at.average, f.average) for at, f in alike], now.average, least)
        return min(worst, average) < _DOUBT

    def _figures(self, correct: Sequence[int], total: Sequence[int]) -> _Figures:
        worst = float(worst_k_accuracy(correct, total, self._worst_k))
        average = average_accuracy(correct, total)
        return _Figures(float(arcsine_scaled(worst)), float(arcsine_scaled(average)))

    def _least_average(self) -> float:
        """What the selection will ask for, at the least; scaled."""
        least = self._criterion.least_average(self._standard, int(self._images.sum()))
        return float(arcsine_scaled(least))

    def _bar(self, least: float) -> float | None:
        """The best admitted combination's worst-k accuracy, scaled; None if there is none yet.

        Less a standard error of it, and one of whoever is compared: both were lucky or not.
        """
        counted = np.sort(self._images[self._images > 0])[: self._worst_k]
        error = 1 / math.sqrt(4 * float(counted.sum()) + 2)
        bars = [
            float(np.mean([f.worst for f in seeds])) - error / math.sqrt(len(seeds))
            for seeds in self._by_cell.values()
            if float(np.mean([f.average for f in seeds])) >= least
        ]
        return max(bars) - error if bars else None


def _chance(pairs: Iterable[tuple[float, float]], now: float, bar: float) -> float:
    """That a final figure reaches the bar, by the regression of others' final figures on theirs."""
    from scipy import stats  # a fifth of a second that no other command needs

    at, final = np.array(list(pairs)).T
    n = at.size
    centred = at - at.mean()
    square = float(centred @ centred)
    slope = float(centred @ final) / square if square > 0 else 0.0
    slope = max(slope, 0.0)  # who is better now is not foretold to be worse
    residual = final - final.mean() - slope * centred
    spread = math.sqrt(float(residual @ residual) / (n - 2))
    distance = now - float(at.mean())
    lever = 1 + 1 / n + (distance**2 / square if square > 0 else 0.0)
    expected = float(final.mean()) + slope * distance
    if spread == 0:
        return float(expected >= bar)
    return float(stats.t.sf((bar - expected) / (spread * math.sqrt(lever)), n - 2))


def _rungs(run: PlannedRun) -> list[int]:
    return sorted(Looks(shares=RUNGS).at(run.spec.epochs))


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
