"""Printed summaries of a sweep: its plan, cost, failures and economy, and the registries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from rkd_core import datasets, methods, models, plugins
from rkd_core.datasets.readers.base import SPLIT_ADJECTIVES
from rkd_core.device.execution import Execution
from rkd_core.specs import recipes
from rkd_core.storage.files import Location
from rkd_core.teachers.table_or_live import TeacherPass, views_per_image
from rkd_core.text.console import hanging
from rkd_core.text.nouns import counted
from sweeps.cli.budget import Budget
from sweeps.cli.flags import as_flags
from sweeps.cli.method_names import DEFAULT
from sweeps.planning.cost import span
from sweeps.planning.packing import PerTrial
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.planning.settings import Settings
from sweeps.running.sweep import Failure
from sweeps.search.search import Search
from sweeps.search.strategies import describe

log = logging.getLogger(__name__)

__all__ = [
    "log_ways",
    "print_cost",
    "print_economy",
    "print_failures",
    "print_methods",
    "print_plan",
    "print_prediction_bytes",
    "print_registries",
    "print_search",
    "split_lines",
]


def print_failures(
    errors: Console, failures: Sequence[Failure], planned: int, log: Location
) -> None:
    """Print the first failures with their causes, and advice."""
    if not failures:
        return
    errors.print(f"{len(failures)} of {planned} trainings failed; the first of them:", style="red")
    for run, cause in failures[:5]:
        errors.print(f"  {run.label}: {cause}", markup=False, highlight=False)
    errors.print(
        f"See {log} for details. The same command retries them; if the cause is the training "
        "itself, change the options",
        markup=False,
        highlight=False,
    )


def print_search(console: Console, kind: str, budget: Budget) -> None:
    """Print that a search chooses the trainings."""
    console.print(f"Of these, {describe(kind)}, for {budget}", highlight=False)


def print_economy(
    console: Console, search: Search | None, pruned: Sequence[PlannedRun], students: int
) -> None:
    """Print the cost of a search, its next proposal, and the number of pruned students."""
    if search is not None:
        plan = search.plan
        line = (
            f"{counted(len(plan.teachers), 'teacher')} and "
            f"{counted(len(plan.students), 'student')}: {100 * search.cost:.0f}% of the grid's cost"
        )
        outlook = search.outlook()
        if outlook is not None:
            label, gain = outlook
            line += f". The next would be {label}, expected to add {100 * gain:.2f} points"
        console.print(f"{line}. A larger --budget continues from here", highlight=False)
    if pruned:
        console.print(
            f"{len(pruned)} of {counted(students, 'student')} pruned as hopeless; the same command "
            "without --prune continues them",
            highlight=False,
        )


def print_plan(console: Console, settings: Settings, dataset: datasets.Dataset, plan: Plan) -> None:
    """Print scale, networks, epochs, recipe and data."""
    skipped = dataset.skipped_images
    teaching, epochs = settings.teaching.epochs, counted(settings.recipe.epochs, "epoch")
    if teaching not in (0, settings.recipe.epochs):
        epochs = f"{teaching} and {epochs}"
    alone = sum(run.spec.teacher is None for run in plan.students)
    console.print(
        f"{dataset.name}, {settings.scale} scale: {counted(len(plan.teachers), 'teacher')} "
        f"({_teacher(settings)}) and "
        f"{counted(len(plan.students), 'student')} ({_students(settings, plan)}"
        f"{f', {alone} without a teacher' if alone else ''}), "
        f"{epochs} of {len(dataset.train):,} {dataset.noun}s each, recipe {settings.recipe_name}",
        highlight=False,
    )
    if settings.given_logits is not None:
        console.print(_views_of_given(settings, dataset), highlight=False)
    elif not settings.recipe.numbers_views and plan.students:
        console.print("Augmented images cannot be listed, so the teacher runs on every batch")
    if not settings.all_teachers and DEFAULT in settings.methods:
        console.print("The given weights are the standard teacher; alphas apply to students only")
    bad = f"; {counted(skipped, 'bad image')} skipped" if skipped else ""
    console.print(f"{dataset.classes} classes{bad}", highlight=False)
    for line in (*split_lines(dataset), *map(as_flags, dataset.provenance.remarks)):
        console.print(f"  {line}", markup=False, highlight=False)
    for line in dataset.decoding.statements():
        console.print(f"  {line}", markup=False, highlight=False)


def _teacher(settings: Settings) -> str:
    """Return the network of the teachers, and where it comes from if it is given."""
    if settings.given_logits is not None:
        return "given logits, shifted for other trade-offs"
    start = " from given weights" if settings.teaching.epochs else " as given, not trained"
    return settings.teacher_architecture + (start if settings.initial_weights else "")


def _students(settings: Settings, plan: Plan) -> str:
    """Return the networks of the students; if there are several, with their number of students."""
    given, names = settings.student_initial_weights, settings.student_architectures
    number = Counter(run.spec.architecture for run in plan.students)
    texts = [f"{name} from given weights" if name in given else name for name in names]
    if len(names) == 1:
        return texts[0]
    return ", ".join(f"{number[name]} {text}" for name, text in zip(names, texts, strict=True))


def _views_of_given(settings: Settings, dataset: datasets.Dataset) -> str:
    """Return a line that says whether students see the images that given logits belong to."""
    recipe = settings.recipe
    if recipe.views == 1 and recipe.numbers_views:
        return f"The given logits are for the {dataset.noun}s that students see: none is augmented"
    return (
        "The given logits are for images without augmentation, and students see augmented ones: "
        "teacher and student do not see the same view"
    )


_FEW = 10
"""Largest number of classes whose images are counted one by one."""


def split_lines(dataset: datasets.Dataset) -> list[str]:
    """Return a line for each split: its origin, and the number of images of each class."""
    lines = []
    for split, origin in dataset.origins.items():
        counts = dataset.class_counts(split)
        if counts.min() == counts.max():
            of_class = f"{counts[0]:,} of each class"
        elif len(counts) <= _FEW:
            pairs = zip(dataset.class_names, counts.tolist(), strict=True)
            of_class = ", ".join(f"{name} {count:,}" for name, count in pairs)
        else:
            of_class = (
                f"{counts.min():,} to {counts.max():,} of a class, median {np.median(counts):,g}"
            )
        total = int(counts.sum())
        images = f"{total:,} {dataset.noun}{'' if total == 1 else 's'}"
        lines.append(f"{SPLIT_ADJECTIVES[split]}: {images} ({origin}), {of_class}")
    return lines


def print_methods(console: Console, settings: Settings) -> None:
    """Print the methods, if there are any besides the grid."""
    if settings.methods != (DEFAULT,):
        console.print(f"Methods: {', '.join(settings.methods)}", highlight=False)


def print_cost(
    console: Console,
    planned: int,
    missing: Sequence[PlannedRun],
    amount: str,
    seconds: tuple[float, float] | None,
    slots: int,
    pruned: int = 0,
) -> None:
    """Print how many trainings are completed, and the cost of the others."""
    or_pruned = " or pruned" if pruned else ""
    if not missing:
        console.print(f"All {planned} are trained{or_pruned} already.", highlight=False)
        return
    there = planned - len(missing)
    console.print(
        (
            f"{there} are trained{or_pruned} already, {len(missing)} to go"
            if there
            else f"{planned} to train"
        )
        + f", {amount} through a network: "
        + (
            f"{span(seconds[0] / slots, seconds[1] / slots)} with {slots} at a time"
            if seconds is not None
            else f"{slots} at a time, time unknown until some have ended (or --calibrate)"
        ),
        highlight=False,
    )


def print_prediction_bytes(console: Console, size: int) -> None:
    """Print the disk space for predictions."""
    if size:
        console.print(
            f"Predictions for every image: about {max(size / 1e6, 0.1):,.1f} MB "
            "(see --keep-predictions)",
            highlight=False,
        )


def log_ways(
    settings: Settings,
    dataset: datasets.Dataset,
    asked: TeacherPass,
    execution: Execution,
    per_trial: PerTrial,
) -> None:
    """Log the splits, and how trainings run."""
    for line in (*split_lines(dataset), *dataset.provenance.remarks):
        log.info("%s: %s", dataset.name, line)
    for line in dataset.provenance.warnings:
        log.warning("%s: %s", dataset.name, line)
    each = views_per_image(settings.recipe)
    way = {
        "table": f"once about {counted(each, 'view')} of each {dataset.noun}; students read "
        "their logits",
        "live": "on every batch, since a table of their logits would be too large"
        if settings.recipe.numbers_views
        else "on every batch, since augmented images cannot be listed",
    }
    if settings.given_logits is None:
        log.info("teachers are asked %s", way[asked])
    else:
        log.info("%s", _views_of_given(settings, dataset))
    log.info(
        "%s, precision %s, side by side up to %s and %s",
        execution.device,
        execution.precision,
        counted(per_trial.teachers, "teacher"),
        counted(per_trial.students, "student"),
    )


_LEAST = 34
"""Least number of columns for a description beside a name."""
_OTHER_NETWORKS = {
    "timm:NAME": "a network of timm, such as timm:mobilenetv3_small_050",
    "torchvision:NAME": "a classification network of torchvision",
    "FILE.py:NAME": "your own class or function, also as package.module:NAME; arguments follow in "
    "parentheses: 'nets.py:TinyNet(width=8)' (docs/networks.md)",
}
_OWN = {
    "FOLDER": "your own images: a folder for each class, Parquet, or what image lists name "
    "(--train-list, --val-list, --test-list)"
}


def print_registries(console: Console) -> None:
    """List the data sets, methods, networks and recipes with one line each."""
    for title, entries in (
        ("Data sets", datasets.names() | plugins.datasets.listed() | _OWN),
        ("Methods", methods.descriptions() | plugins.methods.listed()),
        ("Networks", models.architectures() | plugins.networks.listed() | _OTHER_NETWORKS),
        ("Recipes", recipes.descriptions()),
    ):
        console.print(title, style="bold")
        width = max(map(len, entries))
        beside = console.soft_wrap or console.width >= width + _LEAST
        for name, line in entries.items():
            if beside:
                console.print(hanging(Text(f"  {name:<{width}}  {line}"), width + 2))
            else:
                console.print(hanging(Text(f"  {name}")), hanging(Text(f"    {line}"), 0), sep="")
