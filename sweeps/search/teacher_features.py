"""What a teacher's own figures may say of its students: which teachers deserve more of them.

A robust student's risk is bounded by the calibration error of its teacher (Wang et al., UAI 2023,
Theorem 2), and a teacher hardly teaches what it does not know itself. So the worst-k accuracy, the
average accuracy and the calibration error of teachers on validation are further coordinates in
which combinations may be near each other. Whether they are is for the results to say
(``informed``): on some data sets students follow their teachers' figures, on others they do not.
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
"""Trade-offs of which a teacher is known, from which differences between them mean something."""
_BINS = tuple(f"val_calibration_{name}" for name in ("images", "positives", "probability"))


class Teachers:
    """The teachers that are trained, by their trade-offs."""

    def __init__(self, worst_k: int) -> None:
        self._worst_k = worst_k
        self._figures: defaultdict[float | None, list[list[float]]] = defaultdict(list)

    def see(self, alpha: float | None, row: Mapping[str, Any]) -> None:
        """Take a teacher's record into account; a further seed's goes into a mean."""
        seen = Seen.of(row, self._worst_k)
        figures = arcsine_scaled([seen.worst_k, seen.average]).tolist()
        bins = [row.get(name) for name in _BINS]
        if None not in bins:
            errors = calibration.errors(calibration.Bins(*map(np.array, bins)))
            figures.append(np.log(max(float(np.nanmax(errors)), 1e-6)))
        self._figures[alpha].append(figures)

    def places(self, cells: Sequence[Cell]) -> FloatArray | None:
        """Coordinates of combinations, ``(cells, figures)``; None while too few are known.

        Of a teacher that is not trained, those of the one of the nearest trade-off.
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
