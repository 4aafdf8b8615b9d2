"""Terminal output of a selection: the answer, and in the long form all tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from analysis.runs.columns import objective_names
from analysis.runs.groups import of_long_tail
from analysis.runs.loading import WITHOUT_TEACHER
from analysis.selection.outcome import Interval, Outcome, objective_name
from analysis.selection.recommendation import recommendation
from analysis.selection.uncertainty import CONFIDENCE
from analysis.views.answer import answer
from analysis.views.by_metric import expected_objective, gap, rows, side
from analysis.views.distillation_gain import distillation_gain
from analysis.views.shift_gain import shift_gain
from analysis.views.tables import (
    Accuracy,
    combinations,
    groups,
    methods,
    nine,
    teachers,
    undistilled,
)
from rkd_core.metrics.class_groups import DEFINITION
from rkd_core.text.console import Table, hanging
from rkd_core.text.numbers import decimal, difference, interval, percent, plural

__all__ = [
    "group_table",
    "main_table",
    "methods_table",
    "print_outcome",
]

_SELECTED, _REFERENCE = "selected", "standard distillation"
"""Notes of rows in ``analysis.views.tables``."""
_NO_TEACHER = "none"
_ROWS = 20
"""Maximum number of classes or groups in the table of a metric."""


def print_outcome(
    outcome: Outcome, console: Console, notes: Iterable[str] = (), *, verbose: bool = False
) -> None:
    """Print the answer and one line for each omission; if ``verbose``, also all tables."""
    width = console.width
    console.print()
    for line in (*answer(outcome, width), *(_details(outcome, width) if verbose else ())):
        for part in line.split("\n", allow_blank=True):
            console.print(hanging(part), highlight=False)
    said = [line for line in (outcome.unsaid, outcome.unpaired) if line]
    remarks = [*_lacking(outcome), *said, *notes]
    if verbose:
        tables = group_table(outcome), metric_table(outcome), main_table(outcome)
        for table in (*tables, methods_table(outcome)):
            if table is not None:
                console.print()
                console.print(table)
        remarks = [*_legend(outcome, width), *remarks]
    for remark in remarks:
        console.print(Text(remark, style="dim"), highlight=False)


def _details(outcome: Outcome, width: int) -> list[Text]:
    """Return the rule, both splits beside standard distillation, and the expected accuracies."""
    selection, lines = outcome.selection, [Text(), _setting(outcome, width)]
    best, plain, means = selection.selected, selection.reference, selection.means
    if not recommendation(outcome).ship:
        return lines
    if best == plain:
        return [*lines, *_sure(outcome, width), *_gained(outcome, width)]
    lines += [Text(), Text("Against standard distillation (percent, and points gained):")]
    for split, m in (("validation", means), ("test", outcome.test)):
        worst = Text(f"{outcome.worst_name} ") + _change(m.worst_k[plain], m.worst_k[best])
        average = Text("average ") + _change(m.average[plain], m.average[best])
        lines += _pair(f"{split:<12}", worst, Text("   ") + average, width)
    return [*lines, *_sure(outcome, width), *_gained(outcome, width)]


def _gained(outcome: Outcome, width: int) -> list[Text]:
    """Return lines on what distillation gains over no teacher, and trade-offs over a shift."""
    beside = outcome.undistilled
    style = "yellow" if beside is not None and beside.preferred else ""
    lines = []
    for said, look in ((distillation_gain(outcome), style), (shift_gain(outcome), "")):
        if said:
            lines += [Text(), Text(textwrap.fill(said, min(79, width)), look)]
    return lines


def group_table(outcome: Outcome) -> Table | None:
    """Return the table of head, medium and tail; None if there are no such groups.

    It compares the selected combination with standard distillation.
    """
    rows = groups(outcome).by_key()
    if not rows:
        return None
    table = Table()
    table.add_column("  group")
    table.add_column("classes", justify="right")
    table.add_column("training images", justify="right")
    table.add_column("validation")
    table.add_column("test")
    same = outcome.selection.selected == outcome.selection.reference

    def figure(row: Mapping[str, Any], split: str) -> Text | str:
        before, after = row[f"standard_{split}"].mean, row[f"selected_{split}"].mean
        return percent(after) if same or np.isnan(after) else _change(before, after)

    for row in rows:
        splits = (figure(row, split) for split in ("val", "test"))
        table.add_row(f"  {row['group']}", str(row["classes"]), row["train_images"], *splits)
    return table


def metric_table(outcome: Outcome) -> Table | None:
    """Return the table of figures by the metric of the rule; None without a metric.

    With many classes or groups, it has only those with the worst figures on validation.
    """
    found = outcome.measured
    if found is None:
        return None
    lines = list(rows(found))
    order = np.argsort(found.rule.sign * found.val.selected[:-2], kind="stable")[:_ROWS]
    shown = [*sorted(order.tolist()), len(lines) - 2, len(lines) - 1]
    table = Table()
    table.add_column(f"  {found.rule.figure.title}")
    for heading in ("images", "validation", "test"):
        table.add_column(heading, justify="right")
    for name, *cells in (lines[place] for place in shown):
        validation, test = cells[:4], cells[4:]
        figures = (f"{before} → {after}" for _, before, after, _ in (validation, test))
        table.add_row(f"  {name}", f"{validation[0]}, {test[0]}", *figures)
    return table


def main_table(outcome: Outcome) -> Table:
    """Return the table of the nine combinations and those that they are compared with.

    These are the reference, the selected one, the best student without a teacher, and teachers.
    """
    c, sheet = outcome.selection.combinations, nine(outcome, combinations(outcome))
    uneven = int(c.seeds.min()) < int(c.seeds.max())
    several = len(c.networks) > 1
    keys = 4 + uneven + several
    table = _table("", "teacher", "student", keys=keys, close=keys > 4)
    if several:
        table.add_column("\nnetwork", overflow="fold", min_width=1)
    table.add_column("\nT", justify="right")
    if uneven:
        table.add_column("\nseeds", justify="right")
    _add_splits(table, outcome)
    if outcome.uncertainty is not None:
        table.add_column(f"gain in\n{_worst(outcome)}, {CONFIDENCE:.0%}", justify="right")

    def add(row: Mapping[str, Any], style: str, *more: str) -> None:
        temperature = row.get("temperature")
        star = "*" if row.get("tuned") else ""
        star += "" if row.get("shift") is None else "†"
        table.add_row(
            _mark(row),
            _objective(row, "teacher_objective", "alpha_t"),
            _objective(row, "student_objective", "alpha_s"),
            *([row.get("network", "")] if several else []),
            ("" if temperature is None else f"{temperature:g}") + star,
            *([str(row["seeds"])] if uneven else []),
            *_figures(row),
            *more,
            style=style,
        )

    def gains(row: Mapping[str, Any]) -> list[str]:
        return [] if outcome.uncertainty is None else [_gain(row)]

    for row in sorted(sheet.by_key(), key=lambda row: _REFERENCE not in row["note"]):
        add(row, "bold green" if _SELECTED in row["note"] else "", *gains(row))
    alone = teachers(outcome).by_key()
    for row in undistilled(outcome).by_key():
        if row["note"]:
            network = outcome.setting.student_architecture
            named = {"teacher_objective": _NO_TEACHER, "network": network}
            add(row | named, "", *gains(row))
    if alone:
        table.add_row()
    for row in alone:
        add(row, "dim")
    return table


def methods_table(outcome: Outcome) -> Table | None:
    """Return the table of students of other methods; None if there are none.

    They have the standard teacher or no teacher. Of students that are trained on labels alone, the
    main table has the best one.
    """
    rows = [
        row for row in methods(outcome).by_key() if row["method"].split(" ")[0] != WITHOUT_TEACHER
    ]
    if not rows:
        return None
    names = ["other methods", *(["network"] if "network" in rows[0] else [])]
    table = _table("", *names, keys=1 + len(names))
    _add_splits(table, outcome)
    for row in rows:
        named = [row["network"]] if "network" in row else []
        table.add_row("", row["method"], *named, *_figures(row))
    return table


def _mark(row: Mapping[str, Any]) -> str:
    notes = row.get("note", "").split(", ")
    return "▸" if _SELECTED in notes else "○" if _REFERENCE in notes else ""


def _objective(row: Mapping[str, Any], objective: str, alpha: str) -> str:
    name, amount = row.get(objective), row.get(alpha)
    if name == _NO_TEACHER:
        return name
    place = -1 if name is None else objective_names().index(name)
    return objective_name(place, np.nan if amount is None else amount)


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


def _figures(row: Mapping[str, Any]) -> Iterator[str]:
    return (cell.text("±") for cell in row.values() if isinstance(cell, Accuracy))


def _setting(outcome: Outcome, width: int) -> Text:
    """Return a text on the data set, the networks, the seeds and the rule."""
    setting, selection = outcome.setting, outcome.selection
    seeds = int(selection.combinations.seeds[selection.selected])
    objective, least = selection.criterion.words(
        selection.seen, selection.reference, selection.selected
    )
    raw = selection.seen.estimated is None or outcome.measured is not None
    rule = f"best {'validation' if raw else 'estimated'} {objective} of "
    rule += selection.combinations.count + (f", at {least}" if least else "")
    indent = " " * 6
    return Text(
        f"{indent}{setting.dataset}, {setting.architectures}, "
        f"{plural(seeds, 'seed')}\n"
        + textwrap.fill(rule, min(78, width), initial_indent=indent, subsequent_indent=indent),
        style="dim",
    )


def _sure(outcome: Outcome, width: int) -> list[Text]:
    """Return lines on the expected accuracies and the probability of being the best."""
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
        lines.append(Text(f"  {objective} on other images {expected_objective(outcome)}"))
    optimism = f"{gap(outcome, sure.optimism)} {side(outcome)} the expected {objective}"
    lines.append(Text(f"Validation is {optimism}"))
    if selection.feasible:
        chance = f"{sure.probability_best[best]:.0%} probability of being the best"
        regret = f"expected shortfall in {objective} {gap(outcome, sure.expected_regret)}"
        line = Text(f"{chance}; {regret}")
        lines += [line] if line.cell_len <= width else [Text(f"{chance};"), Text(f"  {regret}")]
    return lines


def _pair(label: str, first: Text, second: Text, width: int) -> list[Text]:
    """Return a label and two figures on one line, or on separate lines on a narrow console."""
    line = Text.assemble("  ", label, first, second)
    if line.cell_len <= width:
        return [line]
    blanks = second.cell_len - len(second.plain.lstrip(" "))
    return [Text(f"  {label}"), Text("    ") + first, Text("    ") + second[blanks:]]


def _within(estimate: Interval) -> str:
    return f"{percent(estimate.value)} ({interval(estimate.low, estimate.high)})"


def _change(before: float, after: float) -> Text:
    """Return a change such as ``86.4 → 90.4 (+4.0)``, with the gain colored by its sign."""
    shown = difference(after, before)
    style = "green" if shown[0] == "+" else "red" if shown[0] == "−" else ""
    shown = shown if style else f"±{shown}"
    return Text(f"{percent(before)} → {percent(after)} (").append(shown, style).append(")")


def _gain(row: Mapping[str, Any]) -> str:
    low, high = row["worst_k_gain_low"], row["worst_k_gain_high"]
    return "" if low == high else " ".join(decimal(100 * end, 1, "+") for end in (low, high))


def _legend(outcome: Outcome, width: int) -> list[str]:
    c = outcome.selection.combinations
    alone = "   — the teacher alone" if len(outcome.teachers.combinations) else ""
    lines = ["", f"▸ selected on validation   ○ standard distillation{alone}"]
    if np.isin((c.alpha_t, c.alpha_s), (0, 1)).any():
        lines.append("α 0 is the balanced objective, α 1 the robust one")
    beside = outcome.undistilled
    shown = [c.shift[outcome.selection.selected]]
    shown += [] if beside is None else [beside.combinations.shift[beside.best]]
    if np.isfinite(shown).any():
        lines.append("† with its logits shifted; the shift is fitted to validation")
        lines.append("validation of shifted students: each half by the shift fitted to the other")
    if of_long_tail(outcome.setting.train_counts):
        lines += textwrap.wrap(f"{DEFINITION}; mean recall of each", min(79, width))
    if outcome.uncertainty is not None:
        lines.append(f"gain on ○, {CONFIDENCE:.0%} interval, estimated from all combinations")
        lines.append("other images: accuracies on further images, estimated from validation")
        lines.append("such a test set: predicted for one with as many images of each class")
        lines.append("test by itself: as measured, with intervals from the test counts alone")
    if int(c.seeds.max()) > 1:
        lines.append("percent, ± one standard error over seeds")
    if c.tuned.null_count < len(c):
        lines.append("* trained with its own recipe, see selection.json")
    return lines + [
        f"{name} is fitted to validation: compare it on test" for name in outcome.fitted
    ]


def _lacking(outcome: Outcome) -> list[str]:
    """Return a line on combinations that lack some seeds."""
    c = outcome.selection.combinations
    short = int((c.seeds < c.seeds.max()).sum())
    text = f"{short} of {len(c)} combinations lack some seeds: means over the seeds they have"
    return [text] if short else []
