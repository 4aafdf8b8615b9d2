"""What a Ray actor runs: one training from a trial's config, whatever ran in the actor before.

Nothing may survive from one trial to the next in a reused actor. Every random choice of a
training is seeded by its spec, so there is nothing to reset but the number of threads.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from rkd_core.datasets import Dataset
from rkd_core.execution import Execution, Precision
from rkd_core.specs import TrainingSpec
from rkd_core.training import Progress, train
from sweeps.cause import describe

__all__ = ["train_trial"]

_REPORT_SECONDS = 0.5  # a report costs the driver about 2 ms, and nobody reads faster


def train_trial(
    config: dict[str, Any],
    dataset: Dataset,
    out: str,
    threads: int,
    gpu: bool,
    precision: Precision,
) -> None:
    """Train ``config["spec"]``, and report figures after epochs and how it ended."""
    torch.set_num_threads(threads)
    reported = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _REPORT_SECONDS:
            reported = now
            tune.report({k: v for k, v in asdict(progress).items() if v is not None})

    try:
        (row,) = train(
            [TrainingSpec.model_validate_json(config["spec"])],
            out=Path(out),
            data=dataset,
            execution=Execution("cuda" if gpu else "cpu", precision),
            report=report,
        )
    except Exception as error:  # the driver records it and goes on; the actor stays usable
        tune.report({"status": "failed", "cause": describe(error)})
    else:
        tune.report({name: row[name] for name in _REPORTED} | {"status": "completed"})


_REPORTED = (
    "val_average_accuracy",
    "val_worst_class_accuracy",
    "train_loss",
    "train_seconds",
)
