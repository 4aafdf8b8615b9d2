"""A trade-off by logit adjustment: what a trained classifier's logits lack of another objective.

At the optimum of the margin loss with costs c the logits are ``log(c q)`` (Wang et al. 2023; their
gradient is zero there), so a standard classifier becomes that of a trade-off by adding ``log c``
to its logits. Alpha 0 needs no more than the priors (Menon et al., ICLR 2021); for others the
multipliers are found as Algorithm 1 finds them, on validation, with the classifier held still.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["adjust"]

FloatArray = NDArray[np.float64]

_STEPS = 1000
_STEP_SIZE, _DECAY = 0.1, 300.0  # as post_shift: the risks jump, so that steps have to shrink
_PRIOR_FLOOR = 1e-12


def adjust(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    priors: FloatArray,
    alpha: float,
) -> tuple[FloatArray, FloatArray | None]:
    """The shift ``log c`` that makes a standard classifier's logits those of a trade-off.

    Args:
        logits: On validation, ``(n, classes)``.
        labels: True ones, ``(n,)``.
        priors: Of the training labels, ``(classes,)``.
        alpha: 0 is balanced, 1 robust.

    Returns:
        The shift, of mean 0, and the multipliers lambda (None for alpha 0), both ``(classes,)``.
        Of all multipliers that are met on the way, those with the least ``(1 - alpha)`` balanced
        and ``alpha`` worst-class error on validation.
    """
    scores = np.asarray(logits, dtype=np.float64)
    classes = scores.shape[1]
    log_priors = np.log(np.maximum(priors, _PRIOR_FLOOR))
    if alpha == 0:
        return _centred(-log_priors), None
    total = np.bincount(labels, minlength=classes)
    present = total > 0
    log_multipliers = np.full(classes, -np.log(classes))
    best: tuple[float, FloatArray, FloatArray] | None = None
    for step in range(_STEPS):
        multipliers = np.exp(log_multipliers)
        shift = np.log((1 - alpha) / classes + alpha * multipliers) - log_priors
        right = labels[(scores + shift).argmax(axis=1) == labels]
        risks = np.zeros(classes)
        risks[present] = 1 - np.bincount(right, minlength=classes)[present] / total[present]
        error = float((1 - alpha) * risks[present].mean() + alpha * risks.max())
        if best is None or error < best[0]:
            best = error, shift, multipliers
        log_multipliers = log_multipliers + _STEP_SIZE / (1 + step / _DECAY) * risks
        log_multipliers -= np.logaddexp.reduce(log_multipliers)
    assert best is not None
    return _centred(best[1]), best[2]


def _centred(shift: FloatArray) -> FloatArray:
    return shift - shift.mean()
