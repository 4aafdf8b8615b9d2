"""Intervals from counts alone, and predicted counts of a test set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from analysis.selection.intervals import Outlook, average_interval, interval, worst_k_interval


def test_the_average_has_the_exact_binomial_interval() -> None:
    correct, total = np.array([[3, 4], [7, 1]]), np.array([[5, 5], [10, 1]])
    each = [binomtest(7, 10).proportion_ci(0.9), binomtest(8, 11).proportion_ci(0.9)]
    low, high = average_interval(correct, total)
    assert low == pytest.approx((each[0].low + each[1].low) / 2)
    assert high == pytest.approx((each[0].high + each[1].high) / 2)


@pytest.mark.parametrize("count", [0, 4])
def test_none_or_all_is_not_certain(count: int) -> None:
    low, high = worst_k_interval(np.array([[count]]), np.array([[4]]))
    expected = binomtest(count, 4).proportion_ci(0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert high - low > 0.4


@pytest.mark.parametrize(("classes", "images", "worst_k"), [(10, 30, 1), (300, 2, 1), (100, 5, 3)])
def test_the_interval_of_a_minimum_holds(classes: int, images: int, worst_k: int) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        recalls = rng.beta(18, 2, classes)
        truth = np.sort(recalls)[:worst_k].mean()
        correct = rng.binomial(images, recalls)[None]
        low, high = worst_k_interval(correct, np.full((1, classes), images), worst_k)
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.9


def test_a_class_without_images_takes_no_part() -> None:
    with_it = worst_k_interval(np.array([[8, 0, 9]]), np.array([[10, 0, 10]]))
    assert with_it == pytest.approx(worst_k_interval(np.array([[8, 9]]), np.array([[10, 10]])))
    assert np.isfinite(average_interval(np.array([[8, 0]]), np.array([[10, 0]]))).all()


def test_predicted_counts_have_the_noise_of_accuracy_and_of_images() -> None:
    rng = np.random.default_rng(1)
    recalls = np.clip(0.8 + 0.05 * rng.standard_normal((20_000, 1)), 0, 1)
    worst, average = Outlook(recalls, np.zeros(1), 0.0).counted(np.array([50]), 1, 1)
    assert worst.tolist() == average.tolist()
    assert worst.mean() == pytest.approx(0.8, abs=0.002)
    assert worst.std() == pytest.approx(np.hypot(0.05, np.sqrt(0.8 * 0.2 / 50)), rel=0.03)


def test_predicted_minima_are_below_the_accuracies() -> None:
    worst, _ = Outlook(np.full((4000, 2), 0.5), np.zeros(2), 0.0).counted(np.array([1, 1]), 1, 1)
    assert worst.mean() == pytest.approx(0.25, abs=0.02)  # both of two coins


def test_students_of_the_same_images_average_less_noise_away() -> None:
    def spread(shared: float, seeds: int) -> float:
        outlook = Outlook(np.full((20_000, 1), 0.5), np.zeros(1), shared)
        return float(outlook.counted(np.array([100]), seeds, 1)[1].std())

    one = np.sqrt(0.5 * 0.5 / 100)
    assert spread(0.9, 1) == pytest.approx(one, rel=0.03)
    assert spread(0.0, 4) == pytest.approx(one / 2, rel=0.03)
    assert spread(1.0, 4) == pytest.approx(one, rel=0.03)
    assert spread(0.5, 4) == pytest.approx(one * np.sqrt(0.5 + 0.5 / 4), rel=0.03)


def test_predicted_counts_differ_between_seeds() -> None:
    outlook = Outlook(np.full((20_000, 1), 0.5), np.array([0.1]), 0.0)
    _, average = outlook.counted(np.array([10**6]), 1, 1)
    assert average.std() == pytest.approx(0.1, rel=0.03)  # the slope of sin^2 is 1 there


def test_no_prediction_for_an_unknown_class() -> None:
    outlook = Outlook(np.array([[0.5, np.nan]] * 10), np.zeros(2), 0.0)
    assert np.isnan(outlook.counted(np.array([5, 5]), 1, 1)[0]).all()
    assert np.isfinite(outlook.counted(np.array([5, 0]), 1, 1)[0]).all()


def test_an_interval_holds_nine_tenths_of_the_draws() -> None:
    low, high = interval(np.arange(1001.0))
    assert (low, high) == pytest.approx((50, 950))


def test_worst_k_ends_are_exact_ends_shared_out() -> None:
    """Two students: lower ends of the two worst classes share 5%, upper ends of all three."""
    correct, total = [[9, 5, 8], [10, 6, 3]], [10, 10, 10]
    low, high = worst_k_interval(np.array(correct), np.array([total, total]), 2)
    lows, highs = [], []
    for student in correct:
        below = [binomtest(c, 10).proportion_ci(1 - 2 * 0.05 / 2).low for c in student]
        above = [binomtest(c, 10).proportion_ci(1 - 2 * 0.05 / 3).high for c in student]
        lows.append(sum(sorted(below)[:2]) / 2)
        highs.append(sum(sorted(above)[:2]) / 2)
    assert (low, high) == pytest.approx((sum(lows) / 2, sum(highs) / 2))


def test_intervals_of_another_confidence() -> None:
    expected = binomtest(12, 20).proportion_ci(0.5)
    for found in (
        average_interval(np.array([[5, 7]]), np.array([[8, 12]]), 0.5),
        worst_k_interval(np.array([[12]]), np.array([[20]]), 1, 0.5),
    ):
        assert found == pytest.approx((expected.low, expected.high))


def test_predicted_worst_classes_are_averaged_over_students() -> None:
    """Two students on two classes of one image: each worst class is one or none."""
    outlook = Outlook(np.full((20_000, 2), 0.5), np.zeros(2), 0.0)
    worst, average = outlook.counted(np.array([1, 1]), 2, 1)
    shares = [(worst == value).mean() for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([9 / 16, 6 / 16, 1 / 16], abs=0.015)
    assert average.mean() == pytest.approx(0.5, abs=0.01)
    assert set(average.tolist()) == {0, 0.25, 0.5, 0.75, 1}
    same, _ = Outlook(outlook.recalls, outlook.seed, 1.0).counted(np.array([1, 1]), 2, 1)
    assert same.mean() == pytest.approx(0.25, abs=0.015)  # the same image, the same luck
    assert set(same.tolist()) == {0, 1}
