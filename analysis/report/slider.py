"""What is selected for every accuracy that one may be willing to give up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.selection import Selection
from analysis.selection.choose import best_first
from analysis.selection.criteria import Constrained

__all__ = ["Choice", "Slider", "asked", "choices", "rule_of", "slider"]

_ROUNDING = 1e-12
"""As the selection's: a best that is this close to another is tied with it."""
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Steps of the slider, in points."""
_POSITIONS = 150
"""Positions that the slider has at most, unless they would be more than a point apart."""
_LEAST = 0.01
"""What it goes up to at least, a fraction."""


@dataclass(frozen=True)
class Choice:
    """A combination, and the margin from which on it is the selected one, until the next."""

    margin: float
    """Accuracy given up against the reference, a fraction."""
    index: int


@dataclass(frozen=True)
class Slider:
    """Positions of a slider; below 0, more than the reference has is asked for."""

    step: float
    """Points between two positions."""
    first: int
    last: int
    keep: str
    """The accuracy that is given up: ``average`` or ``balanced``."""
    against: str
    """What that is measured against, as a noun."""
    own: float | None
    """Points that the selection's own rule gives up; None if it has no such number."""


def choices(selection: Selection) -> list[Choice]:
    """Selected combinations as the constraint is loosened.

    The rule is that of the selection with one margin for all; where it has none, the default
    rule's. The best of those that need no larger margin is selected, so that it changes only where
    a larger one admits something at least as good: a handful of combinations are all there are.

    Returns:
        By margin. The first has the highest of the accuracy that is kept.
    """
    c, seen, rule = selection.combinations, selection.seen, rule_of(selection)
    needed = rule.shortfall(seen, selection.reference)
    objective = rule.objective(seen)
    order = np.argsort(needed, kind="stable")
    best_before = np.r_[-np.inf, np.maximum.accumulate(objective[order])[:-1]]
    found: list[Choice] = []
    for margin in np.unique(needed[order][objective[order] >= best_before - _ROUNDING]):
        index = best_first(c, seen.means, objective, needed <= margin)
        if not found or found[-1].index != index:
            found.append(Choice(float(margin), index))
    return found


def rule_of(selection: Selection) -> Constrained:
    """The rule of the slider: its objective and constraint, nothing being given up."""
    own = selection.criterion
    return replace(own if isinstance(own, Constrained) else Constrained(own.worst_k), margin=0.0)


def asked(selection: Selection) -> float | None:
    """Average accuracy asked for where nothing is given up; None if another one is kept."""
    rule, place = rule_of(selection), selection.selected
    if rule.keep != "average":
        return None
    needed = rule.shortfall(selection.seen, selection.reference)
    return float(selection.seen.means.average[place] + needed[place])


def slider(selection: Selection, found: list[Choice]) -> Slider:
    """From where the highest accuracy alone is admitted to where nothing changes any more."""
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
        against=against.get(str(rule.reference), f"a {kept} of {100 * _number(rule):g} %"),
        own=100 * own if np.isfinite(own) else None,
    )


def _number(rule: Constrained) -> float:
    return float("nan") if isinstance(rule.reference, str) else rule.reference
