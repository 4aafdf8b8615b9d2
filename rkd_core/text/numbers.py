"""Percentages, points and counts as text."""

from __future__ import annotations

import math

__all__ = [
    "DASH",
    "decimal",
    "difference",
    "interval",
    "percent",
    "plural",
    "points",
    "seeds_of",
    "with_error",
]

DASH = "—"
"""Placeholder for a missing number."""


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


def difference(after: float, before: float) -> str:
    """Return the difference of two percentages in points, as they are shown with one decimal."""
    if not (math.isfinite(after) and math.isfinite(before)):
        return DASH
    return points((float(percent(after)) - float(percent(before))) / 100)


def decimal(value: float, digits: int = 2, sign: str = "") -> str:
    """Return a number such as ``−0.25``; positive ones have a sign, too, if ``sign`` is ``+``."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a counted noun, such as ``1 seed`` or ``1,200 seeds``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def seeds_of(least: int, most: int) -> str:
    """Return a range of seeds, such as ``3 seeds`` or ``1 to 3 seeds``."""
    return plural(most, "seed") if least == most else f"{least} to {most} seeds"
