"""Shifts of trained students from their stored networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from rkd_core.datasets import Dataset
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.models.inference import logits_of
from rkd_core.models.predictor import rebuild
from rkd_core.records import shifts
from rkd_core.results import artifacts
from rkd_core.storage import bundles
from rkd_core.storage.files import Location

__all__ = ["compute_missing", "evaluated"]

Evaluated = tuple[NDArray[np.float32], NDArray[np.int64]]


def compute_missing(
    out: Location,
    run_ids: Iterable[str],
    dataset: Dataset,
    execution: Execution,
    stop: Callable[[], bool] = bool,
) -> list[str]:
    """Compute the shifts of completed students that have none, from their stored networks.

    Args:
        out: Results folder.
        run_ids: Completed students of the dataset; those without an artifact are left out.
        dataset: Dataset with the students' validation and test images.
        execution: Device, precision and threads.
        stop: Function called before each student; when it returns true, the others are left out.

    Returns:
        One line for each student whose artifact cannot be used.
    """
    execution, problems = execution.prepared(dataset.image_size), []
    for run_id in run_ids:
        if stop():
            break
        if not bundles.exists(out / "artifacts" / run_id):
            continue
        try:
            shifts.write(out, shifts.table(run_id, *evaluated(out, run_id, dataset, execution)))
        except UserError as error:
            problems.append(str(error))
    return problems


def evaluated(
    out: Location, run_id: str, dataset: Dataset, execution: Execution
) -> tuple[Evaluated, Evaluated]:
    """Return a student's float32 logits ``(n, classes)`` and the labels, on validation and test.

    Raises:
        UserError: Its artifact is missing or damaged.
    """
    artifact = artifacts.load(out / "artifacts", run_id)
    model = rebuild(artifact).to(execution.device).to(memory_format=torch.channels_last)
    data = ArrayData(artifact.spec, dataset, execution)
    val, test = (
        (logits_of(model, batches, execution).cpu().numpy(), images.labels)
        for batches, images in ((data.validation, dataset.val), (data.test, dataset.test))
    )
    return val, test
