"""Search that turns proposals of a strategy into runs, within a budget.

It keeps no state on disk. At the start, existing records are charged to the budget and passed to
the strategy, so the same command continues after an interruption, and a larger budget continues
where a smaller one ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sweeps.cli.budget import Budget
from sweeps.planning.plan import Plan, PlannedRun, Planner
from sweeps.planning.settings import Settings
from sweeps.search.strategy import Cell, Point, Strategy

__all__ = ["Search"]

Row = Mapping[str, Any]


class Search:
    """Search with a strategy, a budget and a plan that grows with each proposal.

    Args:
        strategy: Strategy that proposes students.
        settings: Settings of the sweep.
        fingerprint: Fingerprint of the data.
        budget: Limit on time or cost.
        whole: Plan of the whole grid; a budget may be a share of its cost.
        rows: Existing records of completed and pruned runs, by run id.
        slots: Number of concurrent trainings.
        seconds: Function that returns the estimated duration of a training; 0 if it is unknown.
        added: Called with the plan whenever runs are added to it.
    """

    def __init__(
        self,
        strategy: Strategy,
        settings: Settings,
        fingerprint: str,
        budget: Budget,
        whole: Plan,
        rows: Mapping[str, Row],
        *,
        slots: int,
        seconds: Callable[[PlannedRun], float],
        added: Callable[[Plan], None] = lambda plan: None,
    ) -> None:
        self._strategy, self._planner = strategy, Planner(settings, fingerprint)
        self._budget, self._rows, self._seconds = budget, rows, seconds
        self.slots = slots
        self._grid_epochs = sum(run.work for run in whole.runs)
        self._runs: dict[str, PlannedRun] = {}
        self._points: dict[str, Point] = {}  # of proposed students
        self._under_way: set[str] = set()  # proposed students that have not ended
        self._paid: set[str] = set()
        self._failed: set[str] = set()
        self._epochs = self._spent_seconds = 0.0
        self._exhausted = False
        self._added = added
        for run in whole.teachers:
            if run.run_id in rows:
                self._pay(run, rows[run.run_id])
                strategy.taught(run.spec.alpha, rows[run.run_id])
        for cell in strategy.cells:
            for seed in settings.seeds:
                self._found(Point(cell, seed))

    @property
    def plan(self) -> Plan:
        """Plan of the proposed runs and of those that already had records."""
        runs = self._runs.values()
        teachers = (run for run in runs if run.spec.stage == "teacher")
        return Plan((*teachers, *(run for run in runs if run.spec.stage == "student")))

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, including the estimated cost of pending runs."""
        pending = [self._runs[run_id] for run_id in self._pending()]
        if self._budget.share is not None:
            epochs = self._epochs + sum(run.work for run in pending)
            return epochs / (self._budget.share * self._grid_epochs)
        seconds = self._spent_seconds + sum(self._seconds(run) for run in pending)
        return seconds / self.slots / (self._budget.seconds or 1.0)

    @property
    def cost(self) -> float:
        """Trained epochs as a share of the epochs of the whole grid."""
        return self._epochs / self._grid_epochs

    def outlook(self) -> tuple[str, float] | None:
        """Return the label and expected gain in accuracy of the training that would be next.

        None if no training is left or the strategy has no estimate.
        """
        point, gain = self._strategy.outlook()
        return None if point is None or math.isnan(gain) else (self._runs_of(point)[-1].label, gain)

    @property
    def over(self) -> bool:
        """Whether the search will propose no further run."""
        return not self._under_way and (self._exhausted or self.spent >= 1)

    def propose(self) -> list[PlannedRun]:
        """Return the next student and its dependencies, as far as they are not planned yet.

        The list is empty while enough students are being trained, and after the budget is spent.
        """
        while len(self._under_way) <= self.slots + 1 and self.spent < 1:
            point = self._strategy.ask()
            if point is None:
                self._exhausted = not self._under_way
                return []
            runs = self._runs_of(point)
            student = runs[-1]
            if student.run_id in self._rows:
                self._strategy.tell(point, self._rows[student.run_id])
                self._keep(runs)
                continue
            if any(run.run_id in self._failed for run in runs):  # it could never start
                self._strategy.tell(point, None)
                continue
            self._points[student.run_id] = point
            self._under_way.add(student.run_id)
            new = self._keep(runs)
            self._added(self.plan)
            return new
        return []

    def ended(self, run: PlannedRun, row: Row | None) -> None:
        """Receive the record of a run that has ended; None if it failed."""
        if row is not None:
            self._pay(run, row)
            if run.spec.stage == "teacher":
                self._strategy.taught(run.spec.alpha, row)
        else:
            self._failed.add(run.run_id)
        if run.run_id in self._under_way:
            self._under_way.remove(run.run_id)
            self._strategy.tell(self._points[run.run_id], row)

    def _found(self, point: Point) -> None:
        """Pass an existing record of a student to the strategy and add the student to the plan."""
        runs = self._runs_of(point)
        row = self._rows.get(runs[-1].run_id)
        if row is not None:
            self._keep(runs)
            self._pay(runs[-1], row)
            self._strategy.tell(point, row)

    def _keep(self, runs: list[PlannedRun]) -> list[PlannedRun]:
        new = [run for run in runs if run.run_id not in self._runs]
        self._runs |= {run.run_id: run for run in new}
        return new

    def _pay(self, run: PlannedRun, row: Row) -> None:
        self._paid.add(run.run_id)
        trained = row["epochs_trained"]
        self._epochs += run.work if trained is None else float(trained)
        self._spent_seconds += row["train_seconds"] or 0.0

    def _pending(self) -> set[str]:
        """Return the proposed students that have not ended, and their untrained dependencies."""
        needed = {need for student in self._under_way for need in self._runs[student].depends_on}
        return self._under_way | (needed - self._paid)

    def _runs_of(self, point: Point) -> list[PlannedRun]:
        cell: Cell = point.cell
        return self._planner.grid_student(
            cell.alpha_t, cell.alpha_s, cell.temperature, point.seed, dict(cell.tuning)
        )
