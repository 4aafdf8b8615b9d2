"""Figures of class buckets and cumulative gains, modeled on Teacher's pet.

They follow Figures 2, 4, 8, 9 and 10 of Lukasik et al. (TMLR 2022). Values are means over seeds on
test; figures whose data the records lack are omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.report.pareto import rounded
from analysis.runs.columns import FloatArray, counts
from analysis.runs.loading import WITHOUT_TEACHER, Runs
from analysis.selection.outcome import Outcome
from analysis.selection.recommendation import recommendation
from analysis.views.tables import teacher_of
from rkd_core.metrics import recalls
from rkd_core.metrics.class_groups import equal_groups

__all__ = ["Model", "buckets", "gains", "models", "regularization"]

_BUCKETS = 10
_DASHES = {"standard": "solid", "selected": "solid", "one_hot": "dot", "teacher": "dash"}
"""Line style of each model."""


@dataclass(frozen=True)
class Model:
    """A model to compare, with one record per seed."""

    key: str
    """``selected``, ``standard``, ``teacher`` or ``one_hot``."""
    name: str
    table: pa.Table


def models(outcome: Outcome, runs: Runs) -> list[Model]:
    """Return the selected student, standard distillation, its teacher, and the one-hot student."""
    s = outcome.selection
    c = s.combinations
    found = [
        Model("standard", "standard distillation", _rows(runs.students, c.run_ids(s.reference)))
    ]
    if s.selected != s.reference:
        name = "to ship" if recommendation(outcome).ship else "selected"
        table = runs.with_shift(float(c.shift[s.selected]))
        found.insert(0, Model("selected", name, _rows(table, c.run_ids(s.selected))))
    place = teacher_of(outcome, s.reference)
    if place is not None:
        ids = outcome.teachers.combinations.run_ids(place)
        found.append(Model("teacher", "standard teacher", _rows(runs.teachers, ids)))
    standard = pc.is_null(runs.variants["student_objective"])
    same = pc.equal(runs.variants["architecture"], outcome.setting.student_architecture)
    alone = pc.and_(pc.equal(runs.variants["method"], WITHOUT_TEACHER), standard)
    alone = runs.variants.filter(pc.and_(alone, same))
    if len(alone):
        found.append(Model("one_hot", "student without a teacher", alone))
    return found


def buckets(found: Sequence[Model]) -> dict[str, Any] | None:
    """Return accuracy, log-loss and margin in 10 buckets of classes, the teacher's best first.

    Classes are sorted by the teacher's accuracy on validation, so that noise on test does not
    affect the order. The result is None without a teacher.
    """
    teacher = next((model for model in found if model.key == "teacher"), None)
    if teacher is None:
        return None
    total, correct = counts(teacher.table.combine_chunks(), "val")
    accuracy = np.nan_to_num(_mean(recalls(correct, total)))
    groups = _groups(np.argsort(-accuracy, kind="stable"))
    figures = {
        "accuracy": ("accuracy, %", lambda m: 100 * _mean(_recalls(m.table, "test"))),
        "log_loss": ("log-loss", lambda m: _class_means(m.table, "test_class_log_loss")),
        "margin": ("margin", lambda m: _class_means(m.table, "test_class_margin")),
    }
    drawn = {}
    for key, (title, values) in figures.items():
        lines = _lines(found, values, groups)
        if lines:
            drawn[key] = {"title": title, "lines": lines}
    return {"figures": drawn, "sizes": [len(group) for group in groups]}


def regularization(found: Sequence[Model], train_counts: Sequence[int] | None) -> dict[str, Any]:
    """Return the share of regularization samples in 10 buckets of classes, largest classes first.

    A regularization sample is an image whose label the student finds more probable than its
    teacher does. Figure 10 of the paper uses test images; here they are validation images,
    since teachers do not predict test images.
    """
    if train_counts is None:
        return {}
    groups = equal_groups(train_counts, min(_BUCKETS, len(train_counts)))
    drawn = {}
    for split, title in (("train", "on training images, %"), ("val", "on validation images, %")):
        lines = []
        for model in found:
            if model.key in ("selected", "standard"):
                samples = _class_means(model.table, f"{split}_regularization_samples")
                total = _class_means(model.table, f"{split}_class_total")
                if samples is not None and total is not None:
                    share = [100 * samples[g].sum() / max(total[g].sum(), 1) for g in groups]
                    lines.append(_line(model, np.array(share)))
        if lines:
            drawn[split] = {"title": title, "lines": lines}
    return drawn


def gains(found: Sequence[Model]) -> dict[str, Any] | None:
    """Return the gain in mean test accuracy over the k worst classes for each k, in points.

    The worst classes are those of each model, as in its worst-k accuracy. The selected student is
    compared with standard distillation and, as in the paper, standard distillation with the
    student without a teacher, if there is one.
    """
    curves = {model.key: _worst_k(model.table) for model in found}
    pairs = [("selected", "standard"), ("standard", "one_hot")]
    names = {model.key: model.name for model in found}
    lines = [
        {
            "name": f"{names[one]} − {names[other]}",
            "key": one,
            "dash": "solid",
            "y": rounded(100 * (curves[one] - curves[other]), 3),
        }
        for one, other in pairs
        if one in curves and other in curves and len(curves[one]) == len(curves[other])
    ]
    return {"lines": lines} if lines else None


def _worst_k(table: pa.Table) -> FloatArray:
    """Return mean worst-k accuracies over runs, for k from 1, among the classes with images."""
    r = np.sort(_recalls(table, "test"), axis=1)
    r = r[:, np.isfinite(r).all(axis=0)]
    return np.asarray((np.cumsum(r, axis=1) / np.arange(1, r.shape[1] + 1)).mean(axis=0))


def _lines(
    found: Sequence[Model],
    values: Callable[[Model], FloatArray | None],
    groups: list[list[int]],
) -> list[dict[str, Any]]:
    lines = []
    for model in found:
        per_class = values(model)
        if per_class is not None:
            means = [_mean(per_class[group][:, None])[0] for group in groups]
            lines.append(_line(model, np.array(means)))
    return lines


def _line(model: Model, y: FloatArray) -> dict[str, Any]:
    return {"name": model.name, "key": model.key, "dash": _DASHES[model.key], "y": rounded(y, 4)}


def _groups(order: np.ndarray) -> list[list[int]]:
    """Return classes in order as buckets whose sizes differ by at most one."""
    return [part.tolist() for part in np.array_split(order, min(_BUCKETS, len(order)))]


def _rows(table: pa.Table, run_ids: list[str]) -> pa.Table:
    return table.filter(pc.is_in(table["run_id"], value_set=pa.array(run_ids, pa.string())))


def _recalls(table: pa.Table, split: str) -> FloatArray:
    total, correct = counts(table.combine_chunks(), split)
    return recalls(correct, total)


def _class_means(table: pa.Table, name: str) -> FloatArray | None:
    """Return the mean of a list column over runs, ``(classes,)``; None if a record lacks it."""
    rows = table[name].to_pylist()
    if None in rows or len({len(row) for row in rows}) != 1:
        return None
    return _mean(np.array([[np.nan if v is None else v for v in row] for row in rows], float))


def _mean(values: FloatArray) -> FloatArray:
    """Return means over the first axis, ignoring NaN; NaN where all values are NaN."""
    present = np.isfinite(values)
    number, total = present.sum(axis=0), np.where(present, values, 0).sum(axis=0)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
