"""Record of a completed run, and description of its network."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import numpy as np
import torch

from rkd_core import records
from rkd_core.datasets import Dataset
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.streamed_set import StreamedImageSet
from rkd_core.device.execution import Execution
from rkd_core.specs import TrainingSpec, revision

__all__ = ["completed", "description"]


def completed(
    spec: TrainingSpec,
    run_id: str,
    dataset: Dataset,
    execution: Execution,
    started_at: datetime,
    figures: Mapping[str, Any],
) -> records.Record:
    """Return the record of a completed run.

    Args:
        spec: Spec of the run.
        run_id: Run id of the spec.
        dataset: Dataset of the run.
        execution: Device and precision of the training.
        started_at: Start of the training.
        figures: Measured columns.
    """
    record: dict[str, Any] = {
        **records.identity(spec, run_id, dataset.fingerprint),
        "class_names": list(dataset.class_names),
        "train_class_total": dataset.class_counts("train").tolist(),
        **figures,
        "started_at": started_at,
        "host": execution.host,
        "device": execution.device_name,
        "precision": execution.precision,
        "versions": _versions(),
        "status": "completed",
    }
    return cast(records.Record, record)


def description(spec: TrainingSpec, data: ArrayData, iterates: int | None) -> dict[str, Any]:
    """Return the content of an artifact's ``model.json``: everything needed to use its weights.

    Args:
        spec: Spec of the run.
        data: Data of the training, with its normalization.
        iterates: Number of averaged iterates; None for a single network.
    """
    mean, std = data.statistics
    dataset = data.dataset
    arrays: dict[str, Any] = {} if dataset.of_images else {"input": "array"}
    return arrays | {
        "architecture": spec.architecture,
        "architecture_revision": revision("architecture", spec.architecture),
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "channels": dataset.channels,
        "image_size": list(dataset.image_size),
        "resized": _resized(data),
        "decoding": dataset.decoding.parameters(),
        "normalization": {"mean": mean.tolist(), "std": std.tolist()},
        "iterates": iterates,
    }


def _resized(data: ArrayData) -> int | None:
    """Return the shorter side of images before the center crop; None if they are not resized."""
    images = data.dataset.test
    return images.resized if isinstance(images, StreamedImageSet) else data.data_options.image_size


def _versions() -> str:
    loaded = {"timm": _version("timm")} if "timm" in sys.modules else {}
    return json.dumps(
        {
            "robust-distillation": _version("robust-distillation"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": _version("torchvision"),
            "numpy": np.__version__,
            **loaded,
        }
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # not installed, as in a clone
        return None
