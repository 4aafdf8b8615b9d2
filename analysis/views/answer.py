"""The answer of a selection in a few lines, for terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import chain

import numpy as np
from rich.text import Text

from analysis.selection.intervals import CONFIDENCE
from analysis.selection.outcome import Interval, Outcome, combination_name
from analysis.selection.recommendation import recommendation
from analysis.selection.undistilled import Undistilled
from analysis.views.by_metric import headline, runner_up
from analysis.views.tables import teacher_of
from rkd_core.metrics import recalls
from rkd_core.text.numbers import decimal, interval, percent, plural, points

__all__ = ["answer", "miss"]


def answer(outcome: Outcome, width: int = 80) -> list[Text]:
    """Return lines on what to ship, its test accuracies and its runner-up, or why not to ship.

    Args:
        outcome: The selection.
        width: Width of the console, for the paragraphs.
    """
    advised, selection = recommendation(outcome), outcome.selection
    if not advised.ship:
        why = textwrap.fill(" ".join(advised.sentences), min(79, width))
        return [Text(advised.title, "bold red"), Text(_setting(outcome), "dim"), Text(), Text(why)]
    name = combination_name(selection.combinations, selection.selected)
    ship = Text.assemble(("Ship  ", "bold green"), (name, "bold"), f"   ({_setting(outcome)})")
    lines = [ship]
    if not selection.feasible:
        lines.append(Text(miss(outcome, width), "yellow"))
    if selection.selected == selection.reference:
        lines.append(Text("This is standard distillation: nothing else is better by this rule."))
    lines.append(_on_test(outcome))
    if outcome.measured is not None:
        lines.append(Text(headline(outcome.measured)))
    more = _beside(outcome), _beyond_shift(outcome), _runners_up(outcome), _sizes(outcome)
    return [*lines, *chain.from_iterable(more)]


def miss(outcome: Outcome, width: int) -> str:
    """Return a text on the combination closest to feasibility, for when none is feasible."""
    selection = outcome.selection
    nearest = int(np.argmin(selection.shortfall))
    _, asked = selection.criterion.words(selection.seen, selection.reference, nearest)
    nearby = combination_name(selection.combinations, nearest)
    lacks = percent(selection.shortfall[nearest])
    text = (
        f"No combination has {asked}. The nearest one is {nearby}, which misses the constraint by "
        f"{lacks} points; loosen it by that much and this combination is selected."
    )
    return textwrap.fill(text, min(79, width))


def _setting(outcome: Outcome) -> str:
    """Return data, network, its parameters, and the number of seeds if there are several."""
    setting, selection = outcome.setting, outcome.selection
    parts = [setting.dataset, setting.student_architecture]
    if setting.student_parameters is not None:
        parts.append(plural(setting.student_parameters, "parameter"))
    seeds = int(selection.combinations.seeds[selection.selected])
    if seeds > 1:
        parts.append(f"means over {seeds} seeds")
    return ", ".join(parts)


def _on_test(outcome: Outcome) -> Text:
    """Return the counted test accuracies beside those of standard distillation."""
    selection, test = outcome.selection, outcome.test
    best, plain, alone = selection.selected, selection.reference, outcome.prospects.test_alone

    def change(values: np.ndarray) -> str:
        before = "" if best == plain else f"{percent(values[plain])}% → "
        return f"{before}{percent(values[best])}%"

    worst = f"{outcome.worst_title} {change(test.worst_k)} on test"
    certain = f"{CONFIDENCE:.0%} interval {_ends(alone.worst_k)}{_images(outcome)}"
    average = f"average {change(test.average)} ({_ends(alone.average)})"
    against = "" if best == plain else ", against standard distillation"
    return Text(f"{worst} ({certain}), {average}{against}")


def _beside(outcome: Outcome) -> Iterator[Text]:
    """Yield the test accuracies of the best student without a teacher, and of the teacher."""
    beside = outcome.undistilled
    if beside is not None:
        m, place = beside.test, beside.best
        figures = _figures(outcome, m.worst_k[place], m.average[place])
        missed = "" if beside.admitted else ", but violates the constraint"
        name = combination_name(beside.combinations, place)
        line = f"Without a teacher, the same network ({name}): {figures} on test{missed}"
        yield Text(line + _gain(beside))
        if beside.preferred:
            verdict = "Training without a teacher is as good or better by this rule, on validation"
            yield Text(verdict, "yellow")
    teacher, setting = teacher_of(outcome, outcome.selection.selected), outcome.setting
    if teacher is None:
        return
    m, sizes = outcome.teachers.test, (setting.teacher_parameters, setting.student_parameters)
    line = f"Its teacher: {_figures(outcome, m.worst_k[teacher], m.average[teacher])} on test"
    if sizes[0] and sizes[1]:
        times = "as many" if sizes[0] == sizes[1] else f"{sizes[0] / sizes[1]:.2g} times the"
        line += f", with {times} parameters"
    yield Text(line)


def _beyond_shift(outcome: Outcome) -> Iterator[Text]:
    """Yield what the selected combination gains beyond a shift of standard distillation."""
    selection, sure = outcome.selection, outcome.uncertainty
    place = selection.shifted_standard
    if place is None:
        return
    if place == selection.selected:
        yield Text("This is standard distillation with a shift: trade-offs gain nothing beyond it")
    elif sure is not None and sure.beyond_shift is not None:
        worst, average = sure.beyond_shift.worst_k, sure.beyond_shift.average
        shown = [
            f"{points(one.value)} ({points(one.low)} to {points(one.high)})"
            for one in (worst, average)
        ]
        yield Text(
            f"Beyond a shift of standard distillation: {outcome.worst_title.lower()} {shown[0]} "
            f"points, average {shown[1]} (estimated from validation)",
            "yellow" if worst.low <= 0 else "",
        )


def _gain(beside: Undistilled) -> str:
    """Return what distillation gains in worst-k accuracy; empty without an estimate."""
    if beside.gain is None:
        return ""
    gain = beside.gain.worst_k
    ends = f"{points(gain.low)} to {points(gain.high)}"
    return f"; distillation gains {points(gain.value)} points ({ends}, estimated from validation)"


def _runners_up(outcome: Outcome) -> Iterator[Text]:
    """Yield a line for each of the next combinations by the rule, with the difference."""
    selection, sure = outcome.selection, outcome.uncertainty
    means, worst_name = selection.seen.means, outcome.worst_title.lower()
    for rank, place in enumerate(selection.runners_up):
        name = combination_name(selection.combinations, place)
        average = means.average[place] - means.average[selection.selected]
        line = f"{('Runner-up', 'Third')[rank]}: {name}; average {_more(average)}"
        if sure is None:
            worst = means.worst_k[place] - means.worst_k[selection.selected]
            yield Text(f"{line}, {worst_name} {_more(worst)} on validation, as counted")
        elif outcome.measured is not None:
            probability, difference = runner_up(outcome, place)
            yield Text(
                f"{line}, {outcome.measured.rule.worst_name} worse with probability "
                f"{_chance(probability)}: {difference}, on validation"
            )
        else:
            gain = sure.runners_up[rank].worst_k
            yield Text(
                f"{line}, {worst_name} lower with probability "
                f"{_chance(sure.probability_lower[place])}: {points(gain.value)} points "
                f"({points(gain.low)} to {points(gain.high)}), estimated from validation"
            )


def _sizes(outcome: Outcome) -> Iterator[Text]:
    """Yield a line for the best student of each network, if there are several networks."""
    if len(outcome.best_per_network) < 2:
        return
    for one in outcome.best_per_network:
        place, size = one.selected, one.network.parameters
        sized = "" if size is None else f", {plural(size, 'parameter')}"
        figures = _figures(outcome, outcome.test.worst_k[place], outcome.test.average[place])
        missed = "" if one.feasible else ", but violates the constraint"
        yield Text(f"Best of {one.network.name}{sized}: {figures} on test{missed}")


def _figures(outcome: Outcome, worst: float, average: float) -> str:
    return f"{outcome.worst_title.lower()} {percent(worst)}%, average {percent(average)}%"


def _ends(estimate: Interval) -> str:
    return interval(estimate.low, estimate.high)


def _images(outcome: Outcome) -> str:
    """Return the number of test images of the worst class; empty for several classes."""
    selection = outcome.selection
    if selection.criterion.worst_k > 1:
        return ""
    one = selection.combinations.only(selection.selected)
    correct, total = outcome.held_out.counts(one)
    of_class = recalls(correct, total)
    worst = np.nan_to_num(of_class, nan=np.inf).argmin(axis=1)
    images = {int(row[place]) for row, place in zip(total, worst, strict=True)}
    if len(images) > 1:
        return f", {min(images):,} to {max(images):,} images"
    return f", {plural(images.pop(), 'image')}"


def _more(difference: float) -> str:
    """Return a difference such as ``2.1 points higher``."""
    if not points(difference).strip("+−0."):
        return "the same"
    return f"{decimal(100 * abs(difference), 1)} points {'higher' if difference > 0 else 'lower'}"


def _chance(probability: float) -> str:
    """Return a probability in percent that is never 0 or 100, as it is estimated from draws."""
    if probability > 0.99:
        return "over 99%"
    return "under 1%" if probability < 0.01 else f"{probability:.0%}"
