"""Accuracies in groups of classes by training images. Only reports look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.columns import FloatArray
from rkd_core.class_groups import head_medium_tail, many_medium_few

__all__ = ["Groupings", "accuracies", "groupings"]

Groupings = dict[str, dict[str, list[int]]]
"""Labels of each group of each grouping."""


def groupings(train_counts: Sequence[int] | None) -> Groupings:
    """The groupings of the field: thirds of the classes, and thresholds.

    Args:
        train_counts: Training images per class, in label order; None, where they are not known,
            makes no grouping.
    """
    if train_counts is None:
        return {}
    return {
        "head_medium_tail": head_medium_tail(train_counts),
        "many_medium_few": many_medium_few(train_counts),
    }


def accuracies(recalls: FloatArray, groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Mean recall of each group over its classes that are present; NaN if none is.

    Args:
        recalls: Per class ``(classes,)``; NaN where a class is absent.
        groups: Labels of each group.
    """
    found = {}
    for name, labels in groups.items():
        own = recalls[list(labels)]
        present = own[np.isfinite(own)]
        found[name] = float(present.mean()) if present.size else np.nan
    return found
