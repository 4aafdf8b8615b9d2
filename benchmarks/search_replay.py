"""What a search reaches for what it costs, replayed on grids that were trained in full.

    python benchmarks/search_replay.py [--quick]

The grids are the records in ``benchmarks/worlds`` (``benchmarks/worlds.py`` says how they come
there). A replay is one seed of a grid and one stream of a strategy: the strategy asks, is told what
the record says, and pays for a student, and for its teacher if it is the first on it, by their
epochs. At each share of the cost of that seed's grid ``analysis.select`` chooses among the students
so far; a choice is worth its mean test accuracies over all seeds of the grid, which no strategy
sees. It is held against what is chosen from the whole grid of that seed, and against the same grid
in a random order.

Rows: ``search_cost``, the share of the grid's cost at which the choice first is within half a point
of the grid's in worst-class accuracy; ``search_vs_random``, the median of that over the median of a
random order's; ``prune_drops_winner``, the share of replays in which ``--prune`` stops what the
whole grid would choose. The details have each grid and strategy, with curves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from report import print_row, quick, spread
from scipy import stats
from threadpoolctl import threadpool_limits
from worlds import World, worlds

from analysis.combinations import combine
from analysis.uncertainty import decide
from rkd_core.errors import UserError
from sweeps.search.informed import Informed
from sweeps.search.space import Cell, Goal, Point, Space, Strategy
from sweeps.search.with_optuna import WithOptuna

SHARES = (*(round(0.025 * k, 3) for k in range(2, 13)), 0.4, 0.5, 0.65, 0.8, 1.0)
"""Of the grid's cost, at which a choice is made."""
CLOSE = 0.005
LIKELY = 0.05


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


STRATEGIES: dict[str, Callable[[Space, Goal, int], Strategy]] = {
    "informed": lambda space, goal, seed: Informed(space, goal, seed=seed),
    "random": Random,
    "optuna tpe": lambda space, goal, seed: WithOptuna(space, goal, seed=seed),
    "optuna nsga2": lambda space, goal, seed: WithOptuna(
        space, goal, sampler="nsga2", objectives="pareto", seed=seed
    ),
}
OURS = {"informed", "random"}
"""Replayed with several streams; the others with one."""


@dataclass(frozen=True)
class Replay:
    """What one strategy reached on one seed of a world, at each share of the grid's cost."""

    worst: tuple[float, ...]
    average: tuple[float, ...]
    volume: tuple[float, ...]
    """Of test accuracies that what was trained dominates, over that of the whole grid."""
    worse: tuple[bool, ...]
    """Whether the choice is significantly worse than the grid's, over seeds."""
    grid: float
    """Worst-class accuracy of the grid's choice."""

    @property
    def cost(self) -> float:
        """The first share at which the choice is as good as the grid's, nearly; else 1."""
        close = (s for s, w in zip(SHARES, self.worst, strict=True) if w >= self.grid - CLOSE)
        return next(close, 1.0)


def chosen(world: World, points: Iterable[Point]) -> Cell | None:
    """What the selection makes of some students; None without standard distillation."""
    rows = pa.array(sorted(world.place[point] for point in points))
    try:
        selection, _, _ = decide(combine(world.students.take(rows)))
    except UserError:
        return None
    c, best = selection.combinations, selection.selected

    def amount(alpha: float) -> float | None:
        return None if np.isnan(alpha) else float(alpha)

    return Cell(amount(c.alpha_t[best]), amount(c.alpha_s[best]), float(c.temperature[best]))


def volume(world: World, cells: Iterable[Cell]) -> float:
    """Area of (average, worst-class) accuracies on test that some cell dominates."""
    figures = sorted(((world.truth[c][1], world.truth[c][0]) for c in cells), reverse=True)
    area, worst = 0.0, 0.0
    for average, here in figures:
        if here > worst:
            area += average * (here - worst)
            worst = here
    return area


def replay(world: World, name: str, seed: int, stream: int) -> Replay:
    """One strategy on one seed."""
    space = replace(world.space, seeds=(seed,))
    strategy = STRATEGIES[name](space, Goal(), stream)
    full = len(space.cells) + len(space.objectives)
    best = chosen(world, (Point(cell, seed) for cell in space.cells))
    assert best is not None
    whole = volume(world, space.cells)
    told: list[Point] = []
    teachers: set[float | None] = set()
    figures: list[tuple[float, float, float, bool]] = []
    ended = False
    for share in SHARES:
        while not ended and len(told) + len(teachers) < share * full:
            point = strategy.ask()
            if point is None:
                ended = True
                break
            strategy.tell(point, world.rows[point])
            told.append(point)
            teachers.add(point.cell.alpha_t)
        cell = chosen(world, told) or space.reference
        cells = {point.cell for point in told}
        figures.append((*world.truth[cell], volume(world, cells) / whole, worse(world, cell, best)))
    return Replay(*zip(*figures, strict=True), world.truth[best][0])


def worse(world: World, cell: Cell, best: Cell) -> bool:
    """Whether a choice is significantly worse than another, by a paired test over seeds."""
    gap = world.by_seed(best)[0] - world.by_seed(cell)[0]
    if not gap.std():
        return bool(gap.mean() > 0)
    return bool(stats.ttest_1samp(gap, 0, alternative="greater").pvalue < LIKELY)


def pruned(world: World, seed: int) -> tuple[bool, float]:
    """Whether pruning stops the grid's choice, and what share of the epochs it saves."""
    from sweeps.pruning import Pruner

    runs = planned(world, seed)
    best = chosen(world, (Point(cell, seed) for cell in world.space.cells))
    pruner, dropped, spent, whole = Pruner(1, None), False, 0, 0
    for run in runs:
        spec = run.spec
        assert spec.teacher is not None
        cell = Cell(spec.teacher.alpha, spec.alpha, spec.temperature or 1.0)
        row = world.rows[Point(cell, seed)]
        whole += row["epochs"]
        done = row["epochs"]
        while (until := pruner.until(run)) is not None:
            at = row["val_epochs"].index(until)
            part = {"status": "pruned", "epochs_trained": until}
            part["val_class_correct"] = row["val_epoch_class_correct"][at]
            pruner.see(run, row | part)
            if pruner.hopeless(run):
                done, dropped = until, dropped or cell == best
                break
        else:
            pruner.see(run, row)
        spent += done
    return dropped, 1 - spent / whole


def planned(world: World, seed: int) -> Sequence[Any]:
    """The students of a seed in the order in which a sweep with ``--prune`` begins them."""
    from rkd_core.specs import DataOptions, MultiplierOptions, Recipe
    from sweeps.plan import make_plan, spread
    from sweeps.settings import Settings

    example = next(iter(world.rows.values()))
    settings = Settings(
        dataset=example["dataset"],
        data=DataOptions(),
        scale="small",
        teacher_architecture="resnet8",
        student_architecture="resnet8",
        recipe_name="small-images",
        recipe=Recipe(epochs=example["epochs"]),
        multipliers=MultiplierOptions(),
        scale_by_classes=False,
        alphas=world.space.alphas,
        temperatures=world.space.temperatures,
        seeds=(seed,),
    )
    return spread(make_plan(settings, world.name)).students


def curves(found: Sequence[Replay]) -> dict[str, Any]:
    """What is told of a strategy on a world."""
    cost = [replay.cost for replay in found]
    gaps = np.array([np.array(replay.worst) - replay.grid for replay in found])
    return {
        "cost_median": median(cost),
        "cost_quartiles": np.quantile(cost, (0.25, 0.75)).round(4).tolist(),
        "points_to_the_grid": (100 * gaps.mean(axis=0)).round(2).tolist(),
        "hypervolume": np.mean([r.volume for r in found], axis=0).round(4).tolist(),
        "significantly_worse": np.mean([r.worse for r in found], axis=0).round(3).tolist(),
    }


def never_worse(ours: dict[str, Any], others: dict[str, Any]) -> float:
    """Largest lead in points that a random order has at any share of the cost."""
    gap = np.array(others["points_to_the_grid"]) - np.array(ours["points_to_the_grid"])
    return round(float(gap.max()), 2)


def main() -> None:
    """Replay, and print the rows."""
    small = quick()
    names = ["informed", "random"] if small else list(STRATEGIES)
    details: dict[str, Any] = {"shares": SHARES}
    costs: list[float] = []
    ratios: list[float] = []
    drops: list[float] = []
    saved: dict[str, Any] = {}
    count = 0
    with ProcessPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool:
        for world in worlds():
            streams = 1 if small else max(1, 20 // len(world.space.seeds))
            seeds = world.space.seeds[: 2 if small else None]
            told: dict[str, Any] = {}
            for name in names:
                tries = range(streams if name in OURS else 1)
                work = list(product(seeds, tries))
                calls = [pool.submit(replay, world, name, *each) for each in work]
                found = [call.result() for call in calls]
                told[name] = curves(found) | {"replays": len(found)}
                count += len(found)
                if name == "informed":
                    costs += [each.cost for each in found]
            lead = never_worse(told["informed"], told["random"])
            told["most_points_behind_random"] = lead
            ratios.append(told["informed"]["cost_median"] / told["random"]["cost_median"])
            details[world.name] = told
            outcomes = [pruned(world, seed) for seed in seeds]
            drops += [float(dropped) for dropped, _ in outcomes]
            saved[world.name] = {
                "replays": len(outcomes),
                "epochs_saved": round(float(np.mean([share for _, share in outcomes])), 3),
                "dropped": sum(dropped for dropped, _ in outcomes),
            }
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
