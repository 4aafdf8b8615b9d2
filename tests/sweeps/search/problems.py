"""A grid with known accuracies for tests of strategies."""

from __future__ import annotations

import numpy as np

from sweeps.search.strategy import Cell, Goal, Point, Space

SPACE = Space((0.0, 0.25, 0.5, 0.75, 1.0), (1.0, 3.0, 5.0), (0,))
GOAL = Goal()
BEST = Cell(0.5, 0.75, 1.0)
TOTAL = [500] * 10


def accuracies(cell: Cell) -> tuple[float, float]:
    """Worst-class and average accuracy: a hill around ``BEST``, and a price for being robust."""
    t, s = (-0.5 if a is None else a for a in (cell.alpha_t, cell.alpha_s))
    away = 0.5 * (t - 0.5) ** 2 + 0.6 * (s - 0.75) ** 2 + 0.08 * np.log2(cell.temperature)
    return float(0.75 - 0.35 * away), float(0.85 - 0.02 * max(t + s, 0.0) ** 2)


def row(
    worst: float, average: float, status: str = "completed", run_id: str = "run"
) -> dict[str, object]:
    others = (10 * average - worst) / 9
    return {
        "run_id": run_id,
        "status": status,
        "val_class_total": TOTAL,
        "val_class_correct": [round(500 * worst), *[round(500 * others)] * 9],
        "train_seconds": 2.0,
        "epochs_trained": 40,
    }


def outcome(point: Point, noise: float = 0.0) -> dict[str, object]:
    rng = np.random.default_rng([hash(point.cell.place) % 2**32, point.seed])
    worst, average = accuracies(point.cell)
    return row(worst + noise * rng.standard_normal(), average)


def explore(strategy, number: int, noise: float = 0.0) -> list[Point]:
    """Ask and tell in turn; return the proposed points in order."""
    proposed = []
    while len(proposed) < number and (point := strategy.ask()) is not None:
        proposed.append(point)
        strategy.tell(point, outcome(point, noise))
    return proposed
