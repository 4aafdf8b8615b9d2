"""Choice of classes, long-tailed and limited training sets, hold-outs and halves of a test set.

Images are drawn per class from a frozen random stream that does not depend on how many are kept,
so that for one seed a smaller subset is contained in a larger one; the same holds for classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rkd_core.errors import UserError
from rkd_core.metrics.class_groups import is_long_tailed
from rkd_core.seeds import random_state, stream, stream_seed
from rkd_core.spec_options import HoldoutRule
from rkd_core.text.nouns import counted

__all__ = [
    "draw_classes",
    "halve",
    "hold_out",
    "long_tail_counts",
    "pick",
    "proportional_counts",
    "set_aside",
    "training_rows",
]

Rows = NDArray[np.int64]


def draw_classes(classes: int, wanted: int | None, seed: int) -> Rows:
    """Return the labels of a random subset of the classes in ascending order.

    Args:
        classes: Number of classes.
        wanted: Size of the subset; None for all classes.
        seed: Seed of the random stream.

    Raises:
        UserError: ``wanted`` is larger than ``classes``.
    """
    if wanted is None:
        return np.arange(classes)
    if wanted > classes:
        raise UserError(
            f"`classes` {wanted} is more than the {counted(classes, 'class', 'classes')} there are"
        )
    return np.sort(random_state(seed).permutation(classes)[:wanted])


def halve(labels: Rows, seed: int, stratified: bool) -> tuple[Rows, Rows]:
    """Split a test set at random into validation and test.

    Args:
        labels: int64 ``(n,)``.
        seed: Seed of the random stream.
        stratified: Halve each class; the extra images of classes of odd size go to the two halves
            in turn. Otherwise the set is halved as a whole and class sizes vary.

    Returns:
        Rows of validation and rows of test, each ascending; if n is odd, validation is smaller.

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


def set_aside(
    labels: Rows, val_fraction: float, test_fraction: float, seed: int
) -> tuple[Rows, Rows, Rows]:
    """Split a training set at random into training, validation and test, class by class.

    A class of at least three images has one or more in each of the three sets; a smaller one is
    used for training only.

    Args:
        labels: int64 ``(n,)``; negative labels are left out.
        val_fraction: Share of each class for validation.
        test_fraction: Share of each class for test.
        seed: Seed of the random stream.

    Returns:
        Rows of training, validation and test, each ascending.

    Raises:
        UserError: The fractions leave nothing for training, or there are too few images.
    """
    if val_fraction + test_fraction >= 1:
        raise UserError(
            f"`val_fraction` {val_fraction:g} and `test_fraction` {test_fraction:g} leave no "
            "training images: their sum must be below 1"
        )
    rng = random_state(seed)
    part = np.full(len(labels), -1)
    for label in range(int(labels.max(initial=-1)) + 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        part[rows] = 0
        if len(rows) >= 3:
            val = min(max(round(val_fraction * len(rows)), 1), len(rows) - 2)
            test = min(max(round(test_fraction * len(rows)), 1), len(rows) - 1 - val)
            part[rows[:val]], part[rows[val : val + test]] = 1, 2
    if not (part == 1).any():
        raise UserError(
            "no class has 3 images, which validation and test need beside training: add images, "
            "or a test set"
        )
    train, val_rows, test_rows = (np.flatnonzero(part == k) for k in range(3))
    return train, val_rows, test_rows


def pick(labels: Rows, counts: list[int], seed: int) -> Rows:
    """Return the rows, ascending, of a random subset with at most ``counts[i]`` of class i."""
    rng = random_state(seed)
    kept = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(kept))


def proportional_counts(counts: list[int], limit: int) -> list[int]:
    """Return the class sizes of a proportional subset, with at least one image per class.

    Sizes are rounded by the method of largest remainders.

    Args:
        counts: Images per class, all above 0.
        limit: Size of the subset; if it is at least the total, all images are kept.

    Raises:
        UserError: The limit is below the number of classes.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    total = int(sizes.sum())
    if limit >= total:
        return counts
    if limit < len(counts):
        raise UserError(
            f"`limit_train` {limit} is below the {counted(len(counts), 'class', 'classes')}: "
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
    """Return the rows of the training set that are kept, in ascending order.

    The profile is applied before the limit. It starts from the size of the largest class in the
    source; a class with fewer images than the profile allows keeps all of them.

    Args:
        labels: int64 ``(n,)``.
        classes: Number of classes.
        imbalance: Imbalance ratio of the profile; None for no profile.
        profile: Profile of :func:`long_tail_counts`.
        limit: Size of a class-proportional subset; None for no limit.
        seed: Seed of the random stream.

    Raises:
        UserError: The ratio leaves a class without images, or the limit is below the number of
            classes.
    """
    rows = np.arange(len(labels))
    if imbalance is not None:
        largest = int(np.bincount(labels, minlength=classes).max())
        rows = pick(labels, long_tail_counts(largest, classes, imbalance, profile), seed)
    if limit is not None:
        counts = np.bincount(labels[rows], minlength=classes).tolist()
        rows = rows[pick(labels[rows], proportional_counts(counts, limit), seed)]
    return rows


def hold_out(labels: Rows, rule: HoldoutRule) -> tuple[Rows, Rows]:
    """Split a training set into kept and held-out images, as Lukasik et al. (TMLR 2022) do.

    Args:
        labels: int64 ``(n,)``.
        rule: Number of held-out images, and seed.

    Returns:
        Rows that are kept and rows that are held out, each ascending.

    Raises:
        UserError: No image would be held out, or none kept.
    """
    random = stream(stream_seed("holdout", rule.seed))
    classes, counts = np.unique(labels, return_counts=True)
    balanced = len(labels) > 0 and not is_long_tailed(counts.tolist())
    if rule.by == "share" or (rule.by == "auto" and balanced):
        rows = random.permutation(len(labels))[: round(rule.share * len(labels))]
    else:
        k = rule.per_class
        parts = [random.permutation(np.flatnonzero(labels == label)) for label in classes]
        rows = np.concatenate([[], *(p[: k if len(p) > 2 * k else len(p) // 2] for p in parts)])
    if not 0 < len(rows) < len(labels):
        raise UserError(f"a hold-out needs more than {counted(len(labels), 'training image')}")
    held = np.zeros(len(labels), dtype=bool)
    held[rows.astype(np.int64)] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def long_tail_counts(
    n_max: int, classes: int, ratio: float, profile: str = "exponential"
) -> list[int]:
    """Return the number of images per class of a long-tailed training set, in label order.

    ``exponential`` (Cui et al., CVPR 2019): class i of L keeps ``floor(n_max * mu^(i / (L-1)))``
    with ``mu = 1 / ratio``. ``step`` (Buda et al., 2018): the first half of the classes (the
    middle one included) keeps ``n_max``, the others ``floor(n_max / ratio)``.

    Args:
        n_max: Images of the largest class.
        classes: Number of classes.
        ratio: Size of the largest class divided by that of the smallest, at least 1.
        profile: ``exponential`` or ``step``.

    Raises:
        UserError: ``ratio`` is below 1, or so large that a class would keep no image.
        ValueError: ``n_max`` or ``classes`` is below 1, or the profile is unknown.

    >>> long_tail_counts(5000, 10, 100)
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    if n_max < 1 or classes < 1:
        raise ValueError(f"n_max and classes must be at least 1, not {n_max} and {classes}")
    if not ratio >= 1:  # NaN too
        raise UserError(f"the imbalance ratio must be at least 1, not {ratio:g}")
    if profile == "exponential":
        shares = [ratio ** (-i / max(classes - 1, 1)) for i in range(classes)]
    elif profile == "step":
        shares = [1.0 if 2 * i < classes else 1 / ratio for i in range(classes)]
    else:
        raise ValueError(f"the profile is exponential or step, not {profile!r}")
    # Rounding errors must not remove an image if the exact value is whole (5000 / 100 = 50).
    counts = [math.floor(n_max * share + 1e-9) for share in shares]
    if counts[-1] == 0:
        raise UserError(
            f"imbalance ratio {ratio:g} leaves class {counts.index(0)} without images: "
            f"the largest class has {n_max}, so the ratio may be at most {n_max}"
        )
    return counts
