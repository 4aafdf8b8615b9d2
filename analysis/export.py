"""The selection as a file: strict JSON, written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from analysis.columns import OBJECTIVES, FloatArray
from analysis.combinations import Combinations, Means
from analysis.outcome import Outcome
from rkd_core.files import replace_file

__all__ = ["SCHEMA_VERSION", "document", "write_json"]

SCHEMA_VERSION = 1


def document(outcome: Outcome) -> dict[str, Any]:
    """The content of ``selection.json``: plain data, None where a number is not defined.

    Accuracies are fractions and means over seeds. ``combinations`` and ``constraint`` rest on
    validation alone; ``frontier`` holds places in ``combinations``. ``worst_class`` is always the
    single worst class, ``worst_k`` the criterion's k classes.
    """
    selection, setting = outcome.selection, outcome.setting
    means, reference = selection.means, selection.reference
    rows = _rows(selection.combinations, selection.criterion.worst_k)
    for row, margin, admitted in zip(rows, selection.margin, selection.admitted, strict=True):
        row.update(margin=_number(margin), feasible=bool(admitted))
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": setting.dataset,
        "teacher_architecture": setting.teacher_architecture,
        "student_architecture": setting.student_architecture,
        "family": setting.family,
        "criterion": selection.criterion.describe(),
        "constraint": {
            "reference_run_ids": selection.combinations.run_ids(reference),
            "reference_val_average_accuracy": _number(means.average[reference]),
            "reference_val_average_accuracy_se": _number(means.average_se[reference]),
            "margin": _number(selection.margin[selection.selected]),
            "least_val_average_accuracy": _number(
                means.average[reference] - selection.margin[selection.selected]
            ),
        },
        "feasible": selection.feasible,
        "selected": _figures(outcome, selection.selected),
        "standard_distillation": _figures(outcome, reference),
        "combinations": rows,
        "frontier": selection.frontier.tolist(),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON atomically; a NaN in the content is an error."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(path, (text + "\n").encode())


def _rows(combinations: Combinations, worst_k: int) -> list[dict[str, Any]]:
    """Settings, seeds and validation accuracies of every combination."""
    c = combinations
    run_ids, seed, stop = c.run_id.to_pylist(), c.seed.tolist(), (c.start + c.seeds).tolist()
    runs = [slice(*ends) for ends in zip(c.start.tolist(), stop, strict=True)]
    columns: dict[str, list[Any]] = {
        "run_ids": [run_ids[rows] for rows in runs],
        "teacher_objective": [OBJECTIVES[i] for i in c.teacher_objective],
        "alpha_t": _numbers(c.alpha_t),
        "student_objective": [OBJECTIVES[i] for i in c.student_objective],
        "alpha_s": _numbers(c.alpha_s),
        "temperature": _numbers(c.temperature),
        "seeds": [seed[rows] for rows in runs],
        **_accuracies("val", c.means(), c.means(worst_k)),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _figures(outcome: Outcome, index: int) -> dict[str, Any]:
    """One combination in full, with its test figures and per-class recalls."""
    held_out, names = outcome.held_out, outcome.setting.class_names
    worst_k = outcome.selection.criterion.worst_k
    only = outcome.selection.combinations.only(index)
    test = _accuracies("test", held_out.means(only), held_out.means(only, worst_k))
    return {
        **_rows(only, worst_k)[0],
        "teacher_ids": only.teacher_id.to_pylist(),
        **{name: column[0] for name, column in test.items()},
        "val_recalls": dict(zip(names, _numbers(only.mean_recalls()), strict=True)),
        "test_recalls": dict(zip(names, _numbers(held_out.mean_recalls(only)), strict=True)),
    }


def _accuracies(split: str, worst_class: Means, worst_k: Means) -> dict[str, list[float | None]]:
    """One column per accuracy and standard error."""
    return {
        f"{split}_average_accuracy": _numbers(worst_class.average),
        f"{split}_average_accuracy_se": _numbers(worst_class.average_se),
        f"{split}_worst_class_accuracy": _numbers(worst_class.worst_k),
        f"{split}_worst_class_accuracy_se": _numbers(worst_class.worst_k_se),
        f"{split}_worst_k_accuracy": _numbers(worst_k.worst_k),
        f"{split}_worst_k_accuracy_se": _numbers(worst_k.worst_k_se),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: FloatArray) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
