"""Tables of a selection as data, which the terminal, files and the report render."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from analysis.runs.columns import FloatArray, objective_names, positions
from analysis.runs.combinations import Combinations, HeldOut, Means
from analysis.runs.groups import accuracies, images, of_long_tail
from analysis.runs.loading import Runs
from analysis.selection.choose import best_first
from analysis.selection.measured import Measured
from analysis.selection.outcome import Outcome
from rkd_core.metrics import recalls
from rkd_core.metrics.class_groups import DEFINITION
from rkd_core.objectives import position
from rkd_core.text.numbers import with_error

__all__ = [
    "NINE",
    "Accuracy",
    "Cell",
    "Column",
    "Sheet",
    "combinations",
    "groups",
    "methods",
    "nine",
    "nine_combinations",
    "sheets",
    "teacher_of",
    "teachers",
    "undistilled",
]

NINE = {name: position(name) for name in ("standard", "balanced", "robust")}
"""Positions of the papers' objectives on the axis of trade-offs."""


@dataclass(frozen=True)
class Accuracy:
    """An accuracy as a fraction, with its standard error over seeds; NaN if unknown."""

    mean: float
    error: float = np.nan

    def text(self, sign: str = " ± ") -> str:
        """Return the accuracy in percent, with its error if known."""
        return with_error(self.mean, self.error, sign)


Cell = str | int | float | Accuracy | None


@dataclass(frozen=True)
class Column:
    """A column with its name in CSV files and its heading elsewhere."""

    key: str
    heading: str
    group: str = ""
    """Heading above those of neighboring columns that share it."""
    accuracy: bool = False
    shown: bool = True
    """Whether LaTeX and Markdown files include the column."""


@dataclass(frozen=True)
class Sheet:
    """A table, written to files called ``name``."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def by_key(self) -> list[dict[str, Any]]:
        """Return each row as a dictionary of its cells by column key."""
        keys = [column.key for column in self.columns]
        return [dict(zip(keys, row, strict=True)) for row in self.rows]


_SPLITS = (("val", "validation"), ("test", "test"))
_TEACHER = (Column("teacher_objective", "teacher"), Column("alpha_t", "α_t"))
_STUDENT = (
    Column("student_objective", "student"),
    Column("alpha_s", "α_s"),
    Column("temperature", "T"),
)
_SEEDS = Column("seeds", "seeds")
_NETWORK = Column("network", "network")
_GAINS = tuple(
    Column(f"worst_k_gain_{end}", f"gain, {end}", shown=False) for end in ("low", "high")
)
_ENDS = (Column("note", ""), Column("run_ids", "runs", shown=False))


def sheets(runs: Runs, outcome: Outcome) -> list[Sheet]:
    """Return every table that has rows.

    Args:
        runs: Runs that the outcome describes.
        outcome: The selection, with its test figures.
    """
    whole = combinations(outcome)
    found = [
        whole,
        nine(outcome, whole),
        teachers(outcome),
        undistilled(outcome),
        methods(outcome),
        _classes(runs, outcome),
        groups(outcome),
        _measured("metric", outcome.measured, outcome),
        _measured("classes_and_groups", outcome.by_class_and_group, outcome),
    ]
    return [sheet for sheet in found if sheet.rows]


def combinations(outcome: Outcome) -> Sheet:
    """Return the accuracies of every combination."""
    selection, sure = outcome.selection, outcome.uncertainty
    c = selection.combinations
    splits = c.means(selection.criterion.worst_k), outcome.test
    gains = np.full((2, len(c)), np.nan) if sure is None else sure.worst_k_gain
    several = len(c.networks) > 1
    rows = tuple(
        (
            *([str(c.network[i])] if several else []),
            *_objective(int(c.teacher_objective[i]), c.alpha_t[i]),
            *_objective(int(c.student_objective[i]), c.alpha_s[i]),
            _number(c.temperature[i]),
            _number(c.shift[i]),
            c.tuned[i].as_py() or "",
            int(c.seeds[i]),
            *_figures(c, i, *splits),
            *(_number(end) for end in gains[:, i]),
            "yes" if selection.admitted[i] else "no",
            _note(outcome, i),
            " ".join(c.run_ids(i)),
        )
        for i in range(len(c))
    )
    columns = (
        *([_NETWORK] if several else []),
        *_TEACHER,
        *_STUDENT,
        Column("shift", "shifted", shown=not c.unshifted.all()),
        Column("tuned", "recipe of its own", shown=c.tuned.null_count < len(c)),
        _SEEDS,
        *_splits(outcome),
        *_GAINS,
        Column("admitted", "admitted", shown=False),
        *_ENDS,
    )
    return Sheet("combinations", f"Every combination: {_title(outcome)}", columns, rows)


def nine(outcome: Outcome, whole: Sheet) -> Sheet:
    """Return the rows of the papers' nine combinations, the reference and the selected one.

    Args:
        outcome: The selection.
        whole: The table of all combinations.
    """
    ends = outcome.selection.reference, outcome.selection.selected
    places = dict.fromkeys((*nine_combinations(outcome).values(), *ends))
    caption = f"Standard, balanced and robust, and the selected combination: {_title(outcome)}"
    return Sheet("nine_combinations", caption, whole.columns, tuple(whole.rows[i] for i in places))


def nine_combinations(outcome: Outcome) -> dict[tuple[str, str], int]:
    """Return the trained combinations of standard, balanced and robust, by teacher and student.

    They have the network of the selected combination.
    Each has its best temperature by the worst-k accuracy that the selection uses. Balanced is the
    trade-off at alpha 0, and robust that at alpha 1, whatever the name of the objective.
    """
    selection = outcome.selection
    c, means = selection.combinations, selection.seen.means
    teacher = positions(c.teacher_objective, c.alpha_t)
    student = positions(c.student_objective, c.alpha_s)
    own = c.of_network(c.network[selection.selected].as_py())
    found = {}
    for (of_teacher, alpha_t), (of_student, alpha_s) in product(NINE.items(), NINE.items()):
        cell = (teacher == alpha_t) & (student == alpha_s) & c.unshifted & own
        if cell.any():
            found[of_teacher, of_student] = best_first(c, means, means.worst_k, cell)
    return found


def teacher_of(outcome: Outcome, index: int) -> int | None:
    """Return the index of a combination's teacher among the teachers; None without its record."""
    c, alone = outcome.selection.combinations, outcome.teachers.combinations
    ids = set(c.teacher_id[c.runs(index)].to_pylist())
    return next((place for place in range(len(alone)) if ids & set(alone.run_ids(place))), None)


def _title(outcome: Outcome) -> str:
    return f"{outcome.setting.dataset}, {outcome.setting.architectures}"


def teachers(outcome: Outcome) -> Sheet:
    """Return the accuracies of the teachers, a row for each objective."""
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
    return Sheet("teachers", f"Teachers: {_title(outcome)}", columns, rows)


def undistilled(outcome: Outcome) -> Sheet:
    """Return the accuracies of students without a teacher, a row for each objective."""
    beside, rows = outcome.undistilled, []
    if beside is not None:
        c, ends = beside.combinations, beside.gain_on_standard
        for i in range(len(c)):
            gain = ends if i == beside.best and ends is not None else (np.nan, np.nan)
            rows.append(
                (
                    *_objective(int(c.student_objective[i]), c.alpha_s[i]),
                    _number(c.shift[i]),
                    int(c.seeds[i]),
                    *_figures(c, i, beside.val, beside.test),
                    *(_number(end) for end in gain),
                    "best" if i == beside.best else "",
                    " ".join(c.run_ids(i)),
                )
            )
    shown = beside is not None and not beside.combinations.unshifted.all()
    shift = Column("shift", "shifted", shown=shown)
    columns = (*_STUDENT[:2], shift, _SEEDS, *_splits(outcome), *_GAINS, *_ENDS)
    return Sheet("without_teacher", f"No teacher: {_title(outcome)}", columns, tuple(rows))


def methods(outcome: Outcome) -> Sheet:
    """Return the accuracies of students of other methods, a row for each variant."""
    beside = outcome.methods
    c = beside.combinations
    several = len(c.networks) > 1
    rows = tuple(
        (
            name,
            *([c.network[i].as_py() or "that of its teacher"] if several else []),
            int(c.seeds[i]),
            *_figures(c, i, beside.val, beside.test),
            "fitted to validation" if name.split(" ")[0] in outcome.fitted else "",
            " ".join(c.run_ids(i)),
        )
        for i, name in enumerate(c.variant.to_pylist())
        if c.student_objective[i] < 0  # others are students without a teacher
    )
    network = [_NETWORK] if several else []
    columns = (Column("method", "method"), *network, _SEEDS, *_splits(outcome), *_ENDS)
    return Sheet("other_methods", f"Other methods: {_title(outcome)}", columns, rows)


def _classes(runs: Runs, outcome: Outcome) -> Sheet:
    """Return the accuracies of each class: reference, selected student, and its teacher."""
    selection = outcome.selection
    c, first = selection.combinations, selection.combinations.only(selection.selected)
    students = outcome.held_out
    shown = [
        ("standard", "standard distillation", c.only(selection.reference), students),
        ("selected", "selected", first, students),
    ]
    place = teacher_of(outcome, selection.selected)
    if place is not None:
        teacher = outcome.teachers.combinations.only(place)
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
    caption = f"Accuracy of each class: {_title(outcome)}"
    return Sheet("classes", caption, tuple(columns), tuple(zip(*cells, strict=True)))


def groups(outcome: Outcome) -> Sheet:
    """Return the accuracies of head, medium and tail, for the reference and the selected student.

    There are no rows if the training set has no long tail or fewer than three classes, or if
    records lack its counts.
    """
    selection, train = outcome.selection, outcome.setting.train_counts
    columns = [
        Column("group", "group"),
        Column("classes", "classes"),
        Column("train_images", "training images"),
        *(
            Column(f"{key}_{split}", heading, over, True)
            for key, over in (("standard", "standard distillation"), ("selected", "selected"))
            for split, heading in _SPLITS
        ),
    ]
    both = [selection.combinations.only(i) for i in (selection.reference, selection.selected)]
    members = of_long_tail(train) if train is not None else {}
    found = [
        accuracies(r, members)
        for one in both
        for r in (one.mean_recalls(), outcome.held_out.mean_recalls(one))
    ]
    rows: list[tuple[Cell, ...]] = [
        (name, len(labels), images(train or (), labels), *(Accuracy(each[name]) for each in found))
        for name, labels in members.items()
    ]
    caption = f"Mean accuracy of the classes of each group ({DEFINITION}): {_title(outcome)}"
    return Sheet("groups", caption, tuple(columns), tuple(rows))


def _measured(name: str, found: Measured | None, outcome: Outcome) -> Sheet:
    """Return figures by the metric of the rule; no rows without them."""
    if found is None:
        return Sheet(name, "", (), ())
    columns, metric = [Column(found.kind, found.kind)], found.rule.figure
    cells: list[Sequence[Cell]] = [found.rows]
    for (split, group), own in zip(_SPLITS, (found.val, found.test), strict=True):
        columns.append(Column(f"images_{split}", "images", group))
        cells.append(own.images.tolist())
        for key, heading, values in (
            ("standard", "standard distillation", own.standard),
            ("selected", "selected", own.selected),
            ("selected_low", "selected, low", own.interval[0]),
            ("selected_high", "selected, high", own.interval[1]),
            ("gain_low", "difference, low", own.gain[0]),
            ("gain_high", "difference, high", own.gain[1]),
        ):
            columns.append(Column(f"{key}_{split}", heading, group, metric.fraction))
            cells.append([Accuracy(v) if metric.fraction else v for v in values.tolist()])
    lower = " (lower is better)" if metric.lower_is_better else ""
    caption = f"{metric.title}{lower} of each {found.kind}: {_title(outcome)}"
    return Sheet(name, caption, tuple(columns), tuple(zip(*cells, strict=True)))


def _splits(outcome: Outcome) -> Iterator[Column]:
    worst = outcome.worst_name
    for split, group in _SPLITS:
        yield Column(f"{split}_{worst.replace('-', '_')}_accuracy", worst, group, True)
        yield Column(f"{split}_average_accuracy", "average", group, True)


def _figures(c: Combinations, index: int, *splits: Means) -> Iterator[Accuracy]:
    """Yield worst-k and average accuracy, with standard errors where there are several seeds."""
    for m in splits:
        for mean, error in ((m.worst_k, m.worst_k_se), (m.average, m.average_se)):
            known = error[index] if c.seeds[index] > 1 else np.nan
            yield Accuracy(float(mean[index]), float(known))


def _over_seeds(values: FloatArray) -> list[Accuracy]:
    """Return mean and standard error of each class over runs, ``(runs, classes)``."""
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
