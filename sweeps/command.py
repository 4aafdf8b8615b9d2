"""What ``pareto.py`` does, from options to exit code, in the order it happens."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from analysis.select import run as select
from rkd_core import artifacts, datasets, ledger, models, records
from rkd_core.errors import UserError
from sweeps.announce import print_cost, print_failures, print_plan, print_registries
from sweeps.engine import Cluster, connect, run_on_ray
from sweeps.estimate import CostModel, calibrate
from sweeps.options import Machine, Options
from sweeps.plan import Plan, make_plan
from sweeps.progress import Tally, display_for
from sweeps.results import check_folder, check_space, open_folder
from sweeps.settings import Settings, check, data_options, resolve
from sweeps.sweep import Failure, Sweep

if TYPE_CHECKING:
    from rkd_core.execution import Execution

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
        print_registries(console)
        return 0

    # ---- What is wanted ---------------------------------------------------------------------
    check(options)
    machine, choice = options.machine, options.selection
    dataset = datasets.load(
        options.data.dataset,
        data_options(options),
        data_dir=options.data.data_dir,
        skip_bad_images=options.data.skip_bad_images,
    )
    with contextlib.ExitStack() as stack:
        joined = machine.address is not None and not machine.serial
        cluster = stack.enter_context(connect(machine)) if joined else Cluster.local(machine)
        settings = resolve(options, dataset, gpu=cluster.gpus > 0)
        plan = make_plan(settings, dataset.fingerprint)
        out = machine.out or Path("results") / dataset.name
        check_folder(out, dataset.name, dataset)
        print_plan(console, settings, dataset, plan)

        # ---- What there is already ----------------------------------------------------------
        table = records.read(out / "records")
        costs = CostModel()
        costs.see_records(table.to_pylist())
        completed = _completed(table, plan)
        if not options.display.dry_run:
            completed -= _set_damaged_aside(plan, completed, out, errors)
        missing = [run for run in plan.runs if run.run_id not in completed]
        execution = None
        if missing and (options.display.calibrate or not options.display.dry_run):
            execution = _execution(machine, cluster)
            unknown = costs.total(missing, len(dataset.train)) is None and not joined
            if options.display.calibrate or unknown:
                calibrate(plan, dataset, execution, costs)
        seconds = costs.total(missing, len(dataset.train))
        print_cost(console, len(plan), missing, len(dataset.train), seconds, cluster.slots)
        if options.display.dry_run:
            return 0

        # ---- Train what is missing ----------------------------------------------------------
        if missing:
            check_space(out, _bytes_needed(settings, dataset, len(missing)))
        open_folder(out, dataset, plan, settings, command)
        failures: Sequence[Failure] = ()
        if execution is not None:
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
                    worst_k=choice.worst_k,
                    margin=choice.margin,
                )
                shown = errors if options.display.quiet else console
                with display_for(tally, shown, options.display.quiet) as watcher:
                    sweep = Sweep(plan, completed, out, dataset.fingerprint, watcher)
                    _train(sweep, dataset, out, machine, cluster, execution)
                stack.close()  # Ray's farewell belongs into the log too
            failures = sweep.all_failures()

    # ---- Select -----------------------------------------------------------------------------
    print_failures(errors, failures, len(plan), out / "sweep.log")
    try:
        select(
            out,
            worst_k=choice.worst_k,
            margin=choice.margin,
            run_ids=[run.run_id for run in plan.runs],
            console=Console(file=sys.stdout),
        )
    except UserError as error:
        if not failures:
            raise
        errors.print(f"No selection: {error}", markup=False, highlight=False)
    return 1 if failures else 0


def _train(
    sweep: Sweep,
    dataset: datasets.Dataset,
    out: Path,
    machine: Machine,
    cluster: Cluster,
    execution: Execution,
) -> None:
    if machine.serial:
        from sweeps.serial import run_serially  # imports torch

        run_serially(sweep, dataset, out, execution)
    else:
        run_on_ray(sweep, dataset, out, machine, cluster, execution)


def _completed(table: pa.Table, plan: Plan) -> set[str]:
    done = table.filter(pc.equal(table["status"], "completed"))["run_id"].to_pylist()
    return set(done) & {run.run_id for run in plan.runs}


def _set_damaged_aside(plan: Plan, completed: set[str], out: Path, errors: Console) -> set[str]:
    """Teachers that are wanted again, but whose artifacts no longer are what was written."""
    wanted = {run.depends_on for run in plan.runs if run.run_id not in completed}
    damaged = set()
    for run in plan.runs:
        if run.run_id in wanted & completed:
            try:
                artifacts.check(out / "artifacts", run.run_id)
            except UserError as error:
                errors.print(f"{error}; it is set aside and trained again", markup=False)
                ledger.set_aside(out, run.run_id)
                damaged.add(run.run_id)
    return damaged


def _execution(machine: Machine, cluster: Cluster) -> Execution:
    import torch

    from rkd_core.execution import Execution

    gpu = cluster.gpus_per_trial > 0
    if gpu and machine.address is None and not torch.cuda.is_available():
        raise UserError(
            f"PyTorch {torch.__version__} cannot use the GPU of this machine: install its CUDA "
            "build, or pass --gpus-per-trial 0"
        )
    threads = max(1, int(machine.cpus_per_trial))
    return Execution("cuda" if gpu else "cpu", machine.precision, threads)


def _bytes_needed(settings: Settings, dataset: datasets.Dataset, runs: int) -> int:
    """Weights of all runs, and as much again as Ray and the logs may take."""
    parameters = max(
        sum(
            p.numel()
            for p in models.build(
                architecture, dataset.classes, dataset.channels, dataset.image_size, seed=0
            ).parameters()
        )
        for architecture in {settings.teacher_architecture, settings.student_architecture}
    )
    iterates = settings.multipliers.averaged_iterates or 1
    return runs * (parameters * 4 * iterates + 200_000) + 100_000_000


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send all logging, and whatever else Ray prints, to the sweep's log file.

    The consoles of this command hold the real streams, so what it prints itself stays visible.
    """
    try:
        sink = path.open("a", buffering=1)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    with sink:
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
