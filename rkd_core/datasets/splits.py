"""Which rows go where: the halving of the test set, the long tail, the limit.

Every choice is drawn per class from a frozen random stream and does not depend on how many rows
are kept, so a smaller subset of one seed lies inside a larger one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.long_tail import long_tail_counts
from rkd_core.datasets.seeding import random_state
from rkd_core.datasets.wording import counted
from rkd_core.errors import UserError

__all__ = ["halve", "pick", "proportional_counts", "training_rows"]

Rows = NDArray[np.int64]


def halve(labels: Rows, seed: int, stratified: bool) -> tuple[Rows, Rows]:
    """Cut a test set at random into validation and test.

    Args:
        labels: int64 ``(n,)``.
        seed: Of the random stream.
        stratified: Halve each class; a class of odd size gives its odd image to either half in
            turn. Otherwise the whole is halved and class sizes vary.

    Returns:
        Rows of validation and rows of test, each ascending; validation is the smaller for odd n.

    Raises:
        UserError: There are fewer than two images.
    """
    if len(labels) < 2:
        raise UserError(
            f"the test split has {counted(len(labels), 'image')}: it needs 2, one for validation "
            "and one for test"
        )
    rng = random_state(seed)
    if not stratified:
        order = rng.permutation(len(labels))
        half = len(labels) // 2
        return np.sort(order[:half]), np.sort(order[half:])
    in_val = np.zeros(len(labels), dtype=bool)
    odd = 0
    for label in range(int(labels.max()) + 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        size = (len(rows) + odd) // 2
        odd = (odd + len(rows)) % 2
        in_val[rows[:size]] = True
    return np.flatnonzero(in_val), np.flatnonzero(~in_val)


def pick(labels: Rows, counts: list[int], seed: int) -> Rows:
    """Rows of a random subset with at most ``counts[i]`` images of class i, ascending."""
    rng = random_state(seed)
    kept = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(kept))


def proportional_counts(counts: list[int], limit: int) -> list[int]:
    """Class sizes of a proportional subset: largest remainders, at least one image a class.

    Args:
        counts: Images per class, all above 0.
        limit: Size of the subset; at or above the total, everything is kept.

    Raises:
        UserError: The limit is below the number of classes.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    total = int(sizes.sum())
    if limit >= total:
        return counts
    if limit < len(counts):
        raise UserError(
            f"--limit-train {limit} is below the {counted(len(counts), 'class', 'classes')}: "
            "each needs an image"
        )
    taken = np.maximum(limit * sizes // total, 1)
    while (missing := limit - int(taken.sum())) != 0:
        shortfall = limit * sizes - taken * total  # exact, in units of 1 / total images
        if missing > 0:
            taken[np.where(taken < sizes, shortfall, shortfall.min() - 1).argmax()] += 1
        else:
            taken[np.where(taken > 1, shortfall, shortfall.max() + 1).argmin()] -= 1
    return [int(size) for size in taken]


def training_rows(
    labels: Rows,
    classes: int,
    *,
    imbalance: float | None,
    profile: str,
    limit: int | None,
    seed: int,
) -> Rows:
    """Rows of the training set that are kept, ascending: first the profile, then the limit.

    Class i keeps the smaller of what it has and what the profile gives it; the profile starts
    from the largest class of the source.

    Raises:
        UserError: The ratio leaves a class without images, or the limit is below the classes.
    """
    rows = np.arange(len(labels))
    if imbalance is not None:
        largest = int(np.bincount(labels, minlength=classes).max())
        rows = pick(labels, long_tail_counts(largest, classes, imbalance, profile), seed)
    if limit is not None:
        counts = np.bincount(labels[rows], minlength=classes).tolist()
        rows = rows[pick(labels[rows], proportional_counts(counts, limit), seed)]
    return rows
