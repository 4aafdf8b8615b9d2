"""First paragraphs of the report: what to ship, its gain, and its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.selection.outcome import Outcome, Prospect
from analysis.selection.recommendation import recommendation
from analysis.selection.uncertainty import CONFIDENCE
from analysis.views.by_metric import expected_objective, gap, headline, side
from analysis.views.distillation_gain import distillation_gain
from analysis.views.format import combination
from analysis.views.shift_gain import shift_gain
from rkd_core.text.numbers import interval, percent, plural, points, seeds_of, with_error

__all__ = ["Answer", "Line", "answer"]


@dataclass(frozen=True)
class Line:
    """An accuracy of standard distillation and of the selected combination, as text."""

    name: str
    standard: str
    selected: str
    gained: str


@dataclass(frozen=True)
class Answer:
    """The texts at the top of the page."""

    about: str
    """Data, networks and seeds, in one line."""
    title: str
    """Sentence on what to ship, or that there is nothing to ship."""
    why: str
    """Sentences on why nothing is recommended; empty if something is."""
    gain: str
    """Sentences on the gain."""
    undistilled: str
    """Sentences on the gain over training without a teacher; empty without such students."""
    beyond_shift: str
    """Sentences on the gain over standard distillation with a shift; empty without shifts."""
    rule: str
    """Sentences on the selection rule."""
    trust: str
    """Sentences on the uncertainty."""
    lines: tuple[Line, ...]
    """Validation and test, worst class and average."""


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
        title=f"Ship {_ship(outcome)}." if advised.ship else f"{advised.title}.",
        why=" ".join(advised.sentences),
        gain=_gain(outcome)
        + (f" {headline(outcome.measured)}." if outcome.measured is not None else ""),
        undistilled=distillation_gain(outcome) if advised.ship else "",
        beyond_shift=shift_gain(outcome) if advised.ship else "",
        rule=_rule(outcome),
        trust=_trust(outcome),
        lines=tuple(_lines(outcome)),
    )


def _ship(outcome: Outcome) -> str:
    s = outcome.selection
    if s.selected == s.reference:
        return f"standard distillation, at temperature {s.combinations.temperature[s.selected]:g}"
    return combination(s.combinations, s.selected)


def _gain(outcome: Outcome) -> str:
    s, test = outcome.selection, outcome.test
    worst, average = test.worst_k[s.selected], test.average[s.selected]
    if s.selected == s.reference:
        return (
            "Nothing else is better by this rule. On test images its "
            f"{outcome.worst_name} accuracy is {percent(worst)} %, its average "
            f"{percent(average)} %."
        )
    gained = points(worst - test.worst_k[s.reference])
    average_gained = points(average - test.average[s.reference])
    return (
        f"On test images its {outcome.worst_name} accuracy is {percent(worst)} %, "
        f"{gained} points against standard distillation; its average is {percent(average)} %, "
        f"{average_gained} points."
    )


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
    """Return sentences on the expected accuracies and the probability of being the best."""
    sure, s = outcome.uncertainty, outcome.selection
    if sure is None:
        said = f" ({outcome.unsaid})" if outcome.unsaid else ""
        return f"The best of many noisy figures looks better than it is; compare test.{said}"
    prospects, subject = outcome.prospects, outcome.subject
    expected = f"On other images, {subject} reaches {_figures(outcome, prospects.other_images)}. "
    if prospects.such_a_test is not None:
        expected += (
            "A test set with as many images of each class would show "
            f"{_figures(outcome, prospects.such_a_test)}. "
        )
    expected += (
        f"The test counts alone give {_figures(outcome, prospects.test_alone)}. Brackets hold "
        f"{percent(CONFIDENCE, 0)} % intervals."
    )
    objective = s.criterion.words(s.seen, s.reference, s.selected)[0]
    if objective != f"{outcome.worst_name} accuracy":
        expected += f" The expected {objective} is {expected_objective(outcome)}."
    excess = f"{gap(outcome, sure.optimism)} {side(outcome)}"
    expected += f" Validation is {excess} the expected figure."
    if not s.feasible:
        return expected
    return (
        f"{expected} The probability that it is the best is "
        f"{percent(sure.probability_best[s.selected], 0)} %; the expected shortfall in {objective} "
        f"is {gap(outcome, sure.expected_regret)}."
    )


def _figures(outcome: Outcome, prospect: Prospect | None) -> str:
    assert prospect is not None
    worst, average = (
        f"{percent(one.value)} % ({interval(one.low, one.high)})"
        for one in (prospect.worst_k, prospect.average)
    )
    return f"{worst} {outcome.worst_name} and {average} average accuracy"


def _lines(outcome: Outcome) -> list[Line]:
    s = outcome.selection
    lines = []
    for split, m in (("validation", s.means), ("test", outcome.test)):
        for name, values, errors in (
            (outcome.worst_name, m.worst_k, m.worst_k_se),
            ("average", m.average, m.average_se),
        ):
            standard, selected = (
                with_error(values[i], errors[i] if s.combinations.seeds[i] > 1 else np.nan)
                for i in (s.reference, s.selected)
            )
            gained = points(values[s.selected] - values[s.reference])
            lines.append(Line(f"{name}, {split}", standard, selected, gained))
    return lines
