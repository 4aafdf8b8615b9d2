"""Combinations and names as text."""

from __future__ import annotations

import numpy as np

from analysis.runs.combinations import Combinations
from analysis.selection.outcome import combination_name, objective_name

__all__ = ["combination", "readable", "student", "teacher", "typeset"]

_JOINED = "\u00a0"
"""Non-breaking space."""


def teacher(c: Combinations, index: int) -> str:
    """Return the teacher's objective, such as ``standard``, ``robust`` or ``αₜ = 0.5``."""
    return _objective(int(c.teacher_objective[index]), c.alpha_t[index], "αₜ")


def student(c: Combinations, index: int) -> str:
    """Return the student's objective, such as ``standard``, ``robust`` or ``αₛ = 0.5``."""
    return _objective(int(c.student_objective[index]), c.alpha_s[index], "αₛ")


def _objective(objective: int, alpha: float, symbol: str) -> str:
    if np.isnan(alpha):
        return objective_name(objective, alpha)
    return f"{symbol}{_JOINED}={_JOINED}{alpha:.3g}"


def combination(c: Combinations, index: int) -> str:
    """Return a combination such as ``αₜ = 0.5, robust student, T = 3, shifted 0.5``."""
    return typeset(combination_name(c, index))


def typeset(text: str) -> str:
    """Return a text with subscripts of alphas, and without line breaks in ``αₜ = 0.5``."""
    shown = text.replace("α_t", "αₜ").replace("α_s", "αₛ")
    return shown.replace(" = ", f"{_JOINED}={_JOINED}")


def readable(name: str, longest: int = 60) -> str:
    """Return a name on one line, without control characters, and shortened if it is long."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
