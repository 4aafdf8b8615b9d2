"""The tables of a report as plain data, from which CSV, LaTeX and Markdown are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.runs.columns import FloatArray, objective_names
from analysis.runs.combinations import Combinations, HeldOut, Means
from analysis.runs.groups import accuracies, of_long_tail
from analysis.runs.loading import Runs
from analysis.selection.outcome import Outcome
from analysis.views.terminal import nine_combinations
from rkd_core.metrics import recalls
from rkd_core.metrics.class_groups import DEFINITION

__all__ = ["Accuracy", "Cell", "Column", "Sheet", "sheets"]


@dataclass(frozen=True)
class Accuracy:
    """A fraction, with its standard error over seeds; NaN where it is not known."""

    mean: float
    error: float = np.nan


Cell = str | int | float | Accuracy | None


@dataclass(frozen=True)
class Column:
    """A column: what it is called in a file for programs, and what people read."""

    key: str
    heading: str
    group: str = ""
    """Stands over the headings of neighbours that share it."""
    accuracy: bool = False
    shown: bool = True
    """Whether it is for people too."""


@dataclass(frozen=True)
class Sheet:
    """A table; ``name`` is what its files are called."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


_SPLITS = (("val", "validation"), ("test", "test"))
_TEACHER = (Column("teacher_objective", "teacher"), Column("alpha_t", "α_t"))
_STUDENT = (
    Column("student_objective", "student"),
    Column("alpha_s", "α_s"),
    Column("temperature", "T"),
)
_SEEDS = Column("seeds", "seeds")
_ENDS = (Column("note", ""), Column("run_ids", "runs", shown=False))


def sheets(runs: Runs, outcome: Outcome) -> list[Sheet]:
    """Every table there is something for.

    Args:
        runs: What the outcome is of.
        outcome: The selection, with what may be looked at once it is made.
    """
    worst_k = outcome.selection.criterion.worst_k
    c = outcome.selection.combinations
    val, test = c.means(worst_k), outcome.test
    admitted = ["yes" if a else "no" for a in outcome.selection.admitted]
    students = [
        (
            *_objective(int(c.teacher_objective[i]), c.alpha_t[i]),
            *_objective(int(c.student_objective[i]), c.alpha_s[i]),
            _number(c.temperature[i]),
            c.tuned[i].as_py() or "",
            int(c.seeds[i]),
            *_figures(c, i, val, test),
            admitted[i],
            _note(outcome, i),
            " ".join(c.run_ids(i)),
        )
        for i in range(len(c))
    ]
    columns = (
        *_TEACHER,
        *_STUDENT,
        Column("tuned", "recipe of its own", shown=c.tuned.null_count < len(c)),
        _SEEDS,
        *_splits(outcome),
        Column("admitted", "admitted", shown=False),
        *_ENDS,
    )
    title = f"{outcome.setting.dataset}, {outcome.setting.architectures}"
    nine = nine_combinations(outcome)
    ends = [i for i in (outcome.selection.reference, outcome.selection.selected) if i not in nine]
    found = [
        Sheet("combinations", f"Every combination: {title}", columns, tuple(students)),
        Sheet(
            "nine_combinations",
            f"Standard, balanced and robust, and the selected combination: {title}",
            columns,
            tuple(students[i] for i in dict.fromkeys((*nine, *ends))),
        ),
        _teachers(outcome, title),
        _methods(outcome, title),
        _classes(runs, outcome, title),
        _groups(outcome, title),
    ]
    return [sheet for sheet in found if sheet.rows]


def _teachers(outcome: Outcome, title: str) -> Sheet:
    beside = outcome.teachers
    c = beside.combinations
    rows = tuple(
        (
            *_objective(int(c.teacher_objective[i]), c.alpha_t[i]),
            int(c.seeds[i]),
            *_figures(c, i, beside.val, beside.test),
            " ".join(c.run_ids(i)),
        )
        for i in range(len(c))
    )
    columns = (*_TEACHER, _SEEDS, *_splits(outcome), _ENDS[1])
    return Sheet("teachers", f"Teachers: {title}", columns, rows)


def _methods(outcome: Outcome, title: str) -> Sheet:
    beside = outcome.methods
    c = beside.combinations
    rows = tuple(
        (
            name,
            int(c.seeds[i]),
            *_figures(c, i, beside.val, beside.test),
            "fitted to validation" if name.split(" ")[0] in outcome.fitted else "",
            " ".join(c.run_ids(i)),
        )
        for i, name in enumerate(c.variant.to_pylist())
    )
    columns = (Column("method", "method"), _SEEDS, *_splits(outcome), *_ENDS)
    return Sheet("other_methods", f"Other methods: {title}", columns, rows)


def _classes(runs: Runs, outcome: Outcome, title: str) -> Sheet:
    """Per class: standard distillation, the selected combination, and its teacher."""
    selection = outcome.selection
    c, first = selection.combinations, selection.combinations.only(selection.selected)
    students = HeldOut.of(runs.students)
    shown = [
        ("standard", "standard distillation", c.only(selection.reference), students),
        ("selected", "selected", first, students),
    ]
    teacher = _teacher_of(outcome, first)
    if teacher is not None:
        shown.append(("teacher", "its teacher", teacher, HeldOut.of(runs.teachers)))
    names, counts = outcome.setting.class_names, outcome.setting.train_counts
    columns = [
        Column("class", "class"),
        Column("train_images", "images", "training"),
        Column("val_images", "images", "validation"),
        Column("test_images", "images", "test"),
    ]
    cells: list[Sequence[Cell]] = [
        names,
        [None] * len(names) if counts is None else counts,
        first.class_total[0].tolist(),
        students.counts(first)[1][0].tolist(),
    ]
    for key, heading, one, held_out in shown:
        for (split, name), (correct, total) in zip(
            _SPLITS, ((one.class_correct, one.class_total), held_out.counts(one)), strict=True
        ):
            columns.append(Column(f"{key}_{split}", name, heading, True))
            cells.append(_over_seeds(recalls(correct, total)))
    caption = f"Accuracy of each class: {title}"
    return Sheet("classes", caption, tuple(columns), tuple(zip(*cells, strict=True)))


def _teacher_of(outcome: Outcome, student: Combinations) -> Combinations | None:
    teachers = outcome.teachers.combinations
    for i in range(len(teachers)):
        if set(student.teacher_id.to_pylist()) <= set(teachers.run_ids(i)):
            return teachers.only(i)
    return None


def _groups(outcome: Outcome, title: str) -> Sheet:
    selection = outcome.selection
    columns = [
        Column("group", "group"),
        Column("classes", "classes"),
        *(
            Column(f"{key}_{split}", heading, over, True)
            for key, over in (("standard", "standard distillation"), ("selected", "selected"))
            for split, heading in _SPLITS
        ),
    ]
    rows: list[tuple[Cell, ...]] = []
    groups = of_long_tail(outcome.setting.train_counts)
    if groups:
        both = [selection.combinations.only(i) for i in (selection.reference, selection.selected)]
        found = [
            accuracies(r, groups)
            for one in both
            for r in (one.mean_recalls(), outcome.held_out.mean_recalls(one))
        ]
        rows = [
            (name, len(labels), *(Accuracy(each[name]) for each in found))
            for name, labels in groups.items()
        ]
    caption = f"Mean accuracy of the classes of each group ({DEFINITION}): {title}"
    return Sheet("groups", caption, tuple(columns), tuple(rows))


def _splits(outcome: Outcome) -> Iterator[Column]:
    worst = outcome.worst_name
    for split, group in _SPLITS:
        yield Column(f"{split}_{worst.replace('-', '_')}_accuracy", worst, group, True)
        yield Column(f"{split}_average_accuracy", "average", group, True)


def _figures(c: Combinations, index: int, *splits: Means) -> Iterator[Accuracy]:
    """Worst-k and average accuracy; their errors are over seeds, so one seed has none."""
    for m in splits:
        for mean, error in ((m.worst_k, m.worst_k_se), (m.average, m.average_se)):
            known = error[index] if c.seeds[index] > 1 else np.nan
            yield Accuracy(float(mean[index]), float(known))


def _over_seeds(values: FloatArray) -> list[Accuracy]:
    """Mean and standard error of each class over the runs ``(runs, classes)`` that have it."""
    found = []
    for column in values.T:
        own = column[np.isfinite(column)]
        mean = float(own.mean()) if own.size else np.nan
        error = float(own.std(ddof=1) / np.sqrt(own.size)) if own.size > 1 else np.nan
        found.append(Accuracy(mean, error))
    return found


def _objective(place: int, alpha: float) -> tuple[str | None, float | None]:
    return (None if place < 0 else objective_names()[place]), _number(alpha)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _note(outcome: Outcome, index: int) -> str:
    selection = outcome.selection
    notes = [(selection.selected, "selected"), (selection.reference, "standard distillation")]
    return ", ".join(note for place, note in notes if place == index)
