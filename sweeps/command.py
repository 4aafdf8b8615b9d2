"""What ``pareto.py`` does, from options to exit code, in the order it happens."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from analysis.select import run as select
from rkd_core import datasets, models, recipes, records
from rkd_core.errors import UserError
from sweeps.engine import Cluster, connect
from sweeps.estimate import CostModel, calibrate, duration
from sweeps.options import Machine, Options
from sweeps.plan import Plan, PlannedRun, make_plan
from sweeps.progress import Tally, display_for
from sweeps.results import check_folder, check_space, open_folder, write_plan
from sweeps.settings import Settings, check, data_options, resolve
from sweeps.sweep import Sweep

__all__ = ["run"]


def run(options: Options, command: Sequence[str]) -> int:
    """Plan, train what is missing, select; returns the exit code.

    Raises:
        UserError: Bad input; nothing has been trained.
    """
    console = Console(file=sys.stdout, quiet=options.display.quiet)
    errors = Console(file=sys.stderr, soft_wrap=True)
    console.soft_wrap = not console.is_terminal  # in a log, one line stays one line
    if options.display.list:
        _print_registries(console)
        return 0

    # ---- What is wanted ---------------------------------------------------------------------
    check(options)
    dataset = datasets.load(
        options.data.dataset,
        data_options(options),
        data_dir=options.data.data_dir,
        skip_bad_images=options.data.skip_bad_images,
    )
    with contextlib.ExitStack() as stack:
        machine = options.machine
        joined = machine.address is not None and not machine.serial
        cluster = stack.enter_context(connect(machine)) if joined else Cluster.local(machine)
        settings = resolve(options, dataset, gpu=cluster.gpus > 0)
        plan = make_plan(settings, dataset.fingerprint)

        # ---- What there is already ----------------------------------------------------------
        out = machine.out or Path("results") / dataset.name
        check_folder(out, dataset.name, dataset)
        completed = records.read_completed_ids(out / "records") & {r.run_id for r in plan.runs}
        costs = CostModel()
        costs.see_records(records.read(out / "records", completed).to_pylist())
        missing = [run for run in plan.runs if run.run_id not in completed]
        if missing and options.display.calibrate:
            calibrate(plan, dataset, costs)
        seconds = costs.total(missing, len(dataset.train))
        _print_plan(console, settings, dataset, plan, len(missing), seconds, cluster.slots)
        if options.display.dry_run:
            return 0

        # ---- Train what is missing ----------------------------------------------------------
        failures: list[tuple[PlannedRun, str]] = []
        if missing:
            check_space(out, _bytes_needed(settings, dataset, len(missing)))
        open_folder(out, dataset.name, dataset)
        write_plan(out, plan, command, _plain(settings))
        if missing:
            with _logging_to(out / "sweep.log"):
                if not joined and not machine.serial:
                    cluster = stack.enter_context(connect(machine))
                tally = Tally(
                    plan,
                    completed,
                    out,
                    costs,
                    images=len(dataset.train),
                    slots=cluster.slots,
                    worst_k=options.selection.worst_k,
                    margin=options.selection.margin,
                )
                shown = errors if options.display.quiet else console
                with display_for(tally, shown, options.display.quiet) as watcher:
                    sweep = Sweep(plan, completed, out, dataset.fingerprint, watcher)
                    _train(sweep, dataset, out, machine, cluster)
                stack.close()  # Ray's farewell belongs into the log too
            failures = [*sweep.failures, *((r, _NEVER_STARTED) for r in sweep.left_over())]

    # ---- Select -----------------------------------------------------------------------------
    _print_failures(errors, failures, len(plan), out)
    try:
        select(
            out,
            worst_k=options.selection.worst_k,
            margin=options.selection.margin,
            run_ids=[run.run_id for run in plan.runs],
            console=Console(file=sys.stdout),
        )
    except UserError as error:
        if not failures:
            raise
        errors.print(f"No selection: {error}", markup=False, highlight=False)
    return 1 if failures else 0


_NEVER_STARTED = "it was never started; see sweep.log"


def _train(
    sweep: Sweep, dataset: datasets.Dataset, out: Path, machine: Machine, cluster: Cluster
) -> None:
    # torch, and Ray's larger half, are imported only where something is trained.
    if machine.serial:
        from rkd_core.execution import Execution
        from sweeps.serial import run_serially

        run_serially(sweep, dataset, out, Execution.best(machine.precision))
    else:
        from sweeps.engine import run_on_ray

        run_on_ray(sweep, dataset, out, machine, cluster)


def _print_failures(
    errors: Console, failures: Sequence[tuple[PlannedRun, str]], planned: int, out: Path
) -> None:
    if not failures:
        return
    errors.print(f"{len(failures)} of {planned} trainings failed; the first of them:", style="red")
    for run, cause in failures[:5]:
        errors.print(f"  {run.label}: {cause}", markup=False, highlight=False)
    errors.print(f"Run the same command again to retry them. More in {out / 'sweep.log'}")


def _print_plan(
    console: Console,
    settings: Settings,
    dataset: datasets.Dataset,
    plan: Plan,
    missing: int,
    seconds: float | None,
    slots: int,
) -> None:
    recipe = settings.recipe
    teachers, students = len(plan.teachers), len(plan.students)
    console.print(
        f"{dataset.name}, {settings.scale} scale: {teachers} teachers "
        f"({settings.teacher_architecture}) and {students} students "
        f"({settings.student_architecture}), {recipe.epochs} epochs of "
        f"{len(dataset.train):,} images each, recipe {settings.recipe_name}",
        highlight=False,
    )
    console.print(
        f"{dataset.classes} classes; {len(dataset.val):,} validation and {len(dataset.test):,} "
        f"test images"
        + (f"; {dataset.skipped_images} bad images skipped" if dataset.skipped_images else ""),
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


def _print_registries(console: Console) -> None:
    for title, entries in (
        ("Data sets", datasets.names()),
        ("Networks", models.architectures()),
        ("Recipes", recipes.descriptions()),
    ):
        console.print(title, style="bold")
        width = max(map(len, entries))
        for name, line in entries.items():
            console.print(f"  {name:<{width}}  {line}", highlight=False, markup=False)


def _bytes_needed(settings: Settings, dataset: datasets.Dataset, runs: int) -> int:
    """Weights of all runs, and as much again as Ray and the logs may take."""
    height, width = dataset.image_size
    parameters = sum(
        p.numel()
        for p in models.build(
            settings.student_architecture,
            dataset.classes,
            dataset.channels,
            (height, width),
            seed=0,
        ).parameters()
    )
    return runs * (parameters * 4 + 200_000) + 100_000_000


def _plain(settings: Settings) -> dict[str, object]:
    fields = dataclasses.asdict(settings)
    for name in ("data", "recipe", "multipliers"):
        fields[name] = getattr(settings, name).model_dump(mode="json")
    return fields


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send all logging, and whatever else Ray prints, to the sweep's log file.

    The consoles of this command hold the real streams, so what it prints itself stays visible.
    """
    with path.open("a", buffering=1) as sink:
        handler = logging.StreamHandler(sink)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        try:
            with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
                yield
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]
