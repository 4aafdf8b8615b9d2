"""The grid, best first: what a training is expected to add to the answer, over what it costs.

Gaussian processes over the combinations' places, of the worst-k and of the average accuracy, say of
each combination what is known and how well (``belief``). The next student is the one with the
largest expected improvement on the best that is known, under the constraint on the average
(Gardner et al., ICML 2014), divided by its cost, of which its teacher is a part if nobody has
trained it yet. As much of the improvement counts as one look with its noise would show (the
knowledge gradient's variance; Frazier et al. 2009). A further seed of a combination competes with
combinations that nobody has tried: it is worth what it takes off the selection's expected regret
(``racing``), so seeds go where the ranking is open. Every teacher is probed once before any is
dismissed; what teachers themselves are like counts where students are seen to follow it
(``triage``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from rkd_core.metrics import arcsine_scaled
from sweeps.search import seed_value
from sweeps.search.gaussian_process import Belief, Results, accuracy, believe
from sweeps.search.strategy import Cell, Goal, Point, Request, Seen, Space
from sweeps.search.teacher_features import Teachers

__all__ = ["Informed", "create"]

_RACE = 3
"""Further results after which it is worked out anew what further seeds are worth."""


def create(request: Request) -> Informed:
    """Return the strategy for a sweep."""
    return Informed(request.space, request.goal, request.teacher_cost)


class Informed:
    """The strategy; see above.

    Args:
        space: The grid.
        goal: Of the selection.
        teacher_cost: Of a teacher, in students.
    """

    def __init__(self, space: Space, goal: Goal, teacher_cost: float = 1.0) -> None:
        self._space, self._goal, self._teacher_cost = space, goal, teacher_cost
        self.cells = space.cells
        self._places = np.array([cell.place for cell in self.cells])
        self._number = {cell: k for k, cell in enumerate(self.cells)}
        self._seen: defaultdict[Cell, list[Seen]] = defaultdict(list)
        self._rows: dict[Point, Mapping[str, Any]] = {}  # of those
        self._races: dict[Cell, float] = {}  # what a further seed is worth
        self._raced = 0  # results then
        self._taken: defaultdict[Cell, set[int]] = defaultdict(set)  # seeds that were asked for
        self._under_way: set[Point] = set()
        self._out: set[Cell] = set()  # pruned or failed
        self._teachers: set[tuple[float | None, int]] = set()
        self._taught = Teachers(goal.worst_k)
        self._probes = self._first()
        self._threads = ThreadpoolController()

    def ask(self) -> Point | None:
        """See ``Strategy``."""
        point, _ = self.outlook()
        if point is not None:
            self._races.pop(point.cell, None)  # not twice for the same reason
            self._taken[point.cell].add(point.seed)
            self._under_way.add(point)
            self._teachers.add((point.cell.alpha_t, point.seed))
        return point

    def outlook(self) -> tuple[Point | None, float]:
        """See ``Strategy``."""
        probe = self._probe()
        return self._best() if probe is None else (probe, math.nan)

    def tell(self, point: Point, row: Mapping[str, Any] | None) -> None:
        """See ``Strategy``."""
        self._under_way.discard(point)
        self._taken[point.cell].add(point.seed)
        self._teachers.add((point.cell.alpha_t, point.seed))
        if row is None or row["status"] != "completed":
            self._out.add(point.cell)
        else:
            self._seen[point.cell].append(Seen.of(row, self._goal.worst_k))
            self._rows[point] = row

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """See ``Strategy``."""
        self._taught.see(alpha_t, row)

    def _first(self) -> list[Cell]:
        """Standard distillation, the middle of the grid on its teacher, which is paid for, and then
        a student on each other teacher, far from one another."""
        space = self._space
        ends = sorted(space.objectives[1:], key=lambda a: abs((a or 0.0) - 0.5), reverse=True)
        students, temperatures = [*ends, None], space.temperatures
        middle = Cell(None, ends[-1], temperatures[len(temperatures) // 2])
        others = [
            Cell(alpha_t, students[k % len(students)], temperatures[k % len(temperatures)])
            for k, alpha_t in enumerate(ends, 1)
        ]
        return list(dict.fromkeys((space.reference, middle, *others)))

    def _probe(self) -> Point | None:
        left = (cell for cell in self._probes if not self._taken[cell])
        return next((Point(cell, self._space.seeds[0]) for cell in left), None)

    def _best(self) -> tuple[Point | None, float]:
        """The student that is expected to add most for its cost, and what."""
        cells = [cell for cell in self.cells if self._seen[cell]]
        reference = [cell for cell in cells if cell.is_standard]
        if not reference:  # failed, or not told yet
            return self._any(), math.nan
        points = [(cell, self._next_seed(cell)) for cell in self.cells]
        open_ = np.array([seed is not None and cell not in self._out for cell, seed in points])
        if not open_.any():
            return None, 0.0
        with self._threads.limit(limits=1):  # so small that threads cost more than they do
            worst, average = self._believe("worst_k", "counted"), self._believe("average", "images")
        least = min(self._goal.least_average(self._seen[cell]) for cell in reference)
        known = np.array([self._number[cell] for cell in cells])
        likely = known[average.mean[known] >= arcsine_scaled(least)]
        best = worst.mean[likely if likely.size else self._number[reference[0]]].max()
        gain = worst.improvement(float(accuracy(best))) * average.at_least(least)
        for cell, removed in self._race().items():
            gain[self._number[cell]] = removed
        cost = np.array(
            [
                1.0 + self._teacher_cost * ((cell.alpha_t, seed) not in self._teachers)
                for cell, seed in points
            ]
        )
        score = np.where(open_, gain / cost, -np.inf)
        chosen = int(np.argmax(score))
        if gain[chosen] <= 0:  # nothing is expected of any: the likeliest to matter
            chosen = int(np.argmax(np.where(open_, worst.mean + worst.deviation, -np.inf)))
        cell, seed = points[chosen]
        return (None if seed is None else Point(cell, seed)), float(gain[chosen])

    def _race(self) -> dict[Cell, float]:
        """What further seeds are worth; empty while that is not known."""
        if len(self._space.seeds) == 1:
            return {}
        if len(self._rows) >= self._raced + _RACE:
            self._raced = len(self._rows)
            with self._threads.limit(limits=1):
                self._races = seed_value.gains(self._rows, self._goal)
        if not self._races:
            return {}
        known = dict.fromkeys((cell for cell in self.cells if self._taken[cell]), 0.0)
        return known | self._races

    def _any(self) -> Point | None:
        for cell in self.cells:
            seed = self._next_seed(cell)
            if seed is not None and cell not in self._out:
                return Point(cell, seed)
        return None

    def _next_seed(self, cell: Cell) -> int | None:
        return next((s for s in self._space.seeds if s not in self._taken[cell]), None)

    def _believe(self, figure: str, images: str) -> Belief:
        """What the results say of one accuracy of all combinations."""
        seen = [(self._number[cell], each) for cell, each in self._seen.items() if each]
        results = Results(
            rows=np.array([number for number, _ in seen]),
            values=np.array([np.mean([getattr(s, figure) for s in each]) for _, each in seen]),
            images=np.array([getattr(each[0], images) for _, each in seen]),
            seeds=np.array([len(each) for _, each in seen]),
        )
        under_way = np.array([self._number[p.cell] for p in self._under_way], dtype=int)
        return believe(self._places, results, under_way, self._taught.places(self.cells))
