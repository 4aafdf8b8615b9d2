"""Validation metrics of teachers as features that may predict the accuracy of their students.

The calibration error of a teacher bounds the risk of a robust student (Wang et al., UAI 2023,
Theorem 2), and a student rarely learns more than its teacher knows. The worst-k accuracy, the
average accuracy and the calibration error of teachers are therefore additional coordinates of
combinations. The results decide how much they count (``gaussian_process``): on some data sets the
accuracy of students depends on these metrics, on others it does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rkd_core.metrics import arcsine_scaled, calibration
from rkd_core.objectives import by_alpha, position
from sweeps.search.strategy import Cell, FloatArray, Seen

__all__ = ["Teachers"]

_FEWEST = 3
"""Smallest number of trade-offs with a trained teacher for which features are computed."""
_BINS = tuple(f"val_calibration_{name}" for name in ("images", "positives", "probability"))


class Teachers:
    """Metrics of the trained teachers, by their trade-offs."""

    def __init__(self, worst_k: int) -> None:
        self._worst_k = worst_k
        self._figures: defaultdict[float | None, list[list[float]]] = defaultdict(list)

    def see(self, alpha: float | None, row: Mapping[str, Any]) -> None:
        """Add the record of a teacher; metrics are averaged over seeds."""
        seen = Seen.of(row, self._worst_k)
        figures = arcsine_scaled([seen.worst_k, seen.average]).tolist()
        bins = [row.get(name) for name in _BINS]
        if None not in bins:
            errors = calibration.errors(calibration.Bins(*map(np.array, bins)))
            figures.append(np.log(max(float(np.nanmax(errors)), 1e-6)))
        self._figures[alpha].append(figures)

    def places(self, cells: Sequence[Cell]) -> FloatArray | None:
        """Return coordinates of combinations, ``(cells, figures)``; None with too few teachers.

        A teacher that is not trained yet has the coordinates of the one with the nearest trade-off.
        """
        if len(self._figures) < _FEWEST:
            return None
        width = min(len(row) for rows in self._figures.values() for row in rows)
        means = {a: np.mean([row[:width] for row in r], axis=0) for a, r in self._figures.items()}
        spread = np.std(list(means.values()), axis=0)
        scaled = {a: mean / np.where(spread > 0, spread, 1.0) for a, mean in means.items()}
        return np.array([scaled[_nearest(cell.alpha_t, scaled)] for cell in cells])


def _nearest(alpha: float | None, known: Mapping[float | None, Any]) -> float | None:
    if alpha in known:
        return alpha
    place = position(*by_alpha(alpha))
    return min(known, key=lambda other: abs(position(*by_alpha(other)) - place))
