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
    """Options of the teacher forest and of the targets of its students.

    Attributes:
        trees: Number of trees of the teacher; a student has one.
        depth: Maximum depth of every tree.
        alpha: Weight of the teacher's score in the targets of the distilled student.
        cross_fit: Number of folds, so that each training row is scored by a forest that was not
            fitted to it; 0 to use the scores of the teacher, which is fitted to all rows.
        bootstrap: Whether the tree of a student is fitted to a bootstrap sample of the rows, as
            scikit-learn does even for a single tree.
    """

    trees: int = 500
    depth: int = 20
    alpha: float = 0.9
    cross_fit: int = 0
    bootstrap: bool = True


@dataclass(frozen=True)
class Scores:
    """Predicted probabilities of label 1 for the test rows by each model, ``(rows,)``."""

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
    """Fit a teacher, a student on one-hot labels and a student on labels mixed with scores.

    The two students share a seed and therefore the bootstrap sample and the order of features.

    Args:
        x: Training features ``(rows, features)``.
        y: Training labels ``(rows,)``; each label must occur in at least ``recipe.cross_fit``
            rows.
        x_test: Test features ``(test rows, features)``.
        recipe: Options of teacher and students.
        seed: Seed of the forests.
        threads: Threads that fit the teacher; the scores do not depend on their number.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.model_selection import StratifiedKFold

    def fitted(rows: NDArray[np.int64] | slice) -> Any:
        forest = RandomForestClassifier(
            recipe.trees, max_depth=recipe.depth, random_state=seed, n_jobs=threads
        ).fit(x[rows], y[rows])
        forest.n_jobs = 1  # threads would sum over trees in any order, which changes the last bits
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
    """Return the targets ``(1 - alpha) labels + alpha scores`` of the distilled student.

    Args:
        labels: Labels 0 or 1, ``(rows,)``.
        scores: Scores of the teacher, ``(rows,)``.
        alpha: Weight of the scores.
    """
    return (1 - alpha) * labels + alpha * scores
