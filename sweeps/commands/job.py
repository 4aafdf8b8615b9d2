"""Resolved request of a sweep, and the part of it that still has to be trained."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs import image_groups
from analysis.runs.class_lists import distinct
from analysis.selection.criteria import Criterion
from analysis.selection.rule_options import Rule
from rkd_core import datasets, objectives, records
from rkd_core.device.execution import Execution
from rkd_core.device.hardware import wait_asleep
from rkd_core.errors import require
from rkd_core.models import Identity
from rkd_core.records import predictions
from rkd_core.records.predictions import Split
from rkd_core.storage.files import Location, location
from rkd_core.teachers.table_or_live import TeacherPass, teacher_pass
from rkd_core.text.console import Console
from rkd_core.text.nouns import counted
from sweeps.cli.budget import search_of
from sweeps.cli.economy_checks import average_constraint, check_metric
from sweeps.cli.options import Options
from sweeps.display.summary import print_methods, print_plan
from sweeps.folder.cleanup import set_damaged_aside
from sweeps.folder.ownership import check_folder
from sweeps.planning.cluster import Cluster
from sweeps.planning.cost import COLUMNS, CostModel, asking_epochs, calibrate
from sweeps.planning.limits import beyond_limits
from sweeps.planning.networks import check_suited, given_networks, given_teacher, given_weights
from sweeps.planning.packing import ONE, PerTrial, execution_of, trainings_per_trial
from sweeps.planning.plan import Plan, PlannedRun, make_plan, spread
from sweeps.planning.settings import GivenData, Settings, load_data, resolve
from sweeps.running.on_ray.tuner import connect, is_running
from sweeps.running.pruning import Pruner
from sweeps.search.search import Search
from sweeps.search.tuning import tuning

__all__ = ["Job", "Work", "choose_layout", "find_work", "prepare"]

_LONG = 1_000_000_000  # pixels through a network; shorter trainings begin without a measurement


@dataclass(frozen=True)
class Job:
    """Request of a sweep, resolved: data, settings, plan, results folder and machines."""

    options: Options
    dataset: datasets.Dataset
    settings: Settings
    plan: Plan
    """All requested trainings; a search trains only some of them."""
    out: Location
    cluster: Cluster
    criterion: Criterion
    """Rule of the selection."""
    joined: bool
    """Whether ``cluster`` existed before: a cluster at an address, or a Ray of the caller."""
    networks: Mapping[str, Identity]
    """Networks from outside the registry, by the options' texts."""
    beyond: frozenset[str] = frozenset()
    """Networks of students that are beyond a limit of the selection."""

    @cached_property
    def teacher_pass(self) -> TeacherPass:
        """Source of the logits of a teacher for its students: a table, or the network itself."""
        if self.settings.given_logits is not None:
            return "table"
        train, classes = self.dataset.train, self.dataset.classes
        in_memory = not isinstance(train, datasets.StreamedImageSet)
        return teacher_pass(self.settings.recipe, len(train), classes, in_memory=in_memory)


@dataclass
class Work:
    """Trainings of a job: the completed ones, the pruned ones, and how to train the others."""

    plan: Plan
    """Requested trainings; with a search, those that it has proposed."""
    completed: set[str]
    """Run ids that need no training, those of pruned students included."""
    hopeless: list[PlannedRun]
    """Students that stay pruned."""
    table: pa.Table
    """Records of the results folder."""
    costs: CostModel
    pruner: Pruner | None = None
    search: Search | None = None
    execution: Execution | None = None
    """Device, precision and threads; None if nothing is to be trained."""
    per_trial: PerTrial = ONE

    @property
    def missing(self) -> list[PlannedRun]:
        """The runs that still have to be trained."""
        return [run for run in self.plan.runs if run.run_id not in self.completed]

    def ended(self) -> dict[str, dict[str, Any]]:
        """Return the records of runs that need no training, by run id.

        They include completed students between the points of the grid, which a search proposed.
        """
        planned = {run.run_id for run in self.plan.runs}
        return {
            row["run_id"]: row
            for row in self.table.to_pylist()
            if row["run_id"] in self.completed
            or (row["run_id"] not in planned and row["status"] == "completed")
        }


def prepare(
    options: Options,
    resources: contextlib.ExitStack,
    console: Console,
    data: GivenData | None = None,
) -> Job:
    """Load the data, resolve the options, make the plan and print it.

    Args:
        options: Checked options.
        resources: Stack that the connection to a cluster is entered into.
        console: Console for the plan.
        data: Data in memory, in the place of those that the options name.

    Raises:
        UserError: Bad input; nothing has been written.
    """
    machine, economy = options.machine, options.economy
    if machine.serial:
        wait_asleep()
    dataset = load_data(options, data)
    criterion = options.selection.resolve(distinct(dataset.class_names))
    check_metric(
        criterion, predictions.form(machine.keep_predictions, len(dataset.val), dataset.classes)
    )
    if search_of(economy) is not None:
        average_constraint(criterion, "--search")
    joined = not machine.serial and (machine.address is not None or is_running())
    cluster = resources.enter_context(connect(machine))() if joined else Cluster.local(machine)
    networks = given_networks(options.training, dataset)
    weights = given_weights(options.training, dataset, networks)
    gpu = cluster.gpus > 0
    logits = given_teacher(options.training, dataset)
    digest = None if logits is None else logits.digest
    settings = resolve(options, dataset, gpu, weights, networks, digest)
    tuning(economy, settings)  # raises before the folder is created
    beyond = beyond_limits(settings, dataset, options.selection.limits)
    plan = make_plan(settings, dataset.fingerprint)
    check_suited(networks, [run.spec for run in plan.runs], dataset)
    for name, digest in {(run.spec.objective, run.spec.objective_digest) for run in plan.runs}:
        if digest is not None:
            objectives.try_out(name, digest)
    plan = spread(plan) if economy.prune else plan
    out = location(machine.out) if machine.out else Path("results") / dataset.name
    check_folder(out, dataset.name, dataset)
    _check_groups(options.selection, dataset, out)
    print_plan(console, settings, dataset, plan)
    print_methods(console, settings)
    for name, size in beyond.items():
        line = f"{name} is trained and not considered: {size}"
        console.print(line, markup=False, highlight=False)
    for flag, given in (
        ("--teacher-weights", weights.teachers),
        *(("--student-weights", own) for own in weights.students.values()),
        ("--teacher-logits", logits),
    ):
        for note in () if given is None else given.notes:
            console.print(f"{flag} {note}", markup=False, highlight=False)
    known = options, dataset, settings, plan, out, cluster, criterion, joined, networks
    return Job(*known, frozenset(beyond))


def _check_groups(rule: Rule, dataset: datasets.Dataset, out: Location) -> None:
    """Check the groups of images of the selection rule, given or kept in the results folder.

    Raises:
        UserError: There are none, or an image of validation or test has no group.
    """
    given = rule.image_groups
    groups = (
        image_groups.kept(out) if given is None else image_groups.read(given, rule.group_column)
    )
    require(
        groups is not None or not rule.worst_group,
        f"--worst-group needs --image-groups FILE: {out} keeps no groups",
    )
    if groups is not None:
        images: dict[Split, Any] = {"val": dataset.val_indices, "test": dataset.test_indices}
        found = groups.only(images)
        if rule.worst_group:
            found.without_small(rule.min_group)


def find_work(job: Job, errors: Console) -> Work:
    """Read the records of the results folder, and find which trainings are missing.

    Unless this is a dry run, damaged artifacts of teachers that are still needed are set aside.
    """
    options, plan = job.options, job.plan
    table = records.read(job.out / "records")
    given = job.settings.given_logits is not None
    asking = 0.0 if given else asking_epochs(job.settings.recipe, job.teacher_pass)
    costs = CostModel(asking, table.select(COLUMNS).to_pylist())
    ended = zip(table["run_id"].to_pylist(), table["status"].to_pylist(), strict=True)
    done = {run_id for run_id, status in ended if status == "completed"}
    completed = done & {run.run_id for run in plan.runs}
    if not options.display.dry_run:
        completed -= set_damaged_aside(plan, completed, job.out, errors)
    pruner = None
    if options.economy.prune:
        pruner = Pruner(average_constraint(job.criterion, "--prune"))
    hopeless = [] if pruner is None else _hopeless(table, plan, pruner)
    completed |= {run.run_id for run in hopeless}
    return Work(plan, completed, hopeless, table, costs, pruner)


def _hopeless(table: pa.Table, plan: Plan, pruner: Pruner) -> list[PlannedRun]:
    """Pass the records to a pruner; return the students that stay pruned."""
    ended = table.filter(pc.is_in(table["status"], pa.array(["completed", "pruned"])))
    rows = {row["run_id"]: row for row in ended.to_pylist()}
    for run in plan.students:
        if run.run_id in rows:
            pruner.see(run, rows[run.run_id])
    awaited = {needed for run in plan.runs for needed in run.depends_on}
    return [run for run in plan.students if run.run_id not in awaited and pruner.hopeless(run)]


def choose_layout(job: Job, work: Work, errors: Console) -> None:
    """Choose how to run the missing trainings, if any are to be run or estimated.

    The speed of this machine is measured if that is requested, or if the trainings are long and
    their duration is unknown.
    """
    options, dataset, missing = job.options, job.dataset, work.missing
    if not missing or (options.display.dry_run and not options.display.calibrate):
        return
    execution = execution_of(options.machine, job.cluster)
    if not job.joined and not execution.on_gpu and options.machine.gpus_per_trial is None:
        unseen = Execution.unseen_gpus()
        if unseen:
            errors.print(
                f"PyTorch sees {counted(unseen, 'GPU')}, but the driver's NVML reports none: "
                "training on the CPU; repair the driver, or pass --gpus-per-trial 0 to use the CPU",
                style="yellow",
                markup=False,
                highlight=False,
            )
    asked = job.teacher_pass
    per_trial = trainings_per_trial(options.machine, job.settings, dataset, job.cluster, asked)
    images = len(dataset.train)
    passes = sum(run.spec.epochs for run in missing) * images
    pixels = passes * math.prod(dataset.image_size)
    # A search weighs trainings by their cost.
    long = pixels > _LONG or search_of(options.economy) is not None
    unknown = long and work.costs.total(missing, images) is None
    if not job.joined and (options.display.calibrate or unknown):
        for sighting in calibrate(job.plan, dataset, execution, asked, per_trial.students):
            work.costs.see(*sighting)
    work.execution, work.per_trial = execution, per_trial
