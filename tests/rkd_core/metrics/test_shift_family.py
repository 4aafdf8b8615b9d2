"""Shifts fitted to validation, against plain loops and a general optimizer."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from rkd_core.metrics import shift_family
from rkd_core.metrics.shift_family import ALPHAS, correct_counts, cross_fitted, fit, halves, offered
from tests.rkd_core import reference


def problem(classes=5, images=200, seed=0, priors=None):
    """Logits of a classifier that favors the first classes, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, images, p=priors).astype(np.int64)
    logits = 1.5 * rng.standard_normal((images, classes)) - 0.8 * np.arange(classes)
    logits[np.arange(images), labels] += 2.5
    return logits.astype(np.float32), labels


def balanced_objective(shift, logits, labels):
    """Mean over classes of the mean cross-entropy, plus 0.2 / (mean images of a class) |b|^2."""
    losses = {}
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        moved = [z + b for z, b in zip(row, shift, strict=True)]
        losses.setdefault(y, []).append(reference.log_sum_exp(moved) - moved[y])
    mean = math.fsum(math.fsum(v) / len(v) for v in losses.values()) / len(losses)
    return mean + 0.2 / (len(labels) / len(losses)) * math.fsum(b * b for b in shift)


def robust_reference(logits, labels):
    """Best of 300 exponentiated-gradient steps on recalls shrunk by ten images, in plain loops."""
    classes, shift = logits.shape[1], [0.0] * logits.shape[1]
    best, best_value = shift, (-1.0, -1.0)
    for step in range(300):
        right, total = [0] * classes, [0] * classes
        for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
            moved = [z + b for z, b in zip(row, shift, strict=True)]
            total[y] += 1
            right[y] += moved.index(max(moved)) == y
        mean = sum(r / n for r, n in zip(right, total, strict=True)) / classes
        recalls = [(r + 10 * mean) / (n + 10) for r, n in zip(right, total, strict=True)]
        if (min(recalls), mean) > best_value:
            best, best_value = shift, (min(recalls), mean)
        risks = [1 - r for r in recalls]
        moved = [b + 0.1 / (1 + step / 100) * r for b, r in zip(shift, risks, strict=True)]
        shift = [b - sum(moved) / classes for b in moved]
    return best


@pytest.mark.parametrize("seed", range(3))
def test_the_balanced_shift_minimizes_its_objective(seed):
    logits, labels = problem(seed=seed)
    found = fit(logits, labels)[0]
    best = minimize(balanced_objective, np.zeros(5), (logits, labels), tol=1e-10)
    np.testing.assert_allclose(found, best.x - best.x.mean(), atol=2e-5)


def test_the_balanced_fit_converges_from_extreme_logits():
    logits, labels = problem(seed=4)
    found = fit(1000 * logits, labels)[0]
    gained = balanced_objective(found, 1000 * logits, labels)
    assert gained < balanced_objective(np.zeros(5), 1000 * logits, labels)
    separable = np.eye(4, dtype=np.float32)[labels % 4] * 1000
    np.testing.assert_allclose(fit(separable, labels % 4)[0], 0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_robust_shift_against_plain_loops(seed):
    logits, labels = problem(images=60, seed=seed)
    expected = robust_reference(logits, labels)
    np.testing.assert_allclose(fit(logits, labels)[-1], expected, atol=1e-6)


def test_strengths_between_are_interpolated_and_exact_in_float32():
    shifts = fit(*problem())
    assert shifts.shape == (len(ALPHAS), 5)
    assert (shifts == shifts.astype(np.float32)).all()
    for alpha, shift in zip(ALPHAS, shifts, strict=True):
        np.testing.assert_allclose(shift, (1 - alpha) * shifts[0] + alpha * shifts[-1], atol=1e-6)
        assert abs(shift.mean()) < 1e-6


def test_strong_shifts_need_thirty_images_per_class():
    assert [offered(images) for images in (9.9, 10, 29.9)] == [(), ALPHAS[:3], ALPHAS[:3]]
    assert offered(30) == ALPHAS == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_fits_raise_the_worst_recall_on_unseen_images():
    logits, labels = problem(images=4000, seed=5)
    shifts = fit(logits[:2000], labels[:2000])
    total = np.bincount(labels[2000:], minlength=5)
    plain = (correct_counts(logits[2000:], labels[2000:], np.zeros((1, 5))) / total)[0]
    shifted = correct_counts(logits[2000:], labels[2000:], shifts) / total
    assert (shifted.min(axis=1) > plain.min() + 0.1).all()


def test_each_image_is_judged_by_the_fit_of_the_other_half():
    logits, labels = problem()
    first = halves(labels, 5)
    counts = np.zeros((len(ALPHAS), 5), int)
    for mine in (first, ~first):
        for i, shift in enumerate(fit(logits[~mine], labels[~mine])):
            for row, y in zip(logits[mine], labels[mine], strict=True):
                counts[i, y] += (row + shift.astype(np.float32)).argmax() == y
    assert cross_fitted(logits, labels).tolist() == counts.tolist()


def test_halves_have_half_of_each_class_and_depend_on_labels_alone():
    labels = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 9])
    mask = halves(labels, 7)
    assert mask.tolist() == halves(labels.copy(), 7).tolist()
    of_class = np.bincount(labels[mask], minlength=6)
    assert of_class.tolist() == [0, 1, 2, 2, 4, 5]
    assert mask.sum() == len(labels) // 2


def test_a_class_without_images_keeps_its_place():
    logits, labels = problem()
    present = labels != 2
    shifts = fit(logits[present], labels[present])
    assert (shifts[:, 2] == 0).all()
    assert np.isfinite(shifts).all()
    assert (fit(logits[:0], labels[:0]) == 0).all()
    assert cross_fitted(logits[:1], labels[:1]).shape == (len(ALPHAS), 5)
    assert (fit(np.zeros((3, 1), np.float32), np.zeros(3, np.int64)) == 0).all()


def test_a_large_validation_set_is_thinned_for_the_fit(monkeypatch):
    logits, labels = problem(images=400)
    monkeypatch.setattr(shift_family, "_MOST", 5 * 100)
    assert fit(logits, labels).tolist() == fit(logits[::4], labels[::4]).tolist()
