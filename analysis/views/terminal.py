"""The short table that is printed after a sweep: first what to ship, then why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import numpy as np
from rich.console import Console
from rich.text import Text

from analysis.runs.columns import FloatArray, positions
from analysis.runs.combinations import Combinations, Means
from analysis.runs.groups import accuracies, images, of_long_tail
from analysis.selection.choose import best_first
from analysis.selection.outcome import Interval, Outcome, objective_name
from analysis.selection.recommendation import recommendation
from analysis.selection.uncertainty import CONFIDENCE
from rkd_core.metrics.class_groups import DEFINITION
from rkd_core.objectives import position
from rkd_core.text.console import Table, hanging

__all__ = [
    "group_table",
    "headline",
    "main_table",
    "methods_table",
    "nine_combinations",
    "print_outcome",
]

_PAPERS = tuple(map(position, ("standard", "balanced", "robust")))


def print_outcome(outcome: Outcome, console: Console, notes: Iterable[str] = ()) -> None:
    """Print what to ship, the table, and one line for each thing that was left out."""
    console.print()
    for line in headline(outcome, console.width):
        for part in line.split("\n", allow_blank=True):
            console.print(hanging(part), highlight=False)
    for table in (group_table(outcome), main_table(outcome), methods_table(outcome)):
        if table is not None:
            console.print()
            console.print(table)
    unsaid = [outcome.unsaid] if outcome.unsaid else []
    for remark in (*_legend(outcome, console.width), *unsaid, *notes):
        console.print(Text(remark, style="dim"), highlight=False)


def headline(outcome: Outcome, width: int = 80) -> list[Text]:
    """Return lines on what to ship and its gains over standard distillation, or why nothing.

    Args:
        outcome: The selection.
        width: Width of the console; longer lines are broken.
    """
    selection, advised = outcome.selection, recommendation(outcome)
    if not advised.ship:
        why = [Text(textwrap.fill(" ".join(advised.sentences), min(79, width)))]
        return [Text(advised.title, "bold red"), _setting(outcome, width), Text(), *why]
    c, means = selection.combinations, selection.means
    best, plain = selection.selected, selection.reference
    teacher = objective_name(int(c.teacher_objective[best]), c.alpha_t[best], "α_t")
    student = objective_name(int(c.student_objective[best]), c.alpha_s[best], "α_s")
    ship = f"teacher {teacher}, student {student}, T {c.temperature[best]:g}{c.aside(best)}"
    lines = [
        Text.assemble(("Ship  ", "bold green"), (ship, "bold")),
        _setting(outcome, width),
        Text(),
    ]
    if not selection.feasible:
        lines.append(Text(_miss(outcome, width), "yellow"))
    if best == plain:
        verdict = "That is standard distillation: nothing else does better by this rule."
        return [*lines, Text(verdict), *_sure(outcome, width)]
    lines.append(Text("Against standard distillation (percent, and points gained):"))
    for split, m in (("validation", means), ("test", outcome.test)):
        worst = Text(f"{outcome.worst_name} ") + _change(m.worst_k[plain], m.worst_k[best])
        average = Text("average ") + _change(m.average[plain], m.average[best])
        lines += _pair(f"{split:<12}", worst, Text("   ") + average, width)
    return [*lines, *_sure(outcome, width)]


def group_table(outcome: Outcome) -> Table | None:
    """Return head, medium and tail: the selected combination against standard distillation.

    None if the training set has no long tail or fewer than three classes, or records lack its
    counts.
    """
    counts, selection = outcome.setting.train_counts, outcome.selection
    groups = of_long_tail(counts)
    if counts is None or not groups:
        return None
    combinations = [
        selection.combinations.only(i) for i in (selection.reference, selection.selected)
    ]
    figures = [
        [accuracies(recalls, groups) for recalls in of_split]
        for of_split in (
            [c.mean_recalls() for c in combinations],
            [outcome.held_out.mean_recalls(c) for c in combinations],
        )
    ]
    table = Table()
    table.add_column("  group")
    table.add_column("classes", justify="right")
    table.add_column("training images", justify="right")
    table.add_column("validation")
    table.add_column("test")

    def figure(before: float, after: float) -> Text | str:
        if np.isnan(after):  # no class of the group has images in this split
            return "—"
        same = selection.selected == selection.reference
        return _percent(after, np.nan) if same else _change(before, after)

    for name, labels in groups.items():
        table.add_row(
            f"  {name}",
            str(len(labels)),
            images(counts, labels),
            *(figure(before[name], after[name]) for before, after in figures),
        )
    return table


def main_table(outcome: Outcome) -> Table:
    """Standard distillation, the papers' nine combinations, the selected one, and the teachers."""
    selection, teachers = outcome.selection, outcome.teachers
    c = selection.combinations
    uneven = int(c.seeds.min()) < int(c.seeds.max())
    table = _table("", "teacher", "student", keys=5 if uneven else 4, close=uneven)
    table.add_column("\nT", justify="right")
    if uneven:
        table.add_column("\nseeds", justify="right")
    _add_splits(table, outcome)
    sure = outcome.uncertainty
    if sure is not None:
        table.add_column(f"gain in\n{_worst(outcome)}, {CONFIDENCE:.0%}", justify="right")

    def add(rows: Combinations, index: int, figures: list[Means], mark: str, style: str) -> None:
        temperature = rows.temperature[index]
        table.add_row(
            mark,
            objective_name(int(rows.teacher_objective[index]), rows.alpha_t[index]),
            objective_name(int(rows.student_objective[index]), rows.alpha_s[index]),
            "" if np.isnan(temperature) else f"{temperature:g}{'*' if rows.aside(index) else ''}",
            *([str(rows.seeds[index])] if uneven else []),
            *_figures(rows, index, figures),
            *([_gain(sure.worst_k_gain[:, index])] if sure is not None and rows is c else []),
            style=style,
        )

    def add_student(index: int) -> None:
        chosen, plain = index == selection.selected, index == selection.reference
        mark = "▸" if chosen else "○" if plain else ""
        figures = [selection.means, outcome.test]
        add(c, index, figures, mark, "bold green" if chosen else "")

    nine = nine_combinations(outcome)
    add_student(selection.reference)
    for index in nine:
        if index != selection.reference:
            add_student(index)
    if selection.selected not in (selection.reference, *nine):
        add_student(selection.selected)
    if len(teachers.combinations):
        table.add_row()
    for index in range(len(teachers.combinations)):
        add(teachers.combinations, index, [teachers.val, teachers.test], "", "dim")
    return table


def methods_table(outcome: Outcome) -> Table | None:
    """Students of other methods, on the standard teacher or none; None if there are none."""
    beside = outcome.methods
    rows = beside.combinations
    if not len(rows):
        return None
    table = _table("", "other methods", keys=2)
    _add_splits(table, outcome)
    for index, name in enumerate(rows.variant.to_pylist()):
        table.add_row("", name, *_figures(rows, index, [beside.val, beside.test]))
    return table


def _table(*columns: str, keys: int, close: bool = False) -> Table:
    table = Table(keys, close=close)
    for name in columns:
        table.add_column(f"\n{name}", overflow="fold", min_width=1)
    return table


def _add_splits(table: Table, outcome: Outcome) -> None:
    for split in ("validation", "test"):
        table.add_column(f"{split}\n{_worst(outcome)}", justify="right")
        table.add_column("\naverage", justify="right")


def _worst(outcome: Outcome) -> str:
    return outcome.worst_name.removesuffix("-class")


def _figures(rows: Combinations, index: int, splits: list[Means]) -> Iterator[str]:
    for m in splits:
        for values, errors in ((m.worst_k, m.worst_k_se), (m.average, m.average_se)):
            yield _percent(values[index], errors[index] if rows.seeds[index] > 1 else np.nan)


def nine_combinations(outcome: Outcome) -> list[int]:
    """The papers' combinations of standard, balanced and robust, as far as they were trained.

    Each is at its best temperature by worst-k accuracy as the selection sees it. Balanced is the
    trade-off at alpha 0, and robust that at alpha 1, however the objective was named.
    """
    selection = outcome.selection
    c, means = selection.combinations, selection.seen.means
    teacher = positions(c.teacher_objective, c.alpha_t)
    student = positions(c.student_objective, c.alpha_s)
    found = []
    for alpha_t in _PAPERS:
        for alpha_s in _PAPERS:
            cell = (teacher == alpha_t) & (student == alpha_s)
            if cell.any():
                found.append(best_first(c, means, means.worst_k, cell))
    return found


def _setting(outcome: Outcome, width: int) -> Text:
    """What was compared, and by what rule."""
    setting, selection = outcome.setting, outcome.selection
    seeds = int(selection.combinations.seeds[selection.selected])
    objective, least = selection.criterion.words(
        selection.seen, selection.reference, selection.selected
    )
    raw = selection.seen.estimated is None
    rule = (
        f"best {'validation' if raw else 'estimated'} {objective} of {len(selection.combinations)}"
    )
    rule += " combinations" + (f", at {least}" if least else "")
    indent = " " * 6
    return Text(
        f"{indent}{setting.dataset}, {setting.architectures}, "
        f"{seeds} seed{'' if seeds == 1 else 's'}\n"
        + textwrap.fill(rule, min(78, width), initial_indent=indent, subsequent_indent=indent),
        style="dim",
    )


def _miss(outcome: Outcome, width: int) -> str:
    """That nothing is admitted, what comes nearest, and what it would take."""
    selection = outcome.selection
    nearest = int(np.argmin(selection.shortfall))
    _, asked = selection.criterion.words(selection.seen, selection.reference, nearest)
    c = selection.combinations
    teacher = objective_name(int(c.teacher_objective[nearest]), c.alpha_t[nearest], "α_t")
    student = objective_name(int(c.student_objective[nearest]), c.alpha_s[nearest], "α_s")
    lacks = 100 * selection.shortfall[nearest]
    text = (
        f"No combination has {asked}. Nearest is teacher {teacher}, student {student}, "
        f"T {c.temperature[nearest]:g}{c.aside(nearest)}, which lacks {lacks:.1f} points; ask for "
        "that much less and it is admitted."
    )
    return textwrap.fill(text, min(79, width))


def _sure(outcome: Outcome, width: int) -> list[Text]:
    """What to expect of the selected one, and how likely something else is better."""
    sure, selection, prospects = outcome.uncertainty, outcome.selection, outcome.prospects
    if sure is None:
        return []
    best = selection.selected
    objective = selection.criterion.words(selection.seen, selection.reference, best)[0]
    lines = [Text(), Text(f"Accuracies of {outcome.subject}, with {CONFIDENCE:.0%} intervals:")]
    for label, prospect in (
        ("other images", prospects.other_images),
        ("such a test set", prospects.such_a_test),
        ("test by itself", prospects.test_alone),
    ):
        if prospect is not None:
            worst = f"{outcome.worst_name} {_within(prospect.worst_k)}"
            average = f"average {_within(prospect.average)}"
            lines += _pair(f"{label:<17}", Text(worst), Text(f"  {average}"), width)
    if objective != f"{outcome.worst_name} accuracy":
        estimate = Interval.of(sure.corrected, sure.interval)
        lines.append(Text(f"  {objective} on other images {_within(estimate)}"))
    side = "above" if sure.optimism >= 0 else "below"
    optimism = f"{abs(100 * sure.optimism):.1f} points {side} the expected {objective}"
    lines.append(Text(f"Validation is {optimism}"))
    if selection.feasible:
        chance = sure.probability_best[best]
        regret = f"the best is {100 * sure.expected_regret:.1f} points better on average"
        lines.append(Text(f"It is the best with probability {chance:.0%}; {regret}"))
    return lines


def _pair(label: str, first: Text, second: Text, width: int) -> list[Text]:
    """Return a label and two figures on one line, or on a line each on a narrow console."""
    line = Text.assemble("  ", label, first, second)
    if line.cell_len <= width:
        return [line]
    blanks = second.cell_len - len(second.plain.lstrip(" "))
    return [Text(f"  {label}"), Text("    ") + first, Text("    ") + second[blanks:]]


def _within(estimate: Interval) -> str:
    value, low, high = (100 * end for end in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _change(before: float, after: float) -> Text:
    """``86.4 → 90.4 (+4.0)``, the gain colored by its sign."""
    points = 100 * (after - before)
    shown = f"{points:+.1f}".replace("-", "−")
    style = "green" if points > 0 else "red"
    if shown in ("+0.0", "−0.0"):
        shown, style = "±0.0", ""
    line = Text(f"{100 * before:.1f} → {100 * after:.1f} (")
    return line.append(shown, style).append(")")


def _gain(interval: FloatArray) -> str:
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in interval)
    return "" if low == high else f"{low} {high}"


def _percent(value: float, error: float) -> str:
    shown = f"{100 * value:.1f}"
    return shown if np.isnan(error) else f"{shown}±{100 * error:.1f}"


def _legend(outcome: Outcome, width: int) -> list[str]:
    c = outcome.selection.combinations
    most, least = int(c.seeds.max()), int(c.seeds.min())
    alone = "   — the teacher alone" if len(outcome.teachers.combinations) else ""
    lines = ["", f"▸ selected on validation   ○ standard distillation{alone}"]
    if np.isin((c.alpha_t, c.alpha_s), (0, 1)).any():
        lines.append("α 0 is the balanced objective, α 1 the robust one")
    if of_long_tail(outcome.setting.train_counts):
        lines += textwrap.wrap(f"{DEFINITION}; mean recall of each", min(79, width))
    if outcome.uncertainty is not None:
        lines.append(f"gain on ○, {CONFIDENCE:.0%} interval, estimated from all combinations")
        lines.append("other images: true accuracies, estimated from validation")
        lines.append("such a test set: predicted counts of one with as many images of each class")
        lines.append("test by itself: test counts, with intervals from those counts alone")
    if most > 1:
        lines.append("percent, ± one standard error over seeds")
    if c.tuned.null_count < len(c):
        lines.append("* with a recipe of its own, which selection.json names")
    lines += [f"{name} is fitted to validation: only test tells" for name in outcome.fitted]
    if least < most:
        short = int((c.seeds < most).sum())
        lines.append(
            f"{short} of {len(c)} combinations lack some seeds: means over those they have"
        )
    return lines
