"""Names of splits in published datasets, and the choice of test and validation splits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["NAMED", "OWN", "VALIDATION_FIRST", "SplitRule", "spelling"]

_VALIDATION = ("valid", "validation", "val")
_ALIASES = {"train": ("training",), "test": ("testing",), "val": ("dev",)}


@dataclass(frozen=True)
class SplitRule:
    """Choice of the test and validation splits of a source.

    Attributes:
        names: Possible names of the test set, in order of preference.
        all_three: Whether to use both a validation and a test set, and a training set alone;
            otherwise one of the first two is required and halved.
    """

    names: tuple[str, ...]
    all_three: bool

    def choose(self, labeled: Sequence[str]) -> tuple[str, str | None]:
        """Choose among the labeled splits, given in the order of ``names``.

        Returns:
            The test set, and the validation set or None if the test set is halved.
        """
        validation = next((name for name in labeled if name in _VALIDATION), None)
        if self.all_three and "test" in labeled and validation is not None:
            return "test", validation
        return labeled[0], None


OWN = SplitRule(("test", *_VALIDATION), all_three=True)
"""Rule for a user's dataset."""

NAMED = SplitRule(OWN.names, all_three=False)
"""Rule for a named dataset: the published test set is always halved."""

VALIDATION_FIRST = SplitRule(("val", "valid", "validation", "test"), all_three=False)
"""Rule for ImageNet and TinyImageNet, whose test labels are not published."""


def spelling(split: str, present: Collection[str]) -> str | None:
    """Return the spelling of a split's name among the names present; None if it is absent.

    Upper case is accepted, and ``training``, ``testing`` and ``dev`` for ``train``, ``test`` and
    ``val``.
    """
    if split in present:
        return split
    lower = {name.lower(): name for name in sorted(present, reverse=True)}
    names = (split, *_ALIASES.get(split, ()))
    return next((lower[name] for name in names if name in lower), None)
