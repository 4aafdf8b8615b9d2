"""First paragraphs of the report: the outcome, what to ship, and its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.runs.combinations import Means
from analysis.selection.intervals import Prospect
from analysis.selection.outcome import Outcome
from analysis.selection.recommendation import recommendation
from analysis.views.by_metric import expected_objective, gap, headline, side
from analysis.views.distillation_gain import distillation_gain
from analysis.views.format import combination, typeset
from analysis.views.shift_gain import shift_gain
from rkd_core.text.numbers import difference, interval, percent, plural, seeds_of, with_error

__all__ = ["Answer", "Line", "answer"]


@dataclass(frozen=True)
class Line:
    """An accuracy of standard distillation and of the selected combination, as text."""

    name: str
    standard: str
    selected: str
    interval: str
    """Interval of the selected one; empty without one."""
    gained: str


@dataclass(frozen=True)
class Answer:
    """The texts at the top of the page."""

    about: str
    """Data, networks and seeds, in one line."""
    title: str
    """Test accuracies against those of standard distillation, or why there is nothing to ship."""
    ship: str
    """Sentence on what to ship; empty if nothing is recommended."""
    why: str
    """Sentences on why nothing is recommended; empty if something is."""
    undistilled: str
    """Sentences on the gain over training without a teacher; empty without such students."""
    beyond_shift: str
    """Sentences on the gain over standard distillation with a shift; empty without shifts."""
    rule: str
    """Sentences on the selection rule."""
    trust: str
    """Sentences on the uncertainty."""
    lines: tuple[Line, ...]
    """Worst class and average: on test, on other images as estimated, and on validation."""
    origin: str
    """Sentence on which of them are counted and which estimated."""


def answer(outcome: Outcome) -> Answer:
    """Describe a selection in words."""
    advised = recommendation(outcome)
    s, setting = outcome.selection, outcome.setting
    least, most = int(s.combinations.seeds.min()), int(s.combinations.seeds.max())
    parts = (
        setting.dataset,
        setting.architectures,
        plural(len(setting.class_names), "class", "classes"),
        seeds_of(least, most),
    )
    return Answer(
        about=" · ".join(parts),
        title=_title(outcome) if advised.ship else f"{advised.title}.",
        ship=_ship(outcome) if advised.ship else "",
        why=" ".join(advised.sentences),
        undistilled=typeset(distillation_gain(outcome)) if advised.ship else "",
        beyond_shift=typeset(shift_gain(outcome)) if advised.ship else "",
        rule=_rule(outcome),
        trust=_trust(outcome),
        lines=tuple(_lines(outcome)),
        origin="Test and validation are counted."
        if outcome.uncertainty is None
        else "Test and validation are counted. The figures for other images are estimated from "
        f"validation, for {outcome.subject}.",
    )


def _title(outcome: Outcome) -> str:
    """Return the outcome on test, such as ``Worst class 48.5% → 81.8%, average −1.2 points``."""
    s, test = outcome.selection, outcome.test
    worst, average, name = test.worst_k, test.average, outcome.worst_title
    if s.selected == s.reference:
        figures = f"{name.lower()} {percent(worst[s.selected])}%"
        return f"Standard distillation: {figures}, average {percent(average[s.selected])}% on test"
    before = percent(worst[s.reference])
    change = difference(average[s.selected], average[s.reference])
    return f"{name} {before}% → {percent(worst[s.selected])}% on test, average {change} points"


def _ship(outcome: Outcome) -> str:
    s = outcome.selection
    name = combination(s.combinations, s.selected)
    by_metric = "" if outcome.measured is None else f" {headline(outcome.measured)}."
    if s.selected == s.reference:
        return (
            f"Ship {name}, which is standard distillation: nothing else is better by this rule."
            + by_metric
        )
    return f"Ship {name}, instead of standard distillation.{by_metric}"


def _rule(outcome: Outcome) -> str:
    s = outcome.selection
    objective, asked = s.criterion.words(s.seen, s.reference, s.selected)
    if not s.feasible:
        lacks = percent(s.shortfall[s.selected])
        return (
            f"No combination has {asked}. This one comes nearest; it misses the constraint by "
            f"{lacks} points."
        )
    counted = s.seen.estimated is None or outcome.measured is not None
    where = "validation" if counted else "validation, as estimated,"
    among = f", among those that have {asked}" if asked else ""
    return f"It has the best {objective} on {where} of {s.combinations.count}{among}."


def _trust(outcome: Outcome) -> str:
    """Return sentences on the estimates and the probability of being the best."""
    sure, s = outcome.uncertainty, outcome.selection
    if sure is None:
        said = f" ({outcome.unsaid})" if outcome.unsaid else ""
        return f"The best of many noisy figures looks better than it is; compare test.{said}"
    objective = s.criterion.words(s.seen, s.reference, s.selected)[0]
    said = ""
    if objective != f"{outcome.worst_name} accuracy":
        said = f"The expected {objective} on other images is {expected_objective(outcome)}. "
    excess = f"{gap(outcome, sure.optimism)} {side(outcome)}"
    said += f"Validation is {excess} the expected figure."
    if not s.feasible:
        return said
    return (
        f"{said} The probability that it is the best is "
        f"{percent(sure.probability_best[s.selected], 0)}%; the expected shortfall in {objective} "
        f"is {gap(outcome, sure.expected_regret)}."
    )


def _lines(outcome: Outcome) -> Iterator[Line]:
    s, sure, prospects = outcome.selection, outcome.uncertainty, outcome.prospects
    yield from _pair(outcome, "test", outcome.test, prospects.test_alone)
    if sure is not None and prospects.other_images is not None:
        ends = prospects.other_images
        yield from _pair(outcome, "other images", sure.expected, ends, estimated=True)
    yield from _pair(outcome, "validation", s.means, None)


def _pair(
    outcome: Outcome, where: str, means: Means, prospect: Prospect | None, estimated: bool = False
) -> Iterator[Line]:
    """Yield worst-class and average accuracy; counted means of several seeds have an error."""
    s = outcome.selection
    with_errors = (s.combinations.seeds > 1) & (not estimated)
    for name, values, errors, ends in (
        (outcome.worst_name, means.worst_k, means.worst_k_se, prospect and prospect.worst_k),
        ("average", means.average, means.average_se, prospect and prospect.average),
    ):
        standard, selected = (
            with_error(values[i], errors[i] if with_errors[i] else np.nan)
            for i in (s.reference, s.selected)
        )
        yield Line(
            f"{name}, {where}",
            standard,
            selected,
            interval(ends.low, ends.high) if ends else "",
            difference(values[s.selected], values[s.reference]),
        )
