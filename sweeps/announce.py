"""What the command says before and after: the plan and its cost, the registries, the failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rkd_core import datasets, models, recipes
from rkd_core.datasets.wording import counted
from sweeps.estimate import duration
from sweeps.plan import Plan
from sweeps.settings import Settings
from sweeps.sweep import Failure

__all__ = ["print_failures", "print_plan", "print_registries"]


def print_failures(errors: Console, failures: Sequence[Failure], planned: int, log: Path) -> None:
    """Say what failed and why, the first few, and what to do."""
    if not failures:
        return
    errors.print(f"{len(failures)} of {planned} trainings failed; the first of them:", style="red")
    for run, cause in failures[:5]:
        errors.print(f"  {run.label}: {cause}", markup=False, highlight=False)
    errors.print(
        f"More in {log}. The same command tries them again; where the cause is in the training "
        "itself, change the options",
        markup=False,
        highlight=False,
    )


def print_plan(
    console: Console,
    settings: Settings,
    dataset: datasets.Dataset,
    plan: Plan,
    missing: int,
    seconds: float | None,
    slots: int,
) -> None:
    """Say what will be trained, how much is there already, and what the rest will cost."""
    recipe = settings.recipe
    teachers, students = len(plan.teachers), len(plan.students)
    console.print(
        f"{dataset.name}, {settings.scale} scale: {teachers} teachers "
        f"({settings.teacher_architecture}) and {students} students "
        f"({settings.student_architecture}), {counted(recipe.epochs, 'epoch')} of "
        f"{len(dataset.train):,} images each, recipe {settings.recipe_name}",
        highlight=False,
    )
    console.print(
        f"{dataset.classes} classes; {len(dataset.val):,} validation and {len(dataset.test):,} "
        f"test images"
        + (
            f"; {counted(dataset.skipped_images, 'bad image')} skipped"
            if dataset.skipped_images
            else ""
        ),
        highlight=False,
    )
    if not missing:
        console.print(f"All {len(plan)} are trained already.", highlight=False)
        return
    done = (
        f"{len(plan) - missing} are trained already, {missing} to go"
        if (missing < len(plan))
        else f"{missing} trainings to go"
    )
    passes = missing * recipe.epochs * len(dataset.train)
    cost = (
        f"about {duration(seconds / slots)} with {slots} at a time"
        if seconds is not None
        else f"{slots} at a time, time unknown until some have ended (or --calibrate)"
    )
    console.print(f"{done}, {passes:,} images through a network: {cost}", highlight=False)


def print_registries(console: Console) -> None:
    """List the data sets, networks and recipes with a line each."""
    for title, entries in (
        ("Data sets", datasets.names()),
        ("Networks", models.architectures()),
        ("Recipes", recipes.descriptions()),
    ):
        console.print(title, style="bold")
        width = max(map(len, entries))
        for name, line in entries.items():
            console.print(f"  {name:<{width}}  {line}", highlight=False, markup=False)
