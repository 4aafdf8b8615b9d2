"""MLflow and Weights & Biases, through Ray's own callbacks, where they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rkd_core.storage.files import expanded, is_local
from sweeps.cli.options import Tracking

__all__ = ["connect_trackers"]

_PATIENCE = {  # the sweep waits for each answer, by default of MLflow for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_UPLOAD_SECONDS = 120  # at the end, what Weights & Biases has not sent is left in its own files


def connect_trackers(
    choice: Tracking, experiment: str, out: Path, notify: Callable[[str], object]
) -> list[Any]:
    """Callbacks for Ray Tune, ready to be sent figures.

    Args:
        choice: Which.
        experiment: Name of the experiment in MLflow, unless ``MLFLOW_EXPERIMENT_NAME`` is set.
        out: Results folder; Weights & Biases keeps its files there, unless ``WANDB_DIR`` is set.
        notify: Told in a line when a tracker has failed.

    Raises:
        UserError: A tracker cannot be reached, or does not know who we are.
    """
    if choice.mlflow is None and not choice.wandb:
        return []
    from sweeps.running.on_ray.tracker import Tracker

    found = []
    if choice.mlflow is not None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        inner = MLflowLoggerCallback(
            tracking_uri=_uri(choice.mlflow[0]) if choice.mlflow else None,
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment),
        )
        found.append(Tracker(" ".join(["--mlflow", *choice.mlflow]), inner, notify))
    if choice.wandb:
        from ray.air.integrations.wandb import WandbLoggerCallback

        # By default they lie in Ray's session folder, whence the last ones are not fetched.
        elsewhere = "WANDB_DIR" in os.environ or not is_local(out)
        own = {} if elsewhere else {"dir": str(out.resolve())}
        inner = WandbLoggerCallback(choice.wandb, upload_timeout=_UPLOAD_SECONDS, **own)
        found.append(Tracker(f"--wandb {choice.wandb}", inner, notify))
    return found


def _uri(text: str) -> str:
    """Return the URI with ``~`` expanded in a path, since MLflow does not expand it."""
    return str(expanded(text)) if text.startswith("~") else text
