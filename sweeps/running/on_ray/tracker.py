"""Adapter between Ray Tune and a logger callback, whose errors do not affect trainings.

Ray sends a callback everything that a trial reports, and an error of the callback ends the sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.logger import LoggerCallback

from rkd_core.errors import UserError, first_line

__all__ = ["Tracker"]

log = logging.getLogger(__name__)

_CONFIG = ("run_id", "label", "alpha_t", "alpha_s", "temperature", "seed")
_FIGURES = (
    "epoch",
    "train_loss",
    "learning_rate",
    "val_average_accuracy",
    "val_worst_class_accuracy",
    "train_seconds",
)
_STEPS = ("training_iteration", "timesteps_total")  # x-axes of the callbacks of Ray


class Tracker(LoggerCallback):
    """Logger callback that forwards figures to another one until that one fails.

    Args:
        flag: Option that requested it.
        inner: The other callback, which is set up here.
        notify: Function that is called with a message when it has failed.

    Raises:
        UserError: The other callback cannot be set up.
    """

    def __init__(self, flag: str, inner: Any, notify: Callable[[str], object]) -> None:
        self._flag, self._inner, self._notify = flag, inner, notify
        self._shown: dict[str, _Shown] = {}
        try:
            inner.setup()
        except Exception as error:
            raise UserError(f"{flag}: {first_line(error)}") from error

    def setup(self, *args: Any, **info: Any) -> None:
        """Do nothing: the other callback is set up already."""

    def log_trial_start(self, trial: Any) -> None:
        """Start a run."""
        shown = self._shown.setdefault(trial.trial_id, _Shown(trial))
        self._pass_on("log_trial_start", shown)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Log a validated epoch, or the end of a training."""
        shown = self._shown[trial.trial_id]
        if figures := shown.figures(result):
            self._pass_on("log_trial_result", iteration, shown, figures)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End a run."""
        shown = self._shown.pop(trial.trial_id)
        self._pass_on("log_trial_end", shown, failed or shown.failed)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Wait for figures that are still being sent."""
        self._pass_on("on_experiment_end", [], **info)

    def _pass_on(self, name: str, *args: Any, **info: Any) -> None:
        if self._inner is None:
            return
        try:
            getattr(self._inner, name)(*args, **info)
        except Exception as error:  # the training continues after any error
            self._inner = None
            log.warning("%s", self._flag, exc_info=error)
            self._notify(f"{self._flag} failed ({first_line(error)}); training goes on without it")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that Tune pickles, without the connection."""
        return {"_inner": None, "_shown": {}}


class _Shown:
    """View of a trial for a tracker, without specs, which are long, and without fields of Ray."""

    def __init__(self, trial: Any) -> None:
        self.trial_id, self.experiment_dir_name = trial.trial_id, trial.experiment_dir_name
        self.local_path, self._name = trial.local_path, str(trial)
        known = {name: trial.config.get(name) for name in _CONFIG}
        self.config = {name: value for name, value in known.items() if value is not None}
        self.failed = False
        self._alone = len(trial.config["specs"]) == 1

    def __str__(self) -> str:
        return self._name

    def figures(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return figures with their steps; empty for an epoch that was not validated.

        The sweep waits for each answer of the tracker, so not every epoch is logged.
        """
        run_id = str(result.get("run_id"))
        self.failed |= result.get("status") in ("failed", "dying")
        own = result if self._alone or "status" in result else result.get(run_id, {})
        if own.get("val_average_accuracy") is None:
            return {}
        found = {name: own[name] for name in _FIGURES if own.get(name) is not None}
        steps = {name: result[name] for name in _STEPS if name in result}
        return steps | (found if self._alone else {run_id: found})
