"""Scores of combinations by a metric, with bootstrap draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray

__all__ = ["Scores"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Objective of a metric for each combination, with a sign that makes higher ones better."""

    values: FloatArray
    """Means over seeds, ``(combinations,)``."""
    drawn: FloatArray
    """The same with images drawn with replacement, ``(draws, combinations)``; perhaps no draws."""

    @cached_property
    def centered(self) -> FloatArray:
        """Draws with the mean of ``values``: a worst class of resampled images is biased."""
        return np.asarray(self.drawn - self.drawn.mean(axis=0) + self.values)

    def optimism(self, admitted: NDArray[np.bool_]) -> float:
        """Return how much the best of the admitted combinations is overestimated.

        It is the mean difference, over draws, between the best one's value in the draw and its
        value on all images (Efron 1983).
        """
        among = np.where(admitted, self.drawn, -np.inf) if admitted.any() else self.drawn
        best = among.argmax(axis=1)
        return float((self.drawn[np.arange(len(best)), best] - self.values[best]).mean())
