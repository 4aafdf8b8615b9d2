"""Predictions of completed trainings, computed from their artifacts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from rkd_core.datasets import Dataset
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution, Precision
from rkd_core.errors import UserError
from rkd_core.records import predictions
from rkd_core.records.predictions import SPLITS, Kept
from rkd_core.results import artifacts, ledger
from rkd_core.storage.files import Location
from rkd_core.teachers.answers import placed
from rkd_core.training.given_teacher import measure_given
from rkd_core.training.measurement import measure

__all__ = ["predict"]


def predict(
    out: Location, run_id: str, dataset: Dataset, execution: Execution, keep: Kept | None = None
) -> int:
    """Publish the predictions that a completed run lacks.

    They come from its artifact, if that holds them, or else from an evaluation in the precision of
    the training.

    Args:
        out: Results folder.
        run_id: The run.
        dataset: Dataset of the run, cut as its spec says.
        execution: Device and threads.
        keep: Logits to keep, see ``rkd_core.records.predictions.form``.

    Returns:
        Number by which correct predictions per class differ from the record, summed over classes;
        0 on the machine that trained the run, and usually elsewhere.

    Raises:
        UserError: The artifact is missing or damaged, or of other data.
    """
    row = artifacts.committed_record(out / "artifacts", run_id)
    if row is None:
        raise UserError(f"{out / 'artifacts'} has no run {run_id}")
    ledger.publish_predictions(out, run_id)
    if artifacts.predictions_digests(out / "artifacts", run_id):
        return 0
    if row["data_fingerprint"] != dataset.fingerprint:
        raise UserError(f"run {run_id} was trained on other data than {dataset.name} has now")
    artifact = artifacts.load(out / "artifacts", run_id)
    precision = "bfloat16" if row["precision"] == "bfloat16" else "float32"
    execution = replace(execution, precision=cast(Precision, precision))
    if artifact.spec.given_logits is not None:
        measured = measure_given(artifact, dataset, run_id, keep)
    else:
        data = ArrayData(artifact.spec, dataset, execution.prepared(dataset.image_size))
        measured = measure(placed(artifact, data), data, artifact.spec, run_id, keep=keep)
    predictions.publish(out, run_id, measured.predictions)
    found, stated = measured.columns, cast(dict[str, Any], row)
    return sum(
        abs(one - other)
        for name in (f"{split}_class_correct" for split in SPLITS)
        for one, other in zip(found[name], stated[name], strict=True)
    )
