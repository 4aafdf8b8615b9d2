"""Distillation of forests: the one-hot student is the distilled one at alpha 0."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from rkd_core.tabular.forests import ForestRecipe, Scores, distill, mix

RECIPE = ForestRecipe(trees=8, depth=6)


@pytest.fixture(name="rows", scope="module")
def noisy_rows() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    y = x[:, 0] + rng.normal(size=600) > 0.5
    return x[:400], y[:400], x[400:]


def scores(rows: tuple[Any, Any, Any], seed: int = 0, threads: int = 1, **changes: Any) -> Scores:
    return distill(*rows, dataclasses.replace(RECIPE, **changes), seed, threads)


@pytest.mark.parametrize("changes", [{}, {"cross_fit": 3}, {"bootstrap": False}])
@pytest.mark.parametrize("seed", [0, 7])
def test_alpha_0_is_one_hot_to_the_last_bit(
    rows: tuple[Any, Any, Any], seed: int, changes: dict[str, Any]
) -> None:
    plain = scores(rows, seed, alpha=0.0, **changes)
    assert plain.distilled.tobytes() == plain.one_hot.tobytes()
    mixed = scores(rows, seed, alpha=0.9, **changes)
    assert mixed.one_hot.tobytes() == plain.one_hot.tobytes()
    assert mixed.distilled.tobytes() != mixed.one_hot.tobytes()


def test_nothing_depends_on_the_threads_and_all_on_the_seed(rows: tuple[Any, Any, Any]) -> None:
    one, four, other = scores(rows), scores(rows, threads=4), scores(rows, seed=1)
    for name in ("teacher", "one_hot", "distilled"):
        assert getattr(one, name).tobytes() == getattr(four, name).tobytes()
        assert getattr(one, name).tobytes() != getattr(other, name).tobytes()


def test_targets() -> None:
    labels, said = np.array([0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.25])
    assert mix(labels, said, 0).tobytes() == labels.tobytes()
    assert mix(labels, said, 1).tolist() == said.tolist()
    np.testing.assert_allclose(mix(labels, said, 0.9), [0.45, 0.55, 0.325], rtol=1e-15)


def test_cross_fitted_scores_are_by_forests_that_have_not_seen_the_row() -> None:
    """With random labels, the teacher memorizes them; a forest of other rows cannot.

    At alpha 1 a student without bootstrap, asked for its training rows, says what the scores were.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 5)).astype(np.float32), rng.random(300) > 0.5
    apart = {}
    for folds in (0, 5):
        recipe = ForestRecipe(trees=30, depth=30, alpha=1.0, cross_fit=folds, bootstrap=False)
        found = distill(x, y, x, recipe, seed=0).distilled
        apart[folds] = found[y].mean() - found[~y].mean()
    assert apart[0] > 0.4
    assert abs(apart[5]) < 0.1


def test_the_bootstrap_of_a_single_tree(rows: tuple[Any, Any, Any]) -> None:
    """Fitted to all rows, a deep tree knows them all; from a resample it misses a third."""
    x, y, _ = rows
    wrong = {
        bootstrap: (
            (distill(x, y, x, ForestRecipe(2, 99, bootstrap=bootstrap), seed=0).one_hot > 0.5) != y
        ).mean()
        for bootstrap in (False, True)
    }
    assert wrong[False] == 0
    assert wrong[True] > 0.05
