"""What can start now: the dependencies of a plan as a state machine, without Ray or threads."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

from sweeps.plan import Plan, PlannedRun

__all__ = ["Schedule"]


class Schedule:
    """Hands out the runs of a plan, each once, when what it depends on is completed.

    Runs that others depend on go first, so that no slot waits for them at the end; then the longest
    first; among equals the plan's order holds. There is no barrier between teachers and students.

    Args:
        plan: The whole plan.
        completed: Run ids that need no training any more.
    """

    def __init__(self, plan: Plan, completed: Collection[str] = ()) -> None:
        awaited = {run.depends_on for run in plan.runs}
        self._rank = {
            run.run_id: (run.run_id not in awaited, -run.work, place)
            for place, run in enumerate(plan.runs)
        }
        self._runs = {run.run_id: run for run in plan.runs}
        self._waiting: dict[str, list[PlannedRun]] = {}
        self._ready: list[tuple[tuple[bool, float, int], str]] = []
        self._running: dict[str, PlannedRun] = {}
        for run in plan.runs:
            if run.run_id in completed:
                continue
            if run.depends_on is None or run.depends_on in completed:
                self._release(run)
            else:
                self._waiting.setdefault(run.depends_on, []).append(run)

    def next(self) -> PlannedRun | None:
        """Take a run that can start now; None if all that is left waits for one under way."""
        if not self._ready:
            return None
        _, run_id = heapq.heappop(self._ready)
        self._running[run_id] = self._runs[run_id]
        return self._runs[run_id]

    def complete(self, run_id: str) -> None:
        """A run taken earlier is completed; what waits for it can start."""
        del self._running[run_id]
        for run in self._waiting.pop(run_id, ()):
            self._release(run)

    def fail(self, run_id: str) -> list[PlannedRun]:
        """A run taken earlier has failed.

        Returns:
            The run, then all that wait for it, directly or not: they cannot be trained.
        """
        lost = [self._running.pop(run_id)]
        for run in lost:  # grows while it is walked
            lost.extend(self._waiting.pop(run.run_id, ()))
        return lost

    @property
    def finished(self) -> bool:
        """Whether nothing is left to start and nothing is under way."""
        return not self._ready and not self._running and not self._waiting

    def unfinished(self) -> Iterable[PlannedRun]:
        """Runs that were neither completed nor failed."""
        yield from self._running.values()
        yield from (self._runs[run_id] for _, run_id in self._ready)
        for runs in self._waiting.values():
            yield from runs

    def _release(self, run: PlannedRun) -> None:
        heapq.heappush(self._ready, (self._rank[run.run_id], run.run_id))
