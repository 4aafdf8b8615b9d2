"""Combinations, percentages, points and counts as text."""

from __future__ import annotations

import math

import numpy as np

from analysis.runs.combinations import Combinations
from analysis.selection.outcome import objective_name
from rkd_core.objectives import OBJECTIVES

__all__ = [
    "DASH",
    "combination",
    "decimal",
    "interval",
    "percent",
    "plural",
    "points",
    "readable",
    "seeds_of",
    "student",
    "teacher",
    "with_error",
]

DASH = "—"
"""Placeholder for a missing number."""

_JOINED = "\u00a0"
"""Non-breaking space."""


def teacher(c: Combinations, index: int) -> str:
    """Return the teacher's objective, such as ``standard``, ``robust`` or ``αₜ 0.5``."""
    name = objective_name(int(c.teacher_objective[index]), c.alpha_t[index], "αₜ")
    return name.replace(" ", _JOINED)


def student(c: Combinations, index: int) -> str:
    """Return the student's objective, such as ``standard``, ``robust`` or ``αₛ 0.5``."""
    name = objective_name(int(c.student_objective[index]), c.alpha_s[index], "αₛ")
    return name.replace(" ", _JOINED)


def combination(c: Combinations, index: int) -> str:
    """Return a combination in words.

    For example, ``the standard student at temperature 3, taught by the teacher with αₜ 0.5``.
    """
    names = [
        f"the {name} {role}" if name in OBJECTIVES else f"the {role} with {name}"
        for name, role in ((student(c, index), "student"), (teacher(c, index), "teacher"))
    ]
    temperature = c.temperature[index]
    at = "" if np.isnan(temperature) else f" at temperature{_JOINED}{temperature:g}"
    return f"{names[0]}{at}{c.aside(index)}, taught by {names[1]}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a percentage such as ``78.0``, or a dash if there is no number."""
    if fraction is None or not math.isfinite(fraction):
        return DASH
    return f"{100 * fraction:.{digits}f}"


def with_error(fraction: float, error: float, sign: str = " ± ") -> str:
    """Return a percentage such as ``78.0 ± 1.2``, or ``78.0`` if there is no error."""
    return percent(fraction) + (f"{sign}{percent(error)}" if math.isfinite(error) else "")


def interval(low: float, high: float) -> str:
    """Return an interval in percent, such as ``74.1 to 81.3``."""
    return f"{percent(low)} to {percent(high)}"


def points(fraction: float | None, digits: int = 1) -> str:
    """Return a difference in points, such as ``+1.2`` or ``−1.2``; ``0.0`` if it rounds to 0."""
    if fraction is None or not math.isfinite(fraction):
        return DASH
    shown = decimal(100 * fraction, digits, "+")
    return shown if shown.strip("+−0.") else shown[1:]


def decimal(value: float, digits: int = 2, sign: str = "") -> str:
    """Return a number such as ``−0.25``; positive ones have a sign, too, if ``sign`` is ``+``."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a counted noun, such as ``1 seed`` or ``1,200 seeds``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def seeds_of(least: int, most: int) -> str:
    """Return a range of seeds, such as ``3 seeds`` or ``1 to 3 seeds``."""
    return plural(most, "seed") if least == most else f"{least} to {most} seeds"


def readable(name: str, longest: int = 60) -> str:
    """Return a name on one line, without control characters, and shortened if it is long."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
