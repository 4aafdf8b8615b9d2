"""What ``pareto.py`` does, from options to exit code, in the order it happens."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.class_lists import distinct
from analysis.select import run as select
from analysis.selection.criteria import Criterion
from analysis.selection.rule_options import Rule
from analysis.watch import serving
from rkd_core import datasets, records
from rkd_core.device.execution import Execution
from rkd_core.device.hardware import wait_asleep
from rkd_core.errors import UserError
from rkd_core.storage import files
from rkd_core.storage.files import location
from rkd_core.teachers.table_or_live import TeacherPass, teacher_pass
from rkd_core.text.console import Console
from rkd_core.training.validation_schedule import Looks
from sweeps.cli.budget import budget_of, search_of
from sweeps.cli.checks import check
from sweeps.cli.economy_checks import average_constraint
from sweeps.cli.options import Options
from sweeps.display.progress import Tally, display_for
from sweeps.display.summary import (
    log_ways,
    print_cost,
    print_economy,
    print_failures,
    print_methods,
    print_plan,
    print_registries,
    print_search,
)
from sweeps.folder.cleanup import bytes_needed, keep_weights, set_damaged_aside, tidy
from sweeps.folder.lease import hold
from sweeps.folder.log import logging_to
from sweeps.folder.ownership import check_folder, check_space, open_folder, write_plan
from sweeps.planning.cluster import Cluster
from sweeps.planning.cost import COLUMNS, CostModel, asking_epochs, calibrate
from sweeps.planning.packing import ONE, PerTrial, execution_of, trainings_per_trial
from sweeps.planning.plan import Plan, PlannedRun, make_plan, spread
from sweeps.planning.settings import Settings, load_data, resolve, teacher_weights
from sweeps.running.on_ray.liveness import watched
from sweeps.running.on_ray.trackers import connect_trackers
from sweeps.running.on_ray.tuner import allowance_for, connect, run_on_ray
from sweeps.running.prepare_answer import preparing
from sweeps.running.pruning import RUNGS, Pruner
from sweeps.running.sweep import Failure, Sweep
from sweeps.search.search import Search
from sweeps.search.strategy import Goal
from sweeps.search.tuning import tuning
from sweeps.stop import Stop

__all__ = ["run"]

_LONG = 1_000_000_000  # pixels through a network; shorter trainings begin without a measurement


Conclude = Callable[[Plan, Path, Rule, Sequence[Failure], Console], int]
"""What is done when all is trained: from plan, results folder, rule, failures and the console for
errors to the exit code."""


def run(
    options: Options, command: Sequence[str], stop: Stop, conclude: Conclude | None = None
) -> int:
    """Plan, train what is missing, conclude; returns the exit code.

    Args:
        options: Of the command line.
        command: The same as it was typed.
        stop: Asks trainings to save.
        conclude: None to select.

    Raises:
        UserError: Bad input; nothing has been trained.
    """
    console = Console(file=sys.stdout, quiet=options.display.quiet)
    errors = Console(file=sys.stderr, soft_wrap=True)
    console.soft_wrap = not console.is_terminal  # in a log, one line stays one line
    if options.display.list:
        print_registries(console)
        return 0

    check(options)
    machine = options.machine
    with contextlib.ExitStack() as stack:
        wanted = _wanted(options, stack, console)
        dataset, settings, out = wanted.dataset, wanted.settings, wanted.out
        plan, cluster, rule = wanted.plan, wanted.cluster, wanted.rule
        prune = options.economy.prune
        pruner = Pruner(average_constraint(rule, "--prune")) if prune else None

        # ---- What there is already ----------------------------------------------------------
        table = records.read(out / "records")
        asked = _asked(settings, dataset)
        costs = CostModel(asking_epochs(settings.recipe, asked), table.select(COLUMNS).to_pylist())
        completed = _completed(table, plan)
        if not options.display.dry_run:
            completed -= set_damaged_aside(plan, completed, out, errors)
        hopeless = _hopeless(table, plan, pruner)
        completed |= {run.run_id for run in hopeless}
        missing = [run for run in plan.runs if run.run_id not in completed]
        passes = sum(run.spec.epochs for run in missing) * len(dataset.train)
        execution, per_trial = None, ONE
        if missing and (options.display.calibrate or not options.display.dry_run):
            execution, per_trial = _ways(options, wanted, missing, costs, asked)
        seconds = costs.total_range(missing, len(dataset.train))
        print_cost(console, len(plan), missing, passes, seconds, cluster.slots, len(hopeless))
        searching = search_of(options.economy) if missing else None
        if searching is not None:
            print_search(console, searching, budget_of(options.economy.budget))
        if options.display.dry_run:
            return 0

        # ---- Train what is missing ----------------------------------------------------------
        if missing:
            allowance = allowance_for(machine, dataset, cluster)
            check_space(out, bytes_needed(settings, dataset, missing, asked, cluster, per_trial))
            token = stack.enter_context(_held(out, options, stop, console))
        search = None
        if searching is not None:
            rows = _ended(table, plan, completed)
            search = _begin(wanted, options, rows, costs, command)
            plan, completed = search.plan, {*rows}
            missing = [run for run in plan.runs if run.run_id not in completed]
        open_folder(out, dataset, plan, settings, command)
        # A search may yet propose any teacher of the whole.
        beginning = missing if search is None else wanted.plan.runs
        keep_weights(options.training, dataset, out, beginning if missing else ())
        failures: Sequence[Failure] = ()
        if execution is not None and missing:
            with logging_to(out / "sweep.log", console.print):
                ready = stack.enter_context(connect(machine, allowance)) if allowance else None
                log_ways(settings, dataset, asked, execution, per_trial)
                cluster = cluster if ready is None else ready()
                sweep = _train(
                    _Work(plan, completed, dataset, out, costs, per_trial, pruner, search, rule),
                    options,
                    cluster,
                    execution,
                    stop,
                    token,
                    errors if options.display.quiet else console,
                )
                stack.close()  # Ray's farewell belongs into the log too
            failures = sweep.all_failures()
            hopeless += sweep.pruned
        plan = plan if search is None else search.plan
        if not failures:
            tidy(out, plan, hopeless)
        print_economy(console, search, [] if stop.asked else hopeless, len(plan.students))

    return (conclude or _selected)(plan, out, options.selection, failures, errors)


@dataclass(frozen=True)
class _Wanted:
    """What is asked for, resolved; for a search it is the whole that it chooses from."""

    dataset: datasets.Dataset
    settings: Settings
    plan: Plan
    out: Path
    cluster: Cluster
    rule: Criterion
    joined: bool
    """Whether the cluster is somebody else's, and has been joined."""


def _wanted(options: Options, stack: contextlib.ExitStack, console: Console) -> _Wanted:
    """Load the data, resolve options, plan, and say so."""
    machine = options.machine
    if machine.serial:
        wait_asleep()
    dataset = load_data(options)
    criterion = options.selection.criterion(distinct(dataset.class_names))
    if search_of(options.economy) is not None:
        average_constraint(criterion, "--search")
    joined = machine.address is not None and not machine.serial
    cluster = stack.enter_context(connect(machine))() if joined else Cluster.local(machine)
    weights = teacher_weights(options.training, dataset)
    settings = resolve(options, dataset, gpu=cluster.gpus > 0, weights=weights)
    tuning(options.economy, settings)  # refused before there is a folder
    plan = make_plan(settings, dataset.fingerprint)
    plan = spread(plan) if options.economy.prune else plan
    out = location(machine.out) if machine.out else Path("results") / dataset.name
    check_folder(out, dataset.name, dataset)
    print_plan(console, settings, dataset, plan)
    print_methods(console, settings)
    for note in () if weights is None else weights.notes:
        console.print(f"--teacher-weights {note}", markup=False, highlight=False)
    return _Wanted(dataset, settings, plan, out, cluster, criterion, joined)


def _ways(
    options: Options,
    wanted: _Wanted,
    missing: Sequence[PlannedRun],
    costs: CostModel,
    asked: TeacherPass,
) -> tuple[Execution, PerTrial]:
    """How trainings run. This machine is measured, where that was asked for, or much is to come
    of unknown length."""
    dataset, machine, cluster = wanted.dataset, options.machine, wanted.cluster
    execution = execution_of(machine, cluster)
    per_trial = trainings_per_trial(machine, wanted.settings, dataset, cluster, asked)
    images = len(dataset.train)
    passes = sum(run.spec.epochs for run in missing) * images
    pixels = passes * dataset.image_size[0] * dataset.image_size[1]
    # A search weighs what it may train by its cost.
    long = pixels > _LONG or search_of(options.economy) is not None
    unknown = long and costs.total(missing, images) is None
    if not wanted.joined and (options.display.calibrate or unknown):
        ways = execution, asked, per_trial.students
        for sighting in calibrate(wanted.plan, dataset, *ways):
            costs.see(*sighting)
    return execution, per_trial


@contextlib.contextmanager
def _held(out: Path, options: Options, stop: Stop, console: Console) -> Iterator[str]:
    """The folder is this command's, which serves its report if that was asked for."""
    with contextlib.ExitStack() as stack:
        token = stack.enter_context(hold(out, stop, console.print))
        if options.display.watch:
            address = stack.enter_context(serving(out, options.selection.assess))
            console.print(f"The report, as far as it goes: {address}", highlight=False)
        yield token


def _selected(
    plan: Plan,
    out: Path,
    rule: Rule,
    failures: Sequence[Failure],
    errors: Console,
) -> int:
    """Say what failed, select among the rest, and return the exit code."""
    print_failures(errors, failures, len(plan), out / "sweep.log")
    try:
        select(
            out,
            rule,
            run_ids=[run.run_id for run in plan.runs],
            console=Console(file=sys.stdout),
        )
    except UserError as error:
        if not failures:
            raise
        errors.print(f"No selection: {error}", markup=False, highlight=False)
    return 1 if failures else 0


def _begin(
    wanted: _Wanted,
    options: Options,
    ended: Mapping[str, Mapping[str, Any]],
    costs: CostModel,
    command: Sequence[str],
) -> Search:
    """A search that has been told of what has ended, and has proposed its first."""
    from sweeps.search.build import begin  # imports scikit-learn

    files.make_folder(wanted.out)
    search = begin(
        options.economy,
        Goal(average_constraint(wanted.rule, "--search")),
        wanted.settings,
        wanted.dataset.fingerprint,
        wanted.plan,
        ended,
        wanted.out,
        slots=wanted.cluster.slots,
        seconds=lambda run: costs.seconds(run, len(wanted.dataset.train)) or 0.0,
        added=lambda plan: write_plan(wanted.out, plan, wanted.settings, command, wanted.dataset),
    )
    search.propose()
    return search


@dataclass(frozen=True)
class _Work:
    """What is to be trained, and what is known of it."""

    plan: Plan
    completed: set[str]
    dataset: datasets.Dataset
    out: Path
    costs: CostModel
    per_trial: PerTrial
    pruner: Pruner | None
    search: Search | None
    rule: Criterion


def _train(
    work: _Work,
    options: Options,
    cluster: Cluster,
    execution: Execution,
    stop: Stop,
    token: str,
    shown: Console,
) -> Sweep:
    """Train what is missing, and show it meanwhile."""
    machine, dataset, out = options.machine, work.dataset, work.out
    _ = dataset.train.levels  # counted here once and sent along, not in every training
    tally = Tally(
        work.plan,
        work.completed,
        out,
        work.costs,
        images=len(dataset.train),
        slots=cluster.slots,
        criterion=work.rule,
    )
    looks = Looks(machine.validate_every, () if work.pruner is None else RUNGS)
    with display_for(tally, shown, options.display.quiet) as watcher:
        sweep = Sweep(
            work.plan,
            work.completed,
            out,
            dataset.fingerprint,
            watcher,
            per_trial=work.per_trial,
            slots=cluster.slots,
            max_failures=machine.max_failures,
            stop=stop,
            pruner=work.pruner,
            search=work.search,
        )
        say = partial(shown.print, markup=False, highlight=False)
        trackers = connect_trackers(options.tracking, dataset.name, out, say)
        with stop.saving(), preparing():
            if machine.serial:
                from sweeps.running.serial import run_serially  # imports torch

                run_serially(
                    sweep,
                    dataset,
                    out,
                    execution,
                    machine.checkpoint_every,
                    looks,
                    lambda: stop.asked,
                    machine.hang_timeout,
                )
            else:
                with watched(stop):
                    run_on_ray(
                        sweep, dataset, out, machine, cluster, execution, token, trackers, looks
                    )
    return sweep


def _completed(table: pa.Table, plan: Plan) -> set[str]:
    ended = zip(table["run_id"].to_pylist(), table["status"].to_pylist(), strict=True)
    done = {run_id for run_id, status in ended if status == "completed"}
    return done & {run.run_id for run in plan.runs}


def _ended(table: pa.Table, plan: Plan, ended: set[str]) -> dict[str, dict[str, Any]]:
    """Records by run id of what needs no training, also of students between the grid's points."""
    planned = {run.run_id for run in plan.runs}
    return {
        row["run_id"]: row
        for row in table.to_pylist()
        if row["run_id"] in ended or (row["run_id"] not in planned and row["status"] == "completed")
    }


def _hopeless(table: pa.Table, plan: Plan, pruner: Pruner | None) -> list[PlannedRun]:
    """Show a pruner what there is; returns the students that stay as they are."""
    if pruner is None:
        return []
    ended = table.filter(pc.is_in(table["status"], pa.array(["completed", "pruned"])))
    rows = {row["run_id"]: row for row in ended.to_pylist()}
    for run in plan.students:
        if run.run_id in rows:
            pruner.see(run, rows[run.run_id])
    awaited = {needed for run in plan.runs for needed in run.depends_on}
    return [run for run in plan.students if run.run_id not in awaited and pruner.hopeless(run)]


def _asked(settings: Settings, dataset: datasets.Dataset) -> TeacherPass:
    in_memory = isinstance(dataset.train, datasets.ImageSet)
    return teacher_pass(settings.recipe, len(dataset.train), dataset.classes, in_memory=in_memory)
