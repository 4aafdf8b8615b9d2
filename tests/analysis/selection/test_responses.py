"""Working responses of counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.selection.responses import responses


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("accuracy", [0.3, 0.5, 0.8])
def test_few_images_are_not_drawn_to_one_half(images: int, accuracy: float) -> None:
    rng = np.random.default_rng(0)
    correct = rng.binomial(images, accuracy, (40, 500))
    n = np.full(500, images)
    found = responses(correct, n, np.arange(40), np.ones(40, dtype=np.int64))
    truth = np.arcsin(np.sqrt(accuracy))
    assert found.values.mean() == pytest.approx(truth, abs=0.03)
    assert found.noise.mean() == pytest.approx(1 / (4 * images), rel=0.15)
    assert found.values.var() == pytest.approx(found.noise.mean(), rel=0.15)
    if accuracy != 0.5 and images < 5:
        anscombe = np.arcsin(np.sqrt((correct + 3 / 8) / (images + 3 / 4)))
        assert abs(found.values.mean() - truth) < 0.5 * abs(anscombe.mean() - truth)


def test_many_images_are_as_by_the_transform() -> None:
    rng = np.random.default_rng(1)
    correct = rng.binomial(2000, np.linspace(0.2, 0.99, 50), (8, 50))
    n = np.full(50, 2000)
    found = responses(correct, n, np.array([0, 3]), np.array([3, 5]))
    assert found.values == pytest.approx(np.arcsin(np.sqrt(correct / n)), abs=0.003)
    assert found.noise == pytest.approx(np.full(50, 1 / 8000), rel=0.03)


def test_one_response_by_hand() -> None:
    # one class of 4 images, one run, 3 correct: the class (3 + 0.75) / 5, the run as well, and
    # all of it 0.75; by 20 images of weight (3 + 20 * 0.75) / 24 = 0.75, which the count is
    found = responses(np.array([[3]]), np.array([4]), np.array([0]), np.array([1]))
    assert found.values == pytest.approx(np.array([[np.arcsin(np.sqrt(0.75))]]))
    assert found.noise == pytest.approx([1 / 16])


@pytest.mark.parametrize("correct", [0, 3])
def test_counts_of_none_or_all_have_finite_responses(correct: int) -> None:
    found = responses(
        np.full((4, 6), correct), np.full(6, 3), np.arange(4), np.ones(4, dtype=np.int64)
    )
    assert np.isfinite(found.values).all()
    assert (found.noise > 0).all()
    assert ((found.values > -0.2) & (found.values < np.pi / 2 + 0.2)).all()


@pytest.mark.parametrize("extreme", [False, True])
def test_responses_of_uneven_seeds_are_those_of_loops(extreme: bool) -> None:
    """Use three combinations of 2, 1 and 3 runs with classes of 3, 10 and 40 images."""
    images, seeds = [3, 10, 40], [2, 1, 3]
    correct = [[2, 9, 30], [3, 8, 28], [1, 10, 33], [0, 7, 35], [2, 6, 36], [3, 9, 40]]
    if extreme:  # nothing is right but for a class
        correct = [[0, 0, 0]] * 5 + [[3, 0, 0]]
    total = len(correct) * sum(images)
    average = min(max(sum(map(sum, correct)) / total, 0.001), 0.999)

    def odds(p: float) -> float:
        return p / (1 - p)

    values, noise, first = [], [0.0] * 3, 0
    for number in seeds:
        runs = correct[first : first + number]
        total = number * sum(images)
        of_run = (sum(map(sum, runs)) + average) / (total + 1)
        points = []
        for k, n in enumerate(images):
            of_class = (sum(run[k] for run in correct) + 6 * average) / (6 * (n + 1))
            main = odds(of_class) * odds(of_run) / odds(average)
            count = sum(run[k] for run in runs)
            likely = (count + 100 * main / (1 + main)) / (number * n + 100)
            edge = (3 / 8) / (n + 3 / 4)
            points.append(math.asin(math.sqrt(min(max(likely, edge), 1 - edge))))
            noise[k] += likely * (1 - likely) / math.sin(2 * points[k]) ** 2 / n / 3
        values += [
            [
                p + (run[k] / images[k] - math.sin(p) ** 2) / math.sin(2 * p)
                for k, p in enumerate(points)
            ]
            for run in runs
        ]
        first += number
    found = responses(np.array(correct), np.array(images), np.array([0, 2, 3]), np.array(seeds))
    assert found.values == pytest.approx(np.array(values))
    assert found.noise == pytest.approx(noise)
