"""Accuracies of groups of classes by number of training images, for reports only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.runs.columns import FloatArray
from rkd_core.metrics.class_groups import Groups, head_medium_tail, is_long_tailed, many_medium_few

__all__ = ["Groupings", "Groups", "accuracies", "groupings", "images", "of_long_tail"]

Groupings = dict[str, Groups]
"""Labels of each group of each grouping; no group is empty."""


def groupings(train_counts: Sequence[int] | None) -> Groupings:
    """Return the usual groupings: thirds of the classes, and thresholds on training images.

    Args:
        train_counts: Training images per class, in label order; None if unknown, which results
            in no grouping.
    """
    if train_counts is None:
        return {}
    few = many_medium_few(train_counts)
    return {
        "head_medium_tail": head_medium_tail(train_counts),
        "many_medium_few": {name: labels for name, labels in few.items() if labels},
    }


def of_long_tail(train_counts: Sequence[int] | None) -> Groups:
    """Return the head, medium and tail groups that tables show.

    Args:
        train_counts: Training images per class, in label order; None if unknown.

    Returns:
        Labels of each group; empty if counts are unknown, the training set has no long tail, or
        there are fewer than three classes.
    """
    if train_counts is None or not is_long_tailed(train_counts):
        return {}
    return head_medium_tail(train_counts)


def images(train_counts: Sequence[int], labels: Sequence[int]) -> str:
    """Return the range of training images per class in a group, such as ``100 to 51``."""
    most, least = train_counts[labels[0]], train_counts[labels[-1]]
    return f"{most:,} to {least:,}" if most > least else f"{most:,}"


def accuracies(recalls: FloatArray, groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return each group's mean recall over its classes that have images; NaN if none has.

    Args:
        recalls: Recall of each class, ``(classes,)``; NaN where a class is absent.
        groups: Labels of each group.
    """
    found = {}
    for name, labels in groups.items():
        own = recalls[list(labels)]
        present = own[np.isfinite(own)]
        found[name] = float(present.mean()) if present.size else np.nan
    return found
