"""Working responses with normal noise for counts: one Fisher scoring step on the arcsine scale.

With ``accuracy = sin(theta)^2``, a count over n images has Fisher information 4n about theta at any
accuracy, and the working response

    z = theta_0 + (correct / n - sin(theta_0)^2) / sin(2 theta_0)

(McCullagh and Nelder 1989, section 2.5) is unbiased near the expansion point theta_0 for any n. In
contrast, ``arcsin(sqrt(correct / n))`` is biased: with 1 or 2 images it pulls every class toward
50 %. The expansion point combines the accuracy of the class over all runs with that of the run over
all classes and, with enough images, the count itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.runs.columns import FloatArray, IntArray

__all__ = ["Responses", "responses"]

_WEIGHT = 100.0
"""Number of images at which a class's own count has the same weight as the main effects."""


@dataclass(frozen=True, eq=False)
class Responses:
    """Working responses on the arcsine scale, and their noise."""

    values: FloatArray
    """Working responses, ``(runs, classes)``."""
    noise: FloatArray
    """Variance of a run's response due to its images, ``(classes,)``."""
    steep: FloatArray
    """Derivative of the accuracy by the response, ``(combinations, classes)``."""


def responses(correct: IntArray, images: IntArray, start: IntArray, seeds: IntArray) -> Responses:
    """Return the working responses of counts.

    Args:
        correct: Correct predictions, ``(runs, classes)``; runs of a combination are adjacent.
        images: Images of each class, at least 1, ``(classes,)``.
        start: First run of each combination, ``(combinations,)``.
        seeds: Number of runs of each combination, ``(combinations,)``.
    """
    counted = np.add.reduceat(correct, start).astype(np.float64)
    total = seeds[:, None] * images
    average = correct.sum() / (len(correct) * images.sum())
    average = min(max(average, 1e-3), 1 - 1e-3)
    of_class = (correct.sum(axis=0) + len(correct) * average) / (len(correct) * (images + 1))
    of_run = (counted.sum(axis=1) + average) / (total.sum(axis=1) + 1)
    main = _odds(of_class) * (_odds(of_run) / _odds(average))[:, None]
    likely = (counted + _WEIGHT * main / (1 + main)) / (total + _WEIGHT)
    edge = 3 / 8 / (images + 3 / 4)  # Anscombe's transform maps no count closer to 0 or 1
    point = np.arcsin(np.sqrt(np.clip(likely, edge, 1 - edge)))
    slope = np.sin(2 * point)
    noise = (likely * (1 - likely) / slope**2).mean(axis=0) / images
    at, steep = (np.repeat(each, seeds, axis=0) for each in (point, slope))
    values = at + (correct / images - np.sin(at) ** 2) / steep
    return Responses(values, noise, slope)


def _odds(fraction: FloatArray | float) -> FloatArray:
    return np.asarray(fraction / (1 - np.asarray(fraction)))
