"""The calibration error of Theorem 2, against loops and known exact values."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd_core.metrics.calibration import BINS, Bins, errors, fill_bins, noise_floor


def by_hand(probabilities, labels, bins):
    """Compute the estimator of methods.md image by image."""
    n, classes = len(labels), len(probabilities[0])
    bins = min(bins, n)
    edges = [round(k * n / bins) for k in range(bins + 1)]
    found = []
    for y in range(classes):
        order = sorted(range(n), key=lambda i: probabilities[i][y])
        prior = sum(1 for label in labels if label == y) / n
        predicted = sum(p[y] for p in probabilities) / n
        if prior == 0 or predicted == 0:
            found.append(float("nan"))
            continue
        total = 0.0
        for low, high in itertools.pairwise(edges):
            rows = order[low:high]
            mean = sum(probabilities[i][y] for i in rows) / len(rows)
            frequency = sum(1 for i in rows if labels[i] == y) / len(rows)
            total += len(rows) / n * abs(mean / predicted - frequency / prior)
        found.append(total)
    return found


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_it_is_the_estimator_image_by_image(n, classes, bins, seed):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=3, size=(n, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = random.integers(0, classes, n)
    ours, expected = errors(fill_bins(p, labels, bins)), by_hand(p.tolist(), labels.tolist(), bins)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)
    assert ((ours[np.isfinite(ours)] >= 0) & (ours[np.isfinite(ours)] <= 2 + 1e-12)).all()


def test_a_class_has_fifteen_bins_unless_there_are_fewer_images():
    random = np.random.default_rng(0)
    for images, bins in ((7, 7), (15, 15), (16, 15), (300, 15)):
        found = fill_bins(random.random((images, 2)), random.integers(0, 2, images))
        assert found.images.shape == (2, bins)
        assert found.images.sum(axis=1).tolist() == [images] * 2


def world(images, factors, seed=0):
    """Labels drawn from eta, and the probabilities ``factors * eta``."""
    random = np.random.default_rng(seed)
    eta = random.dirichlet([0.5, 1, 2], size=images)
    labels = (random.random((images, 1)) > eta.cumsum(axis=1)).sum(axis=1)
    return eta * factors, labels


def test_a_factor_for_each_class_costs_nothing():
    """Figure 2 of Wang et al.: p = a_y eta_y has no error, whatever a is."""
    plain, labels = world(2000, [1, 1, 1])
    scaled, _ = world(2000, [0.1, 3, 0.7])
    np.testing.assert_allclose(
        errors(fill_bins(plain, labels)), errors(fill_bins(scaled, labels)), atol=1e-12
    )


def test_where_frequencies_are_what_was_predicted_it_is_zero():
    p = np.repeat([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], 4, axis=0)
    labels = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(errors(fill_bins(p, labels, 3)), [0, 0], atol=1e-12)


# Figure 2 of Wang et al. in eight steps of brightness, each of 40 images: how many of them are
# cats, pandas, others. Bins of one brightness each make the estimate exact.
LABELLED = np.array([[30, 26, 24, 20, 20, 16, 14, 10], [2, 6, 8, 10, 10, 12, 14, 18]])
LABELLED = np.vstack([LABELLED, 40 - LABELLED.sum(axis=0)])
ETA = LABELLED / 40


def exactly(probabilities):
    """The estimate of probabilities ``(classes, values)``, with a bin for each value."""
    return errors(Bins(np.full(LABELLED.shape, 40), LABELLED, np.asarray(probabilities)))


def error_of(probabilities):
    """E |p_y / pi_y(p) - eta_y / pi_y| of each class, from eta itself."""
    found = []
    for p, eta in zip(probabilities, ETA.tolist(), strict=True):
        level, prior = sum(p) / len(p), sum(eta) / len(eta)
        gaps = [abs(a / level - b / prior) for a, b in zip(p, eta, strict=True)]
        found.append(sum(gaps) / len(gaps))
    return found


def test_the_papers_example_is_exactly_zero():
    """p = eta, and twice the cats' and half the pandas'."""
    for factors in ([1, 1, 1], [2, 0.5, 1], [1e-6, 1, 1e6]):
        np.testing.assert_allclose(exactly(ETA * np.array(factors)[:, None]), 0, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_bound_of_theorem_2_holds_on_toys(seed, n):
    """|robust distillation risk of a sample - robust risk| <= B (calibration) + estimation."""
    random = np.random.default_rng(seed)
    classes, values = ETA.shape
    p = random.dirichlet(np.full(classes, 0.3), size=values).T
    loss = 3 * random.random(ETA.shape)  # l(y, f(x)), at most B = 3
    np.testing.assert_allclose(exactly(p), error_of(p.tolist()), rtol=1e-10)
    sample = random.integers(0, values, n).tolist()
    robust, expected, empirical = [], [], []
    for y in range(classes):
        prior, level = sum(ETA[y]) / values, sum(p[y]) / values
        robust.append(sum(ETA[y, x] * loss[y, x] for x in range(values)) / values / prior)
        expected.append(sum(p[y, x] * loss[y, x] for x in range(values)) / values / level)
        seen = sum(p[y, x] for x in sample)
        empirical.append(sum(p[y, x] * loss[y, x] for x in sample) / seen)
    estimation = max(abs(a - b) for a, b in zip(expected, empirical, strict=True))
    bound = 3 * exactly(p).max() + estimation
    assert abs(max(empirical) - max(robust)) <= bound + 1e-9


def test_the_wrong_way_round_it_is_two():
    p = np.eye(2)[[0] * 6 + [1] * 6]
    labels = np.array([1] * 6 + [0] * 6)
    assert errors(fill_bins(p, labels, 4)).tolist() == [2, 2]


def test_true_probabilities_reach_the_noise_floor_and_others_pass_it():
    p, labels = world(3000, [1, 1, 1])
    bins = fill_bins(p, labels)
    assert bins.images.shape == (3, BINS)
    floor = noise_floor(bins)
    assert (np.abs(errors(bins) / floor - 1) < 0.5).all()
    worse = fill_bins(p**3, labels)
    assert (errors(worse) > 3 * noise_floor(worse)).all()


def test_the_noise_falls_with_the_root_of_the_images():
    floors = [noise_floor(fill_bins(*world(n, [1, 1, 1])), draws=400).mean() for n in (500, 8000)]
    assert floors[0] / floors[1] == pytest.approx(4, rel=0.25)


def test_a_class_that_is_absent_has_none():
    p, labels = world(100, [1, 1, 1])
    bins = fill_bins(p, np.where(labels == 2, 1, labels))
    assert np.isnan(errors(bins)).tolist() == [False, False, True]
    assert np.isnan(noise_floor(bins)).tolist() == [False, False, True]
    nothing = Bins(bins.images, bins.positives, np.zeros_like(bins.probability))
    assert np.isnan(errors(nothing)).all()
    assert np.isnan(noise_floor(nothing)).all()
