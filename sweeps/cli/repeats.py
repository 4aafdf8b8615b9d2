"""Option ``--repeat``: combinations of the grid that are trained with further seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rkd_core.errors import UserError

__all__ = ["Repeat", "repeats"]

_EXAMPLE = "standard/0.5/3=2 (teacher/student/temperature=seeds)"


@dataclass(frozen=True)
class Repeat:
    """Further seeds of one combination."""

    alpha_t: float | None
    """None is the standard objective, as everywhere in a plan."""
    alpha_s: float | None
    temperature: float
    seeds: int
    """Number of seeds, after those of the grid."""

    @property
    def cell(self) -> tuple[float | None, float | None, float]:
        """The combination of alphas and temperature."""
        return self.alpha_t, self.alpha_s, self.temperature


def repeats(texts: Sequence[str]) -> tuple[Repeat, ...]:
    """Parse the values of ``--repeat``.

    Raises:
        UserError: A value has another form, or a combination is named twice.
    """
    found = tuple(_repeat(text) for text in texts)
    cells = [repeat.cell for repeat in found]
    for text, repeat in zip(texts, found, strict=True):
        if cells.count(repeat.cell) > 1:
            raise UserError(f"--repeat names {text.partition('=')[0]} twice")
    return found


def _repeat(text: str) -> Repeat:
    cell, _, seeds = text.partition("=")
    parts = cell.split("/")
    try:
        if len(parts) != 3:
            raise ValueError
        alpha_t, alpha_s = (_alpha(part) for part in parts[:2])
        temperature, number = float(parts[2]), int(seeds)
        if not (math.isfinite(temperature) and temperature > 0 and 0 < number < 10_000):
            raise ValueError
    except ValueError:
        raise UserError(f"--repeat {text} is not like {_EXAMPLE}") from None
    return Repeat(alpha_t, alpha_s, temperature, number)


def _alpha(text: str) -> float | None:
    if text == "standard":
        return None
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value + 0.0  # turns -0.0 into 0
