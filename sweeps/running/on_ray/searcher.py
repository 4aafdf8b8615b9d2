"""Ray Tune searcher of a sweep, which releases a student when its teacher is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.running.failures import loss
from sweeps.running.sweep import Sweep

__all__ = ["ErrorForwarder", "PlanSearcher"]


class PlanSearcher(Searcher):
    """Ray Tune searcher that suggests trials that can start, or nothing while students wait.

    Use it with ``num_samples=-1``, since this searcher announces the end. With a fixed number Ray
    2.60 counts each empty suggestion and silently drops as many trainings.

    Args:
        sweep: Source of the trials.
        slots: Function that returns the number of trials that fit at present; None for no limit.
    """

    def __init__(self, sweep: Sweep, slots: Callable[[], int] | None = None) -> None:
        super().__init__()  # it optimizes nothing, so it has no metric
        self._sweep = sweep
        self._slots = slots
        self._under_way: dict[str, set[str]] = {}  # run ids that have not ended, by trial
        self._last_words: dict[str, str] = {}  # causes of dying processes, by run id
        self._losses: dict[str, str] = {}  # causes of dead processes, by trial

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial, None if none can start, or FINISHED."""
        trial = self._sweep.next() if self._room() else None
        if trial is None:
            return Searcher.FINISHED if self._sweep.over else None
        self._under_way[trial_id] = {run.run_id for run in trial.runs}
        run = trial.runs[0]
        alone = len(trial.runs) == 1
        return {
            "run_id": run.run_id,  # the trial's name
            "label": run.label + ("" if alone else f" and {len(trial.runs) - 1} more"),
            "alpha_t": run.spec.alpha if run.spec.teacher is None else run.spec.teacher.alpha,
            "alpha_s": run.spec.alpha if alone and run.spec.teacher is not None else None,
            "temperature": run.spec.temperature if alone else None,
            "seed": run.spec.seed,
            "until": trial.until,
            "specs": [run.spec.model_dump_json() for run in trial.runs],
            "students": [spec.model_dump_json() for spec in trial.students],
        }

    def _room(self) -> bool:
        if self._slots is None:
            return True
        slots = self._slots()
        self._sweep.slots = max(1, slots)
        return len(self._under_way) < slots

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass the figures of an epoch, or the outcome of a run, on to the sweep.

        A trial that restarts after its process died repeats the outcomes of ended runs.
        """
        run_id = str(result.get("run_id"))
        if run_id not in self._under_way.get(trial_id, ()):
            return
        if result.get("status") == "dying":
            self._last_words[run_id] = str(result["cause"])
        elif "status" in result:
            self._under_way[trial_id].remove(run_id)
            self._sweep.ended(result)
        else:
            prefix = f"{run_id}/"  # of figures of trainings side by side
            self._sweep.progressed(run_id, {k.removeprefix(prefix): result[k] for k in result})

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Report the runs of a trial that have not ended as lost.

        A training that raised an error reports its cause itself; the others lost their process.
        """
        if result is not None:
            self.on_trial_result(trial_id, result)
        cause = self._losses.pop(trial_id, loss(""))
        for run_id in self._under_way.pop(trial_id):
            self._sweep.lost(run_id, self._last_words.pop(run_id, cause))

    def lost(self, trial_id: str, cause: str) -> None:
        """Keep the cause of a dead process; ``on_trial_complete`` follows."""
        self._losses[trial_id] = cause

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that Tune pickles, without the sweep."""
        return self.__dict__ | {"_sweep": None, "_slots": None}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a restart reads the ledger of records."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; see ``save``."""


class ErrorForwarder(FIFOScheduler):
    """First-in, first-out scheduler that passes the errors of dead processes to the searcher.

    Tune notifies a searcher of an error without its text. It notifies its scheduler first.
    """

    def __init__(self, searcher: PlanSearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Read the error that Tune has just written."""
        said = Path(trial.error_file).read_text("utf-8", "replace") if trial.error_file else ""
        self._searcher.lost(trial.trial_id, loss(said))
