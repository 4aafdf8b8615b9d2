"""A sweep under way: the schedule, the ledger of its failures, and whoever watches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rkd_core import records
from sweeps.plan import Plan, PlannedRun
from sweeps.schedule import Schedule

__all__ = ["Failure", "Sweep", "Watcher"]

Failure = tuple[PlannedRun, str]
"""A run and the cause of its failure."""

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Somebody who is told what happens, such as the progress display."""

    def started(self, run: PlannedRun) -> None:
        """A training has begun."""

    def progressed(self, run: PlannedRun, progress: Mapping[str, Any]) -> None:
        """An epoch has ended; ``progress`` has the fields of ``rkd_core.training.Progress``."""

    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        """A training is in the ledger; ``row`` has its record's accuracies and seconds."""

    def failed(self, run: PlannedRun, cause: str) -> None:
        """A training has failed, or cannot be done because its teacher has."""


class Sweep:
    """What the engines share: they take runs, and say how each ended.

    Args:
        plan: The whole plan.
        completed: Run ids with a completed record.
        out: Results folder; failed runs are recorded there with their cause.
        fingerprint: Of the data.
        watcher: Told of everything.
    """

    def __init__(
        self,
        plan: Plan,
        completed: set[str],
        out: Path,
        fingerprint: str,
        watcher: Watcher,
    ) -> None:
        self.schedule = Schedule(plan, completed)
        self.failures: list[Failure] = []
        self._runs = {run.run_id: run for run in plan.runs}
        self._out = out
        self._fingerprint = fingerprint
        self._watcher = watcher

    def next(self) -> PlannedRun | None:
        """Take a run that can start now."""
        run = self.schedule.next()
        if run is not None:
            log.info("started %s %s", run.run_id, run.label)
            self._watcher.started(run)
        return run

    def progressed(self, run_id: str, progress: Mapping[str, Any]) -> None:
        """Pass on an epoch's figures."""
        self._watcher.progressed(self._runs[run_id], progress)

    def completed(self, run_id: str, row: Mapping[str, Any]) -> None:
        """A run's record is in the ledger."""
        run = self._runs[run_id]
        self.schedule.complete(run_id)
        log.info(
            "completed %s %s: validation worst-class %.4f, average %.4f",
            run_id,
            run.label,
            row["val_worst_class_accuracy"],
            row["val_average_accuracy"],
        )
        self._watcher.completed(run, row)

    def failed(self, run_id: str, cause: str, details: str = "") -> None:
        """A run has failed: record it and, with it as their cause, all that wait for it."""
        if details:
            log.error("%s", details)
        lost = self.schedule.fail(run_id)
        own = lost[0]
        self._record(own, cause)
        for run in lost[1:]:
            self._record(run, f"{own.spec.stage} {own.run_id} failed: {cause}")

    def _record(self, run: PlannedRun, cause: str) -> None:
        log.error("failed %s %s: %s", run.run_id, run.label, cause)
        self.failures.append((run, cause))
        row = records.identity(run.spec, run.run_id, self._fingerprint)
        row |= {"status": "failed", "cause": cause, "started_at": datetime.now(UTC)}
        records.write(self._out / "records", row)
        self._watcher.failed(run, cause)

    def all_failures(self) -> list[Failure]:
        """What failed, and what an engine that ended early neither completed nor failed."""
        return self.failures + [
            (run, "it was never started; see sweep.log") for run in self.schedule.unfinished()
        ]
