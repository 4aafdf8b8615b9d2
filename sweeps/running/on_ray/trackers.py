"""Connections to MLflow and Weights & Biases through callbacks of Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rkd_core.storage.files import Location, expanded, local_path
from sweeps.cli.options import Tracking

__all__ = ["connect_trackers"]

_PATIENCE = {  # the sweep waits for each answer, by default for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_UPLOAD_SECONDS = 120  # at the end; figures that were not sent by then stay in local files


def connect_trackers(
    choice: Tracking, experiment: str, out: Location, notify: Callable[[str], object]
) -> list[Any]:
    """Return connected callbacks for Ray Tune.

    Args:
        choice: Trackers to connect to.
        experiment: Name of the experiment in MLflow, unless ``MLFLOW_EXPERIMENT_NAME`` is set.
        out: Results folder; Weights & Biases keeps its files there, unless ``WANDB_DIR`` is set.
        notify: Function that is called with a message when a tracker has failed.

    Raises:
        UserError: A tracker cannot be reached, or refuses the credentials.
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

        # The default is Ray's session folder, from which the last files are not fetched.
        folder = None if "WANDB_DIR" in os.environ else local_path(out)
        own = {} if folder is None else {"dir": str(folder.resolve())}
        inner = WandbLoggerCallback(choice.wandb, upload_timeout=_UPLOAD_SECONDS, **own)
        found.append(Tracker(f"--wandb {choice.wandb}", inner, notify))
    return found


def _uri(text: str) -> str:
    """Return the URI with ``~`` expanded in a path, since MLflow does not expand it."""
    return str(expanded(text)) if text.startswith("~") else text
