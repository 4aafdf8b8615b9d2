"""Connections to MLflow and Weights & Biases: a run for each training, and one for the sweep."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rkd_core.errors import first_line
from rkd_core.storage.files import Location, expanded, local_path
from sweeps.cli.options import Tracking

__all__ = ["Answer", "connect_trackers", "publish_answer"]

_PATIENCE = {  # the sweep waits for each answer, by default for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_FILES = ("selection.json", "report.html", "pareto.png")
_FIGURES = (
    "val_worst_class_accuracy",
    "val_average_accuracy",
    "test_worst_class_accuracy",
    "test_average_accuracy",
)
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
        from sweeps.running.on_ray.mlflow_runs import ChildRuns

        found.append(
            Tracker(_mlflow_flag(choice), ChildRuns(*_mlflow(choice, experiment, out)), notify)
        )
    if choice.wandb:
        from ray.air.integrations.wandb import WandbLoggerCallback

        own = _wandb_folder(out)
        group = _name(out)
        inner = WandbLoggerCallback(choice.wandb, group, upload_timeout=_UPLOAD_SECONDS, **own)
        found.append(Tracker(f"--wandb {choice.wandb}", inner, notify))
    return found


def publish_answer(
    choice: Tracking, experiment: str, out: Location, notify: Callable[[str], object]
) -> None:
    """Send the selection, the picture and the report to the trackers, as one run per sweep.

    Args:
        choice: Trackers to send to.
        experiment: As for ``connect_trackers``.
        out: Results folder with the answer; without one, nothing is sent.
        notify: Function that is called with a message when a tracker fails.
    """
    senders: list[tuple[str, Callable[[Answer], None]]] = []
    if choice.mlflow is not None:
        senders.append((_mlflow_flag(choice), partial(_to_mlflow, choice, experiment, out)))
    if choice.wandb:
        senders.append((f"--wandb {choice.wandb}", partial(_to_wandb, choice.wandb, out)))
    answer = Answer.read(out) if senders else None
    if answer is None:
        return
    for flag, send in senders:
        try:
            send(answer)
        except Exception as error:  # the answer is in the results folder anyway
            notify(f"{flag} failed ({first_line(error)}); the answer is in {out} alone")


@dataclass(frozen=True)
class Answer:
    """The selection of a sweep, as trackers show it.

    Attributes:
        parameters: Setting of the selected student.
        figures: Its accuracies, by the names of the record columns.
        files: Files to attach.
    """

    parameters: Mapping[str, Any]
    figures: Mapping[str, float]
    files: Sequence[Path]

    @classmethod
    def read(cls, out: Location) -> Answer | None:
        """Return the answer in a results folder; None without one, or in an object store."""
        folder = local_path(out)
        if folder is None or not (folder / "selection.json").is_file():
            return None
        selected = json.loads((folder / "selection.json").read_bytes())["selected"]
        names = ("alpha_t", "alpha_s")
        parameters = {n: "standard" if selected[n] is None else selected[n] for n in names}
        parameters |= {name: selected[name] for name in ("temperature", "shift", "run_ids")}
        figures = {name: selected.get(name) for name in _FIGURES}
        return cls(
            {name: value for name, value in parameters.items() if value is not None},
            {name: value for name, value in figures.items() if value is not None},
            [path for name in _FILES if (path := folder / name).is_file()],
        )


def _to_mlflow(choice: Tracking, experiment: str, out: Location, answer: Answer) -> None:
    from sweeps.running.on_ray.mlflow_runs import parent_run

    uri, name, results = _mlflow(choice, experiment, out)
    client, run_id = parent_run(uri, name, results)
    for key, value in answer.parameters.items():
        client.set_tag(run_id, key, str(value))  # a parameter cannot change, the selection can
    for key, value in answer.figures.items():
        client.log_metric(run_id, key, value)
    for path in answer.files:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)


def _to_wandb(project: str, out: Location, answer: Answer) -> None:
    import wandb

    name = _name(out)
    run = wandb.init(
        project=project,
        group=name,
        name=name,
        job_type="sweep",
        config=dict(answer.parameters),
        **_wandb_folder(out),
    )
    run.summary.update(dict(answer.figures))
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type="sweep")
    for path in answer.files:
        artifact.add_file(str(path))
    run.log_artifact(artifact)
    run.finish()


def _wandb_folder(out: Location) -> dict[str, str]:
    """Return the argument for the folder of Weights & Biases; empty for its own choice.

    The default is Ray's session folder, from which the last files are not fetched.
    """
    folder = None if "WANDB_DIR" in os.environ else local_path(out)
    return {} if folder is None else {"dir": str(folder.resolve())}


def _name(out: Location) -> str:
    """Return the name of a sweep in a tracker: that of its results folder."""
    folder = local_path(out)
    return out.name if folder is None else folder.resolve().name


def _mlflow_flag(choice: Tracking) -> str:
    return " ".join(["--mlflow", *(choice.mlflow or ())])


def _mlflow(choice: Tracking, experiment: str, out: Location) -> tuple[str | None, str, str]:
    """Return the tracking URI, the name of the experiment, and the results folder as a tag."""
    uri = _uri(choice.mlflow[0]) if choice.mlflow else None
    folder = local_path(out)
    results = str(out if folder is None else folder.resolve())
    return uri, os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment), results


def _uri(text: str) -> str:
    """Return the URI with ``~`` expanded in a path, since MLflow does not expand it."""
    return str(expanded(text)) if text.startswith("~") else text
