"""Budget of a search: time on all slots, or a share of the cost of the whole grid."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from rkd_core.errors import UserError
from sweeps.cli.options import Economy
from sweeps.search import strategies

__all__ = ["DEFAULT", "Budget", "budget_of", "search_of"]

DEFAULT = "25%"
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Budget:
    """Budget in seconds or as a share; the other field is None."""

    seconds: float | None = None
    """Wall-clock time on all slots."""
    share: float | None = None
    """Share of the epochs of the whole grid, teachers included."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``40%``, ``2h``, ``90min``.

        Raises:
            UserError: The text has another form.
        """
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(%|s|min|h|d)", text.strip())
        value = float(match[1]) if match else math.nan
        if match is None or not 0 < value < 1e9 or (match[2] == "%" and value > 100):
            raise UserError(f"--budget is like 40%, 2h or 90min, not {text}")
        if match[2] == "%":
            return cls(share=value / 100)
        return cls(seconds=value * _SECONDS[match[2]])

    def __str__(self) -> str:
        if self.share is not None:
            return f"{100 * self.share:g}% of the grid's cost"
        seconds = self.seconds or 0.0
        unit = next(u for u in ("d", "h", "min", "s") if seconds >= _SECONDS[u] or u == "s")
        return f"{seconds / _SECONDS[unit]:g} {unit}"


def budget_of(text: str | None) -> Budget:
    """Return the budget that was given, or the default."""
    return Budget.parse(text or DEFAULT)


def search_of(economy: Economy) -> str | None:
    """Return the name of the requested search strategy; None for the whole grid."""
    if economy.search != "grid":
        return economy.search
    return None if economy.budget is None else strategies.DEFAULT
