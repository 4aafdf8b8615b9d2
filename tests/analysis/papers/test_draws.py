"""Errors of the papers' tables against formulas by hand and against simulations."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest

from analysis.papers.definitions import Cell, Finding, Gain, Of, Pair
from analysis.papers.draws import DRAWS, deviates, recalls_at, recalls_near, resampled
from analysis.papers.measure import measure
from tests.analysis.papers.test_tables import a_table, of, records, student


def errors(rows: list[Any], *metrics: str, what: Any = None) -> list[float]:
    cell = Cell("cell", "", what or Pair(), dict.fromkeys(metrics))
    found = measure(a_table(cell), {0: records(rows)}).figures
    return [found["cell", "", metric].error for metric in metrics]  # type: ignore[misc]


def half_wilson(correct: int, n: int, z: float = 1.0) -> float:
    """Return half the width of Wilson's interval, as in his paper: roots of a quadratic in p."""
    a, b, c = n + z * z, -(2 * correct + z * z), correct * correct / n
    return math.sqrt(b * b - 4 * a * c) / (2 * a)


@pytest.mark.parametrize(("correct", "n"), [(0, 500), (500, 500), (3, 10), (1, 1), (250, 500)])
@pytest.mark.parametrize("z", [1.0, 1.96])
def test_draws_of_a_recall_have_wilsons_ends(correct: int, n: int, z: float) -> None:
    low, high = recalls_at([correct] * 2, [n] * 2, [-z, z])
    center = (correct + z * z / 2) / (n + z * z)
    assert (high - low) / 2 == pytest.approx(half_wilson(correct, n, z), rel=1e-9)
    assert (high + low) / 2 == pytest.approx(center, rel=1e-9)
    assert 0 <= low < high <= 1


def test_a_class_without_images_has_no_draws() -> None:
    for draw in (recalls_at, recalls_near):
        assert np.isnan(draw([0, 1], [0, 2], [[0.5, 0.5]])).tolist() == [[True, False]]


@pytest.mark.parametrize(("images", "recall"), [(5, 0.5), (5, 0.8), (20, 0.9), (50, 0.3)])
def test_averages_over_many_classes_vary_as_stated(images: int, recall: float) -> None:
    random = np.random.default_rng(1)
    correct = random.binomial(images, recall, 2000)
    drawn = recalls_near(correct, np.full(2000, images), deviates(random, 2000)).mean(axis=1)
    assert drawn.mean() == pytest.approx(correct.mean() / images, abs=1e-9)
    truth = math.sqrt(recall * (1 - recall) / images / 2000)
    assert drawn.std() == pytest.approx(truth, rel=0.12)


@pytest.mark.parametrize("values", [(40.0, 60.0), (1.0, 2.0, 9.0), (5.0, 5.5, 8.0, 8.0, 8.2)])
def test_means_over_other_seeds_vary_as_the_standard_error_says(values: tuple[float, ...]) -> None:
    """Return every way to pick seeds with replacement, so that the test is not random."""
    n = len(values)
    picks = np.indices((n,) * n).reshape(n, -1)
    weights = np.array([(picks == seed).sum(axis=0) for seed in range(n)], dtype=float)
    drawn = resampled(values, weights)
    assert drawn.mean() == pytest.approx(0, abs=1e-12)
    expected = statistics.stdev(values) / math.sqrt(n)
    assert drawn.std() == pytest.approx(expected, rel=1e-12)
    assert not resampled(values[:1], np.ones((1, 4))).any()


def test_a_class_without_a_hit_has_an_error_and_so_has_one_without_a_miss() -> None:
    for seeds, counts in ((1, [0, 50, 60]), (3, [0, 50, 60]), (2, [0, 0, 0])):
        rows = [student("std", seed, counts) for seed in range(seeds)]
        (error,) = errors(rows, "worst-1")
        assert error == pytest.approx(100 * half_wilson(0, 100), rel=0.1)
    (error,) = errors([student("std", 0, [100, 100, 100])], "average")
    assert error == pytest.approx(100 * half_wilson(100, 100) / math.sqrt(3), rel=0.1)


def test_seeds_share_their_test_images() -> None:
    """Three seeds with equal counts reduce the noise of images no more than one of them."""
    of_images = 100 * math.hypot(*(half_wilson(c, 100) for c in (50, 60, 70))) / 3
    for seeds in (1, 3, 8):
        (error,) = errors([student("std", s, [50, 60, 70]) for s in range(seeds)], "average")
        assert error == pytest.approx(of_images, rel=0.1)


def test_the_error_is_that_of_seeds_and_that_of_images() -> None:
    levels = [(20, 30, 40), (50, 45, 55), (60, 75, 80), (40, 35, 45)]
    rows = [student("std", seed, list(counts)) for seed, counts in enumerate(levels)]
    averages = [sum(counts) / 3 for counts in levels]
    per_class = zip(*levels, strict=True)
    halves = [statistics.mean(100 * half_wilson(c, 100) for c in counts) for counts in per_class]
    expected = math.hypot(statistics.stdev(averages) / 2, math.hypot(*halves) / 3)
    (error,) = errors(rows, "average")
    assert error == pytest.approx(expected, rel=0.03)


def test_findings_are_as_sure_as_the_errors_say() -> None:
    """With two seeds, the draws of a mean are scaled as the standard error requires."""
    rows = [student("std", seed, [count] * 3) for seed, count in enumerate((40, 60))]
    big = [row | {"test_class_total": [10**6] * 3} for row in rows]
    for row, count in zip(big, (400_000, 600_000), strict=True):
        row["test_class_correct"] = [count] * 3
    cell = Cell("cell", "", Pair(), {"average": None})
    # Both picks are the first seed in a quarter: 10 points below without the factor, 14.1 with it.
    low = Finding("low", lambda v: v["cell", "", "average"] < 50 - 12)
    (verdict,) = measure(a_table(cell, findings=(low,)), {0: records(big)}).verdicts
    assert verdict.share == pytest.approx(0.25, abs=5 * math.sqrt(0.19 / DRAWS))


def test_a_gain_has_the_error_of_its_differences() -> None:
    rows = []
    for seed, (level, gain) in enumerate(((20, 8), (50, 12), (80, 10))):
        rows += [
            student("hot", seed, [level] * 3, **of("one_hot", {}), teacher_id=None),
            student("std", seed, [level + gain] * 3),
        ]
    rows.append(student("std", 3, [5] * 3))  # a seed that the other lacks
    (error,) = errors(rows, "average", what=Gain(Pair(), Of("one_hot")))
    of_images = math.hypot(
        *(
            statistics.mean(100 * half_wilson(c, 100) for c in counts) / math.sqrt(3)
            for counts in ((20, 50, 80), (28, 62, 90))
        )
    )
    expected = math.hypot(statistics.stdev((8, 12, 10)) / math.sqrt(3), of_images)
    assert error == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("spread", [0.0, 0.08])
def test_errors_are_those_of_worlds_whose_truth_is_known(spread: float) -> None:
    """Compare the mean squared error with the stated one, over simulations with shared images."""
    random = np.random.default_rng(0)
    truth, worlds, seeds, images = np.array([0.3, 0.6, 0.85]), 150, 3, 100
    squares, stated = [], []
    for _ in range(worlds):
        hard = random.random((3, images))  # how hard each image is, for all seeds
        own = np.clip(truth + spread * random.standard_normal((seeds, 1)), 0, 1)
        counts = (hard[None] < own[:, :, None]).sum(axis=2)
        rows = [student("std", seed, c.tolist()) for seed, c in enumerate(counts)]
        (error,) = errors(rows, "average")
        squares.append((100 * (counts.mean() / images - truth.mean())) ** 2)
        stated.append(error**2)
    assert np.mean(stated) / np.mean(squares) == pytest.approx(1, abs=0.3)


def test_two_classes_have_no_tail() -> None:
    two = {name: [100, 100] for name in ("val_class_total", "test_class_total")}
    row = student("std", 0, [50, 60, 70], train_class_total=[50, 20]) | two
    row |= {"val_class_correct": [50, 60], "test_class_correct": [50, 60]}
    cell = Cell("cell", "", Pair(), {"tail": 3.0, "average": None})
    found = measure(a_table(cell), {0: records([row])}).figures
    assert found["cell", "", "tail"].value is None
    assert found["cell", "", "average"].value == pytest.approx(55)
