"""A criterion from options of a command line, once the classes' names are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from analysis.runs.class_lists import ClassNames, read_groups
from analysis.selection.criteria import (
    Constrained,
    Criterion,
    Floors,
    Group,
    Lexicographic,
    Measure,
    WeightedSum,
)
from rkd_core.errors import UserError, unknown_name

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """What was asked for, as text where a class is named.

    Attributes:
        worst_k: Number of classes in the worst-k accuracy.
        margin: A fraction such as ``0.005``, or standard errors such as ``2se``.
        keep: ``average`` or ``balanced``.
        reference: ``standard``, ``best`` or a fraction.
        group: Classes whose mean recall is maximized: ``NAME=cat,dog``; JSON such as
            ``{"NAME": ["cat", "dog"]}``; several such texts with classes of the same group; or
            the name of a group of ``groups_file``.
        floors: Least recalls, each as ``cat=0.8``.
        weight: That of the worst-k accuracy in a weighted sum.
        order: Accuracies in turn, such as ``worst_k,average``.
        tolerance: What may be given up of each of them for the next.
        groups_file: JSON, TOML or CSV file with groups of classes.
    """

    worst_k: int = 1
    margin: str | None = None
    keep: Literal["average", "balanced"] = "average"
    reference: str = "standard"
    group: str | Sequence[str] | None = None
    floors: Sequence[str] = ()
    weight: float | None = None
    order: str | None = None
    tolerance: float = 0.0
    groups_file: Path | None = None

    def criterion(self, names: Sequence[str]) -> Criterion:
        """The criterion for classes of these names, in label order.

        Raises:
            UserError: An option has no sense, or two exclude each other.
        """
        rules = [
            name
            for name, given in (
                ("--weight", self.weight is not None),
                ("--floor", bool(self.floors)),
                ("--order", self.order is not None),
            )
            if given
        ]
        if len(rules) > 1:
            raise UserError(f"{' and '.join(rules)} exclude each other; give one of them")
        grouped = bool(self.group) or self.groups_file is not None
        constrained = self.margin, self.keep, self.reference, grouped
        if rules and constrained != (None, "average", "standard", False):
            raise UserError(f"{rules[0]} excludes --margin, --keep, --reference and --group")
        if self.weight is not None:
            return WeightedSum(self.worst_k, self.weight)
        if self.order is not None:
            order = tuple(cast(Measure, name) for name in self.order.split(","))
            return Lexicographic(self.worst_k, order, self.tolerance)
        if self.floors:
            return Floors(self._floors(ClassNames(names)), tuple(names), self.worst_k)
        fixed, errors = None, 1.0
        if self.margin is not None and self.margin.endswith("se"):
            errors = _fraction(self.margin.removesuffix("se"), "--margin")
        elif self.margin is not None:
            fixed = _fraction(self.margin, "--margin")
        against: Literal["standard", "best"] | float
        if self.reference in ("standard", "best"):
            against = cast(Literal["standard", "best"], self.reference)
        else:
            against = _fraction(self.reference, "--reference")
        group = self._group(ClassNames(names)) if grouped else None
        return Constrained(self.worst_k, fixed, errors, self.keep, against, group)

    def groups(self) -> dict[str, list[str]] | None:
        """Return the groups of ``groups_file``; None without such a file.

        Raises:
            UserError: The file cannot be read, or has no groups.
        """
        return None if self.groups_file is None else read_groups(self.groups_file)

    def _floors(self, names: ClassNames) -> dict[int, float]:
        floors: dict[int, float] = {}
        for text in self.floors:
            name, equals, value = text.rpartition("=")
            if not (name and equals and value):
                raise UserError(f"--floor must be like cat=0.8, not {text}")
            label, floor = names.label(name, "--floor"), _fraction(value, "--floor")
            if floors.setdefault(label, floor) != floor:
                raise UserError(f"--floor names {names.names[label]} twice")
        return floors

    def _group(self, names: ClassNames) -> Group:
        texts = [self.group] if isinstance(self.group, str) else list(self.group or ())
        groups, option = self.groups(), f"--groups-file {self.groups_file}"
        if groups is None:
            return Group(*names.group(texts, "--group"))
        if len(texts) > 1:
            raise UserError(f"--group names one of the groups of {option}: give it once")
        if not texts and len(groups) > 1:
            some = ", ".join(groups)
            raise UserError(f"{option} has {len(groups)} groups: name one with --group ({some})")
        name = texts[0] if texts else next(iter(groups))
        if name not in groups:
            raise unknown_name(f"group of {option}", name, groups)
        labels = dict.fromkeys(names.label(member, option) for member in groups[name])
        return Group(name, tuple(labels))


def _fraction(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        examples = {"--margin": "a fraction, such as 0.005, or standard errors, such as 2se"}
        what = examples.get(option, "a fraction, such as 0.8")
        raise UserError(f"{option.removeprefix('--')} must be {what}, not {text}")
    return value
