"""Shifts of a classifier's logits that are fitted to validation, from balanced to robust."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rkd_core.seeds import stream, stream_seed

__all__ = ["ALPHAS", "VERSION", "correct_counts", "cross_fitted", "fit", "halves", "offered"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths of the shifts: 0 is balanced, 1 is robust."""
VERSION = 1
"""Version of the fit. Raise it if the same logits give other shifts."""

_RIDGE = 0.2
"""Weight of the squared shift in the balanced fit, divided by the mean images of a class."""
_NEWTON_STEPS, _HALVINGS = 100, 40
_CONVERGED = 1e-12  # expected decrease of the balanced cross-entropy
_PRIOR_IMAGES = 10.0
"""Images with the mean recall that are added to each class, so that few images count less."""
_STEPS, _STEP_SIZE, _DECAY = 300, 0.1, 100.0
_MOST = 20_000_000
"""Maximum number of logits in a fit; with more, it uses evenly spaced images."""


def offered(images: float) -> tuple[float, ...]:
    """Return the strengths that are worth considering with so many validation images per class.

    With fewer images, the fits may lower an accuracy (``benchmarks/selection/shifts.py``).
    """
    return tuple(alpha for alpha in ALPHAS if images >= (10 if alpha <= 0.5 else 30))


def fit(logits: NDArray[np.floating], labels: IntArray) -> FloatArray:
    """Return the shift of each strength in ``ALPHAS``, ``(strengths, classes)``.

    The balanced shift minimizes the balanced cross-entropy plus a ridge. The robust shift maximizes
    the smallest recall, with recalls shrunk toward their mean so that classes with few images do
    not decide alone. Shifts in between are interpolated. Each is exact in float32. A class without
    images has the shift 0, the mean of the others.

    Args:
        logits: Logits of validation images, ``(n, classes)``.
        labels: Their labels, ``(n,)``.
    """
    stride = max(-(-np.size(logits) // _MOST), 1)
    scores, labels = np.asarray(logits[::stride], dtype=np.float64), labels[::stride]
    present, places = np.unique(labels, return_inverse=True)
    shifts = np.zeros((len(ALPHAS), scores.shape[1]))
    if present.size:
        balanced = _balanced(scores[:, present], places)
        robust = _robust(scores, labels, present)
        shifts[:, present] = [(1 - alpha) * balanced + alpha * robust for alpha in ALPHAS]
    return shifts.astype(np.float32).astype(np.float64)


def correct_counts(logits: NDArray[np.floating], labels: IntArray, shifts: FloatArray) -> IntArray:
    """Return the correct predictions of each class with each shift, ``(shifts, classes)``.

    Logits and shifts are added in float32, as an exported program does.
    """
    scores = np.asarray(logits, dtype=np.float32)
    found = [(scores + shift.astype(np.float32)).argmax(axis=1) for shift in shifts]
    return np.array([np.bincount(labels[f == labels], minlength=scores.shape[1]) for f in found])


def cross_fitted(logits: NDArray[np.floating], labels: IntArray) -> IntArray:
    """Return the correct predictions of each class, ``(strengths, classes)``.

    Each image is classified with the shifts that were fitted to the other half of the images.
    """
    first = halves(labels, np.shape(logits)[1])
    parts = [
        correct_counts(logits[judged], labels[judged], fit(logits[~judged], labels[~judged]))
        for judged in (first, ~first)
    ]
    return np.asarray(parts[0] + parts[1])


def halves(labels: IntArray, classes: int) -> NDArray[np.bool_]:
    """Return a mask of half of the images of each class, the same for all models.

    Of classes with an odd number of images, every other one has its additional image in the first
    half.
    """
    generator = stream(stream_seed("shift_family"))
    mask = np.zeros(len(labels), dtype=bool)
    extra = 0
    for label in range(classes):
        places = generator.permutation(np.flatnonzero(labels == label))
        taken = (len(places) + extra) // 2
        extra ^= len(places) % 2
        mask[places[:taken]] = True
    return mask


def _balanced(scores: FloatArray, labels: IntArray) -> FloatArray:
    """Return the shift that minimizes the balanced cross-entropy plus a ridge.

    Every class has images. The objective is strongly convex, so Newton's method with a line search
    converges.
    """
    total = np.bincount(labels)
    classes = len(total)
    weight = 1 / (total[labels] * classes)
    shift = np.zeros(classes)
    ridge = _RIDGE / total.mean()
    own = scores[np.arange(len(labels)), labels]

    def value(shift: FloatArray) -> float:
        loss = weight @ (np.logaddexp.reduce(scores + shift, axis=1) - own - shift[labels])
        return float(loss + ridge * (shift @ shift))

    standing = value(shift)
    for _ in range(_NEWTON_STEPS):
        moved = scores + shift
        probabilities = np.exp(moved - np.logaddexp.reduce(moved, axis=1)[:, None])
        mean = weight @ probabilities
        gradient = mean - 1 / classes + 2 * ridge * shift
        hessian = np.diag(mean + 2 * ridge)
        hessian -= (probabilities * weight[:, None]).T @ probabilities
        step = np.linalg.solve(hessian, gradient)
        decrease, length = float(gradient @ step), 1.0
        if decrease < _CONVERGED:
            break
        for _ in range(_HALVINGS):
            following = value(shift - length * step)
            if following <= standing - 1e-4 * length * decrease:
                break
            length /= 2
        else:  # no further decrease in floating point
            break
        shift, standing = shift - length * step, following
    return np.asarray(shift - shift.mean())


def _robust(scores: FloatArray, labels: IntArray, present: IntArray) -> FloatArray:
    """Return the shift with the largest worst recall among exponentiated-gradient steps.

    Recalls are shrunk toward their mean; ties are broken by the mean recall.

    Args:
        scores: Logits, ``(n, classes)``.
        labels: Labels, ``(n,)``.
        present: Labels of the classes with images, in order.

    Returns:
        Shifts of the present classes; that of the others is 0.
    """
    classes = scores.shape[1]
    images = np.bincount(labels, minlength=classes)[present]
    shift = np.zeros(classes)
    best, best_value = shift, (-1.0, -1.0)
    for step in range(_STEPS):
        right = labels[(scores + shift).argmax(axis=1) == labels]
        correct = np.bincount(right, minlength=classes)[present]
        mean = float((correct / images).mean())
        recalls = (correct + _PRIOR_IMAGES * mean) / (images + _PRIOR_IMAGES)
        value = float(recalls.min()), mean
        if value > best_value:
            best, best_value = shift, value
        shift = shift.copy()
        shift[present] += _STEP_SIZE / (1 + step / _DECAY) * (recalls.mean() - recalls)
    return np.asarray(best[present])
