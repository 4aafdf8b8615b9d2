"""The similarity of combinations, as contrasts, against dense loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.selection import effects


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("length", [0.5, 2.0])
def test_similarity_is_matern_with_a_share_of_its_own_without_what_all_have(
    share: float, length: float
) -> None:
    """Use combinations with 1, 4, 9 and 1 seeds, whose weighted mean belongs to the levels."""
    places, seeds = [0.0, 0.5, 2.0, 3.0], [1, 4, 9, 1]
    size, total = 4, sum(seeds)
    dense = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            far = math.sqrt(3) * abs(places[i] - places[j]) / length
            near = (1 - share) * (1 + far) * math.exp(-far) + share * (i == j)
            dense[i, j] = near * math.sqrt(seeds[i] * seeds[j])
    mean = [[math.sqrt(a * b) / total for b in seeds] for a in seeds]
    contrast = np.eye(size) - np.array(mean)
    expected = contrast @ dense @ contrast
    distance = np.abs(np.subtract.outer(places, places))
    variance, rotation = effects._likeness(distance, np.sqrt(seeds), share, length)
    assert rotation.shape == (4, 3)
    assert (variance > 0).all()
    assert rotation.T @ rotation == pytest.approx(np.eye(3), abs=1e-12)
    assert rotation @ np.diag(variance) @ rotation.T == pytest.approx(expected, abs=1e-12)
    assert np.sqrt(seeds) @ rotation == pytest.approx(np.zeros(3), abs=1e-12)


def test_combinations_at_one_place_differ_by_their_own_share_alone() -> None:
    variance, _ = effects._likeness(np.zeros((3, 3)), np.ones(3), 0.2, 1.0)
    assert variance == pytest.approx([0.2, 0.2])
    variance, rotation = effects._likeness(np.zeros((3, 3)), np.ones(3), 0.0, 1.0)
    assert (variance.size, rotation.shape) == (0, (3, 0))  # nothing is left but rounding
