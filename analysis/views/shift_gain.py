"""Sentence on what training with trade-offs gains beyond a shift of standard distillation."""

from __future__ import annotations

from analysis.selection.intervals import CONFIDENCE, Interval
from analysis.selection.outcome import Outcome, combination_name
from rkd_core.text.numbers import percent, points

__all__ = ["shift_gain"]


def shift_gain(outcome: Outcome) -> str:
    """Return a comparison with standard distillation and a shift; empty without shifts."""
    selection, sure = outcome.selection, outcome.uncertainty
    place = selection.shifted_standard
    if place is None:
        return ""
    if place == selection.selected:
        return (
            "This is standard distillation with a shift: training with trade-offs gains nothing "
            "beyond it by this rule."
        )
    means = selection.seen.means if sure is None else sure.expected
    reached = (
        f"Without trade-offs, {combination_name(selection.combinations, place)} reaches "
        f"{percent(means.worst_k[place])}% {outcome.worst_name} and "
        f"{percent(means.average[place])}% average accuracy on validation"
    )
    missed = "" if selection.admitted[place] else ", less than the rule demands"
    if sure is None or sure.beyond_shift is None:
        return f"{reached}, as counted{missed}."
    gain = sure.beyond_shift
    text = (
        f"{reached}, as estimated{missed}. Training with trade-offs gains {_gain(gain.worst_k)} "
        f"points {outcome.worst_name} and {_gain(gain.average)} average beyond it, with "
        f"{CONFIDENCE:.0%} intervals."
    )
    if gain.worst_k.low > 0 or missed:
        return text
    return f"{text} That may be nothing, and one teacher and one student are cheaper than a grid."


def _gain(one: Interval) -> str:
    return f"{points(one.value)} ({points(one.low)} to {points(one.high)})"
