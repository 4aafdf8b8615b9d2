"""Combinations and figures in words, the same everywhere on the page."""

from __future__ import annotations

import math

import numpy as np

from analysis.runs.combinations import Combinations
from analysis.selection.outcome import objective_name
from rkd_core.objectives import OBJECTIVES

__all__ = [
    "combination",
    "percent",
    "plural",
    "points",
    "readable",
    "student",
    "teacher",
    "with_error",
]

_JOINED = "\u00a0"
"""A space at which no line ends."""


def teacher(c: Combinations, index: int) -> str:
    """``standard``, ``balanced``, ``robust`` or ``αₜ 0.5``."""
    name = objective_name(int(c.teacher_objective[index]), c.alpha_t[index], "αₜ")
    return name.replace(" ", _JOINED)


def student(c: Combinations, index: int) -> str:
    """``standard``, ``balanced``, ``robust`` or ``αₛ 0.5``."""
    name = objective_name(int(c.student_objective[index]), c.alpha_s[index], "αₛ")
    return name.replace(" ", _JOINED)


def combination(c: Combinations, index: int) -> str:
    """As a noun: ``the standard student at temperature 3, taught by the teacher with αₜ 0.5``."""
    names = [
        f"the {name} {role}" if name in OBJECTIVES else f"the {role} with {name}"
        for name, role in ((student(c, index), "student"), (teacher(c, index), "teacher"))
    ]
    temperature = c.temperature[index]
    at = "" if np.isnan(temperature) else f" at temperature{_JOINED}{temperature:g}"
    return f"{names[0]}{at}{c.aside(index)}, taught by {names[1]}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """``78.0``; a dash where there is no number."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    return f"{100 * fraction:.{digits}f}"


def with_error(fraction: float, error: float) -> str:
    """``78.0 ± 1.2``, or ``78.0`` where there is no error."""
    return percent(fraction) + (f" ± {percent(error)}" if math.isfinite(error) else "")


def points(fraction: float | None, digits: int = 1) -> str:
    """``+1.2``, ``−1.2``, and ``0.0`` where no digit is left of it."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    shown = f"{100 * fraction:+.{digits}f}".replace("-", "−")
    return shown if shown.strip("+−0.") else shown[1:]


def plural(count: int, noun: str, nouns: str = "") -> str:
    """``1 seed``, ``1,200 seeds``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def readable(name: str, longest: int = 60) -> str:
    """Somebody's name on one line: without control characters, and not endless."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
