"""Names of splits in published data sets, and the choice among those that are there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["NAMED", "OWN", "VALIDATION_FIRST", "SplitRule", "spelling"]

_VALIDATION = ("valid", "validation", "val")
_ALIASES = {"train": ("training",), "test": ("testing",), "val": ("dev",)}


@dataclass(frozen=True)
class SplitRule:
    """Rule for the splits of a source that are used.

    Attributes:
        names: Names that the test set may have, the preferred one first.
        all_three: Use a validation set beside a test set; otherwise halve one of them.
    """

    names: tuple[str, ...]
    all_three: bool

    def choose(self, labeled: Sequence[str]) -> tuple[str, str | None]:
        """Choose among the splits with labels, which are in the order of ``names``.

        Returns:
            The test set, and the validation set; None if the test set is halved.
        """
        validation = next((name for name in labeled if name in _VALIDATION), None)
        if self.all_three and "test" in labeled and validation is not None:
            return "test", validation
        return labeled[0], None


OWN = SplitRule(("test", *_VALIDATION), all_three=True)
"""Rule for a user's data set."""

NAMED = SplitRule(OWN.names, all_three=False)
"""Rule for a data set known by name: the published test set is halved in any case."""

VALIDATION_FIRST = SplitRule(("val", "valid", "validation", "test"), all_three=False)
"""Rule for ImageNet and TinyImageNet, whose test labels are not published."""


def spelling(split: str, present: Collection[str]) -> str | None:
    """Return the name among those present that stands for a split.

    It is the name itself, or the same in other case, ``training``, ``testing`` or ``dev``.
    """
    if split in present:
        return split
    lower = {name.lower(): name for name in sorted(present, reverse=True)}
    names = (split, *_ALIASES.get(split, ()))
    return next((lower[name] for name in names if name in lower), None)
