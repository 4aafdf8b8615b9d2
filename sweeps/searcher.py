"""The sweep as a Ray Tune searcher, which releases a student when its teacher is finished."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from sweeps.sweep import Sweep

__all__ = ["PlanSearcher"]


class PlanSearcher(Searcher):
    """Suggests what can start now, and says "not yet" while a teacher is under way.

    Use it with ``num_samples=-1``: the end is this searcher's to announce. With a fixed number
    Ray 2.60 counts each "not yet" and silently drops as many trainings.
    """

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()  # it optimises nothing, so it has no metric
        self._sweep = sweep
        self._run_of_trial: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run as a trial's config, None for not yet, FINISHED for no more."""
        run = self._sweep.next()
        if run is None:
            return Searcher.FINISHED if self._sweep.schedule.finished else None
        self._run_of_trial[trial_id] = run.run_id
        return {
            "run_id": run.run_id,
            "label": run.label,
            "alpha_t": run.spec.alpha if run.spec.teacher is None else run.spec.teacher.alpha,
            "alpha_s": None if run.spec.teacher is None else run.spec.alpha,
            "temperature": run.spec.temperature,
            "seed": run.spec.seed,
            "spec": run.spec.model_dump_json(),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an epoch's figures on to the sweep."""
        if "epoch" in result:
            self._sweep.progressed(self._run_of_trial[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the sweep how a trial ended.

        A training that raised reports its cause itself; ``error`` means that its process died.
        """
        run_id = self._run_of_trial.pop(trial_id)
        if error or result is None or "status" not in result:
            self._sweep.failed(run_id, "its process died before it could say why; see sweep.log")
        elif result["status"] == "completed":
            self._sweep.completed(run_id, result)
        else:
            self._sweep.failed(run_id, result["cause"], result["details"])

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into its own files; the sweep is not for it to keep."""
        return self.__dict__ | {"_sweep": None}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger of records is the only truth, and a restart reads it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore; see ``save``."""
