"""Preparation and cleanup of a results folder: damaged teachers, disk space, initial weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from rkd_core import datasets, models, plugins
from rkd_core.errors import UserError
from rkd_core.plugins import code
from rkd_core.records import predictions
from rkd_core.records.predictions import Kept, Split
from rkd_core.results import artifacts, checkpoints, initial_weights, ledger
from rkd_core.specs import GIVEN_LOGITS
from rkd_core.storage import bundles
from rkd_core.storage.files import Location
from rkd_core.teachers import given_logits
from rkd_core.teachers.table_or_live import FOLDER as ANSWERS
from rkd_core.teachers.table_or_live import TeacherPass, table_bytes
from sweeps.cli.options import TrainingChoice
from sweeps.planning.cluster import Cluster
from sweeps.planning.networks import NO_WEIGHTS, given_teacher, given_weights
from sweeps.planning.packing import PerTrial
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.planning.settings import Settings

__all__ = [
    "bytes_needed",
    "keep_networks",
    "keep_plugins",
    "keep_teacher",
    "keep_weights",
    "prediction_bytes",
    "set_damaged_aside",
    "tidy",
]


def set_damaged_aside(plan: Plan, completed: set[str], out: Location, errors: Console) -> set[str]:
    """Set aside completed teachers that are needed but damaged; return their run ids."""
    missing = (run for run in plan.runs if run.run_id not in completed)
    wanted = {needed for run in missing for needed in run.depends_on}
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


def keep_networks(networks: Mapping[str, models.Identity], out: Location) -> None:
    """Store the code of users' networks in the results folder, where every worker finds it.

    Raises:
        UserError: It cannot be written.
    """
    for network in networks.values():
        if network.code is not None:
            try:
                code.keep(out, network.digest, network.code)
            except OSError as error:
                raise UserError(f"--out {out} cannot be written: {error}") from error


def keep_plugins(runs: Sequence[PlannedRun], out: Location) -> None:
    """Store the code of the plug-ins that runs use in the results folder.

    Raises:
        UserError: It cannot be written.
    """
    specs = [run.spec for run in runs]
    used = {(plugins.objectives, one.objective) for one in specs if one.objective_digest}
    used |= {(plugins.methods, v.method) for one in specs if (v := one.variant) and v.code_digest}
    try:
        plugins.keep(out, used)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from error


def keep_weights(
    training: TrainingChoice,
    dataset: datasets.Dataset,
    networks: Mapping[str, models.Identity],
    out: Location,
    missing: Sequence[PlannedRun],
) -> None:
    """Store the initial weights of the runs in the results folder.

    Files are read again, rather than kept in memory from planning to the end of the sweep.
    """
    named = (run.spec.initial_weights for run in missing)
    wanted = {digest for digest in named if digest is not None}
    given = given_weights(training, dataset, networks) if wanted else NO_WEIGHTS
    every = (given.teachers, *given.students.values())
    found = {one.digest: one for one in every if one is not None}
    if wanted - found.keys():
        files = (training.teacher_weights, training.student_weights)
        changed = " or ".join(str(file) for file in files if file is not None)
        raise UserError(f"the initial weights in {changed} have changed since the check")
    try:
        for digest in wanted & found.keys():
            initial_weights.keep(out, found[digest])
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from error


def keep_teacher(
    training: TrainingChoice, dataset: datasets.Dataset, out: Location, digest: str | None
) -> None:
    """Store the logits of a teacher without a network, if there is one, in the results folder.

    They stay there, because its artifacts need them.
    """
    if digest is None or given_logits.is_kept(out, digest):
        return
    given = given_teacher(training, dataset)
    assert given is not None
    if given.digest != digest:
        raise UserError(f"the logits in {training.teacher_logits} have changed since the check")
    try:
        given_logits.keep(out, given)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from error


def tidy(out: Location, plan: Plan, hopeless: Sequence[PlannedRun]) -> None:
    """Delete files that only running trainings need, including those of dead processes.

    Pruned runs keep their checkpoints, from which they can continue.
    """
    kept = {run.run_id for run in hopeless}
    named = [name for run in plan.runs for name in (run.run_id, run.spec.initial_weights)]
    names = [name for name in named if name and name not in kept]
    for folder in (checkpoints.FOLDER, ANSWERS, initial_weights.FOLDER):
        bundles.forget(out / folder, names)


def prediction_bytes(dataset: datasets.Dataset, keep: Kept | None) -> int:
    """Return the approximate disk space for the predictions of one run."""
    images: dict[Split, int] = {"val": len(dataset.val), "test": len(dataset.test)}
    return predictions.bytes_per_run(keep, images, dataset.classes)


def bytes_needed(
    settings: Settings,
    dataset: datasets.Dataset,
    missing: Sequence[PlannedRun],
    asked: TeacherPass,
    cluster: Cluster,
    per_trial: PerTrial,
) -> int:
    """Return the disk space for weights, logits, checkpoints, initial weights, Ray and logs."""
    networks = {settings.teacher_architecture, *settings.student_architectures} - {GIVEN_LOGITS}
    parameters = max(map(models.parameters, networks))
    iterates = settings.multipliers.averaged_iterates or 1
    images, classes = len(dataset.train), dataset.classes
    table = table_bytes(settings.recipe, images, classes) if asked == "table" else 0
    answers = table + (images + len(dataset.val)) * classes * 4
    if settings.given_logits is not None:
        answers = (images + len(dataset.val) + len(dataset.test)) * classes * 4
    teachers = len({run.spec.teacher.run_id for run in missing if run.spec.teacher is not None})
    weights = parameters * 4 * iterates
    side_by_side = max(per_trial.teachers, per_trial.students)
    saved = 2 * cluster.slots * side_by_side * (2 * weights + parameters * 4)
    digests = {settings.initial_weights, *settings.student_initial_weights.values()} - {None}
    given = parameters * 4 * len(digests)
    runs = len(missing) * (weights + 200_000)
    tables = answers * (teachers if settings.given_logits is None else 1)
    return runs + tables + saved + given + 100_000_000
