"""Classes in groups by how many training images they have. Imports no torch.

All functions take ``counts``, the training images of each class in label order, and give groups as
lists of labels, the class with the most images first and ties in label order.
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

_ALIKE = 2  # largest over smallest class, up to which classes count as alike in size
_HEAD = 0.33  # of the classes, and as many in the tail
_MANY, _FEW = 100, 20

DEFINITION = (
    "head and tail: 33 % of the classes each (rounded down, at least one), by training images; "
    "medium: the rest"
)
"""Description of the groups of ``head_medium_tail``, for people."""


def is_long_tailed(counts: Sequence[int]) -> bool:
    """Return whether the largest class has more than twice the images of the smallest."""
    return max(counts) > _ALIKE * min(counts)


def head_medium_tail(counts: Sequence[int]) -> Groups:
    """Split the classes into 33, 34 and 33 percent (LTKD; Kim, CVPR 2026).

    Head and tail are rounded down to whole classes, at least one, and medium is the rest: of three
    classes each group gets one, of four classes medium gets two. Fewer than three classes have no
    groups.

    Returns:
        Three groups, none of them empty; or an empty dictionary.
    """
    order = _largest_first(counts)
    if len(order) < 3:
        return {}
    head = max(1, int(_HEAD * len(order) + 1e-9))
    tail = len(order) - head
    return {"head": order[:head], "medium": order[head:tail], "tail": order[tail:]}


def equal_groups(counts: Sequence[int], groups: int) -> list[list[int]]:
    """Split the classes into a number of groups whose sizes differ by one at most.

    Raises:
        ValueError: There are fewer classes than groups, or no groups.
    """
    order = _largest_first(counts)
    if not 1 <= groups <= len(order):
        raise ValueError(f"{len(order)} classes make from 1 to {len(order)} groups, not {groups}")
    cuts = [number * len(order) // groups for number in range(groups + 1)]
    return [order[start:stop] for start, stop in pairwise(cuts)]


def many_medium_few(counts: Sequence[int]) -> Groups:
    """Split the classes by images: more than 100, 20 to 100, and fewer than 20.

    These are ImageNet-LT's many-, medium- and few-shot classes (Liu et al., CVPR 2019). A group may
    be empty.
    """
    groups: Groups = {"many": [], "medium": [], "few": []}
    for label in _largest_first(counts):
        count = counts[label]
        groups["many" if count > _MANY else "few" if count < _FEW else "medium"].append(label)
    return groups


def _largest_first(counts: Sequence[int]) -> list[int]:
    return sorted(range(len(counts)), key=lambda label: -counts[label])
