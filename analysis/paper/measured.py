"""Our figures for the cells of a table, how sure they are, and which findings hold.

Works from records alone. Where a model has several temperatures or options, validation chooses
(worst-class accuracy, then average), and the figures are those on test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import spearmanr

from analysis.combinations import combine
from analysis.criteria import Constrained
from analysis.paper.table import (
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
from analysis.selection import select
from rkd_core.class_groups import head_medium_tail
from rkd_core.errors import UserError
from rkd_core.metrics import (
    average_accuracy,
    balanced_accuracy,
    recalls,
    worst_k_accuracy,
    worst_k_reference_accuracy,
)

__all__ = ["Correlation", "Figure", "Measured", "Verdict", "figures", "measure"]

FloatArray = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]

DRAWS = 1000
_SURE = 0.95
_INTERVAL = (0.05, 0.95)


@dataclass(frozen=True)
class Figure:
    """One figure, in percent.

    Attributes:
        value: Mean over seeds; None where nothing was trained.
        error: Standard error, from seeds and test images; None with the value.
        seeds: How many.
        paper: The paper's.
    """

    value: float | None
    error: float | None
    seeds: int
    paper: float | None


@dataclass(frozen=True)
class Verdict:
    """What became of a finding.

    Attributes:
        text: The finding.
        holds: Whether it holds for our figures; None where some are missing.
        share: Of the draws from our uncertainty, those in which it does.
    """

    text: str
    holds: bool | None
    share: float

    @property
    def word(self) -> str:
        """For people."""
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
        table: The paper's.
        figures: By row, column and metric.
        verdicts: One for each finding.
        correlations: By metric, where the paper has three figures or more.
    """

    table: Table
    figures: Mapping[Key, Figure]
    verdicts: tuple[Verdict, ...]
    correlations: Mapping[str, Correlation]


def measure(table: Table, parts: Mapping[int, pa.Table], seed: int = 0) -> Measured:
    """Look up every cell of a table.

    Args:
        table: The paper's.
        parts: The records of each of its parts that was trained.
        seed: Of the draws.

    Raises:
        UserError: The records fit none of the cells.
    """
    random = np.random.default_rng(seed)
    worlds = {place: _World(rows, random) for place, rows in parts.items()}
    draws: dict[Key, FloatArray] = {}
    found: dict[Key, Figure] = {}
    for cell in table.cells:
        for metric, paper in cell.paper.items():
            key = cell.row, cell.column, metric
            values = worlds[cell.part].values(cell, metric) if cell.part in worlds else None
            if values is None:
                found[key] = Figure(None, None, 0, paper)
                continue
            value, drawn, seeds = values
            draws[key] = drawn
            found[key] = Figure(value, float(drawn.std(ddof=1)), seeds, paper)
    if not draws:
        raise UserError(f"no completed training belongs to a cell of {table.name}")
    return Measured(
        table,
        found,
        tuple(_verdict(finding, found, draws) for finding in table.findings),
        _correlations(table, found, draws),
    )


class _World:
    """The records of a part, and draws from what is not known about them.

    A draw picks seeds with replacement, the same for all cells, and for each run and class a
    number of correct test images from the binomial distribution around what was counted.
    """

    def __init__(self, table: pa.Table, random: np.random.Generator) -> None:
        done = [row for row in table.to_pylist() if row["status"] == "completed"]
        self._rows, self._table = done, table
        self._seeds = sorted({row["seed"] for row in done})
        self._picked = random.integers(0, max(len(self._seeds), 1), (DRAWS, len(self._seeds)))
        self._random = random
        self._counts: dict[str, FloatArray] = {}
        teachers = _chosen(TeacherAlone(), done)
        self._hardest = (
            np.mean([recalls(r["test_class_correct"], r["test_class_total"]) for r in teachers], 0)
            if teachers
            else None
        )

    def values(self, cell: Cell, metric: str) -> tuple[float, FloatArray, int] | None:
        """Value, draws ``(DRAWS,)`` and number of seeds of a cell; None if it was not trained."""
        what = cell.what
        if not isinstance(what, Gain):
            return self._of(what, metric)
        of, over = self._of(what.of, metric), self._of(what.over, metric)
        if of is None or over is None:
            return None
        return of[0] - over[0], of[1] - over[1], min(of[2], over[2])

    def _of(self, what: Model, metric: str) -> tuple[float, FloatArray, int] | None:
        if isinstance(what, Selected):
            rows = self._selected(what.worst_k)
        else:
            rows = _chosen(what, self._rows)
        if not rows:
            return None
        by_seed: dict[int, tuple[float, FloatArray]] = {}
        for row in rows:
            total = np.asarray(row["test_class_total"])
            correct = np.asarray(row["test_class_correct"])
            about = row["train_class_total"], self._hardest
            by_seed[row["seed"]] = (
                float(100 * figures(metric, correct, total, *about)),
                100 * figures(metric, self._drawn(row, total, correct), total, *about),
            )
        there = [place for place, seed in enumerate(self._seeds) if seed in by_seed]
        drawn = np.array([by_seed[self._seeds[place]][1] for place in there])  # (seeds, DRAWS)
        # Of the picked seeds, those that there are; all of these where none was picked.
        weights = np.array([(self._picked == place).sum(axis=1) for place in there], dtype=float)
        weights[:, weights.sum(axis=0) == 0] = 1
        mean = float(np.mean([by_seed[self._seeds[place]][0] for place in there]))
        return mean, (weights * drawn).sum(axis=0) / weights.sum(axis=0), len(there)

    def _drawn(self, row: Mapping[str, Any], total: Any, correct: Any) -> FloatArray:
        """Correct test images ``(DRAWS, classes)`` of a run, the same for all its cells."""
        run_id = row["run_id"]
        if run_id not in self._counts:
            share = np.divide(correct, total, out=np.zeros(len(total)), where=total > 0)
            drawn = self._random.binomial(total, share, (DRAWS, len(total)))
            self._counts[run_id] = drawn.astype(np.float64)
        return self._counts[run_id]

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
    """A metric of a table from test counts, a fraction, shape ``(...)``.

    ``average``; ``balanced``; ``worst-K``: mean of the K lowest recalls; ``teacher-worst-K``: mean
    over the K classes that the standard teacher finds hardest; ``top-P%``: mean of the highest P
    percent of the recalls, rounded up; ``delta-P%``: that less the mean of the lowest P percent;
    ``tail``: mean over the tail by training count, NaN where there is none (see
    ``rkd_core.class_groups.head_medium_tail``).

    Args:
        metric: Its name.
        correct: Integers ``(..., classes)``.
        total: Integers ``(classes,)``.
        train_counts: Training images by class.
        hardest: The standard teacher's test recalls, for ``teacher-worst-K``.
    """
    name, number = re.fullmatch(r"(.*?)-?(\d+)?%?", metric).groups()  # type: ignore[union-attr]
    shape = np.broadcast(correct, total).shape
    full = np.broadcast_to(total, shape)
    if name == "average":
        return average_accuracy(correct, full)
    if name == "balanced":
        return balanced_accuracy(correct, full)
    if name == "worst":
        return worst_k_accuracy(correct, full, min(int(number), shape[-1]))
    if name == "teacher-worst":
        if hardest is None:
            raise UserError(f"{metric} needs the standard teacher's record")
        k = min(int(number), shape[-1])
        return worst_k_reference_accuracy(correct, full, hardest, k)
    values = recalls(correct, full)
    if name == "tail":
        tail = values[..., head_medium_tail(train_counts).get("tail", [])]
        present = np.isfinite(tail)
        mean = np.where(present, tail, 0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
        return np.where(present.any(axis=-1), mean, np.nan)
    if name in ("top", "delta"):
        k = -(-int(number) * shape[-1] // 100)
        present = np.sort(values[..., np.isfinite(values).reshape(-1, shape[-1])[0]], axis=-1)
        top = present[..., -k:].mean(axis=-1)
        return np.asarray(top - present[..., :k].mean(axis=-1) if name == "delta" else top)
    raise ValueError(f"unknown metric {metric!r}")


def _chosen(what: Model, rows: Rows) -> Rows:
    """The runs of a model, one for each seed, at the temperature or options that validation picks.

    Raises:
        TypeError: It is chosen by the selection rule.
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
        alphas = _alpha(row, "teacher"), _alpha(row, "student")
        return row["variant"] is None and alphas == (what.alpha_t, what.alpha_s)
    if not isinstance(what, Of):
        raise TypeError(f"{what} has no runs of its own")
    if row["variant"] is None or row["method"] != what.method:
        return False
    if what.options is None:
        return True
    options = json.loads(row["spec"])["variant"]["options"]
    if len(row["test_class_total"]) == 3 and "groups" not in what.options:
        options.pop("groups", None)  # as LTKD is planned for three classes
    return bool(options == dict(what.options))


def _alpha(row: Mapping[str, Any], who: str) -> float | None:
    """None for the standard objective, 0 for balanced, 1 for robust."""
    objective = row[f"{who}_objective"]
    named = {"standard": None, "balanced": 0.0, "robust": 1.0}
    if objective in named:
        return named[objective]
    alpha: float | None = row["alpha_t" if who == "teacher" else "alpha_s"]
    return alpha


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
        paper = [found[key].paper for key in keys]
        if len(keys) < 3 or len(set(paper)) == 1:
            continue
        ours = [found[key].value for key in keys]
        drawn = np.array([draws[key] for key in keys])
        rhos = [_spearman(paper, drawn[:, k]) for k in range(DRAWS)]
        low, high = np.nanquantile(rhos, _INTERVAL)
        correlations[metric] = Correlation(
            len(keys), _spearman(paper, ours), float(low), float(high)
        )
    return correlations


def _spearman(a: Iterable[Any], b: Iterable[Any]) -> float:
    b = list(b)
    return float("nan") if len(set(b)) == 1 else float(spearmanr(list(a), b).statistic)
