"""A search under way: proposals become runs, records become what the strategy is told.

It keeps nothing of its own. What is in the ledger when it begins has been told and paid for, so
the same command goes on after any death, and a larger budget where a smaller one ended.
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
    """See above.

    Args:
        strategy: Chooses.
        settings: Of the sweep.
        fingerprint: Of the data.
        budget: What may be spent.
        whole: The plan of the whole grid, of which a budget may be a share.
        rows: Records of the results folder that are completed or pruned, by run id.
        slots: Trainings at a time.
        seconds: Of a training, as far as that is known; 0 if not.
        added: Called with the plan when it has grown.
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
        self._points: dict[str, Point] = {}  # of students that were proposed
        self._under_way: set[str] = set()  # of those that have not ended
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
        """What has been proposed, and what was there."""
        runs = self._runs.values()
        teachers = (run for run in runs if run.spec.stage == "teacher")
        return Plan((*teachers, *(run for run in runs if run.spec.stage == "student")))

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, or will be when what is under way has ended."""
        pending = [self._runs[run_id] for run_id in self._pending()]
        if self._budget.share is not None:
            epochs = self._epochs + sum(run.work for run in pending)
            return epochs / (self._budget.share * self._grid_epochs)
        seconds = self._spent_seconds + sum(self._seconds(run) for run in pending)
        return seconds / self.slots / (self._budget.seconds or 1.0)

    @property
    def cost(self) -> float:
        """What is spent as a share of the epochs of the whole grid."""
        return self._epochs / self._grid_epochs

    def outlook(self) -> tuple[str, float] | None:
        """Label of the training that would be next, and the accuracy that it is expected to add;
        None if nothing is left, or the strategy cannot say."""
        point, gain = self._strategy.outlook()
        return None if point is None or math.isnan(gain) else (self._runs_of(point)[-1].label, gain)

    @property
    def over(self) -> bool:
        """Whether nothing will be proposed any more."""
        return not self._under_way and (self._exhausted or self.spent >= 1)

    def propose(self) -> list[PlannedRun]:
        """Runs that are new: the next student and those that it needs. None while enough are
        under way, and when all is spent."""
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
            if any(run.run_id in self._failed for run in runs):  # it would wait for ever
                self._strategy.tell(point, None)
                continue
            self._points[student.run_id] = point
            self._under_way.add(student.run_id)
            new = self._keep(runs)
            self._added(self.plan)
            return new
        return []

    def ended(self, run: PlannedRun, row: Row | None) -> None:
        """A run has ended, with its record; None if it failed."""
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
        """Tell the strategy of a student that was there, and keep it in the plan."""
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
        """Proposed students that have not ended, and their teachers that nobody has paid."""
        needed = {need for student in self._under_way for need in self._runs[student].depends_on}
        return self._under_way | (needed - self._paid)

    def _runs_of(self, point: Point) -> list[PlannedRun]:
        cell: Cell = point.cell
        return self._planner.grid_student(
            cell.alpha_t, cell.alpha_s, cell.temperature, point.seed, dict(cell.tuning)
        )
