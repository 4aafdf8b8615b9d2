"""The short table that is printed after a sweep: first what to ship, then why."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.columns import FloatArray
from analysis.combinations import Combinations, Means
from analysis.outcome import Outcome, objective_name
from analysis.selection import best_first, effective_alpha

__all__ = ["headline", "main_table", "nine_combinations", "print_outcome"]

_PAPERS = (-1.0, 0.0, 1.0)
"""Standard, balanced and robust, as ``effective_alpha`` gives them."""


def print_outcome(outcome: Outcome, console: Console, notes: Iterable[str] = ()) -> None:
    """Print what to ship, the table, and one line for each thing that was left out."""
    console.print()
    for line in headline(outcome):
        console.print(line, highlight=False)
    console.print()
    console.print(main_table(outcome))
    for remark in (*_legend(outcome), *notes):
        console.print(Text(remark, style="dim"), highlight=False)


def headline(outcome: Outcome) -> list[Text]:
    """What to ship, in words, and what it gains on standard distillation, in points."""
    selection = outcome.selection
    c, means = selection.combinations, selection.means
    best, plain = selection.selected, selection.reference
    teacher = objective_name(int(c.teacher_objective[best]), c.alpha_t[best], "α_t")
    student = objective_name(int(c.student_objective[best]), c.alpha_s[best], "α_s")
    ship = f"teacher {teacher}, student {student}, T {c.temperature[best]:g}"
    lines = [Text.assemble(("Ship  ", "bold green"), (ship, "bold")), _setting(outcome), Text()]
    if not selection.feasible:
        warning = "No combination keeps the average accuracy asked for; this one has the highest."
        lines.append(Text(warning, "yellow"))
    if best == plain:
        verdict = "That is standard distillation: nothing else does better at the average it has."
        return [*lines, Text(verdict)]
    lines.append(Text("Against standard distillation (percent, and points gained):"))
    for split, m in (("validation", means), ("test", outcome.test)):
        line = Text(f"  {split:<12}{outcome.worst_name} ")
        line.append_text(_change(m.worst_k, best, plain)).append("   average ")
        lines.append(line.append_text(_change(m.average, best, plain)))
    return lines


def main_table(outcome: Outcome) -> Table:
    """Standard distillation, the papers' nine combinations, the selected one, the teachers."""
    selection, teachers = outcome.selection, outcome.teachers
    c = selection.combinations
    uneven = int(c.seeds.min()) < int(c.seeds.max())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("\n", width=1)
    table.add_column("\nteacher")
    table.add_column("\nstudent")
    table.add_column("\nT", justify="right")
    if uneven:
        table.add_column("\nseeds", justify="right")
    for split in ("validation", "test"):
        table.add_column(f"{split}\n{outcome.worst_name}", justify="right")
        table.add_column("\naverage", justify="right")

    def add(rows: Combinations, index: int, figures: list[Means], mark: str, style: str) -> None:
        temperature = rows.temperature[index]
        table.add_row(
            mark,
            objective_name(int(rows.teacher_objective[index]), rows.alpha_t[index]),
            objective_name(int(rows.student_objective[index]), rows.alpha_s[index]),
            "" if np.isnan(temperature) else f"{temperature:g}",
            *([str(rows.seeds[index])] if uneven else []),
            *(
                _percent(values[index], errors[index] if rows.seeds[index] > 1 else np.nan)
                for m in figures
                for values, errors in ((m.worst_k, m.worst_k_se), (m.average, m.average_se))
            ),
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


def nine_combinations(outcome: Outcome) -> list[int]:
    """The papers' combinations of standard, balanced and robust, as far as they were trained.

    Each is at its best temperature by validation worst-k accuracy. Balanced is the trade-off at
    alpha 0, and robust that at alpha 1, however the objective was named.
    """
    selection = outcome.selection
    c, means = selection.combinations, selection.means
    teacher = effective_alpha(c.teacher_objective, c.alpha_t)
    student = effective_alpha(c.student_objective, c.alpha_s)
    found = []
    for alpha_t in _PAPERS:
        for alpha_s in _PAPERS:
            cell = (teacher == alpha_t) & (student == alpha_s)
            if cell.any():
                found.append(best_first(c, means, means.worst_k, cell))
    return found


def _setting(outcome: Outcome) -> Text:
    """What was compared, and by what rule."""
    setting, selection = outcome.setting, outcome.selection
    seeds = int(selection.combinations.seeds[selection.selected])
    least = selection.means.average[selection.reference] - selection.margin[selection.selected]
    return Text(
        f"      {setting.dataset}, {setting.architectures}, "
        f"{seeds} seed{'' if seeds == 1 else 's'}\n"
        f"      best validation {outcome.worst_name} accuracy of {len(selection.combinations)} "
        f"combinations, at an\n      average of {100 * least:.1f} or more (standard distillation's "
        f"less {100 * selection.margin[selection.selected]:.1f})",
        style="dim",
    )


def _change(values: FloatArray, index: int, reference: int) -> Text:
    """``86.4 → 90.4 (+4.0)``, the gain colored by its sign."""
    points = 100 * (values[index] - values[reference])
    shown = f"{points:+.1f}".replace("-", "−")
    style = "green" if points > 0 else "red"
    if shown in ("+0.0", "−0.0"):
        shown, style = "±0.0", ""
    line = Text(f"{100 * values[reference]:.1f} → {100 * values[index]:.1f} (")
    return line.append(shown, style).append(")")


def _percent(value: float, error: float) -> str:
    shown = f"{100 * value:.1f}"
    return shown if np.isnan(error) else f"{shown}±{100 * error:.1f}"


def _legend(outcome: Outcome) -> list[str]:
    c = outcome.selection.combinations
    most, least = int(c.seeds.max()), int(c.seeds.min())
    alone = "   — the teacher alone" if len(outcome.teachers.combinations) else ""
    lines = ["", f"▸ selected on validation   ○ standard distillation{alone}"]
    if np.isin((c.alpha_t, c.alpha_s), (0, 1)).any():
        lines.append("α 0 is the balanced objective, α 1 the robust one")
    if most > 1:
        lines.append("percent, ± one standard error over seeds")
    if least < most:
        short = int((c.seeds < most).sum())
        lines.append(
            f"{short} of {len(c)} combinations lack some seeds: means over those they have"
        )
    return lines
