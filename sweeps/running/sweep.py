"""State of a running sweep: its schedule, failures and watchers."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from rkd_core import records
from rkd_core.results import ledger
from rkd_core.specs import TrainingSpec, array_key
from rkd_core.storage.files import Location
from sweeps.planning.packing import ONE, PerTrial
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.planning.schedule import Schedule
from sweeps.running.hangs import note_of
from sweeps.running.pruning import Pruner
from sweeps.running.watcher import Watcher
from sweeps.search.search import Search
from sweeps.stop import Stop

__all__ = ["Failure", "Sweep", "Trial"]

Failure = tuple[PlannedRun, str]
"""A run and the cause of its failure."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """Trainings that run side by side in one process."""

    runs: tuple[PlannedRun, ...]
    """The runs to train."""
    students: tuple[TrainingSpec, ...]
    """One of the waiting students for each array. The logits of its teacher are computed by this
    trial, so that no two students compute them at the same time."""
    until: int | None = None
    """Epochs after which to stop for the pruner; None for the end."""


class Sweep:
    """Source of trials for an execution backend, which reports how each of their runs ended.

    Args:
        plan: The whole plan.
        completed: Run ids with a completed record.
        out: Results folder; failed runs are recorded there with their cause.
        fingerprint: Fingerprint of the data.
        *watchers: Receivers of every event, notified in this order.
        per_trial: Trainings side by side in one trial.
        slots: Number of concurrent trials. The last trials are kept small, so that no slot is idle.
        max_failures: Number of retries of a failed training.
        stop: Request to stop, after which no trial starts.
        pruner: Rule that decides which students are not continued; None to continue all.
        search: Search that proposes further runs when none is left to start; None for no search.
    """

    def __init__(
        self,
        plan: Plan,
        completed: set[str],
        out: Location,
        fingerprint: str,
        *watchers: Watcher,
        per_trial: PerTrial = ONE,
        slots: int = 1,
        max_failures: int = 0,
        stop: Stop | None = None,
        pruner: Pruner | None = None,
        search: Search | None = None,
    ) -> None:
        self.schedule = Schedule(plan, completed)
        self.failures: list[Failure] = []
        self._runs = {run.run_id: run for run in plan.runs}
        self._out = out
        self._fingerprint = fingerprint
        self._watchers = watchers
        self._per_trial, self.slots = per_trial, slots
        self._max_failures = max_failures
        self._stop = stop or Stop()
        self._failed: Counter[str] = Counter()
        self.pruned: list[PlannedRun] = []
        self._pruner, self._search = pruner, search

    def next(self) -> Trial | None:
        """Take the next trial; None if the remaining runs wait for running ones, or none remain."""
        if self._stop.asked:
            return None
        runs: list[PlannedRun] = []
        while not runs and (self.schedule.ready or self._grow()):
            share = math.ceil(self.schedule.ready / self.slots)
            most = self._per_trial
            by_network = {name: min(number, share) for name, number in most.by_network.items()}
            numbers = min(most.teachers, share), min(most.students, share)
            taken = self.schedule.take(*numbers, by_network)
            runs = [run for run in taken if not self._prune(run)]
        if not runs:
            return None
        for run in runs:
            log.info("started %s %s", run.run_id, run.label)
        for watcher in self._watchers:
            watcher.started(runs)
        waiting = (w.spec for run in runs for w in self.schedule.waiting_for(run.run_id))
        students = {array_key(spec): spec for spec in waiting if spec.teacher is not None}
        return Trial(tuple(runs), tuple(students.values()), self._until(runs))

    def _grow(self) -> bool:
        """Add the runs that the search proposes; return whether there are any."""
        runs = [] if self._search is None else self._search.propose()
        self._runs |= {run.run_id: run for run in runs}
        self.schedule.add(runs)
        for watcher in self._watchers:
            watcher.added(runs)
        return bool(runs)

    def _until(self, runs: Sequence[PlannedRun]) -> int | None:
        if self._pruner is None:
            return None
        stops = [self._pruner.until(run) for run in runs]
        return min((epochs for epochs in stops if epochs is not None), default=None)

    def _prune(self, run: PlannedRun) -> bool:
        """Prune a run that was taken if it is hopeless and no other waits for it."""
        if self._pruner is None or self.schedule.waiting_for(run.run_id):
            return False
        if not self._pruner.hopeless(run):
            return False
        log.info("pruned %s %s", run.run_id, run.label)
        self.schedule.prune(run.run_id)
        self.pruned.append(run)
        if self._search is not None:
            self._search.ended(run, self._row(run.run_id))
        for watcher in self._watchers:
            watcher.paused(run, pruned=True)
        return True

    @property
    def over(self) -> bool:
        """Whether no further trial will start."""
        searching = self._search is not None and not self._search.over
        return self._stop.asked or (self.schedule.finished and not searching)

    def progressed(self, run_id: str, progress: Mapping[str, Any]) -> None:
        """Pass the figures of an epoch on to the watchers."""
        for watcher in self._watchers:
            watcher.progressed(self._runs[run_id], progress)

    def ended(self, outcome: Mapping[str, Any]) -> None:
        """Handle an outcome of ``sweeps.running.trial.carry_out``."""
        run_id, status = outcome["run_id"], outcome["status"]
        if status == "completed":
            self.completed(run_id, outcome)
            return
        if status == "pruned":
            self._stopped(self._runs[run_id])
            return
        if status == "halted":  # all other runs would fail, too
            self._stop.ask(outcome["cause"])
        if self._stop.asked:
            log.info("%s %s: %s", status, run_id, outcome["cause"])
        else:
            self.failed(run_id, outcome["cause"], outcome.get("details", ""))

    def _stopped(self, run: PlannedRun) -> None:
        """Handle a run that stopped for the pruner; ``next`` prunes or continues it."""
        if self._pruner is not None:
            self._pruner.see(run, self._row(run.run_id))
        self.schedule.go_on(run.run_id)
        for watcher in self._watchers:
            watcher.paused(run, pruned=False)

    def lost(self, run_id: str, cause: str) -> None:
        """Handle the death of a run's process; a run that it has committed is completed."""
        row = ledger.find(self._out, run_id)
        if row is not None:
            self.completed(run_id, row)
        elif not self._stop.asked:
            self.failed(run_id, *(note_of(self._out, run_id) or (cause,)))

    def completed(self, run_id: str, row: Mapping[str, Any]) -> None:
        """Handle a run whose record is in the ledger."""
        run = self._runs[run_id]
        self.schedule.complete(run_id)
        if self._pruner is not None or self._search is not None:
            record = self._row(run_id)
            if self._pruner is not None:
                self._pruner.see(run, record)
            if self._search is not None:
                self._search.ended(run, record)
        log.info(
            "completed %s %s: validation worst-class %.4f, average %.4f",
            run_id,
            run.label,
            row["val_worst_class_accuracy"],
            row["val_average_accuracy"],
        )
        for watcher in self._watchers:
            watcher.completed(run, row)

    def failed(self, run_id: str, cause: str, details: str = "") -> None:
        """Handle a failed run: retry it, or record it and all runs that wait for it as failed."""
        if details:
            log.error("%s", details)
        self._failed[run_id] += 1
        if self._failed[run_id] <= self._max_failures:
            run = self.schedule.retry(run_id)
            again = f"(retry {self._failed[run_id]} of {self._max_failures})"
            log.warning("failed %s %s: %s %s", run_id, run.label, cause, again)
            for watcher in self._watchers:
                watcher.retried(run, f"{cause} {again}")
            return
        lost = self.schedule.fail(run_id)
        own = lost[0]
        self._record(own, cause)
        for run in lost[1:]:
            self._record(run, f"{own.spec.stage} {own.run_id} failed: {cause}")

    def _row(self, run_id: str) -> records.Record:
        """Return the record of a run."""
        (row,) = records.read(self._out / "records", [run_id]).to_pylist()
        return cast(records.Record, row)

    def _record(self, run: PlannedRun, cause: str) -> None:
        log.error("failed %s %s: %s", run.run_id, run.label, cause)
        self.failures.append((run, cause))
        row = records.identity(run.spec, run.run_id, self._fingerprint)
        row |= {"status": "failed", "cause": cause, "started_at": datetime.now(UTC)}
        records.write(self._out / "records", row)
        for watcher in self._watchers:
            watcher.failed(run, cause)
        if self._search is not None:
            self._search.ended(run, None)

    def all_failures(self) -> list[Failure]:
        """Return the failures, including runs not started because the backend ended early."""
        if self._stop.asked:
            return self.failures
        return self.failures + [
            (run, "it was never started; see sweep.log") for run in self.schedule.unfinished()
        ]
