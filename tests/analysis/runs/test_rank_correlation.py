"""Ranks and rank correlations agree with SciPy's."""

import numpy as np
import pytest
from scipy import stats

from analysis.runs.rank_correlation import average_ranks, spearman

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("values", [2, 5, 1000])
@pytest.mark.parametrize("number", [1, 2, 7, 40])
def test_against_scipy_with_and_without_ties(values, number):
    x, y = RNG.integers(values, size=(2, 30, number)).astype(float)
    assert np.array_equal(average_ranks(x), stats.rankdata(x, axis=-1))
    for one, a, b in zip(spearman(x, y), x, y, strict=True):
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            assert np.isnan(one)
        else:
            assert one == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_by_hand():
    assert average_ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert average_ranks(np.array([0.0, -0.0, np.inf])).tolist() == [1.5, 1.5, 3.0]
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([9.0, 8.0, 1.0])) == pytest.approx(-1)
    rows = spearman(np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]]))
    assert rows[0] == pytest.approx(1)
    assert np.isnan(rows[1])
    assert np.isnan(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 3.0])))
