"""A criterion from options of a command line, once the classes' names are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from analysis.criteria import (
    Constrained,
    Criterion,
    Floors,
    Group,
    Lexicographic,
    Measure,
    WeightedSum,
)
from rkd_core.errors import UserError

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """What was asked for, as text where a class is named.

    Attributes:
        worst_k: Number of classes in the worst-k accuracy.
        margin: A fraction such as ``0.005``, or standard errors such as ``2se``.
        keep: ``average`` or ``balanced``.
        reference: ``standard``, ``best`` or a fraction.
        group: Classes whose mean recall is maximized, as ``NAME=cat,dog``.
        floors: Least recalls, each as ``cat=0.8``.
        weight: That of the worst-k accuracy in a weighted sum.
        order: Accuracies in turn, such as ``worst_k,average``.
        tolerance: What may be given up of each of them for the next.
    """

    worst_k: int = 1
    margin: str | None = None
    keep: Literal["average", "balanced"] = "average"
    reference: str = "standard"
    group: str | None = None
    floors: Sequence[str] = ()
    weight: float | None = None
    order: str | None = None
    tolerance: float = 0.0

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
        constrained = self.margin, self.keep, self.reference, self.group
        if rules and constrained != (None, "average", "standard", None):
            raise UserError(f"{rules[0]} excludes --margin, --keep, --reference and --group")
        if self.weight is not None:
            return WeightedSum(self.worst_k, self.weight)
        if self.order is not None:
            order = tuple(cast(Measure, name) for name in self.order.split(","))
            return Lexicographic(self.worst_k, order, self.tolerance)
        if self.floors:
            pairs = [_pair(text, "--floor", "cat=0.8") for text in self.floors]
            floors = {_label(name, names): _fraction(text, "--floor") for name, text in pairs}
            return Floors(floors, tuple(names), self.worst_k)
        group = None
        if self.group is not None:
            name, members = _pair(self.group, "--group", "animals=cat,dog")
            group = Group(name, tuple(_label(member, names) for member in members.split(",")))
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
        return Constrained(self.worst_k, fixed, errors, self.keep, against, group)


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise UserError(f"{option} must be like {example}, not {text}")
    return name, value


def _label(name: str, names: Sequence[str]) -> int:
    if name not in names:
        known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UserError(f"no class is named {name}; there are {known}")
    return list(names).index(name)


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
