"""Sentence on what distillation gains over training without a teacher."""

from __future__ import annotations

from analysis.selection.intervals import CONFIDENCE, Interval
from analysis.selection.outcome import Outcome, combination_name
from rkd_core.text.numbers import percent, points

__all__ = ["distillation_gain"]


def distillation_gain(outcome: Outcome) -> str:
    """Return a comparison with the best student without a teacher; empty if there is none."""
    beside = outcome.undistilled
    if beside is None:
        return ""
    name = combination_name(beside.combinations, beside.best)
    verdict = " is as good or better by this rule: it" if beside.preferred else ""
    missed = "" if beside.admitted else ", less than the rule demands"
    text = (
        f"Training without a teacher ({name}){verdict} reaches {percent(beside.worst_k)}% "
        f"{outcome.worst_name} and {percent(beside.average)}% average accuracy{missed}"
    )
    if beside.gain is None:
        return f"{text}."
    worst, average = beside.gain.worst_k, beside.gain.average
    doubt = ""
    if worst.low < 0 < worst.high:
        doubt = f" It is open whether distillation raises the {outcome.worst_name} accuracy."
    return (
        f"{text}. Distillation gains {_gain(worst, outcome.worst_name)} and "
        f"{_gain(average, 'average')}, with {CONFIDENCE:.0%} intervals.{doubt}"
    )


def _gain(one: Interval, name: str) -> str:
    return f"{points(one.value)} points {name} ({points(one.low)} to {points(one.high)})"
