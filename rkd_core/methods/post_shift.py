"""Robust post-shift of a trained classifier (Narasimhan & Menon, NeurIPS 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rkd_core.methods.common.protocol import Shift

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_FLOOR = 1e-12
_TOLERANCE = 1e-12  # differences of recalls below this are ties


class PostShift(Shift):
    """Post-hoc shift of the teacher's logits that maximizes the worst recall on validation.

    Exponentiated-gradient steps on class weights lambda, with the plug-in shift
    ``log(lambda / pi)``, are followed by line searches for each class that start from the best
    shift so far. Recalls are not continuous in the shift, so the result is the best shift rather
    than the last; a shift of 0 is one of the candidates. A temperature would have no effect, since
    ``argmax(z / T + b) = argmax(z + T b)``.
    """

    name = "post_shift"

    steps: int = Field(default=2000, ge=0)
    """Number of exponentiated-gradient steps; each reads all validation logits."""
    step_size: float = Field(default=0.1, gt=0)
    """Initial step size; it is ``step_size / (1 + k / decay)`` at step k."""
    decay: float = Field(default=300, gt=0)
    """Number of steps after which the step size is halved."""
    sweeps: int = Field(default=3, ge=0)
    """Maximum number of rounds of line searches over the classes."""

    def shift(
        self,
        logits: NDArray[np.floating],
        labels: NDArray[np.integer],
        class_counts: tuple[int, ...],
    ) -> NDArray[np.float64]:
        """Compute the shift, see ``Shift``; ties in the worst recall are broken by mean recall."""
        scores, counts = np.asarray(logits, dtype=np.float64), np.asarray(class_counts, float)
        priors = np.log(np.maximum(counts / counts.sum(), PRIOR_FLOOR))
        best = np.zeros(scores.shape[1])
        best_value, log_weights = value_of(scores + best, labels), np.zeros(scores.shape[1])
        for step in range(self.steps):
            log_weights -= np.logaddexp.reduce(log_weights)
            shift = log_weights - priors
            recalls = recalls_of(scores + shift, labels)
            if (value := _value(recalls)) > best_value:
                best, best_value = shift, value
            risks = np.nan_to_num(1 - recalls)
            log_weights = log_weights + self.step_size / (1 + step / self.decay) * risks
        for _ in range(self.sweeps):
            before = best_value
            for label in np.unique(labels):
                moved = best.copy()
                moved[label] = line_search(scores + best, labels, int(label)) + best[label]
                if (value := value_of(scores + moved, labels)) > best_value:
                    best, best_value = moved, value
            if best_value == before:
                break
        return best - best.mean()


def recalls_of(scores: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the recall of each class, ``(classes,)``; NaN for absent classes."""
    classes = scores.shape[1]
    total = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels[scores.argmax(axis=1) == labels], minlength=classes)
    return np.divide(correct, total, out=np.full(classes, np.nan), where=total > 0)


def value_of(scores: NDArray[np.float64], labels: NDArray[np.integer]) -> tuple[float, float]:
    """Return the objective to maximize: worst recall, then mean recall."""
    return _value(recalls_of(scores, labels))


def line_search(scores: NDArray[np.float64], labels: NDArray[np.integer], label: int) -> float:
    """Return the exact best constant to add to the scores of one class.

    Recalls change only at thresholds at which the score of the class exceeds the best other score
    for some image. Candidates are therefore one value between each pair of adjacent thresholds,
    and one beyond each end.

    Args:
        scores: Scores of the validation images, ``(n, classes)``.
        labels: True labels, ``(n,)``.
        label: The class.
    """
    others = scores.copy()
    others[:, label] = -np.inf
    rivals = others.argmax(axis=1)
    thresholds = others.max(axis=1) - scores[:, label]  # above it, the class is predicted
    order = np.argsort(thresholds, kind="stable")
    thresholds, truth = thresholds[order], labels[order]
    total = np.bincount(labels, minlength=scores.shape[1])

    # Recalls if the class is predicted for the first k images, k from 0 to n.
    own = np.concatenate([[0], np.cumsum(truth == label)]) / total[label]
    lost = (rivals[order] == truth) & (truth != label)
    correct = np.bincount(truth[lost], minlength=len(total)).astype(np.float64)
    present = (total > 0) & (np.arange(len(total)) != label)
    if not present.any():
        return 0.0
    share = np.divide(1, total, out=np.zeros(len(total)), where=total > 0)
    step = np.where(lost, share[truth], 0)
    left = np.where(lost, (correct[truth] - _rank(truth, lost) - 1) * share[truth], np.inf)
    start = (correct * share)[present]
    worst = np.minimum.accumulate(np.concatenate([[start.min()], left]))
    mean = (own + start.sum() - np.concatenate([[0], np.cumsum(step)])) / (present.sum() + 1)

    # No candidate lies between equal thresholds: predictions of these images change together.
    gaps = np.concatenate([[True], thresholds[1:] > thresholds[:-1], [True]])
    value = np.where(gaps, np.minimum(own, worst), -np.inf)
    best = np.flatnonzero(value >= value.max() - _TOLERANCE)
    k = int(best[mean[best].argmax()])
    if k == 0:
        return float(thresholds[0] - 1)
    if k == len(thresholds):
        return float(thresholds[-1] + 1)
    return float((thresholds[k - 1] + thresholds[k]) / 2)


def _rank(truth: NDArray[np.integer], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return, for each counted position, the number of earlier counted positions of its class."""
    rank = np.zeros(len(truth), dtype=np.int64)
    places = np.flatnonzero(counted)
    grouped = places[np.argsort(truth[places], kind="stable")]
    first = np.r_[True, truth[grouped][1:] != truth[grouped][:-1]] if len(grouped) else []
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(grouped)))
    rank[grouped] = np.arange(len(grouped)) - np.repeat(starts, lengths)
    return rank


def _value(recalls: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.nanmin(recalls)), float(np.nanmean(recalls))
