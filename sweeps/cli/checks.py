"""Checks of options that do not need the data."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

from rkd_core import models
from rkd_core.datasets.readers.paths import escaped, is_unicode
from rkd_core.errors import UserError, require, unknown_name
from rkd_core.specs import HoldoutRule, recipes
from rkd_core.storage.files import location
from sweeps.cli import method_names
from sweeps.cli.economy_checks import check_economy, check_given_logits, check_temperature
from sweeps.cli.flags import augmentation
from sweeps.cli.options import DataChoice, Grid, Machine, Options, Tracking, TrainingChoice

__all__ = ["check"]

_SHARE = 0.01  # smallest share of a CPU or GPU, for at most a hundred trainings on one


def check(options: Options) -> None:
    """Check the options without the data, before any slow step.

    Raises:
        UserError: An option is wrong; the message names it and states what would be right.
    """
    _check_grid(options.grid)
    check_economy(options)
    _check_data(options.data)
    _check_training(options.training, method_names.chosen(options.grid.methods))
    check_given_logits(options)
    _at_least("--worst-k", options.selection.worst_k, 1)
    options.selection.check()
    margin = options.selection.margin or ""
    require(not margin.startswith("-"), f"--margin must be 0 or more, not {margin}")
    _check_machine(options.machine)
    require(
        options.machine.address is None or not options.display.calibrate,
        "--calibrate measures this machine, not a cluster: leave it out with --address",
    )
    _check_tracking(options.tracking, options.machine.serial)


def _check_grid(grid: Grid) -> None:
    for alpha in grid.alphas or ():
        require(0 <= alpha <= 1, f"--alphas must be in [0, 1], not {alpha}")
    for temperature in grid.temperatures or ():
        check_temperature("--temperatures", temperature)
    for seed in grid.seeds:
        require(0 <= seed < 2**31, f"--seeds must be from 0 to 2147483647, not {seed}")
    for name, values in (
        ("alphas", grid.alphas),
        ("temperatures", grid.temperatures),
        ("seeds", grid.seeds),
    ):
        require(values is None or len(values) > 0, f"--{name} needs at least one value")
        _no_duplicates(f"--{name}", values or ())


def _check_data(data: DataChoice) -> None:
    ratio, folder = data.imbalance, data.data_dir
    require(
        ratio is None or (math.isfinite(ratio) and ratio >= 1),
        f"--imbalance must be 1 or more, not {ratio}",
    )
    _at_least("--classes", data.classes, 2)
    _at_least("--class-seed", data.class_seed, 0)
    _at_least("--limit-train", data.limit_train, 1)
    _at_least("--image-size", data.image_size, 4)
    _at_least("--split-seed", data.split_seed, 0)
    _at_least("--subset-seed", data.subset_seed, 0)
    _not_empty("--dataset", data.dataset)
    for flag, share in (
        ("--val-fraction", data.val_fraction),
        ("--test-fraction", data.test_fraction),
    ):
        good = share is None or 0 < share < 1
        require(good, f"{flag} must be a share between 0 and 1, such as 0.2, not {share}")
    if folder is not None:
        try:
            require(folder.exists(), f"--data-dir {folder} does not exist")
            require(folder.is_dir(), f"--data-dir {folder} is not a folder")
        except OSError as error:
            raise UserError(f"--data-dir {folder} cannot be read: {error.strerror}") from error


def _check_training(training: TrainingChoice, methods: Sequence[str]) -> None:
    _at_least("--epochs", training.epochs, 1)
    _at_least("--teacher-epochs", training.teacher_epochs, 0)
    _at_least("--batch-size", training.batch_size, 1)
    _at_least("--averaged-iterates", training.averaged_iterates, 2)
    if training.multiplier_period != "epoch":
        _at_least("--multiplier-period", training.multiplier_period, 1)
    for flag, rate in (
        ("--learning-rate", training.learning_rate),
        ("--teacher-learning-rate", training.teacher_learning_rate),
        ("--multiplier-step-size", training.multiplier_step_size),
        ("--gradient-clip", training.gradient_clip),
    ):
        good = rate is None or (math.isfinite(rate) and rate > 0)
        require(good, f"{flag} must be above 0, not {rate}")
    decay = training.weight_decay
    good = decay is None or (math.isfinite(decay) and decay >= 0)
    require(good, f"--weight-decay must be 0 or more, not {decay}")
    for flag, shares in (
        ("--label-smoothing", (training.label_smoothing,)),
        ("--warmup", (training.warmup,)),
        ("--betas", training.betas or ()),
    ):
        for share in shares:
            require(share is None or 0 <= share < 1, f"{flag} must be 0 to below 1, not {share}")
    decay = training.ema_decay
    require(decay is None or 0 < decay < 1, f"--ema-decay must be between 0 and 1, not {decay}")
    milestones = training.milestones
    if milestones is not None:
        increasing = list(milestones) == sorted(set(milestones))
        require(
            len(milestones) > 0 and increasing and all(0 < m < 1 for m in milestones),
            "--milestones are increasing shares of the training between 0 and 1, such as 0.5 0.75",
        )
    _known_network("--teacher-architecture", training.teacher_architecture)
    students = training.student_architecture
    require(students is None or len(students) > 0, "--student-architecture names no network")
    for architecture in students or ():
        _known_network("--student-architecture", architecture)
    _no_duplicates("--student-architecture", students or ())
    require(
        training.teacher_weights is None or training.teacher_architecture is not None,
        "--teacher-weights needs --teacher-architecture, the network of the weights",
    )
    require(
        training.student_weights is None or training.student_architecture is not None,
        "--student-weights needs --student-architecture, the network of the weights",
    )
    require(
        training.student_weights is None or len(students or ()) == 1,
        "--student-weights are those of one network: give one --student-architecture",
    )
    if training.recipe is not None:
        recipes.get(training.recipe)
    if training.augmentation is not None:
        augmentation(training.augmentation)
    if training.teacher_epochs == 0:
        _check_untrained_teacher(training, methods)


def _check_untrained_teacher(training: TrainingChoice, methods: Sequence[str]) -> None:
    judged = [name for name in methods if _holds_out(name)]
    require(
        not judged,
        f"--teacher-epochs 0 leaves no unseen images to evaluate a teacher on for "
        f"{', '.join(judged)}: leave {'it' if len(judged) == 1 else 'them'} out, or pass "
        "NAME:holdout=validation",
    )
    own = training.teacher_architecture is not None and models.is_foreign(
        training.teacher_architecture
    )  # it may bring its own weights, which is known when it is built
    require(
        training.teacher_weights is not None or own,
        "--teacher-epochs 0 needs --teacher-weights, the weights to use",
    )


def _check_machine(machine: Machine) -> None:
    _at_least("--max-concurrent", machine.max_concurrent, 1)
    _at_least("--students-per-trial", machine.students_per_trial, 1)
    _at_least("--checkpoint-every", machine.checkpoint_every, 1)
    _at_least("--validate-every", machine.validate_every, 1)
    _at_least("--max-failures", machine.max_failures, 0)
    _at_least("--hang-timeout", machine.hang_timeout, 0)
    cpus, gpus = machine.cpus, machine.gpus_per_trial
    require(
        math.isfinite(cpus) and cpus >= _SHARE,
        f"--cpus-per-trial must be {_SHARE} or more, not {cpus:g}",
    )
    if gpus:
        whole = math.isfinite(gpus) and gpus >= 1 and gpus % 1 == 0
        require(
            whole or _SHARE <= gpus < 1,
            f"--gpus-per-trial must be 0, a fraction from {_SHARE} on, or whole, not {gpus:g}",
        )
    for flag, text in (
        ("--out", machine.out),
        ("--storage", machine.storage),
        ("--address", machine.address),
    ):
        _not_empty(flag, text)
    _known_place("--out", machine.out)
    _known_place("--storage", machine.storage)


def _not_empty(flag: str, text: str | None) -> None:
    require(text is None or text.strip() != "", f"{flag} is empty")


def _holds_out(name: str) -> bool:
    return any(isinstance(m.needs.holdout, HoldoutRule) for m in method_names.variants(name))


def _at_least(flag: str, value: float | None, low: int) -> None:
    require(value is None or value >= low, f"{flag} must be {low} or more, not {value}")


def _no_duplicates(flag: str, values: Sequence[object]) -> None:
    repeated = [value for value in values if list(values).count(value) > 1]
    require(not repeated, f"{flag} names {repeated[0] if repeated else ''} twice")


def _known_network(flag: str, name: str | None) -> None:
    if name is None:
        return
    if not models.is_foreign(name):
        known = models.architectures()
        if name.split("(")[0] not in known:
            raise unknown_name(flag, name, known, f", or {models.HOW_TO_NAME}")
    try:
        if models.is_foreign(name):
            models.parse_reference(name)
        else:
            models.canonical(name)
    except UserError as error:
        raise UserError(f"{flag} {error}") from None


def _known_place(flag: str, place: str | None) -> None:
    try:
        whole = str(location(place or ".").absolute())
        require(
            is_unicode(whole),
            f"{escaped(whole)} has bytes that are not UTF-8: give another folder",
        )
    except UserError as error:
        raise UserError(f"{flag} {error}") from None


def _check_tracking(choice: Tracking, serial: bool) -> None:
    """Check that the trackers can work, before any slow step.

    Raises:
        UserError: A tracker is not installed or has no name, or Ray is not used.
    """
    uri, project = choice.mlflow, choice.wandb
    for name, given in (("mlflow", uri), ("wandb", None if project is None else (project,))):
        if given is None:
            continue
        if len(given) > 1:
            raise UserError(f"--{name} takes one URI, not {len(given)}")
        if not all(text.strip() for text in given):
            raise UserError(f"--{name} is empty")
        if serial:
            raise UserError(f"--{name} goes through Ray: leave --serial out")
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of logs with that name has none
            raise UserError(
                f"--{name}: the package {name} is not installed here; pip install -e '.[{name}]'"
            )
