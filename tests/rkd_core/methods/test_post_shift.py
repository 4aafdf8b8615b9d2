"""Post-shift: the best worst recall on validation that a constant for each class can give."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd_core import methods
from rkd_core.methods.post_shift import line_search, recalls_of, value_of
from tests.rkd_core.methods import reference as ref
from tests.rkd_core.methods.problems import property_test


def scores_of(seed, n, classes, skew=1.0):
    """Return noisy scores of a model that favors the first classes; every class has images."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    scores = rng.standard_normal((n, classes)) - skew * np.arange(classes)
    scores[np.arange(n), labels] += 1.5
    return scores, labels


def shift_of(scores, labels, **options):
    classes = scores.shape[1]
    counts = tuple(int(100 / (1 + k)) for k in range(classes))
    method = methods.create("post_shift", {"steps": 200, **options})
    return method.shift(scores, labels, counts)


searched = st.builds(
    scores_of, st.integers(0, 2**32 - 1), st.integers(8, 40), st.integers(2, 5), st.floats(0, 2)
)


@property_test
@given(problem=searched)
def test_recalls_are_those_of_the_loops(problem):
    scores, labels = problem
    b = np.linspace(-1, 1, scores.shape[1])
    expected = ref.worst_recall(scores.tolist(), labels.tolist(), b.tolist())
    assert value_of(scores + b, labels) == pytest.approx(expected)


def test_no_shift_is_the_teacher_and_a_constant_changes_nothing():
    scores, labels = scores_of(0, 50, 4)
    np.testing.assert_array_equal(
        recalls_of(scores + np.zeros(4), labels), recalls_of(scores, labels)
    )
    shift = shift_of(scores, labels)
    for constant in (-7.0, 3.0):
        moved = (scores + shift + constant).argmax(axis=1)
        np.testing.assert_array_equal(moved, (scores + shift).argmax(axis=1))


@property_test
@given(problem=searched)
def test_the_worst_recall_is_never_below_the_teachers(problem):
    scores, labels = problem
    shift = shift_of(scores, labels, steps=30)
    assert shift.shape == scores.shape[1:]
    assert value_of(scores + shift, labels) >= value_of(scores, labels)


def test_exponentiated_gradient_alone_betters_the_balanced_shift():
    """A start of -log(prior), and steps towards the classes of low recall."""
    for seed in range(3):
        scores, labels = scores_of(seed, 400, 4, skew=1.5)
        start, end = (
            value_of(scores + shift_of(scores, labels, sweeps=0, steps=steps), labels)
            for steps in (1, 500)
        )
        assert end[0] > start[0] + 0.1


def test_a_teacher_that_cannot_be_bettered_is_left_alone():
    labels = np.arange(12) % 3
    np.testing.assert_array_equal(shift_of(10 * np.eye(3)[labels], labels), [0, 0, 0])


def test_temperature_plays_no_part():
    scores, labels = scores_of(1, 60, 2)
    shift, t = np.array([0.4, -0.4]), 3.0
    np.testing.assert_array_equal(
        (scores / t + shift).argmax(axis=1), (scores + t * shift).argmax(axis=1)
    )
    cold, warm = shift_of(scores, labels), shift_of(scores / t, labels)
    assert value_of(scores + cold, labels) == value_of(scores / t + warm, labels)


@property_test
@given(problem=st.builds(scores_of, st.integers(0, 2**32 - 1), st.integers(4, 30), st.just(2)))
def test_two_classes_are_solved_as_by_trying_every_threshold(problem):
    scores, labels = problem
    gaps = sorted(scores[:, 0] - scores[:, 1])
    thresholds = [
        gaps[0] - 1,
        *((a + b) / 2 for a, b in pairwise(gaps)),
        gaps[-1] + 1,
    ]
    best = max(ref.worst_recall(scores.tolist(), labels.tolist(), [0.0, b]) for b in thresholds)
    shift = shift_of(scores, labels, steps=10)
    assert value_of(scores + shift, labels) == pytest.approx(best)


@property_test
@given(problem=searched, label=st.integers(0, 1))
def test_a_line_search_is_exact(problem, label):
    scores, labels = problem
    scores = (8 * scores).round() / 8  # ties between images, and differences without rounding
    places = np.unique(np.delete(scores, label, axis=1).max(axis=1) - scores[:, label])
    tried = [places[0] - 1, *((places[1:] + places[:-1]) / 2), places[-1] + 1]

    def at(addition):
        moved = scores.copy()
        moved[:, label] += addition
        return value_of(moved, labels)

    assert at(line_search(scores, labels, label)) == pytest.approx(max(map(at, tried)))


def test_shifting_beats_dividing_by_the_priors_where_the_model_is_not_calibrated():
    scores, labels = scores_of(2, 600, 3, skew=1.0)
    counts = (100, 50, 33)
    by_priors = -np.log(np.array(counts) / sum(counts))
    shift = methods.create("post_shift").shift(scores, labels, counts)
    assert value_of(scores + shift, labels) > value_of(scores + by_priors, labels)
    assert value_of(scores + shift, labels)[0] > value_of(scores, labels)[0] + 0.1


def test_ascent_and_line_search_each_do_something():
    scores, labels = scores_of(3, 400, 5, skew=0.7)
    teacher = value_of(scores, labels)[0]
    ascent = value_of(scores + shift_of(scores, labels, sweeps=0), labels)
    search = value_of(scores + shift_of(scores, labels, steps=0), labels)
    both = value_of(scores + shift_of(scores, labels), labels)
    assert min(ascent[0], search[0]) > teacher
    assert both >= max(ascent, (0, 0))


def test_classes_that_validation_lacks_do_not_matter():
    scores, labels = scores_of(4, 60, 4)
    present = labels != 3
    shift = shift_of(scores[present], labels[present])
    assert np.isfinite(shift).all()
    assert value_of(scores[present] + shift, labels[present])[0] > 0
