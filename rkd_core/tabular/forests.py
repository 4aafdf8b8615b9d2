"""Distillation of a random forest into a single tree (Lukasik et al., TMLR 2022, appendix C.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ForestRecipe", "Scores", "distill", "mix"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ForestRecipe:
    """A teacher, and what its students are fitted to.

    Attributes:
        trees: Of the teacher; a student has one.
        depth: Largest depth of every tree.
        alpha: Weight of the teacher's score in the distilled student's target.
        cross_fit: Folds, so that each training row is scored by a forest that has not seen it;
            0 for the scores of the teacher that was fitted to all of them.
        bootstrap: Whether a student's tree is fitted to a resample of the rows, as scikit-learn
            does even for a single tree.
    """

    trees: int = 500
    depth: int = 20
    alpha: float = 0.9
    cross_fit: int = 0
    bootstrap: bool = True


@dataclass(frozen=True)
class Scores:
    """What each model says of the test rows, about the probability of label 1, ``(rows,)``."""

    teacher: FloatArray
    one_hot: FloatArray
    distilled: FloatArray


def distill(
    x: NDArray[np.float32],
    y: NDArray[np.bool_],
    x_test: NDArray[np.float32],
    recipe: ForestRecipe,
    seed: int,
    threads: int = 1,
) -> Scores:
    """Fit a teacher, a student of the labels and one of the teacher's scores mixed with them.

    The two students have the same seed: the same resample of rows, the same order of features.

    Args:
        x: Training features ``(rows, features)``.
        y: Training labels ``(rows,)``; both must occur, in at least ``recipe.cross_fit`` rows.
        x_test: Test features.
        recipe: Of teacher and students.
        seed: Of the forests.
        threads: That fit the teacher; the scores do not depend on their number.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.model_selection import StratifiedKFold

    def fitted(rows: NDArray[np.int64] | slice) -> Any:
        forest = RandomForestClassifier(
            recipe.trees, max_depth=recipe.depth, random_state=seed, n_jobs=threads
        ).fit(x[rows], y[rows])
        forest.n_jobs = 1  # threads would add up the trees in any order: other last bits each time
        return forest

    def student(targets: FloatArray) -> FloatArray:
        tree = RandomForestRegressor(
            1, max_depth=recipe.depth, bootstrap=recipe.bootstrap, random_state=seed
        )
        return np.asarray(tree.fit(x, targets).predict(x_test))

    teacher = fitted(slice(None))
    if recipe.cross_fit:
        scores = np.empty(len(y))
        folds = StratifiedKFold(recipe.cross_fit, shuffle=True, random_state=seed)
        for seen, left_out in folds.split(x, y):
            scores[left_out] = fitted(seen).predict_proba(x[left_out])[:, 1]
    else:
        scores = teacher.predict_proba(x)[:, 1]
    labels = y.astype(np.float64)
    return Scores(
        teacher=teacher.predict_proba(x_test)[:, 1],
        one_hot=student(labels),
        distilled=student(mix(labels, scores, recipe.alpha)),
    )


def mix(labels: FloatArray, scores: FloatArray, alpha: float) -> FloatArray:
    """The distilled student's targets ``(rows,)``: labels at alpha 0, the teacher at 1."""
    return (1 - alpha) * labels + alpha * scores
