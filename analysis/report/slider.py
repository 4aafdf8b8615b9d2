"""Selected combination for every margin, and positions of the report's slider."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.selection import Selection
from analysis.selection.choose import preferred
from analysis.selection.criteria import Constrained

__all__ = ["Choice", "Slider", "asked", "choices", "rule_of", "slider"]

_ROUNDING = 1e-12
"""Tolerance for tied objectives, as in the selection."""
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Steps of the slider, in points."""
_POSITIONS = 150
"""Maximum number of positions, unless they would be more than a point apart."""
_LEAST = 0.01
"""Minimum upper end, as a fraction."""


@dataclass(frozen=True)
class Choice:
    """A combination, and the smallest margin at which it is selected."""

    margin: float
    """Accuracy given up relative to the reference, as a fraction."""
    index: int


@dataclass(frozen=True)
class Slider:
    """Positions of a slider; below 0, the constraint is stricter than the reference."""

    step: float
    """Points between adjacent positions."""
    first: int
    last: int
    keep: str
    """Accuracy that the constraint is on: ``average`` or ``balanced``."""
    against: str
    """Reference of the constraint, as a noun."""
    own: float | None
    """Margin of the selection's own rule, in points; None if it has none."""

    @property
    def strictest(self) -> str:
        """Label of the lower end."""
        points = self.first * self.step
        return f"demand {-points:.2f} points more" if points < 0 else "give up nothing"

    @property
    def loosest(self) -> str:
        """Label of the upper end, from which on the choice is constant."""
        return f"give up {self.last * self.step:.2f} points"


def choices(selection: Selection) -> list[Choice]:
    """Return the selected combinations as the constraint is loosened.

    The rule is that of the selection with the same margin for all combinations, or the default
    rule if the selection has no constraint. The selected combination changes only where a larger
    margin makes one feasible that is at least as good.

    Returns:
        Choices by margin; the first one has the highest constrained accuracy.
    """
    seen, rule = selection.seen, rule_of(selection)
    needed = rule.shortfall(seen, selection.reference)
    objective = rule.objective(seen)
    order = np.argsort(needed, kind="stable")
    best_before = np.r_[-np.inf, np.maximum.accumulate(objective[order])[:-1]]
    found: list[Choice] = []
    least = best_before - rule.tolerance - _ROUNDING
    for margin in np.unique(needed[order][objective[order] >= least]):
        index = preferred(rule, seen, objective, needed <= margin)
        if not found or found[-1].index != index:
            found.append(Choice(float(margin), index))
    return found


def rule_of(selection: Selection) -> Constrained:
    """Return the rule of the slider: the selection's, with a margin of 0."""
    own = selection.criterion
    return replace(own if isinstance(own, Constrained) else Constrained(own.worst_k), margin=0.0)


def asked(selection: Selection) -> float | None:
    """Return the required average accuracy at a margin of 0; None for another constraint."""
    rule, place = rule_of(selection), selection.selected
    if rule.keep != "average":
        return None
    needed = rule.shortfall(selection.seen, selection.reference)
    return float(selection.seen.means.average[place] + needed[place])


def slider(selection: Selection, found: list[Choice]) -> Slider:
    """Return positions from the strictest feasible constraint to where the choice is constant."""
    rule, own = rule_of(selection), float(selection.margin[selection.selected])
    most = max(found[-1].margin, _LEAST, *([own] if np.isfinite(own) else []))
    least, most = 100 * min(found[0].margin, 0.0), 100 * most
    step = next((s for s in _STEPS if (most - least) / s <= _POSITIONS), _STEPS[-1])
    kept = "average" if rule.keep == "average" else "balanced accuracy"
    against = {"standard": f"standard distillation’s {kept}", "best": f"the best {kept}"}
    return Slider(
        step=step,
        first=int(np.ceil(least / step - 1e-6)),
        last=int(np.ceil(most / step - 1e-6)),
        keep=rule.keep,
        against=against.get(str(rule.reference), f"a {kept} of {100 * _number(rule):g}%"),
        own=100 * own if np.isfinite(own) else None,
    )


def _number(rule: Constrained) -> float:
    return float("nan") if isinstance(rule.reference, str) else rule.reference
