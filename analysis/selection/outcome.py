"""Outcome of a selection: test figures, teachers and other methods to show beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.class_lists import distinct
from analysis.runs.columns import objective_names
from analysis.runs.combinations import Combinations, HeldOut, Means, combine
from analysis.runs.loading import WITHOUT_TEACHER, Runs
from analysis.runs.networks import Network, networks_of
from analysis.runs.outcomes import with_outcomes
from analysis.selection import Selection
from analysis.selection.by_metric import ByMetric, with_scores
from analysis.selection.criteria import Criterion
from analysis.selection.intervals import (
    Interval,
    Prospect,
    average_interval,
    interval,
    worst_k_interval,
)
from analysis.selection.measured import Measured, by_class_and_group, measured
from analysis.selection.sizes import BestOfNetwork, best_per_network
from analysis.selection.uncertainty import Estimate, Uncertainty, decide
from analysis.selection.undistilled import Undistilled, undistilled
from rkd_core.errors import UserError

__all__ = [
    "Beside",
    "Interval",
    "Outcome",
    "Prospect",
    "Prospects",
    "Setting",
    "assess",
    "class_names",
    "combination_name",
    "letters",
    "method_names",
    "objective_name",
]


@dataclass(frozen=True)
class Setting:
    """Data set, networks and classes that all runs share, for titles and captions."""

    dataset: str
    teacher_architecture: str | None
    """Network of the teachers; None if no teacher has a record."""
    student_architecture: str
    """Network of the selected student."""
    student_architectures: tuple[str, ...]
    """Networks of all students, the smallest first."""
    class_names: tuple[str, ...]
    """Distinct names in label order."""
    train_counts: tuple[int, ...] | None
    """Training images per class; None if the records lack them."""
    family: str
    teacher_parameters: int | None = None
    """Number of parameters of a teacher, and of a student; None if the records lack it."""
    student_parameters: int | None = None

    @property
    def architectures(self) -> str:
        """Teacher → students, as far as known."""
        names = (self.teacher_architecture, ", ".join(self.student_architectures))
        return " → ".join(name for name in names if name)


@dataclass(frozen=True, eq=False)
class Beside:
    """Models that are shown beside the candidates and never selected, with their accuracies."""

    combinations: Combinations
    val: Means
    test: Means
    held_out: HeldOut


@dataclass(frozen=True)
class Prospects:
    """Accuracies of the selected combination: on further images, on a test set, and as tested."""

    other_images: Prospect | None
    """Accuracies on further images, estimated from validation; None without an estimate."""
    such_a_test: Prospect | None
    """Predictions for a test set with as many images of each class, from validation."""
    test_alone: Prospect
    """Test figures as counted, with intervals of the true accuracies from those counts alone."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Content of the printed tables, the figure, the report and the selection file."""

    selection: Selection
    held_out: HeldOut
    test: Means
    """Test accuracies of the combinations, at the criterion's ``worst_k``."""
    teachers: Beside
    """The teachers alone, one row per objective."""
    methods: Beside
    """Students of other methods, one row for each of their variants."""
    undistilled: Undistilled | None
    """The best student without a teacher, compared with the selected one; None without one."""
    fitted: tuple[str, ...]
    """Methods among them that are fitted to validation without training."""
    setting: Setting
    uncertainty: Uncertainty | None
    """Uncertainty of the selection; None if it cannot be computed."""
    unsaid: str
    """Reason for a missing uncertainty, on one line; empty otherwise."""
    unpaired: str
    """Reason for an uncertainty without predictions, such as missing ones; empty otherwise."""
    prospects: Prospects
    best_per_network: tuple[BestOfNetwork, ...]
    """The best student of each network, the smallest network first."""
    measured: Measured | None = None
    """Figures by the metric of the rule; None if the rule uses accuracies only."""
    by_class_and_group: Measured | None = None
    """Accuracy of each class in each group of images; None if the rule uses no such groups."""

    @property
    def subject(self) -> str:
        """Student that the expected accuracies describe."""
        sure = self.uncertainty
        one = sure is None or np.isnan(sure.shared)
        return "this trained student" if one else "a student of another seed"

    @property
    def worst_title(self) -> str:
        """``Worst class``, or ``Worst 2 classes`` with its number."""
        k = self.selection.criterion.worst_k
        return "Worst class" if k == 1 else f"Worst {k} classes"

    @property
    def worst_name(self) -> str:
        """``worst-class`` or ``worst-k`` with its number."""
        k = self.selection.criterion.worst_k
        return "worst-class" if k == 1 else f"worst-{k}"


def assess(
    runs: Runs, criterion: Criterion | None = None, estimate: Estimate = "shrunk"
) -> Outcome:
    """Select on validation, then attach the test figures and the teachers.

    Raises:
        UserError: As in ``combine`` and ``select``, or validation and test have different classes.
    """
    candidates, unpaired = combine(runs.candidates), ""
    if estimate != "counts":
        candidates, unpaired = with_outcomes(candidates, runs)
    if isinstance(criterion, ByMetric):
        candidates = with_scores(candidates, runs, criterion)
    selection, uncertainty, unsaid = decide(candidates, criterion, estimate)
    worst_k = selection.criterion.worst_k
    tables = [runs.students, runs.variants, *([runs.shifted] if runs.shifted is not None else [])]
    held_out = HeldOut.of(pa.concat_tables(tables, promote_options="default"))
    classes = selection.combinations.class_total.shape[1], held_out.class_total.shape[1]
    if classes[0] != classes[1]:
        raise UserError(
            f"record {held_out.key[0]} has {classes[0]} classes in val_class_total and "
            f"{classes[1]} in test_class_total"
        )
    test = held_out.means(selection.combinations, worst_k)
    networks = networks_of(runs)
    return Outcome(
        selection=selection,
        held_out=held_out,
        test=test,
        teachers=_beside(runs.teachers, worst_k),
        methods=_beside(runs.variants, worst_k),
        undistilled=undistilled(runs, held_out, selection),
        fitted=_fitted(runs.variants),
        setting=_setting(runs, selection, networks),
        uncertainty=uncertainty,
        unsaid=unsaid,
        unpaired=unpaired,
        prospects=_prospects(selection, test, held_out, uncertainty),
        measured=measured(runs, selection, class_names(runs)),
        by_class_and_group=by_class_and_group(runs, selection, class_names(runs)),
        best_per_network=best_per_network(selection, networks),
    )


def _prospects(
    selection: Selection, test: Means, held_out: HeldOut, sure: Uncertainty | None
) -> Prospects:
    worst_k, best = selection.criterion.worst_k, selection.selected
    correct, total = held_out.counts(selection.combinations.only(best))
    alone = Prospect(
        Interval.of(test.worst_k[best], worst_k_interval(correct, total, worst_k)),
        Interval.of(test.average[best], average_interval(correct, total)),
    )
    if sure is None:
        return Prospects(None, None, alone)
    expected = Prospect(
        Interval.of(sure.expected.worst_k[best], sure.worst_k_interval[:, best]),
        Interval.of(sure.expected.average[best], sure.average_interval[:, best]),
    )
    counted = sure.outlook.counted(total[0], len(total), worst_k)
    if np.isnan(counted[0]).any():  # a class without validation images has no estimate
        return Prospects(expected, None, alone)
    such = (Interval.of(float(draws.mean()), interval(draws)) for draws in counted)
    return Prospects(expected, Prospect(*such), alone)


def _fitted(variants: pa.Table) -> tuple[str, ...]:
    untrained = variants.filter(pc.equal(variants["epochs"], 0))
    return tuple(sorted(set(untrained["method"].to_pylist())))


def _beside(table: pa.Table, worst_k: int) -> Beside:
    rows = combine(table)
    held_out = HeldOut.of(table)
    return Beside(rows, rows.means(worst_k), held_out.means(rows, worst_k), held_out)


def objective_name(objective: int, alpha: float, symbol: str = "α") -> str:
    """Return the alpha of a trade-off, the name of another objective, or a dash for none."""
    if objective < 0:
        return "—"
    return objective_names()[objective] if np.isnan(alpha) else f"{symbol} {alpha:.3g}"


def combination_name(c: Combinations, index: int) -> str:
    """Return a name such as ``α_t = 0.5, robust student, T = 3, shifted 0.5``.

    Of a student without a teacher, it has the objective only.
    """
    teacher = _role(int(c.teacher_objective[index]), c.alpha_t[index], "α_t", "teacher")
    student = _role(int(c.student_objective[index]), c.alpha_s[index], "α_s", "student")
    if c.teacher_objective[index] < 0:
        return f"{student}{c.aside(index)}"
    return f"{teacher}, {student}, T = {c.temperature[index]:g}{c.aside(index)}"


def _role(objective: int, alpha: float, symbol: str, role: str) -> str:
    if np.isnan(alpha):
        return f"{objective_name(objective, alpha)} {role}"
    return f"{symbol} = {alpha:.3g}"


def letters(outcome: Outcome) -> dict[int, tuple[str, str]]:
    """Return the letters that mark other methods in figures, and the method names, by index.

    Only the variant of each method with the best validation worst-k accuracy has a letter. Students
    without a teacher have none.
    """
    means = outcome.methods.val
    names = [name.partition(" ")[0] for name in method_names(outcome.methods.combinations)]
    order = np.lexsort((-means.average, -means.worst_k)).tolist()
    best = {names[place]: place for place in reversed(order)}
    best.pop(WITHOUT_TEACHER, None)
    return {best[name]: (_letter(k), name) for k, name in enumerate(sorted(best))}


def method_names(c: Combinations) -> list[str]:
    """Return the methods with their options, and the objective if it is not standard."""
    return [
        f"{name} (alpha_s {alpha:g})" if np.isfinite(alpha) else name
        for name, alpha in zip(c.variant.to_pylist(), c.alpha_s.tolist(), strict=True)
    ]


def _letter(place: int) -> str:
    """Return a letter from a to z, then a number."""
    return chr(ord("a") + place) if place < 26 else str(place + 1)


def class_names(runs: Runs) -> tuple[str, ...]:
    """Return distinct names of the classes in label order, or their labels if any is missing."""
    student = runs.students.slice(0, 1).to_pylist()[0]
    names = student["class_names"] or []
    classes = len(student["val_class_total"] or names)
    if len(names) != classes or None in names:
        names = [str(label) for label in range(classes)]
    return distinct(names)


def _setting(runs: Runs, selection: Selection, networks: Mapping[str, Network]) -> Setting:
    run_id = selection.combinations.run_ids(selection.selected)[0]
    student = runs.students.filter(pc.equal(runs.students["run_id"], run_id)).to_pylist()[0]
    teacher = (runs.teachers.slice(0, 1).to_pylist() or [{}])[0]
    counts = student["train_class_total"] or []
    known = len(counts) == len(student["val_class_total"]) and None not in counts
    return Setting(
        dataset=str(student["dataset"]),
        teacher_architecture=teacher.get("architecture"),
        student_architecture=str(student["architecture"]),
        student_architectures=tuple(networks),
        class_names=class_names(runs),
        train_counts=tuple(counts) if known else None,
        family=str(student["family"]),
        teacher_parameters=teacher.get("parameters"),
        student_parameters=student["parameters"],
    )
