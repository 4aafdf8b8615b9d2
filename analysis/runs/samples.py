"""Predictions of single models with the logits that a metric needs, one model at a time.

Validation and test predictions are read by different functions; selection calls the former only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.runs.image_groups import ImageGroups
from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.metrics.per_class import Metric, Sample, group_accuracy
from rkd_core.records import predictions
from rkd_core.records.predictions import Split
from rkd_core.storage import files
from rkd_core.storage.files import Location

__all__ = ["held_out_samples", "images_of", "samples"]


def samples(
    results: Location, run_ids: Iterable[str], metric: Metric, groups: ImageGroups | None = None
) -> Iterator[Sample]:
    """Yield the validation predictions of runs, in the given order.

    Args:
        results: A results folder.
        run_ids: Completed runs.
        metric: Metric to evaluate, which says what to read.
        groups: Groups of the images; None for none.

    Raises:
        UserError: A run has no predictions or none with these logits, or they are damaged, of
            another data set, or of other images than those of the other runs, or an image has no
            group.
    """
    return _read(results, "val", run_ids, metric, groups)


def held_out_samples(
    results: Location, run_ids: Iterable[str], metric: Metric, groups: ImageGroups | None = None
) -> Iterator[Sample]:
    """Yield the test predictions of runs; see ``samples``."""
    return _read(results, "test", run_ids, metric, groups)


def images_of(results: Location, run_id: str) -> dict[Split, NDArray[Any]]:
    """Return the images of validation and of test that a run has predictions of.

    Raises:
        UserError: It has no predictions, or they are damaged.
    """
    metric, found = group_accuracy(), {}
    for split in predictions.SPLITS:
        path = predictions.file_of(results, split, run_id)
        content = _content(path, results, metric)
        found[split] = predictions.parse(path, content, ["image"]).columns["image"]
    return found


def _read(
    results: Location,
    split: Split,
    run_ids: Iterable[str],
    metric: Metric,
    given: ImageGroups | None,
) -> Iterator[Sample]:
    wanted = list(run_ids)
    table = records.read(results / "records", wanted)
    table = table.filter(pc.equal(table["status"], "completed"))
    names, marks = (table[name].to_pylist() for name in ("run_id", "data_fingerprint"))
    fingerprints = dict(zip(names, marks, strict=True))
    images: tuple[str, ...] | None = None
    labels: NDArray[Any] = np.empty(0, np.int32)
    groups: NDArray[Any] | None = None
    for run_id in wanted:
        path = predictions.file_of(results, split, run_id)
        content = _content(path, results, metric)
        kept = predictions.parse(path, content, ())
        if kept.data_fingerprint != fingerprints.get(run_id):
            raise UserError(f"{path} holds predictions for another data set; move it away")
        sums = tuple(kept.digests[name] for name in ("image", "label"))
        if images is not None and sums != images:
            raise UserError(f"{path} has other images than the predictions of the other runs")
        columns = ["predicted", *_columns(path, kept.digests, metric, results)]
        columns += [] if images is not None else ["image", "label"]
        found = predictions.parse(path, content, columns).columns
        if images is None:
            images, labels = sums, found["label"]
            groups = None if given is None else given.of(split, found["image"])
        logits = found.get("logits")
        yield Sample(
            labels,
            kept.classes,
            found["predicted"],
            found.get("top_classes"),
            None if logits is None else _log_softmax(logits),
            groups,
            0 if given is None else len(given.names),
        )


def _content(path: Location, results: Location, metric: Metric) -> bytes:
    try:
        return files.read(path)
    except FileNotFoundError as error:
        raise UserError(
            f"--metric {metric.name} needs predictions, and {path} is missing; compute it with: "
            f" python -m sweeps.predict {results}"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error})") from error


def _columns(
    path: Location, kept: Iterable[str], metric: Metric, results: Location
) -> tuple[str, ...]:
    """Return the columns of logits that a metric reads, beside the predicted label."""
    if metric.needs == "predicted":
        return ()
    if "logits" in kept:
        return ("logits",)
    if metric.needs == "top":
        return ("top_classes",)
    folder = results / predictions.FOLDER
    raise UserError(
        f"--metric {metric.name} needs the logits of all classes, and {path} has the largest ones "
        f"only; move {folder} away and compute all with: "
        f"python -m sweeps.predict {results} --keep-predictions full"
    )


def _log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores
