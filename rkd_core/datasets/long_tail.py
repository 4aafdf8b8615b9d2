"""Long-tail profiles: how many training images each class keeps."""

from __future__ import annotations

import math

from rkd_core.errors import UserError

__all__ = ["long_tail_counts"]


def long_tail_counts(
    n_max: int, classes: int, ratio: float, profile: str = "exponential"
) -> list[int]:
    """Images per class of a long-tailed training set, in label order.

    ``exponential`` (Cui et al., CVPR 2019): class i of L keeps ``floor(n_max * mu^(i / (L-1)))``
    with ``mu = 1 / ratio``. ``step`` (Buda et al., 2018): the first half of the classes (the
    middle one included) keeps ``n_max``, the others ``floor(n_max / ratio)``.

    Args:
        n_max: Images of the largest class.
        classes: How many classes.
        ratio: Largest class over smallest class, at least 1.
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
    # Rounding errors must not cost an image where the exact value is whole (5000 / 100 = 50).
    counts = [math.floor(n_max * share + 1e-9) for share in shares]
    if counts[-1] == 0:
        raise UserError(
            f"imbalance ratio {ratio:g} leaves class {counts.index(0)} without images: "
            f"the largest class has {n_max}, so the ratio may be at most {n_max}"
        )
    return counts
