"""The command ``pareto.py``: plan, train the missing runs, select."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from analysis.select import run as select
from analysis.selection.rule_options import Rule
from analysis.watch import serving
from rkd_core import records
from rkd_core.datasets import ArraySet, Dataset
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.records import shifts
from rkd_core.storage import bundles, files
from rkd_core.storage.files import Location
from rkd_core.text.console import Console
from rkd_core.training import TrainingControls
from rkd_core.training.validation_schedule import ValidationSchedule
from sweeps.cli.budget import budget_of, search_of
from sweeps.cli.checks import check
from sweeps.cli.economy_checks import average_constraint
from sweeps.cli.extensions import with_plugins
from sweeps.cli.options import Display, Options
from sweeps.cli.parse import parse
from sweeps.commands.entry import CommandLine
from sweeps.commands.job import Job, Work, choose_layout, find_work, prepare
from sweeps.display.progress import Tally, display_for
from sweeps.display.summary import (
    log_ways,
    print_cost,
    print_economy,
    print_failures,
    print_prediction_bytes,
    print_registries,
    print_search,
)
from sweeps.folder import thumbnails
from sweeps.folder.cleanup import (
    bytes_needed,
    keep_networks,
    keep_plugins,
    keep_teacher,
    keep_weights,
    prediction_bytes,
    tidy,
)
from sweeps.folder.lease import hold
from sweeps.folder.log import logging_to
from sweeps.folder.ownership import check_space, open_folder, write_plan
from sweeps.planning.cluster import Cluster
from sweeps.planning.plan import Plan
from sweeps.planning.settings import GivenData
from sweeps.running.interim_answer import InterimAnswer
from sweeps.running.latency import keep_latency
from sweeps.running.on_ray.limits import Allowance
from sweeps.running.on_ray.liveness import watched
from sweeps.running.on_ray.trackers import connect_trackers, publish_answer
from sweeps.running.on_ray.tuner import allowance_for, connect, run_on_ray
from sweeps.running.prepare_answer import preparing
from sweeps.running.pruning import RUNGS
from sweeps.running.sweep import Failure, Sweep
from sweeps.search.search import Search
from sweeps.search.strategy import Goal
from sweeps.stop import Stop

__all__ = ["main", "run"]

Conclude = Callable[[Plan, Location, Rule, Sequence[Failure], Console], int]
"""Function that concludes a sweep, from plan, results folder, selection rule, failures and the
console for errors to the exit code."""


@dataclass(frozen=True)
class Session:
    """One run of the command: its command line, consoles, resources and reasons to stop."""

    command: Sequence[str]
    stop: Stop
    console: Console
    errors: Console
    resources: contextlib.ExitStack
    """Cluster and results folder, which are held while trainings run."""


def main(line: CommandLine, stop: Stop) -> int:
    """Run the command line; see ``sweeps.commands.entry.command``."""
    return run(parse(line.arguments, line.program, Options), line.typed, stop)


def run(
    options: Options,
    command: Sequence[str],
    stop: Stop,
    conclude: Conclude | None = None,
    data: GivenData | None = None,
) -> int:
    """Plan, train the missing runs and conclude; return the exit code.

    Args:
        options: Parsed options.
        command: Command line as typed.
        stop: Reasons to stop.
        conclude: Function that concludes the sweep; by default it selects a student.
        data: Data in memory, in the place of those that the options name.

    Raises:
        UserError: Bad input; nothing has been trained.
    """
    console, errors = _consoles(options.display)
    options = with_plugins(options)
    if options.display.list:
        print_registries(console)
        return 0
    check(options)
    with contextlib.ExitStack() as resources:
        session = Session(command, stop, console, errors, resources)
        job = prepare(options, resources, console, data)
        work = find_work(job, errors)
        choose_layout(job, work, errors)
        announce(job, work, console)
        if options.display.dry_run:
            return 0
        failures = train(job, work, session)
    shown = None if options.display.no_images else job.dataset
    conclude = conclude or partial(select_student, verbose=options.display.verbose, shown=shown)
    code = conclude(work.plan, job.out, options.selection, failures, errors)
    if work.missing:
        notify = partial(errors.print, markup=False, highlight=False)
        publish_answer(options.tracking, job.dataset.name, job.out, notify)
    return code


def _consoles(display: Display) -> tuple[Console, Console]:
    """Return the consoles for output and for errors."""
    console = Console(file=sys.stdout, quiet=display.quiet)
    console.soft_wrap = not console.is_terminal  # in a log, one line stays one line
    return console, Console(file=sys.stderr, soft_wrap=True)


def announce(job: Job, work: Work, console: Console) -> None:
    """Print the number of missing trainings, their cost, and whether a search chooses them."""
    missing, images, economy = work.missing, len(job.dataset.train), job.options.economy
    passes = sum(run.spec.epochs for run in missing) * images
    seconds = work.costs.total_range(missing, images)
    pruned = len(work.hopeless)
    amount = f"{passes:,} {job.dataset.noun}s"
    print_cost(console, len(work.plan), missing, amount, seconds, job.cluster.slots, pruned)
    searching = search_of(economy)
    if missing and searching is not None:
        print_search(console, searching, budget_of(economy.budget))
    if missing and job.options.display.dry_run:
        size = len(missing) * prediction_bytes(job.dataset, job.options.machine.keep_predictions)
        print_prediction_bytes(console, size)


def train(job: Job, work: Work, session: Session) -> Sequence[Failure]:
    """Train the missing runs, clean up, and return the failures."""
    token, allowance = "", None
    if work.missing:
        token, allowance = reserve(job, work, session)
        if search_of(job.options.economy) is not None:
            start_search(job, work, session.command)
    open_folder(job.out, job.dataset, work.plan, job.settings, session.command)
    missing = work.missing
    # A search may propose any teacher of the whole plan.
    starting = missing if work.search is None else job.plan.runs
    if missing:
        keep_networks(job.networks, job.out)
    keep_plugins(work.plan.runs, job.out)
    keep_teacher(job.options.training, job.dataset, job.out, job.settings.given_logits)
    keep_weights(
        job.options.training, job.dataset, job.networks, job.out, starting if missing else ()
    )
    failures: Sequence[Failure] = ()
    if missing:
        sweep = run_trainings(job, work, session, token, allowance)
        failures = sweep.all_failures()
        work.hopeless += sweep.pruned
    if work.search is not None:
        work.plan = work.search.plan
    if job.options.selection.shifts and not session.stop.asked:
        compute_shifts(job, work, session)
    limits = job.options.selection.limits
    asked = limits.latency is not None or limits.multiply_adds is not None
    several = len(job.settings.student_architectures) > 1
    if (several or asked) and not session.stop.asked:
        say = partial(session.console.print, markup=False, highlight=False)
        keep_latency(job.settings, job.dataset, job.out, say)
    if not failures:
        tidy(job.out, work.plan, work.hopeless)
    pruned = [] if session.stop.asked else work.hopeless
    print_economy(session.console, work.search, pruned, len(work.plan.students))
    return failures


def compute_shifts(job: Job, work: Work, session: Session) -> None:
    """Compute the shifts of completed students that have none, such as those of earlier versions.

    Students that were trained just now have theirs, unless the command was killed.
    """
    students = [run.run_id for run in work.plan.students if run.spec.epochs]
    without = shifts.missing(job.out, students)
    table = records.read(job.out / "records", without).to_pylist()
    without = [row["run_id"] for row in table if row["status"] == "completed"]
    without = [run_id for run_id in without if bundles.exists(job.out / "artifacts" / run_id)]
    if not without:
        return
    from rkd_core.training.shift_files import compute_missing  # imports torch

    session.console.print(f"Fitting the shifts of {len(without):,} trained students")
    execution = replace(Execution.best(), precision=job.options.machine.precision)
    stop = session.stop
    for line in compute_missing(job.out, without, job.dataset, execution, lambda: stop.asked):
        session.errors.print(f"No shifts: {line}", markup=False, highlight=False)


def reserve(job: Job, work: Work, session: Session) -> tuple[str, Allowance | None]:
    """Check this machine's limits and disk, and lock the results folder for this command.

    Returns:
        The token of the lease, and the resources of a Ray that is started here.
    """
    needed = job.settings, job.dataset, work.missing, job.teacher_pass, job.cluster, work.per_trial
    machine = job.options.machine
    allowance = None if job.joined else allowance_for(machine, job.dataset, job.cluster)
    predicted = len(work.missing) * prediction_bytes(job.dataset, machine.keep_predictions)
    check_space(job.out, bytes_needed(*needed) + predicted)
    return session.resources.enter_context(_held(job, session)), allowance


@contextlib.contextmanager
def _held(job: Job, session: Session) -> Iterator[str]:
    """Hold the results folder, and serve its report if requested; yield the token."""
    out = job.out
    with contextlib.ExitStack() as stack:
        token = stack.enter_context(hold(out, session.stop, session.console.print))
        if job.options.display.watch:
            address = stack.enter_context(serving(out, job.options.selection.assess))
            session.console.print(f"The report, as far as it goes: {address}", highlight=False)
        yield token


def start_search(job: Job, work: Work, command: Sequence[str]) -> None:
    """Start the search with the records of ended runs, and let it propose the first runs."""
    from sweeps.search.build import begin  # imports scikit-learn

    files.make_folder(job.out)
    images, ended = len(job.dataset.train), work.ended()
    search: Search = begin(
        job.options.economy,
        Goal(average_constraint(job.criterion, "--search")),
        job.settings,
        job.dataset.fingerprint,
        job.plan,
        ended,
        job.out,
        slots=job.cluster.slots,
        seconds=lambda run: work.costs.seconds(run, images) or 0.0,
        added=lambda plan: write_plan(job.out, plan, job.settings, command, job.dataset),
    )
    search.propose()
    work.search, work.plan, work.completed = search, search.plan, {*ended}


def run_trainings(
    job: Job, work: Work, session: Session, token: str, allowance: Allowance | None
) -> Sweep:
    """Start Ray if needed, and train the missing runs while all output goes to ``sweep.log``.

    Args:
        job: The job.
        work: Its trainings.
        session: This run of the command; its resources are released at the end.
        token: Token of the lease.
        allowance: Resources of a Ray that is started here; None to start none.
    """
    machine, execution, ready = job.options.machine, work.execution, None
    assert execution is not None
    with logging_to(job.out / "sweep.log", session.console.print):
        if allowance is not None:
            ready = session.resources.enter_context(connect(machine, allowance))
        log_ways(job.settings, job.dataset, job.teacher_pass, execution, work.per_trial)
        train = job.dataset.train  # computed once here, not in every training
        _ = train.moments if isinstance(train, ArraySet) else train.levels
        cluster = job.cluster if ready is None else ready()
        sweep = _run_sweep(job, work, session, token, cluster, execution)
        session.resources.close()  # Ray's last messages belong in the log too
    return sweep


def _run_sweep(
    job: Job, work: Work, session: Session, token: str, cluster: Cluster, execution: Execution
) -> Sweep:
    """Run the sweep serially or on Ray, with a display of its progress."""
    machine, quiet = job.options.machine, job.options.display.quiet
    shown = session.errors if quiet else session.console
    tally = Tally(
        work.plan,
        work.completed,
        job.out,
        work.costs,
        images=len(job.dataset.train),
        slots=cluster.slots,
        criterion=job.criterion,
        beyond=job.beyond,
    )
    interim = InterimAnswer(job.out, job.options.selection)
    with display_for(tally, shown, quiet) as display, interim:
        sweep = Sweep(
            work.plan,
            work.completed,
            job.out,
            job.dataset.fingerprint,
            tally,
            display,
            interim,
            per_trial=work.per_trial,
            slots=cluster.slots,
            max_failures=machine.max_failures,
            stop=session.stop,
            pruner=work.pruner,
            search=work.search,
        )
        notify = partial(shown.print, markup=False, highlight=False)
        trackers = connect_trackers(job.options.tracking, job.dataset.name, job.out, notify)
        controls = TrainingControls(
            checkpoint_every=machine.checkpoint_every,
            keep_predictions=machine.keep_predictions,
            validation_schedule=ValidationSchedule(
                machine.validate_every, () if work.pruner is None else RUNGS
            ),
            shifts=job.options.selection.shifts,
        )
        trained = sweep, job.dataset, job.out
        with session.stop.saving(), preparing():
            if machine.serial:
                from sweeps.running.serial import run_serially  # imports torch

                controls = replace(controls, stop=lambda: session.stop.asked)
                run_serially(*trained, execution, controls, machine.hang_timeout)
            else:
                with watched(session.stop):
                    run_on_ray(*trained, machine, cluster, execution, token, trackers, controls)
    return sweep


def select_student(
    plan: Plan,
    out: Location,
    rule: Rule,
    failures: Sequence[Failure],
    errors: Console,
    verbose: bool = False,
    shown: Dataset | None = None,
) -> int:
    """Print the failures, select among the other runs, and return the exit code.

    The report shows images of the data set ``shown``, if it is given.
    """
    print_failures(errors, failures, len(plan), out / "sweep.log")
    try:
        select(
            out,
            rule,
            run_ids=[run.run_id for run in plan.runs],
            verbose=verbose,
            images=shown is not None,
            illustrate=None if shown is None else partial(thumbnails.store, out, shown),
            console=Console(file=sys.stdout),
        )
    except UserError as error:
        if not failures:
            raise
        errors.print(f"No selection: {error}", markup=False, highlight=False)
    return 1 if failures else 0
