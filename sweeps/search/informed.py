"""The grid, best first: what a training is expected to add to the answer, over what it costs.

Two Gaussian processes over the combinations' places, one of the worst-k and one of the average
accuracy, say of each combination what is known and how well. The next student is the one with the
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
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from sweeps.search import racing
from sweeps.search.space import Cell, FloatArray, Goal, IntArray, Point, Seen, Space
from sweeps.search.triage import Teachers

__all__ = ["Informed"]

_DRAWS = 256
_REFIT = 6
"""Further results after which lengths and variances are fitted anew."""
_RACE = 3
"""Further results after which it is worked out anew what further seeds are worth."""
_CLEARLY = 1.0
"""Log likelihood by which teachers' figures must help to count."""


class Informed:
    """The strategy; see above.

    Args:
        space: The grid.
        goal: Of the selection.
        teacher_cost: Of a teacher, in students.
        seed: Of its draws.
    """

    def __init__(self, space: Space, goal: Goal, teacher_cost: float = 1.0, seed: int = 0) -> None:
        self._space, self._goal, self._teacher_cost = space, goal, teacher_cost
        self._rng = np.random.default_rng(seed)
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
        self._worst, self._average = _Process(), _Process()

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
        with threadpool_limits(1):  # so small that threads cost more than they do
            worst, average = self._fit(cells)
        least = min(self._goal.least_average(self._seen[cell]) for cell in reference)
        draws = worst.draws(self._rng, _DRAWS), average.draws(self._rng, _DRAWS)
        admitted = draws[1] >= _scaled(least)
        known = np.array([self._number[cell] for cell in cells])
        likely = [k for k in known if average.mean[k] >= _scaled(least)] or [
            self._number[reference[0]]
        ]
        best = max(_accuracy(worst.mean[likely]))
        shown = worst.mean + (draws[0] - worst.mean) * worst.resolved
        gain = (np.maximum(_accuracy(shown) - best, 0) * admitted).mean(axis=0)
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
            with threadpool_limits(1):
                self._races = racing.gains(self._rows, self._goal)
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

    def _fit(self, cells: list[Cell]) -> tuple[_Belief, _Belief]:
        """What is believed of all cells; of those under way, that they end as expected."""
        rows = np.array([self._number[cell] for cell in cells])
        seeds = np.array([len(self._seen[cell]) for cell in cells])
        pending = [self._number[point.cell] for point in self._under_way]
        aside = self._taught.places(self.cells)
        beliefs = []
        for process, figure, images in (
            (self._worst, "worst_k", "counted"),
            (self._average, "average", "images"),
        ):
            values = [np.mean([getattr(s, figure) for s in self._seen[c]]) for c in cells]
            noise = 1 / (4 * np.array([getattr(self._seen[c][0], images) for c in cells]) + 2)
            beliefs.append(
                process.believe(
                    self._places, rows, _scaled(np.array(values)), noise, seeds, pending, aside
                )
            )
        return beliefs[0], beliefs[1]


class _Belief:
    """A normal distribution of one accuracy of all combinations, on the arcsine scale."""

    def __init__(self, mean: FloatArray, covariance: FloatArray, noise: FloatArray) -> None:
        self.mean = mean
        self.deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        self._covariance = covariance
        variance = self.deviation**2
        self.resolved = np.sqrt(variance / (variance + noise))
        """Share of the deviation that one look, with its noise, would show."""

    def draws(self, rng: np.random.Generator, number: int) -> FloatArray:
        """Joint draws, ``(number, combinations)``."""
        values, vectors = np.linalg.eigh(self._covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = rng.standard_normal((number, len(self.mean)))
        return np.asarray(self.mean + normal @ root.T)


class _Process:
    """A Gaussian process whose lengths and variances are fitted now and then."""

    def __init__(self) -> None:
        self._kernel: Any = None  # with what was fitted last
        self._beside = False  # whether teachers' figures are coordinates, too
        self._fitted = 0  # results then

    def believe(
        self,
        places: FloatArray,
        rows: IntArray,
        values: FloatArray,
        noise: FloatArray,
        seeds: IntArray,
        pending: list[int],
        aside: FloatArray | None = None,
    ) -> _Belief:
        """Of all places, given values at some; ``noise`` is that of counting images, of one seed.

        What is under way is taken to end as expected, so that nobody else asks the same. Places
        have the coordinates ``aside``, too, where the values are the more likely for it.
        """
        refit = self._kernel is None or seeds.sum() >= self._fitted + _REFIT
        mean, scale = float(values.mean()), float(max(values.std(), 1e-3))
        y = (values - mean) / scale
        floor = noise / scale**2 / seeds
        wide = None if aside is None else np.hstack([places, aside])
        if refit and len(y) > 3:
            plain = _fitted(places[rows], y, floor, self._kernel)
            best, self._beside = plain, False
            if wide is not None:
                both = _fitted(wide[rows], y, floor, self._kernel)
                if _evidence(both) > _evidence(plain) + _CLEARLY:
                    best, self._beside = both, True
            self._kernel, self._fitted = best.kernel_, int(seeds.sum())
        if self._beside and wide is not None:
            places = wide
        process = _fitted(places[rows], y, floor, self._kernel, anew=False)
        white = float(process.kernel_.k2.noise_level)
        if pending:
            expected = process.predict(places[pending])
            level = np.concatenate([floor, np.full(len(pending), floor.mean())])
            places_, y_ = np.concatenate([places[rows], places[pending]]), np.append(y, expected)
            process = GaussianProcessRegressor(process.kernel_, alpha=level, optimizer=None)
            process.fit(places_, y_)
        at, covariance = process.predict(places, return_cov=True)
        covariance = covariance - white * np.eye(len(places))  # of the students, not of a look
        one_look = np.full(len(places), white + float(noise.mean()) / scale**2) * scale**2
        return _Belief(mean + scale * at, covariance * scale**2, one_look)


def _fitted(
    places: FloatArray, y: FloatArray, noise: FloatArray, kernel: Any, anew: bool = True
) -> GaussianProcessRegressor:
    """A process with lengths and variances that make ``y`` likely, or those of the kernel."""
    kernel = kernel or ConstantKernel(1.0, (0.05, 20.0)) * Matern(
        1.0, (0.3, 6.0), nu=1.5
    ) + WhiteKernel(0.05, (1e-3, 1.0))
    optimizer = "fmin_l_bfgs_b" if anew else None
    process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound that is met is no trouble
        return process.fit(places, y)


def _evidence(process: GaussianProcessRegressor) -> float:
    return float(process.log_marginal_likelihood_value_)


def _scaled(accuracy: Any) -> Any:
    return np.arcsin(np.sqrt(np.clip(accuracy, 0, 1)))


def _accuracy(scaled: FloatArray) -> FloatArray:
    return np.asarray(np.sin(np.clip(scaled, 0, np.pi / 2)) ** 2)
