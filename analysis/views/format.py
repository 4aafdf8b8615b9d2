"""Combinations and names as text."""

from __future__ import annotations

import numpy as np

from analysis.runs.combinations import Combinations
from analysis.selection.outcome import objective_name
from rkd_core.objectives import names as objectives

__all__ = ["combination", "readable", "student", "teacher"]

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
        f"the {name} {role}" if name in objectives() else f"the {role} with {name}"
        for name, role in ((student(c, index), "student"), (teacher(c, index), "teacher"))
    ]
    temperature = c.temperature[index]
    at = "" if np.isnan(temperature) else f" at temperature{_JOINED}{temperature:g}"
    return f"{names[0]}{at}{c.aside(index)}, taught by {names[1]}"


def readable(name: str, longest: int = 60) -> str:
    """Return a name on one line, without control characters, and shortened if it is long."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
