"""Accuracies from counts against exact fractions."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkd_core import metrics
from tests.rkd_core import reference

property_test = settings(deadline=None, max_examples=100)


@st.composite
def counts(draw, present: int = 1):
    """Correct and total per class; at least ``present`` classes have images."""
    total = draw(st.lists(st.integers(0, 60), min_size=max(present, 2), max_size=9))
    total[:present] = [max(n, 1) for n in total[:present]]
    order = draw(st.permutations(range(len(total))))
    total = [total[i] for i in order]
    correct = [draw(st.integers(0, n)) for n in total]
    return correct, total


@property_test
@given(counts())
def test_accuracies_are_the_exact_fractions(pair):
    correct, total = pair
    exact = sorted(reference.recalls(correct, total))
    recalls = metrics.recalls(correct, total)
    assert [n == 0 for n in total] == np.isnan(recalls).tolist()
    np.testing.assert_allclose(
        recalls[np.isfinite(recalls)],
        [float(r) for r in reference.recalls(correct, total)],
        rtol=1e-15,
    )
    average = sum(correct) / sum(total)
    assert metrics.average_accuracy(correct, total) == pytest.approx(average, abs=1e-14)
    balanced = float(sum(exact) / len(exact))
    assert metrics.balanced_accuracy(correct, total) == pytest.approx(balanced, abs=1e-14)
    assert metrics.worst_class_accuracy(correct, total) == pytest.approx(float(exact[0]), abs=1e-14)
    for k in range(1, len(exact) + 1):
        worst = float(sum(exact[:k]) / k)
        assert metrics.worst_k_accuracy(correct, total, k) == pytest.approx(worst, abs=1e-14)


@property_test
@given(counts(present=2))
def test_worst_1_is_worst_class_and_worst_m_is_balanced(pair):
    correct, total = pair
    present = sum(n > 0 for n in total)
    worst = [metrics.worst_k_accuracy(correct, total, k) for k in range(1, present + 1)]
    assert worst[0] == metrics.worst_class_accuracy(correct, total)
    assert worst[-1] == pytest.approx(metrics.balanced_accuracy(correct, total), abs=1e-14)
    assert all(a <= b + 1e-14 for a, b in pairwise(worst))


def test_balanced_is_average_on_a_balanced_test_set():
    correct, total = [3, 10, 7], [10, 10, 10]
    assert metrics.average_accuracy(correct, total) == pytest.approx(2 / 3)
    assert metrics.balanced_accuracy(correct, total) == pytest.approx(2 / 3)
    skewed = [10, 10, 100]
    assert metrics.average_accuracy(correct, skewed) == pytest.approx(20 / 120)
    assert metrics.balanced_accuracy(correct, skewed) == pytest.approx((0.3 + 1 + 0.07) / 3)


def test_the_order_of_the_classes_does_not_matter_but_to_recalls():
    correct, total = np.array([1, 5, 0, 9, 2]), np.array([4, 5, 0, 10, 8])
    order = np.array([3, 2, 0, 4, 1])
    for function in (
        metrics.average_accuracy,
        metrics.balanced_accuracy,
        metrics.worst_class_accuracy,
        lambda c, n: metrics.worst_k_accuracy(c, n, 2),
    ):
        assert function(correct[order], total[order]) == pytest.approx(function(correct, total))
    np.testing.assert_array_equal(
        metrics.recalls(correct, total)[order], metrics.recalls(correct[order], total[order])
    )


@property_test
@given(st.data(), st.integers(1, 4))
def test_worst_k_is_never_above_worst_k_of_a_reference(data, k):
    total = data.draw(st.lists(st.integers(1, 40), min_size=4, max_size=8))
    correct = [data.draw(st.integers(0, n)) for n in total]
    teacher = [data.draw(st.integers(0, n)) / n for n in total]
    by_reference = metrics.worst_k_reference_accuracy(correct, total, teacher, k)
    assert metrics.worst_k_accuracy(correct, total, k) <= by_reference + 1e-14
    # By hand: the first k classes when sorted by the teacher's recall, ties by label.
    chosen = sorted(range(len(total)), key=lambda y: (teacher[y], y))[:k]
    exact = sum(correct[y] / total[y] for y in chosen) / k
    assert by_reference == pytest.approx(exact, abs=1e-14)


def test_a_run_is_its_own_reference():
    correct, total = [1, 5, 0, 9, 2], [4, 5, 3, 10, 8]
    own = metrics.recalls(correct, total)
    for k in range(1, 6):
        assert metrics.worst_k_reference_accuracy(correct, total, own, k) == pytest.approx(
            metrics.worst_k_accuracy(correct, total, k)
        )


def test_classes_the_reference_never_saw_are_not_its_worst():
    teacher = [np.nan, 0.5, 0.9]
    assert metrics.worst_k_reference_accuracy([0, 3, 4], [4, 4, 4], teacher, 1) == 0.75


def test_runs_can_be_stacked():
    rng = np.random.default_rng(0)
    total = rng.integers(1, 50, 6)
    correct = rng.integers(0, total, size=(3, 2, 6))
    teacher = rng.uniform(0, 1, 6)
    for function in (
        metrics.recalls,
        metrics.average_accuracy,
        metrics.balanced_accuracy,
        metrics.worst_class_accuracy,
        lambda c, n: metrics.worst_k_accuracy(c, n, 3),
        lambda c, n: metrics.worst_k_reference_accuracy(c, n, teacher, 3),
    ):
        stacked = function(correct, np.broadcast_to(total, correct.shape))
        alone = [[function(c, total) for c in row] for row in correct]
        np.testing.assert_allclose(stacked, alone, rtol=1e-15)


@pytest.mark.parametrize("k", [0, -1, 3])
def test_k_beyond_the_classes_present_is_refused(k):
    with pytest.raises(ValueError, match="k must be"):
        metrics.worst_k_accuracy([1, 0, 2], [2, 0, 3], k)


@pytest.mark.parametrize("k", [0, 3])
def test_k_beyond_the_reference_is_refused(k):
    with pytest.raises(ValueError, match="k must be"):
        metrics.worst_k_reference_accuracy([1, 1, 2], [2, 2, 3], [0.1, np.nan, 0.3], k)


def test_a_reference_class_that_is_absent_here_is_refused():
    with pytest.raises(ValueError, match="absent"):
        metrics.worst_k_reference_accuracy([0, 1], [0, 2], [0.1, 0.9], 1)


def test_metrics_need_no_torch():
    code = "import sys, rkd_core.metrics.accuracy; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


@pytest.mark.parametrize("accuracy", [0.2, 0.5, 0.9])
def test_on_the_arcsine_scale_the_noise_of_counting_does_not_depend_on_accuracy(accuracy):
    images = 400
    share = np.random.default_rng(0).binomial(images, accuracy, 200_000) / images
    wanted = 1 / (4 * images + 2)
    assert metrics.arcsine_scaled(share).var() == pytest.approx(wanted, rel=0.02)
    assert metrics.arcsine_scaled([-0.1, 0.0, 0.5, 1.0]) == pytest.approx(
        [0, 0, np.pi / 4, np.pi / 2]
    )


def test_the_error_of_one_image_is_that_of_wilson() -> None:
    """Half of Wilson's interval at z = 1 for 0 or 1 of 1: 1 / (2 (1 + 1))."""
    assert metrics.binomial_error([0.0, 1.0], [1, 1]).tolist() == [0.25, 0.25]
    assert metrics.binomial_error(0.5, 1) == 0.5


def test_the_error_of_a_count_is_binomial_and_never_zero():
    n = 40
    correct = np.arange(n + 1)
    errors = metrics.binomial_error(correct / n, n)
    inner = [math.sqrt(c / n * (1 - c / n) / n) for c in correct[1:-1]]
    np.testing.assert_allclose(errors[1:-1], inner, rtol=1e-12)
    # Wilson's interval of z = 1 from 0 of 40: the root of (0 - p)^2 = p (1 - p) / 40 is 1 / 41.
    assert errors[0] == errors[-1] == pytest.approx(1 / 41 / 2)
    assert errors[0] < errors[1]
    assert np.isnan(metrics.binomial_error([0.5, np.nan], [0, 3])).tolist() == [True, False]
