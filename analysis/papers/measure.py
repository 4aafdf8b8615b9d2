"""Our figures for the cells of a table, with their uncertainty and verdicts on the findings.

Among several temperatures or options of a model, the best on validation is used (by worst-class
accuracy, then by average accuracy); figures are those on test.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.papers.definitions import (
    Cell,
    Finding,
    Gain,
    Key,
    Model,
    Of,
    Pair,
    Selected,
    Table,
    TeacherAlone,
)
from analysis.papers.draws import (
    DRAWS,
    Measure,
    deviates,
    least_error,
    recalls_at,
    recalls_near,
    resampled,
)
from analysis.runs.combinations import combine
from analysis.runs.rank_correlation import spearman
from analysis.selection import select
from analysis.selection.criteria import Constrained
from rkd_core.errors import UserError
from rkd_core.metrics import (
    average_accuracy,
    balanced_accuracy,
    recalls,
    worst_k_accuracy,
    worst_k_reference_accuracy,
)
from rkd_core.metrics.class_groups import head_medium_tail
from rkd_core.objectives import by_alpha, on_grid

__all__ = ["Correlation", "Figure", "Measured", "Verdict", "figures", "measure"]

FloatArray = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]

_SURE = 0.95
_RANKED = "worst-", "top-", "delta-"
"""Metrics that select classes by their recalls."""
_INTERVAL = (0.05, 0.95)


@dataclass(frozen=True)
class Figure:
    """One figure, in percent.

    Attributes:
        value: Mean over seeds; None where nothing was trained.
        error: Standard error from seeds and their common test images; None if the value is None.
        seeds: Number of seeds.
        paper: The paper's figure.
    """

    value: float | None
    error: float | None
    seeds: int
    paper: float | None


@dataclass(frozen=True)
class Verdict:
    """Verdict on whether a finding holds for our figures.

    Attributes:
        text: The finding.
        holds: Whether it holds for our figures; None where some are missing.
        share: Share of draws from our uncertainty in which it holds.
    """

    text: str
    holds: bool | None
    share: float

    @property
    def word(self) -> str:
        """The verdict in words."""
        if self.holds is None:
            return "not measured"
        if self.share >= _SURE:
            return "holds"
        if self.share <= 1 - _SURE:
            return "does not hold"
        return "unclear"


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of our cells with the paper's, with its 90 % interval."""

    cells: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """A table with our figures.

    Attributes:
        table: The paper's table.
        figures: Figures by row, column and metric.
        verdicts: A verdict for each finding.
        correlations: Correlations by metric, if the paper has three figures or more.
    """

    table: Table
    figures: Mapping[Key, Figure]
    verdicts: tuple[Verdict, ...]
    correlations: Mapping[str, Correlation]


def measure(table: Table, parts: Mapping[int, pa.Table], seed: int = 0) -> Measured:
    """Return our figures, verdicts and correlations for a table.

    Args:
        table: The paper's table.
        parts: Records of each part that was trained.
        seed: Seed of the draws.

    Raises:
        UserError: The records match none of the cells.
    """
    random = np.random.default_rng(seed)
    worlds = {place: _World(rows, random) for place, rows in parts.items()}
    draws: dict[Key, FloatArray] = {}
    found: dict[Key, Figure] = {}
    for cell in table.cells:
        for metric, paper in cell.paper.items():
            key = cell.row, cell.column, metric
            ours = worlds[cell.part].measure(cell, metric) if cell.part in worlds else None
            if ours is None:
                found[key] = Figure(None, None, 0, paper)
                continue
            draws[key] = ours.draws
            found[key] = Figure(ours.value, ours.error, len(ours.by_seed), paper)
    if not draws:
        raise UserError(f"no completed training belongs to a cell of {table.name}")
    return Measured(
        table,
        found,
        tuple(_verdict(finding, found, draws) for finding in table.findings),
        _correlations(table, found, draws),
    )


class _World:
    """Records of a part of a table, with draws of their uncertainty.

    A draw picks seeds with replacement, the same for all cells. For each model, class and test
    set, it has one deviate from the counts, which the seeds share because they share the images.
    Models are drawn independently, since counts do not show which images they have in common; this
    overstates the noise of their differences.
    """

    def __init__(self, table: pa.Table, random: np.random.Generator) -> None:
        done = [row for row in table.to_pylist() if row["status"] == "completed"]
        self._rows, self._table = done, table
        self._seeds = sorted({row["seed"] for row in done})
        self._picked = random.integers(0, max(len(self._seeds), 1), (DRAWS, len(self._seeds)))
        self._random = random
        self._deviates: dict[object, FloatArray] = {}
        teachers = _chosen(TeacherAlone(), done)
        self._hardest = (
            np.mean([recalls(r["test_class_correct"], r["test_class_total"]) for r in teachers], 0)
            if teachers
            else None
        )

    def measure(self, cell: Cell, metric: str) -> Measure | None:
        """Return the measurement of a cell; None if it was not trained or lacks the metric."""
        what = cell.what
        if not isinstance(what, Gain):
            return self._of(self._runs(what), metric)
        of, over = self._runs(what.of), self._runs(what.over)
        common = {row["seed"] for row in of} & {row["seed"] for row in over}
        figures = [self._of(rows, metric, common) for rows in (of, over)]
        if figures[0] is None or figures[1] is None:
            return None
        return figures[0].less(figures[1])

    def _runs(self, what: Model) -> Rows:
        if isinstance(what, Selected):
            return self._selected(what.worst_k)
        return _chosen(what, self._rows)

    def _of(self, rows: Rows, metric: str, seeds: Collection[int] | None = None) -> Measure | None:
        """Return a metric of a model's runs, optionally for some seeds only."""
        model = tuple(sorted(row["run_id"] for row in rows))
        values: dict[int, float] = {}
        drawn: list[FloatArray] = []
        least = 0.0
        ranked = metric.startswith(_RANKED)  # others are sums over classes
        draw = recalls_at if ranked else recalls_near
        for row in rows:
            if seeds is not None and row["seed"] not in seeds:
                continue
            total = np.asarray(row["test_class_total"])
            correct = np.asarray(row["test_class_correct"])
            about = row["train_class_total"], self._hardest
            values[row["seed"]] = float(100 * figures(metric, correct, total, *about))
            if ranked and values[row["seed"]] in (0, 100):
                least = 100 * least_error(correct, total, _number(metric, total.size))
            at = draw(correct, total, self._shared(model, row))
            drawn.append(100 * figures(metric, np.nan_to_num(at * total), total, *about))
        if not values or not np.isfinite(list(values.values())).all():
            return None
        places = [self._seeds.index(seed) for seed in values]
        weights = np.array([(self._picked == place).sum(axis=1) for place in places], dtype=float)
        return Measure(
            values, np.mean(drawn, axis=0), resampled(list(values.values()), weights), least
        )

    def _shared(self, model: tuple[str, ...], row: Mapping[str, Any]) -> FloatArray:
        """Return deviates ``(DRAWS, classes)`` of a test set, the same for all runs of a model."""
        totals = tuple(row["test_class_total"])
        key = model, row["data_fingerprint"], totals
        if key not in self._deviates:
            self._deviates[key] = deviates(self._random, len(totals))
        return self._deviates[key]

    def _selected(self, worst_k: int) -> Rows:
        on_grid = [r for r in self._rows if r["stage"] == "student" and r["variant"] is None]
        if not on_grid:
            return []
        students = pa.Table.from_pylist(list(on_grid), schema=self._table.schema)
        selection = select(combine(students), Constrained(worst_k))
        c = selection.combinations
        ids = c.run_ids(selection.selected)
        return [row for row in on_grid if row["run_id"] in ids]


def figures(
    metric: str,
    correct: Any,
    total: Any,
    train_counts: Sequence[int],
    hardest: FloatArray | None,
) -> FloatArray:
    """Return a metric of a table from test counts, as a fraction of shape ``(...)``.

    ``average``; ``balanced``; ``worst-K``: mean of the K lowest recalls; ``teacher-worst-K``: mean
    over the K classes that the standard teacher finds hardest; ``top-P%``: mean of the highest P
    percent of the recalls, rounded up; ``delta-P%``: that minus the mean of the lowest P percent;
    ``tail``: mean over the tail by training count, NaN if there is none (see
    ``rkd_core.metrics.class_groups.head_medium_tail``).

    Args:
        metric: Name of the metric.
        correct: Correct predictions ``(..., classes)``.
        total: Images ``(classes,)``.
        train_counts: Training images by class.
        hardest: The standard teacher's test recalls, for ``teacher-worst-K``.
    """
    name = metric.rstrip("%0123456789").removesuffix("-")
    shape = np.broadcast(correct, total).shape
    full = np.broadcast_to(total, shape)
    if name == "average":
        return average_accuracy(correct, full)
    if name == "balanced":
        return balanced_accuracy(correct, full)
    if name == "worst":
        return worst_k_accuracy(correct, full, _number(metric, shape[-1]))
    if name == "teacher-worst":
        if hardest is None:
            raise UserError(f"{metric} needs the standard teacher's record")
        return worst_k_reference_accuracy(correct, full, hardest, _number(metric, shape[-1]))
    values = recalls(correct, full)
    if name == "tail":
        tail = values[..., head_medium_tail(train_counts).get("tail", [])]
        present = np.isfinite(tail)
        mean = np.where(present, tail, 0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
        return np.where(present.any(axis=-1), mean, np.nan)
    if name in ("top", "delta"):
        k = _number(metric, shape[-1])
        present = np.sort(values[..., np.isfinite(values).reshape(-1, shape[-1])[0]], axis=-1)
        top = present[..., -k:].mean(axis=-1)
        return np.asarray(top - present[..., :k].mean(axis=-1) if name == "delta" else top)
    raise ValueError(f"unknown metric {metric!r}")


def _number(metric: str, classes: int) -> int:
    """Return the number of classes that a metric averages: ``worst-K`` or ``top-P%``."""
    number = int(re.sub(r"\D", "", metric))
    return -(-number * classes // 100) if metric.endswith("%") else min(number, classes)


def _chosen(what: Model, rows: Rows) -> Rows:
    """Return a model's runs, one for each seed, at the temperature or options best on validation.

    Raises:
        TypeError: The model is chosen by the selection rule.
    """
    if isinstance(what, TeacherAlone):
        return [
            row
            for row in rows
            if row["stage"] == "teacher"
            and _alpha(row, "teacher") == what.alpha
            and not json.loads(row["spec"]).get("held_out")
        ]
    groups: dict[object, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["stage"] == "student" and _is(row, what):
            groups.setdefault((row["variant"], row["temperature"]), []).append(row)
    if not groups:
        return []
    most = max(len(group) for group in groups.values())
    return max((g for g in groups.values() if len(g) == most), key=_on_validation)


def _is(row: Mapping[str, Any], what: Model) -> bool:
    if isinstance(what, Pair):
        if row["variant"] is not None:
            return False
        return (_alpha(row, "teacher"), _alpha(row, "student")) == (what.alpha_t, what.alpha_s)
    if not isinstance(what, Of):
        raise TypeError(f"{what} has no runs of its own")
    if row["variant"] is None or row["method"] != what.method:
        return False
    if what.options is None:
        return True
    options = json.loads(row["spec"])["variant"]["options"]
    if len(row["test_class_total"]) == 3 and "groups" not in what.options:
        options.pop("groups", None)  # set by LTKD's plan for three classes
    return bool(options == dict(what.options))


def _alpha(row: Mapping[str, Any], who: str) -> float | None:
    """Return None for the standard objective, its alpha for a trade-off, NaN for all others."""
    alpha = row["alpha_t" if who == "teacher" else "alpha_s"]
    name, alpha = on_grid(row[f"{who}_objective"], alpha)
    return alpha if name == by_alpha(alpha)[0] else math.nan


def _on_validation(group: Rows) -> tuple[float, float]:
    worst = np.mean([row["val_worst_class_accuracy"] for row in group])
    return float(worst), float(np.mean([row["val_average_accuracy"] for row in group]))


def _verdict(
    finding: Finding, found: Mapping[Key, Figure], draws: Mapping[Key, FloatArray]
) -> Verdict:
    values = {key: figure.value for key, figure in found.items() if figure.value is not None}
    try:
        holds = bool(finding.holds(values))
        drawn = (
            finding.holds({key: float(value[k]) for key, value in draws.items()})
            for k in range(DRAWS)
        )
        return Verdict(finding.text, holds, sum(map(bool, drawn)) / DRAWS)
    except KeyError:
        return Verdict(finding.text, None, float("nan"))


def _correlations(
    table: Table, found: Mapping[Key, Figure], draws: Mapping[Key, FloatArray]
) -> dict[str, Correlation]:
    correlations = {}
    for metric in table.metrics:
        keys = [k for k in draws if k[2] == metric and found[k].paper is not None]
        paper = np.array([found[key].paper for key in keys], dtype=np.float64)
        if len(keys) < 3 or np.ptp(paper) == 0:
            continue
        ours = np.array([found[key].value for key in keys], dtype=np.float64)
        drawn = np.array([draws[key] for key in keys])
        low, high = np.nanquantile(spearman(paper, drawn.T), _INTERVAL)
        rho = float(spearman(paper, ours))
        correlations[metric] = Correlation(len(keys), rho, float(low), float(high))
    return correlations
