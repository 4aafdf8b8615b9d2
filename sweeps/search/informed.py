"""Search strategy that trains the students with the largest expected improvement per cost first.

Gaussian processes over the combinations predict their worst-k and average accuracies
(``gaussian_process``). The next student maximizes the expected improvement on the best known
combination under the constraint on the average (Gardner et al., ICML 2014), divided by its cost,
which includes its teacher if that is not trained yet. The improvement is the part that one noisy
result would reveal (the variance of the knowledge gradient; Frazier et al. 2009). A further seed of
a combination competes with untried combinations: its value is the reduction of the expected regret
of the selection (``seed_value``), so seeds go to combinations whose ranking is uncertain. The
search tries every teacher once before it neglects any. Metrics of the teachers themselves have an
effect only where the results of students depend on them (``teacher_features``).
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
from sweeps.search.gaussian_process import Posterior, Results, accuracy, fit_posterior
from sweeps.search.strategy import Cell, Goal, Point, Request, Seen, Space
from sweeps.search.teacher_features import Teachers

__all__ = ["Informed", "create"]

_RACE = 3
"""Number of new results after which the values of further seeds are recomputed."""


def create(request: Request) -> Informed:
    """Return the strategy for a request."""
    return Informed(request.space, request.goal, request.teacher_cost)


class Informed:
    """Search by expected improvement per cost, as described in the module.

    Args:
        space: The grid.
        goal: Selection rule.
        teacher_cost: Cost of a teacher in units of a student.
    """

    def __init__(self, space: Space, goal: Goal, teacher_cost: float = 1.0) -> None:
        self._space, self._goal, self._teacher_cost = space, goal, teacher_cost
        self.cells = space.cells
        self._places = np.array([cell.place for cell in self.cells])
        self._number = {cell: k for k, cell in enumerate(self.cells)}
        self._seen: defaultdict[Cell, list[Seen]] = defaultdict(list)
        self._rows: dict[Point, Mapping[str, Any]] = {}  # records of `_seen`
        self._races: dict[Cell, float] = {}  # value of a further seed
        self._raced = 0  # number of results behind `_races`
        self._taken: defaultdict[Cell, set[int]] = defaultdict(set)  # seeds proposed or trained
        self._under_way: set[Point] = set()
        self._out: set[Cell] = set()  # pruned or failed
        self._teachers: set[tuple[float | None, int]] = set()
        self._taught = Teachers(goal.worst_k)
        self._probes = self._first()
        self._threads = ThreadpoolController()

    def ask(self) -> Point | None:
        """Return the next student to train, see ``Strategy``."""
        point, _ = self.outlook()
        if point is not None:
            self._races.pop(point.cell, None)  # a value justifies only one seed
            self._taken[point.cell].add(point.seed)
            self._under_way.add(point)
            self._teachers.add((point.cell.alpha_t, point.seed))
        return point

    def outlook(self) -> tuple[Point | None, float]:
        """Return the student that would be next and its expected gain, see ``Strategy``."""
        probe = self._probe()
        return self._best() if probe is None else (probe, math.nan)

    def tell(self, point: Point, row: Mapping[str, Any] | None) -> None:
        """Receive the outcome of a student, see ``Strategy``."""
        self._under_way.discard(point)
        self._taken[point.cell].add(point.seed)
        self._teachers.add((point.cell.alpha_t, point.seed))
        if row is None or row["status"] != "completed":
            self._out.add(point.cell)
        else:
            self._seen[point.cell].append(Seen.of(row, self._goal.worst_k))
            self._rows[point] = row

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """Receive the record of a teacher, see ``Strategy``."""
        self._taught.see(alpha_t, row)

    def _first(self) -> list[Cell]:
        """Return the initial combinations, which cover every teacher.

        They are standard distillation, the middle of the grid on the same teacher, which costs no
        further teacher, and a student on each other teacher, far from each other.
        """
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
        """Return the student with the largest expected gain per cost, and the gain."""
        cells = [cell for cell in self.cells if self._seen[cell]]
        reference = [cell for cell in cells if cell.is_standard]
        if not reference:  # failed, or not completed yet
            return self._any(), math.nan
        points = [(cell, self._next_seed(cell)) for cell in self.cells]
        open_ = np.array([seed is not None and cell not in self._out for cell, seed in points])
        if not open_.any():
            return None, 0.0
        with self._threads.limit(limits=1):  # arrays too small for threads to pay off
            worst, average = (
                self._posterior("worst_k", "counted"),
                self._posterior("average", "images"),
            )
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
        if gain[chosen] <= 0:  # no gain expected: the largest upper bound
            chosen = int(np.argmax(np.where(open_, worst.mean + worst.deviation, -np.inf)))
        cell, seed = points[chosen]
        return (None if seed is None else Point(cell, seed)), float(gain[chosen])

    def _race(self) -> dict[Cell, float]:
        """Return the values of further seeds; empty while they are unknown."""
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

    def _posterior(self, figure: str, images: str) -> Posterior:
        """Return the posterior of one accuracy of all combinations."""
        seen = [(self._number[cell], each) for cell, each in self._seen.items() if each]
        results = Results(
            rows=np.array([number for number, _ in seen]),
            values=np.array([np.mean([getattr(s, figure) for s in each]) for _, each in seen]),
            images=np.array([getattr(each[0], images) for _, each in seen]),
            seeds=np.array([len(each) for _, each in seen]),
        )
        under_way = np.array([self._number[p.cell] for p in self._under_way], dtype=int)
        return fit_posterior(self._places, results, under_way, self._taught.places(self.cells))
