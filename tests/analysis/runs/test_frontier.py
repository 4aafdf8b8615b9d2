from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.runs.frontier import pareto_frontier

# A coarse grid, so that ties and duplicates are common.
COORDINATE = st.one_of(st.integers(0, 4).map(float), st.sampled_from([np.nan, -np.inf, np.inf]))


def brute_force(points: list[tuple[float, float]]) -> list[int]:
    def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    real = [i for i, (x, y) in enumerate(points) if not (math.isnan(x) or math.isnan(y))]
    kept = [i for i in real if not any(dominates(points[j], points[i]) for j in real)]
    return sorted(kept, key=lambda i: (points[i][0], i))


@given(st.lists(st.tuples(COORDINATE, COORDINATE), max_size=25))
def test_it_is_what_comparing_all_pairs_gives(points: list[tuple[float, float]]) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    assert pareto_frontier(x, y).tolist() == brute_force(points)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_along_it_one_coordinate_rises_and_the_other_falls(
    points: list[tuple[float, float]],
) -> None:
    kept = [points[i] for i in pareto_frontier(*zip(*points, strict=True))]
    assert kept
    for (x0, y0), (x1, y1) in pairwise(kept):
        assert (x0 < x1 and y0 > y1) or (x0, y0) == (x1, y1)


def test_duplicates_are_all_kept_and_dominated_ties_are_not() -> None:
    assert pareto_frontier([1, 1, 1, 0], [2, 2, 1, 2]).tolist() == [0, 1]
