"""State machine that determines which runs of a plan can start, without Ray or threads."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from rkd_core.specs import TrainingSpec, array_key
from sweeps.planning.plan import Plan, PlannedRun

__all__ = ["Schedule"]


class Schedule:
    """Schedule of the runs of a plan, each of which starts when its dependencies are completed.

    Standard distillation of the first seed, with each network of the students, and its teacher come
    first, because every answer needs them. Then the seeds follow in the order of the plan, so that
    one whole grid is completed early. In a seed, runs that others depend on come first, so that no
    slot waits for them at the end; then longer runs; ties keep the order of the plan. There is no
    barrier between teachers and students.

    Args:
        plan: The whole plan.
        completed: Run ids that need no training.
    """

    def __init__(self, plan: Plan, completed: Collection[str] = ()) -> None:
        self._completed = set(completed)
        self._rank: dict[str, _Rank] = {}
        self._seeds: dict[int, int] = {}  # place of each seed in the plan
        self._runs: dict[str, PlannedRun] = {}
        self._waiting: dict[str, list[PlannedRun]] = {}  # by the run that they wait for
        self._unmet: dict[str, set[str]] = {}  # uncompleted dependencies of each waiting run
        self._ready: dict[str, PlannedRun] = {}
        # The ready runs in order: all of them, and those of each array that they could share. A run
        # that is taken from one heap stays in the other until it reaches the top there.
        self._queue: _Heap = []
        self._queues: dict[tuple[object, ...], _Heap] = {}
        self._alone: set[str] = set()
        self._running: dict[str, PlannedRun] = {}
        self.add(plan.runs)

    def add(self, runs: Sequence[PlannedRun]) -> None:
        """Add runs; their dependencies must be known or among them."""
        awaited = {needed for run in runs for needed in run.depends_on}
        first = self._first(runs) if not self._rank else set()
        for run in runs:
            place = len(self._rank)
            seed = self._seeds.setdefault(run.spec.seed, len(self._seeds))
            last = run.run_id not in awaited
            self._rank[run.run_id] = (run.run_id not in first, seed, last, -run.work, place)
            self._runs[run.run_id] = run
        for run in runs:
            if run.run_id in self._completed:
                continue
            unmet = set(run.depends_on).difference(self._completed)
            if not unmet:
                self._release(run)
                continue
            self._unmet[run.run_id] = unmet
            for needed in unmet:
                self._waiting.setdefault(needed, []).append(run)

    @staticmethod
    def _first(runs: Sequence[PlannedRun]) -> set[str]:
        """Return the run ids of each network's first standard distillation and its teacher."""
        found: dict[str, PlannedRun] = {}
        for run in runs:
            spec = run.spec
            standard = spec.teacher is not None and spec.teacher.objective == "standard"
            if standard and spec.objective == "standard" and spec.variant is None:
                found.setdefault(spec.architecture, run)
        return {run_id for run in found.values() for run_id in (run.run_id, *run.depends_on)}

    @property
    def ready(self) -> int:
        """Number of runs that can start now."""
        return len(self._ready)

    def take(
        self, teachers: int = 1, students: int = 1, by_network: Mapping[str, int] | None = None
    ) -> list[PlannedRun]:
        """Take runs that can start now side by side: all of them share the array of the first.

        If there are more than fit, they are divided into equal parts rather than full ones and a
        rest, since a small array takes nearly as long as a large one on a GPU.

        Args:
            teachers: Largest number of runs if they are teachers.
            students: Largest number of runs if they are students.
            by_network: The same by architecture, for networks with another number.

        Returns:
            The runs; an empty list if all remaining runs wait for running ones.
        """
        first = self._pop(self._queue)
        if first is None:
            return []
        spec = first.spec
        runs, beside = [first], self._queues[_array(spec)]
        most = teachers
        if first.run_id in self._alone:
            most = 1
        elif spec.stage == "student":
            most = (by_network or {}).get(spec.architecture, students)
        company = {key for _, key in beside if key in self._ready and key not in self._alone}
        parts = math.ceil((1 + len(company)) / most)
        size = math.ceil((1 + len(company)) / parts) if most > 1 else 1
        while len(runs) < size and (run := self._pop(beside, company=True)) is not None:
            runs.append(run)
        return runs

    def waiting_for(self, run_id: str) -> Sequence[PlannedRun]:
        """Return the waiting runs that depend on this one and can still start."""
        return [run for run in self._waiting.get(run_id, ()) if run.run_id in self._unmet]

    def complete(self, run_id: str) -> None:
        """Mark a running run as completed, which releases the runs that wait for it."""
        del self._running[run_id]
        self._completed.add(run_id)
        for run in self.waiting_for(run_id):
            self._unmet[run.run_id].remove(run_id)
            if not self._unmet[run.run_id]:
                del self._unmet[run.run_id]
                self._release(run)
        self._waiting.pop(run_id, None)

    def go_on(self, run_id: str) -> None:
        """Mark a running run as stopped; it can continue."""
        self._release(self._running.pop(run_id))

    def prune(self, run_id: str) -> None:
        """Mark a running run, for which no other waits, as pruned."""
        del self._running[run_id]

    def retry(self, run_id: str) -> PlannedRun:
        """Mark a running run as failed, so that it starts again, from now on alone.

        If several trainings run side by side, any of them may have made the others fail.
        """
        run = self._running.pop(run_id)
        self._alone.add(run_id)
        self._release(run)
        return run

    def fail(self, run_id: str) -> list[PlannedRun]:
        """Mark a running run as permanently failed.

        Returns:
            The run, then all runs that wait for it, directly or not: they cannot be trained.
        """
        lost = [self._running.pop(run_id)]
        for run in lost:  # grows during the loop
            for waiting in self.waiting_for(run.run_id):
                del self._unmet[waiting.run_id]
                lost.append(waiting)
        return lost

    @property
    def finished(self) -> bool:
        """Whether no run is left to start and none is running."""
        return not self._ready and not self._running and not self._unmet

    def unfinished(self) -> Iterable[PlannedRun]:
        """Yield the runs that were neither completed nor failed."""
        yield from self._running.values()
        yield from self._ready.values()
        yield from (self._runs[run_id] for run_id in self._unmet)

    def _release(self, run: PlannedRun) -> None:
        self._ready[run.run_id] = run
        entry = self._rank[run.run_id], run.run_id
        heapq.heappush(self._queue, entry)
        heapq.heappush(self._queues.setdefault(_array(run.spec), []), entry)

    def _pop(self, heap: _Heap, *, company: bool = False) -> PlannedRun | None:
        while heap:
            run_id = heapq.heappop(heap)[1]
            if company and run_id in self._alone:
                continue
            run = self._ready.pop(run_id, None)
            if run is not None:
                self._running[run.run_id] = run
                return run
        return None


def _array(spec: TrainingSpec) -> tuple[object, ...]:
    """Return a key that is equal for runs that can share an array, which have one network."""
    return *array_key(spec), spec.architecture, spec.network_digest


_Rank = tuple[bool, int, bool, float, int]
_Heap = list[tuple[_Rank, str]]
