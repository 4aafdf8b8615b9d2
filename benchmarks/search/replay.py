"""Replay search strategies on grids that were trained in full.

    python benchmarks/search/replay.py [--quick]

The grids are the records in ``benchmarks/worlds``, written by
``benchmarks/search/recorded_grids.py``. A replay draws a seed for each teacher, and all of its
students have that seed, so S seeds and T teachers give S**T possible grids of one seed. A strategy
proposes a student and gets its record. It pays for the student, and for its teacher if this is the
teacher's first student, by the number of epochs. At each share of the grid's cost the selection
(``uncertainty.choose``) is made among the students so far. The value of a choice is its mean test
accuracy over all recorded seeds, which no strategy sees. It is compared with the choice from the
whole grid and with the same grid in random order. In the replays named ``several seeds`` the grid
has three seeds, in an independent order for each teacher, and a strategy decides which combinations
get further seeds. ``points_to_the_grid`` is measured on test; ``points_expected`` is what the
validation of the whole grid predicts.

Rows:

- ``search_cost``: the share of the grid's cost at which the choice is first within half a point of
  the grid's choice in worst-class accuracy;
- ``search_vs_random``: the median of that share over the median for a random order;
- ``prune_drops_winner``: the share of replays in which ``--prune`` stops the whole grid's choice.

The details have the curves of each grid and strategy, from which ``replay_figure.py`` draws
docs/budget.png.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np
import pyarrow as pa
from scipy import stats
from threadpoolctl import threadpool_limits

from analysis.runs.combinations import combine
from analysis.selection import Selection
from analysis.selection.criteria import Constrained
from analysis.selection.uncertainty import choose
from benchmarks.report import print_row, quick, spread
from benchmarks.search.recorded_grids import World, load, names
from rkd_core.errors import UserError
from sweeps.search import strategies
from sweeps.search.strategy import Cell, Goal, Point, Request, Space, Strategy

SHARES = (0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65)
"""Shares of the grid's cost at which a choice is made."""
CLOSE = 0.005
LIKELY = 0.05
REPLAYS = 200
"""Replays of ``OURS`` on each grid; Optuna's samplers have half as many."""
SEVERAL = 3, 20
"""Seeds of a grid with several seeds, and number of its replays."""
ENOUGH = 0.3
"""Share of the cost at which a replay of several seeds ends, to save time."""


class Random:
    """The grid in a random order."""

    def __init__(self, space: Space, goal: Goal, seed: int) -> None:
        points = [Point(*point) for point in product(space.cells, space.seeds)]
        order = np.random.default_rng(seed).permutation(len(points))
        first = Point(space.reference, space.seeds[0])
        self.cells = space.cells
        self._left = [first, *(p for p in (points[k] for k in order) if p != first)]

    def ask(self) -> Point | None:
        return self._left.pop(0) if self._left else None

    def tell(self, point: Point, row: Any) -> None: ...

    def taught(self, alpha_t: float | None, row: Any) -> None: ...

    def outlook(self) -> tuple[Point | None, float]:
        return None, np.nan


Factory = Callable[[Space, Goal, int], Strategy]


def registered(name: str, **options: str) -> Factory:
    """Return a factory of one of the command's strategies, with its own options."""
    return lambda space, goal, seed: strategies.create(
        name, Request(space, goal, options=options, seed=seed)
    )


STRATEGIES: dict[str, Factory] = {
    **{name: registered(name) for name in strategies.STRATEGIES if name != "optuna"},
    "random": Random,
    "optuna tpe": registered("optuna"),
    "optuna nsga2": registered("optuna", sampler="nsga2", objectives="pareto"),
}
OURS = tuple(name for name in STRATEGIES if not name.startswith("optuna"))
"""Also replayed with several seeds; Optuna's samplers take all seeds of each combination."""


@dataclass(frozen=True)
class Grid:
    """A possible grid: an order of the recorded seeds for each teacher."""

    world: World
    seeds: int
    number: int

    @cached_property
    def space(self) -> Space:
        """Space that a strategy sees."""
        return Space(self.world.space.alphas, self.world.space.temperatures, (*range(self.seeds),))

    @cached_property
    def order(self) -> dict[float | None, list[int]]:
        """Order of the recorded seeds for each teacher."""
        rng = np.random.default_rng([self.number, self.seeds])
        seeds = np.array(self.world.space.seeds)
        return {a: rng.permutation(seeds).tolist() for a in self.space.objectives}

    @cached_property
    def cost(self) -> int:
        """Cost of the whole grid in trainings; teachers and students have as many epochs."""
        return self.seeds * (len(self.space.cells) + len(self.space.objectives))

    @cached_property
    def whole(self) -> Selection:
        """Selection among all students of the grid."""
        found = self.selection(Point(*p) for p in product(self.space.cells, self.space.seeds))
        assert found is not None
        return found

    @cached_property
    def choice(self) -> Cell:
        """Choice from the whole grid."""
        return Cell.at(self.whole.combinations, self.whole.selected)

    @cached_property
    def estimates(self) -> dict[Cell, float]:
        """Expected worst-class accuracy of each combination, estimated from the whole grid."""
        places = enumerate(self.whole.seen.means.worst_k.tolist())
        return {Cell.at(self.whole.combinations, place): worst for place, worst in places}

    def real(self, point: Point) -> Point:
        """Return the recorded point for a point of this grid."""
        return Point(point.cell, self.order[point.cell.alpha_t][point.seed])

    def selection(self, points: Iterable[Point]) -> Selection | None:
        """Return the selection among some students; None without standard distillation."""
        rows = pa.array(sorted(self.world.place[self.real(point)] for point in points))
        try:
            return choose(combine(self.world.students.take(rows)))
        except UserError:
            return None

    def chosen(self, points: Iterable[Point]) -> Cell:
        """Return the choice from some students; standard distillation if there is none."""
        found = self.selection(points)
        return Cell.at(found.combinations, found.selected) if found else self.space.reference


@dataclass(frozen=True)
class Replay:
    """Results of one strategy on one grid, at each share of its cost."""

    worst: tuple[float, ...]
    expected: tuple[float, ...]
    """Expected worst-class accuracy of the choice less that of the grid's choice."""
    volume: tuple[float, ...]
    """Area of test accuracies that the trained students dominate, over the whole grid's."""
    worse: tuple[bool, ...]
    """Whether the choice is significantly worse than the grid's, over seeds."""
    grid: float
    """Worst-class accuracy of the grid's choice."""

    @property
    def cost(self) -> float:
        """First share at which the choice is nearly as good as the grid's; else 1."""
        close = (s for s, w in zip(SHARES, self.worst, strict=False) if w >= self.grid - CLOSE)
        return next(close, 1.0)


def volume(world: World, cells: Iterable[Cell]) -> float:
    """Return the area of (average, worst-class) test accuracies that the cells dominate."""
    figures = sorted(((world.truth[c][1], world.truth[c][0]) for c in cells), reverse=True)
    area, worst = 0.0, 0.0
    for average, here in figures:
        if here > worst:
            area += average * (here - worst)
            worst = here
    return area


def replay(world_name: str, name: str, seeds: int, number: int) -> Replay:
    """Replay one strategy on one grid."""
    world = load(world_name)
    grid = Grid(world, seeds, number)
    strategy = STRATEGIES[name](grid.space, Goal(), number)
    whole = volume(world, grid.space.cells)
    told: list[Point] = []
    teachers: set[tuple[float | None, int]] = set()
    worst, expected, area, significant = [], [], [], []
    ended = False
    for share in SHARES if seeds == 1 else (s for s in SHARES if s <= ENOUGH):
        while not ended and len(told) + len(teachers) < share * grid.cost:
            point = strategy.ask()
            if point is None:
                ended = True
                break
            teacher, real = (point.cell.alpha_t, point.seed), grid.real(point)
            if teacher not in teachers:
                strategy.taught(teacher[0], world.teachers[teacher[0], real.seed])
            strategy.tell(point, world.rows[real])
            told.append(point)
            teachers.add(teacher)
        cell = grid.chosen(told)
        cells = {point.cell for point in told}
        worst.append(world.truth[cell][0])
        expected.append(grid.estimates[cell] - grid.estimates[grid.choice])
        area.append(volume(world, cells) / whole)
        significant.append(worse(world, cell, grid.choice))
    best = world.truth[grid.choice][0]
    return Replay(tuple(worst), tuple(expected), tuple(area), tuple(significant), best)


def worse(world: World, cell: Cell, best: Cell) -> bool:
    """Return whether a choice is significantly worse than another (paired test over seeds)."""
    gap = world.by_seed(best)[0] - world.by_seed(cell)[0]
    if not gap.std():
        return bool(gap.mean() > 0)
    return bool(stats.ttest_1samp(gap, 0, alternative="greater").pvalue < LIKELY)


def pruned(world_name: str, number: int) -> tuple[bool, float]:
    """Return whether pruning stops the grid's choice, and the share of epochs that it saves."""
    from sweeps.running.pruning import Pruner

    world = load(world_name)
    grid = Grid(world, 1, number)
    pruner, dropped, spent, whole = Pruner(Constrained()), False, 0, 0
    for run in planned(world):
        spec = run.spec
        assert spec.teacher is not None
        cell = Cell(spec.teacher.alpha, spec.alpha, spec.temperature or 1.0)
        row = world.rows[grid.real(Point(cell, 0))]
        whole += row["epochs"]
        done = row["epochs"]
        while (until := pruner.until(run)) is not None:
            at = row["val_epochs"].index(until)
            part = {"status": "pruned", "epochs_trained": until}
            part["val_class_correct"] = row["val_epoch_class_correct"][at]
            pruner.see(run, row | part)
            if pruner.hopeless(run):
                done, dropped = until, dropped or cell == grid.choice
                break
        else:
            pruner.see(run, row)
        spent += done
    return dropped, 1 - spent / whole


@cache
def planned(world: World) -> Sequence[Any]:
    """Return the students of a grid in the order in which a sweep with ``--prune`` starts them."""
    from rkd_core.specs import DataOptions, MultiplierOptions, Recipe
    from sweeps.planning.plan import make_plan, spread
    from sweeps.planning.settings import Settings

    example = next(iter(world.rows.values()))
    settings = Settings(
        dataset=example["dataset"],
        data=DataOptions(),
        scale="small",
        teacher_architecture="resnet8",
        student_architectures=("resnet8",),
        recipe_name="small-images",
        recipe=Recipe(epochs=example["epochs"]),
        multipliers=MultiplierOptions(),
        scale_by_classes=False,
        alphas=world.space.alphas,
        temperatures=world.space.temperatures,
        seeds=(0,),
    )
    return spread(make_plan(settings, world.name)).students


def curves(found: Sequence[Replay]) -> dict[str, Any]:
    """Return the details of a strategy on a recorded grid."""
    cost = [replay.cost for replay in found]
    spare = max(len(found) - 1, 1)
    gaps = 100 * np.array([np.array(replay.worst) - replay.grid for replay in found])
    return {
        "replays": len(found),
        "cost_median": median(cost),
        "cost_quartiles": np.quantile(cost, (0.25, 0.75)).round(4).tolist(),
        "points_to_the_grid": gaps.mean(axis=0).round(2).tolist(),
        "points_standard_error": (gaps.std(axis=0) / np.sqrt(spare)).round(2).tolist(),
        "points_expected": np.mean([100 * np.array(r.expected) for r in found], axis=0)
        .round(2)
        .tolist(),
        "hypervolume": np.mean([r.volume for r in found], axis=0).round(4).tolist(),
        "significantly_worse": np.mean([r.worse for r in found], axis=0).round(3).tolist(),
    }


def most_behind(told: dict[str, Any]) -> float:
    """Return the largest lead in points of a random order over ours, at any share of the cost."""
    ours, others = (np.array(told[name]["points_to_the_grid"]) for name in OURS)
    return round(float((others - ours).max()), 2)


def main() -> None:
    """Replay, and print the rows."""
    small = quick()
    tried = OURS if small else tuple(STRATEGIES)
    replays = 3 if small else REPLAYS
    details: dict[str, Any] = {"shares": SHARES}
    costs: list[float] = []
    ratios: list[float] = []
    drops: list[float] = []
    saved: dict[str, Any] = {}
    count = 0
    with ProcessPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool:

        def all_of(world: str, name: str, seeds: int, replays: int) -> list[Replay]:
            calls = [pool.submit(replay, world, name, seeds, number) for number in range(replays)]
            return [call.result() for call in calls]

        for world in names():
            numbers = {name: replays if name in OURS else replays // 2 for name in tried}
            found = {name: all_of(world, name, 1, number) for name, number in numbers.items()}
            told: dict[str, Any] = {name: curves(each) for name, each in found.items()}
            if not small:
                several = {name: curves(all_of(world, name, *SEVERAL)) for name in OURS}
                behind = {"most_points_behind_random": most_behind(several)}
                told["several seeds"] = several | behind
            told["most_points_behind_random"] = most_behind(told)
            costs += [each.cost for each in found["informed"]]
            ratios.append(told["informed"]["cost_median"] / told["random"]["cost_median"])
            details[world] = told
            outcomes = list(pool.map(pruned, [world] * replays, range(replays)))
            drops += [float(dropped) for dropped, _ in outcomes]
            saved[world] = {
                "replays": len(outcomes),
                "epochs_saved": round(float(np.mean([share for _, share in outcomes])), 3),
                "dropped": sum(dropped for dropped, _ in outcomes),
            }
            count += sum(map(len, found.values()))
    worth = {"repetitions": count}
    print_row("search_cost", spread(costs), "<= 0.25", worth | details)
    print_row("search_vs_random", spread(ratios), "<= 1 at any budget", worth)
    share = float(np.mean(drops))
    print_row(
        "prune_drops_winner",
        {"median": share, "min": min(drops), "max": max(drops)},
        "<= 0.01",
        {"repetitions": len(drops)} | saved,
    )


if __name__ == "__main__":
    main()
