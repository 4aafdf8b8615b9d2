"""Metrics by name, built-in or of a plug-in, and costs from files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray
from analysis.runs.option_files import read_option_file
from analysis.selection.by_metric import ByMetric
from analysis.selection.criteria import Constrained
from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name
from rkd_core.metrics import per_class
from rkd_core.metrics.per_class import ClassMetric, Metric, Sample

__all__ = ["by_metric", "read_costs"]

_DRAWS = 100
"""Maximum number of bootstrap draws of a function that has to be called for each."""


def by_metric(
    rule: Constrained, name: str | None, costs: Path | None, names: Sequence[str] | None
) -> ByMetric:
    """Return a rule with a metric in the place of accuracy.

    Args:
        rule: The rule by accuracy.
        name: Name of the metric; None for ``cost``.
        costs: File of a cost matrix; None for none.
        names: Names of the classes; None if they are not known yet.

    Raises:
        UserError: There is no such metric, or it lacks its cost matrix, or has a wrong one.
    """
    about: dict[str, Any] = {}
    if name in (None, "cost"):
        if costs is None:
            raise UserError("--metric cost needs --cost-matrix FILE")
        matrix = read_costs(costs)
        if names is not None and len(matrix) != len(names):
            raise UserError(
                f"--cost-matrix {costs} is {len(matrix)} x {len(matrix)}, and there are "
                f"{len(names)} classes"
            )
        metric = per_class.cost(matrix)
        about["cost_matrix_sha256"] = hashlib.sha256(matrix.tobytes()).hexdigest()
    else:
        assert name is not None
        if costs is not None:
            raise UserError(f"--cost-matrix is for --metric cost, not for --metric {name}")
        metric = _named(name)
        if not per_class.is_built_in(name):
            about["code_digest"] = plugins.metrics.digest(name)
    k = name.removeprefix("top-") if name is not None and metric.name.startswith("top-") else ""
    if k.isdecimal() and names is not None and int(k) >= len(names):
        raise UserError(f"--metric {name} needs more than {k} classes, and there are {len(names)}")
    shared = {one.name: getattr(rule, one.name) for one in fields(rule)}
    return ByMetric(**shared, metric=metric, about=tuple(about.items()))


def _named(name: str) -> Metric:
    """Return a metric by name, built-in or of a plug-in.

    Raises:
        UserError: There is no such metric.
    """
    if per_class.is_built_in(name):
        return per_class.find(name)
    target = plugins.metrics.get(name)
    if target is None:
        raise unknown_name("--metric", name, [*per_class.NAMES, *plugins.metrics.known()])
    made = target if isinstance(target, ClassMetric) else ClassMetric(target)
    return Metric(
        name,
        name,
        partial(_evaluate, name, made),
        "logits",
        made.lower_is_better,
        made.fraction,
        most_draws=_DRAWS,
    )


def _evaluate(name: str, made: ClassMetric, sample: Sample, weights: FloatArray) -> FloatArray:
    """Return the figures of a plug-in's metric for each weighting, ``(draws, classes)``.

    Weights are whole numbers: an image with the weight 2 is passed twice.
    """
    assert sample.log_probabilities is not None
    every, found = np.arange(len(sample.labels)), np.empty((len(weights), sample.classes))
    present = np.bincount(sample.labels, minlength=sample.classes) > 0
    for row, weight in zip(found, weights, strict=True):
        drawn = np.repeat(every, weight.astype(np.int64))
        arguments = sample.labels[drawn], sample.log_probabilities[drawn]
        called = partial(_called, made, *arguments)
        values = plugins.call(called, f"--metric {name}")
        if values.shape != row.shape:
            raise UserError(
                f"--metric {name} must return a figure for each of the {sample.classes} classes, "
                f"not an array {values.shape}"
            )
        if not np.isfinite(values[present]).all():
            label = int(np.flatnonzero(present & ~np.isfinite(values))[0])
            raise UserError(f"--metric {name} returns {values[label]} for class {label}")
        row[:] = np.where(present, values, np.nan)
    return found


def _called(made: ClassMetric, labels: NDArray[Any], log_p: FloatArray) -> FloatArray:
    return np.asarray(made.function(labels, log_p), dtype=np.float64)


def _check(name: str, target: object) -> None:
    if not isinstance(target, ClassMetric) and not callable(target):
        raise UserError(f"{type(target).__name__} is not a metric: register a function")


plugins.metrics.built_in(lambda: (*per_class.NAMES, "top-5"), _check)


def read_costs(path: Path) -> FloatArray:
    """Return a cost matrix, ``(classes, classes)``, from CSV, JSON or a NumPy file.

    Raises:
        UserError: It cannot be read, is not square, or has a value that is not a finite number.
    """
    endings = (".csv", ".json", ".npy")
    what, ending, content = read_option_file("--cost-matrix", path, endings)
    try:
        if ending == ".npy":
            matrix = np.load(io.BytesIO(content), allow_pickle=False)
        elif ending == ".json":
            matrix = json.loads(content)
        else:
            matrix = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if row]
        costs = np.asarray(matrix, dtype=np.float64)
    except (ValueError, TypeError, EOFError) as error:
        raise UserError(f"{what} must hold numbers only, a row for each class: {error}") from None
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1]:
        shape = " x ".join(map(str, costs.shape))
        raise UserError(f"{what} must have as many rows as columns, not {shape or 'one number'}")
    if not np.isfinite(costs).all():
        row, column = np.argwhere(~np.isfinite(costs))[0] + 1
        raise UserError(f"{what}: row {row}, column {column} must be a finite number")
    return costs
