"""What a Ray actor runs: one training from a trial's config, whatever ran in the actor before.

Nothing may survive from one trial to the next in a reused actor. Every random choice of a
training is seeded by its spec, and ``Execution.prepare`` sets what is global to a process.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from rkd_core.datasets import Dataset
from rkd_core.execution import Execution
from rkd_core.specs import TrainingSpec
from rkd_core.training import Progress, train
from sweeps.cause import describe, details

__all__ = ["train_trial"]

_REPORT_SECONDS = 0.5  # a report costs the driver about 2 ms, and nobody reads faster


def train_trial(
    config: dict[str, Any], *, dataset: Dataset, out: str, execution: Execution
) -> None:
    """Train ``config["spec"]``, and report figures after epochs and how it ended."""
    reported = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _REPORT_SECONDS or progress.val_average_accuracy is not None:
            reported = now
            figures = {k: v for k, v in asdict(progress).items() if v is not None}
            tune.report(figures | {"timesteps_total": progress.epoch})  # TensorBoard's abscissa

    try:
        (row,) = train(
            [TrainingSpec.model_validate_json(config["spec"])],
            out=Path(out),
            data=dataset,
            execution=execution,
            report=report,
        )
    except Exception as error:
        if isinstance(error, torch.AcceleratorError):
            raise  # the CUDA context is broken, so this process has to go, and Tune tries anew
        # The driver records it and goes on, and this actor can train the next one.
        tune.report({"status": "failed", "cause": describe(error), "details": details(error)})
    else:
        tune.report(
            {name: row[name] for name in _REPORTED}
            | {"status": "completed", "timesteps_total": row["epochs"]}
        )


_REPORTED = (
    "val_average_accuracy",
    "val_worst_class_accuracy",
    "train_loss",
    "train_seconds",
)
