"""What is written of a completed run: its record, and the description of its network."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import torch

from rkd_core import records
from rkd_core.datasets.array_data import Setting
from rkd_core.datasets.streamed_set import StreamedImageSet
from rkd_core.specs import TrainingSpec, revision

__all__ = ["completed", "description"]


def completed(
    spec: TrainingSpec,
    run_id: str,
    setting: Setting,
    started_at: datetime,
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a completed run.

    Args:
        spec: What was done.
        run_id: Its digest.
        setting: Data and device.
        started_at: When.
        figures: The columns that are measured.
    """
    dataset, execution = setting.dataset, setting.execution
    return records.identity(spec, run_id, dataset.fingerprint) | {
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


def description(architecture: str, setting: Setting, iterates: int | None) -> dict[str, Any]:
    """``model.json`` of the artifact: all that is needed to use the weights.

    Args:
        architecture: Of the network.
        setting: Its data and normalisation.
        iterates: How many are averaged; None for a single network.
    """
    mean, std = setting.statistics
    dataset = setting.dataset
    return {
        "architecture": architecture,
        "architecture_revision": revision("architecture", architecture),
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "channels": dataset.channels,
        "image_size": list(dataset.image_size),
        "resized": _resized(setting),
        "decoding": dataset.decoding.parameters(),
        "normalization": {"mean": mean.tolist(), "std": std.tolist()},
        "iterates": iterates,
    }


def _resized(setting: Setting) -> int | None:
    """Shorter side before the centre crop; None where images are taken as they are."""
    images = setting.dataset.test
    return (
        images.resized if isinstance(images, StreamedImageSet) else setting.data_options.image_size
    )


def _versions() -> str:
    return json.dumps(
        {
            "robust-distillation": _version("robust-distillation"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": _version("torchvision"),
            "numpy": np.__version__,
        }
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # run from a clone that is not installed
        return None
