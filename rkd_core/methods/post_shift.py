"""Narasimhan & Menon (NeurIPS 2021): a robust classifier from a frozen one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rkd_core.methods.common.protocol import Shift

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_FLOOR = 1e-12
_TOLERANCE = 1e-12  # by which a recall must improve to count


class PostShift(Shift):
    """No training: the teacher's logits, shifted by class for the best worst recall on validation.

    Exponentiated gradient on class weights lambda, with the plug-in shift ``log(lambda / pi)``;
    then line searches, class by class, from the best shift seen. The recalls jump, so it is the
    best shift that counts, not the last; a shift of 0 is among those seen. Temperature plays no
    part: ``argmax(z / T + b) = argmax(z + T b)``.
    """

    name = "post_shift"

    steps: int = Field(default=2000, ge=0)
    """Of exponentiated gradient; each costs as much as reading all validation logits."""
    step_size: float = Field(default=0.1, gt=0)
    """Of the first step; it falls to ``step_size / (1 + k / decay)`` at step k."""
    decay: float = Field(default=300, gt=0)
    sweeps: int = Field(default=3, ge=0)
    """Rounds of line searches over the classes, at the most."""

    def shift(
        self,
        logits: NDArray[np.floating],
        labels: NDArray[np.integer],
        class_counts: tuple[int, ...],
    ) -> NDArray[np.float64]:
        """See ``Shift``; of equal worst recalls, the best mean recall decides."""
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
    """Recall of each class ``(classes,)``; NaN where a class is absent."""
    classes = scores.shape[1]
    total = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels[scores.argmax(axis=1) == labels], minlength=classes)
    return np.divide(correct, total, out=np.full(classes, np.nan), where=total > 0)


def value_of(scores: NDArray[np.float64], labels: NDArray[np.integer]) -> tuple[float, float]:
    """What is maximised: worst recall, then mean recall."""
    return _value(recalls_of(scores, labels))


def line_search(scores: NDArray[np.float64], labels: NDArray[np.integer], label: int) -> float:
    """The best addition to one class's scores, found exactly.

    Only where the class overtakes the best of the others on some image can a recall change; so
    there is one candidate between each two such places, and one beyond either end.
    """
    others = scores.copy()
    others[:, label] = -np.inf
    rivals = others.argmax(axis=1)
    places = others.max(axis=1) - scores[:, label]  # an image turns to the class above its place
    order = np.argsort(places, kind="stable")
    places, truth = places[order], labels[order]
    total = np.bincount(labels, minlength=scores.shape[1])

    # Recalls when the class has overtaken on the first k images, k from 0 to n.
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

    # Ties between places are no candidates: all of their images turn at once.
    gaps = np.concatenate([[True], places[1:] > places[:-1], [True]])
    value = np.where(gaps, np.minimum(own, worst), -np.inf)
    best = np.flatnonzero(value >= value.max() - _TOLERANCE)
    k = int(best[mean[best].argmax()])
    if k == 0:
        return float(places[0] - 1)
    return float(places[-1] + 1 if k == len(places) else (places[k - 1] + places[k]) / 2)


def _rank(truth: NDArray[np.integer], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of each counted place: how many counted ones of its class come before it."""
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
