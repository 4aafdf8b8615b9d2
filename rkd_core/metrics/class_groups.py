"""Groups of classes by their number of training images.

All functions take ``counts``, the number of training images of each class in label order. Groups
are lists of labels in descending order of the number of images, with ties in label order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

__all__ = [
    "DEFINITION",
    "Groups",
    "equal_groups",
    "head_medium_tail",
    "is_long_tailed",
    "many_medium_few",
]

Groups = dict[str, list[int]]

_BALANCED = 2  # largest ratio of class sizes that counts as balanced
_HEAD = 0.33  # share of the classes in the head, and in the tail
_MANY, _FEW = 100, 20

DEFINITION = (
    "head and tail: 33% of the classes each (rounded down, at least one), by training images; "
    "medium: the rest"
)
"""Description of the groups of ``head_medium_tail`` for reports."""


def is_long_tailed(counts: Sequence[int]) -> bool:
    """Return whether the largest class has more than twice the images of the smallest."""
    return max(counts) > _BALANCED * min(counts)


def head_medium_tail(counts: Sequence[int]) -> Groups:
    """Split the classes into 33, 34 and 33 percent (LTKD; Kim, CVPR 2026).

    The sizes of head and tail are rounded down to whole classes, at least one, and medium is the
    rest: with three classes each group has one, with four classes medium has two.

    Returns:
        Three non-empty groups; an empty dictionary if there are fewer than three classes.
    """
    order = _largest_first(counts)
    if len(order) < 3:
        return {}
    head = max(1, int(_HEAD * len(order) + 1e-9))
    tail = len(order) - head
    return {"head": order[:head], "medium": order[head:tail], "tail": order[tail:]}


def equal_groups(counts: Sequence[int], groups: int) -> list[list[int]]:
    """Split the classes into a number of groups whose sizes differ by at most one.

    Raises:
        ValueError: ``groups`` is below 1 or above the number of classes.
    """
    order = _largest_first(counts)
    if not 1 <= groups <= len(order):
        raise ValueError(f"{len(order)} classes make from 1 to {len(order)} groups, not {groups}")
    cuts = [number * len(order) // groups for number in range(groups + 1)]
    return [order[start:stop] for start, stop in pairwise(cuts)]


def many_medium_few(counts: Sequence[int]) -> Groups:
    """Split the classes by number of images: more than 100, 20 to 100, and fewer than 20.

    These are the many-, medium- and few-shot classes of ImageNet-LT (Liu et al., CVPR 2019). Groups
    may be empty.
    """
    groups: Groups = {"many": [], "medium": [], "few": []}
    for label in _largest_first(counts):
        count = counts[label]
        groups["many" if count > _MANY else "few" if count < _FEW else "medium"].append(label)
    return groups


def _largest_first(counts: Sequence[int]) -> list[int]:
    return sorted(range(len(counts)), key=lambda label: -counts[label])
