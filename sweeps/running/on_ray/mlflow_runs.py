"""Runs in MLflow: one for each sweep, with those of its trainings as children."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback

__all__ = ["ChildRuns", "parent_run"]

_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_RESULTS, _SWEEP = "results_folder", "sweep"
"""Tags: the first two are MLflow's own."""


class ChildRuns(MLflowLoggerCallback):
    """Logger callback of Ray whose runs are children of the run of the sweep.

    Args:
        uri: Tracking URI; None for that of the environment.
        experiment: Name of the experiment.
        results: Results folder, which identifies the sweep.
    """

    def __init__(self, uri: str | None, experiment: str, results: str) -> None:
        super().__init__(tracking_uri=uri, experiment_name=experiment)
        self._sweep = uri, experiment, results

    def log_trial_start(self, trial: Any) -> None:
        """Start a run, the first time below a run of the sweep."""
        if _PARENT not in self.tags:
            self.tags[_PARENT] = parent_run(*self._sweep)[1]
        super().log_trial_start(trial)


def parent_run(uri: str | None, experiment: str, results: str) -> tuple[Any, str]:
    """Return the client and the id of the run of a sweep, which is created if it does not exist.

    Args:
        uri: Tracking URI; None for that of the environment.
        experiment: Name of an experiment that exists.
        results: Results folder, which identifies the sweep.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    number = client.get_experiment_by_name(experiment).experiment_id
    key = hashlib.sha256(results.encode()).hexdigest()  # a path may have quotes
    for run in client.search_runs([number], f"tags.{_SWEEP} = '{key}'", max_results=1):
        return client, run.info.run_id
    name = re.split(r"[/\\\\]", results.rstrip("/"))[-1]
    made = client.create_run(number, tags={_NAME: name, _RESULTS: results, _SWEEP: key})
    return client, made.info.run_id
