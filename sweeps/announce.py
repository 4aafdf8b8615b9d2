"""What the command says before and after: the plan and its cost, the registries, the failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rkd_core import datasets, models, recipes
from rkd_core.datasets.wording import counted
from sweeps.estimate import duration
from sweeps.plan import Plan, PlannedRun
from sweeps.settings import Settings
from sweeps.sweep import Failure

__all__ = ["print_cost", "print_failures", "print_plan", "print_registries"]


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


def print_plan(console: Console, settings: Settings, dataset: datasets.Dataset, plan: Plan) -> None:
    """Say what is wanted: scale, networks, epochs, recipe and data."""
    skipped = dataset.skipped_images
    console.print(
        f"{dataset.name}, {settings.scale} scale: {len(plan.teachers)} teachers "
        f"({settings.teacher_architecture}) and {len(plan.students)} students "
        f"({settings.student_architecture}), {counted(settings.recipe.epochs, 'epoch')} of "
        f"{len(dataset.train):,} images each, recipe {settings.recipe_name}",
        highlight=False,
    )
    console.print(
        f"{dataset.classes} classes; {len(dataset.val):,} validation and {len(dataset.test):,} "
        f"test images" + (f"; {counted(skipped, 'bad image')} skipped" if skipped else ""),
        highlight=False,
    )


def print_cost(
    console: Console,
    planned: int,
    missing: Sequence[PlannedRun],
    images: int,
    seconds: float | None,
    slots: int,
) -> None:
    """Say how much is there already, and what the rest will cost."""
    if not missing:
        console.print(f"All {planned} are trained already.", highlight=False)
        return
    there = planned - len(missing)
    passes = sum(run.spec.recipe.epochs for run in missing) * images
    console.print(
        (f"{there} are trained already, {len(missing)} to go" if there else f"{planned} to train")
        + f", {passes:,} images through a network: "
        + (
            f"about {duration(seconds / slots)} with {slots} at a time"
            if seconds is not None
            else f"{slots} at a time, time unknown until some have ended (or --calibrate)"
        ),
        highlight=False,
    )


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
