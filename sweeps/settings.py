"""Options checked and resolved: everything a plan needs, nothing left to a default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from rkd_core import datasets, models, recipes
from rkd_core.class_groups import is_long_tailed
from rkd_core.datasets.columns import Columns
from rkd_core.datasets.paths import escaped, is_unicode
from rkd_core.errors import UserError, require, unknown_name
from rkd_core.files import is_local, location
from rkd_core.models import Pretrained
from rkd_core.specs import DataOptions, HoldoutRule, MultiplierOptions, Recipe
from sweeps import methods
from sweeps.economy import check_economy, check_temperature
from sweeps.options import Options, TrainingChoice
from sweeps.repeats import Repeat, repeats
from sweeps.scales import Defaults, Scale, defaults_for
from sweeps.tracking import check_tracking

__all__ = ["Settings", "check", "data_options", "load_data", "resolve", "teacher_weights"]

_SHARE = 0.01  # of a CPU or a GPU; a hundred trainings on one are more than enough


@dataclass(frozen=True)
class Settings:
    """What one sweep trains: resolved, and independent of machine and place."""

    dataset: str
    data: DataOptions
    scale: Scale
    teacher_architecture: str
    student_architecture: str
    recipe_name: str
    recipe: Recipe
    multipliers: MultiplierOptions
    scale_by_classes: bool
    alphas: tuple[float, ...]
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]
    methods: tuple[str, ...] = (methods.DEFAULT,)
    repeats: tuple[Repeat, ...] = ()
    teachers: Literal["trained", "shifted", "head", "warm"] = "trained"
    teacher_recipe: Recipe | None = None
    """None: that of the students."""
    initial_weights: str | None = None
    """SHA-256 of the file that teachers start from."""
    classes: int | None = None
    """Number of classes; None where plans do not depend on it."""

    @property
    def teaching(self) -> Recipe:
        """The recipe of the teachers; without epochs, there is but the standard one."""
        return self.teacher_recipe or self.recipe


def check(options: Options) -> None:
    """Refuse what is wrong whatever the data are, before anything slow is done.

    Raises:
        UserError: One line that names the option and what would be right.
    """
    data, grid, training, machine = options.data, options.grid, options.training, options.machine
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
    methods.chosen(grid.methods)
    check_economy(options)
    ratio = data.imbalance
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
    _at_least("--epochs", training.epochs, 1)
    _at_least("--teacher-epochs", training.teacher_epochs, 0)
    judged = [name for name in methods.chosen(grid.methods) if _holds_out(name)]
    require(
        training.teacher_epochs != 0 or not judged,
        f"--teacher-epochs 0 leaves no image unseen that {', '.join(judged)} could judge a teacher "
        f"by: leave {'it' if len(judged) == 1 else 'them'} out, or say NAME:holdout=validation",
    )
    _at_least("--batch-size", training.batch_size, 1)
    _at_least("--averaged-iterates", training.averaged_iterates, 2)
    _at_least("--worst-k", options.selection.worst_k, 1)
    _at_least("--max-concurrent", machine.max_concurrent, 1)
    _at_least("--students-per-trial", machine.students_per_trial, 1)
    _at_least("--checkpoint-every", machine.checkpoint_every, 1)
    _at_least("--validate-every", machine.validate_every, 1)
    _at_least("--max-failures", machine.max_failures, 0)
    _at_least("--hang-timeout", machine.hang_timeout, 0)
    if training.multiplier_period != "epoch":
        _at_least("--multiplier-period", training.multiplier_period, 1)
    for flag, value, low in (
        ("--learning-rate", training.learning_rate, "above 0"),
        ("--teacher-learning-rate", training.teacher_learning_rate, "above 0"),
        ("--weight-decay", training.weight_decay, "0 or more"),
        ("--multiplier-step-size", training.multiplier_step_size, "above 0"),
    ):
        good = value is None or (
            math.isfinite(value) and (value > 0 if low == "above 0" else value >= 0)
        )
        require(good, f"{flag} must be {low}, not {value}")
    margin = options.selection.margin
    require(
        margin is None or 0 <= margin <= 1,
        f"--margin is a fraction of accuracy from 0 to 1, such as 0.01, not {margin}",
    )
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
    for flag, architecture in (
        ("--teacher-architecture", training.teacher_architecture),
        ("--student-architecture", training.student_architecture),
    ):
        _known(flag, architecture, models.architectures())
    require(
        training.teacher_epochs != 0 or training.teacher_weights is not None,
        "--teacher-epochs 0 needs --teacher-weights, the weights that are used as they are",
    )
    require(
        training.teacher_weights is None or training.teacher_architecture is not None,
        "--teacher-weights needs --teacher-architecture, the network that they are of",
    )
    if training.recipe is not None:
        recipes.get(training.recipe)
    require(
        machine.address is None or not options.display.calibrate,
        "--calibrate measures this machine, not a cluster: leave it out with --address",
    )
    for flag, text in (
        ("--dataset", data.dataset),
        ("--out", machine.out),
        ("--storage", machine.storage),
        ("--address", machine.address),
    ):
        require(text is None or text.strip() != "", f"{flag} is empty")
    _known_place("--out", machine.out)
    _known_place("--storage", machine.storage)
    check_tracking(options.tracking, machine.serial)
    folder = data.data_dir
    if folder is not None:
        try:
            require(folder.exists(), f"--data-dir {folder} does not exist")
            require(folder.is_dir(), f"--data-dir {folder} is not a folder")
        except OSError as error:
            raise UserError(f"--data-dir {folder} cannot be read: {error.strerror}") from error


def data_options(options: Options) -> DataOptions:
    """How the data are cut, with the imbalance that goes with an ``-lt`` name."""
    data = options.data
    ratio = data.imbalance
    if ratio is None:
        ratio = datasets.default_imbalance(data.dataset)
    return DataOptions(
        classes=data.classes,
        class_seed=data.class_seed,
        imbalance=ratio,
        profile=data.profile,
        limit_train=data.limit_train,
        subset_seed=data.subset_seed,
        image_size=data.image_size,
        split_seed=data.split_seed,
        stratified=data.stratified,
    )


def load_data(options: Options) -> datasets.Dataset:
    """Load the data set that the options name.

    Raises:
        UserError: The data are bad input; the line says what would be right.
    """
    data = options.data
    return datasets.load(
        data.dataset,
        data_options(options),
        data_dir=data.data_dir,
        train_list=data.train_list,
        test_list=data.test_list,
        val_list=data.val_list,
        columns=Columns(data.label_column, data.image_column),
        skip_bad_images=data.skip_bad_images,
    )


def teacher_weights(training: TrainingChoice, dataset: datasets.Dataset) -> Pretrained | None:
    """The weights that teachers start from; None where they are drawn.

    Raises:
        UserError: The file is not of the teachers' network, or cannot be used as it is.
    """
    path, architecture = training.teacher_weights, training.teacher_architecture
    if path is None or architecture is None:
        return None
    try:
        weights = models.read_pretrained(
            path, architecture, dataset.classes, dataset.channels, dataset.image_size
        )
    except UserError as error:
        raise UserError(f"--teacher-weights {error}") from None
    require(
        training.teacher_epochs != 0 or weights.classes == dataset.classes,
        f"--teacher-epochs 0: {path} tells {weights.classes} classes apart, {dataset.name} has "
        f"{dataset.classes}; its classifier has to be made anew and trained",
    )
    return weights


def resolve(
    options: Options, dataset: datasets.Dataset, gpu: bool, weights: Pretrained | None = None
) -> Settings:
    """Options with the defaults of the data set and the scale filled in.

    Args:
        options: Checked options.
        dataset: The data; their size decides some defaults.
        gpu: Whether a GPU is at hand, which makes ``paper`` the default scale.
        weights: That teachers start from.

    Raises:
        UserError: Options that do not go together.
    """
    training, grid = options.training, options.grid
    scale: Scale = training.scale or ("paper" if gpu else "small")
    data = data_options(options)
    name = options.data.dataset
    base = name.removesuffix("-lt") if name in datasets.names() else None
    listed = options.data.train_list is not None  # whatever tail is in the list
    long_tailed = listed and is_long_tailed(dataset.class_counts("train").tolist())
    defaults = defaults_for(
        base,
        long_tailed or data.imbalance is not None,
        dataset.image_size,
        len(dataset.train),
        scale,
    )
    recipe_name = training.recipe or defaults.recipe
    try:
        recipe = _recipe(recipe_name, training, None if training.recipe else defaults.epochs)
        teaching = _teaching(recipe, training, dataset, weights)
        multipliers = _multipliers(training, defaults)
        averaged = multipliers.averaged_iterates
        fewest = min(recipe.epochs, teaching.epochs or recipe.epochs)
        if averaged is not None and averaged > fewest:
            raise UserError(f"--averaged-iterates {averaged} exceeds the {fewest} epochs")
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    worst_k = options.selection.worst_k
    require(
        worst_k <= dataset.classes,
        f"--worst-k {worst_k} exceeds the {dataset.classes} classes of {dataset.name}",
    )
    return Settings(
        dataset=dataset.name,
        data=data,
        scale=scale,
        teacher_architecture=training.teacher_architecture or defaults.teacher_architecture,
        student_architecture=training.student_architecture or defaults.student_architecture,
        recipe_name=recipe_name,
        recipe=recipe,
        multipliers=multipliers,
        scale_by_classes=training.scale_by_classes,
        alphas=tuple(sorted(a + 0.0 for a in grid.alphas or defaults.alphas)),  # -0.0 is 0
        temperatures=tuple(sorted(grid.temperatures or defaults.temperatures)),
        seeds=grid.seeds,
        methods=methods.chosen(grid.methods),
        repeats=repeats(grid.repeat),
        teachers=options.economy.teachers,
        teacher_recipe=teaching,
        initial_weights=None if weights is None else weights.digest,
        classes=dataset.classes,
    )


def _recipe(name: str, training: TrainingChoice, default_epochs: int | None) -> Recipe:
    changes = {
        "epochs": training.epochs or default_epochs,
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
    }
    fields = recipes.get(name).model_dump()
    return Recipe(**(fields | {k: v for k, v in changes.items() if v is not None}))


def _teaching(
    recipe: Recipe,
    training: TrainingChoice,
    dataset: datasets.Dataset,
    weights: Pretrained | None,
) -> Recipe:
    """The teachers' recipe. Published weights are of color images, normalised in their own way."""
    color = dataset.channels == 3
    require(
        color or training.teacher_normalization != "imagenet",
        f"--teacher-normalization imagenet is for color images, and {dataset.name} is grey",
    )
    published = weights.normalization if weights is not None and color else None
    changes = {
        "epochs": training.teacher_epochs,
        "learning_rate": training.teacher_learning_rate,
        "normalization": training.teacher_normalization or published,
    }
    return Recipe(**(recipe.model_dump() | {k: v for k, v in changes.items() if v is not None}))


def _multipliers(training: TrainingChoice, defaults: Defaults) -> MultiplierOptions:
    fields = defaults.multipliers.model_dump()
    fields |= {
        "val_labels": training.val_labels,
        "averaged_iterates": training.averaged_iterates,
    }
    if training.multiplier_step_size is not None:
        fields["step_size"] = training.multiplier_step_size
    if training.multiplier_period is not None:
        period = training.multiplier_period
        fields["period"] = None if period == "epoch" else period
    return MultiplierOptions(**fields)


def _holds_out(name: str) -> bool:
    return any(isinstance(m.needs.holdout, HoldoutRule) for m in methods.variants(name))


def _at_least(flag: str, value: float | None, low: int) -> None:
    require(value is None or value >= low, f"{flag} must be {low} or more, not {value}")


def _no_duplicates(flag: str, values: Sequence[float]) -> None:
    repeated = [value for value in values if list(values).count(value) > 1]
    require(not repeated, f"{flag} names {repeated[0] if repeated else ''} twice")


def _known(flag: str, name: str | None, known: dict[str, str]) -> None:
    if name is not None and name not in known:
        raise unknown_name(flag, name, known)


def _known_place(flag: str, place: str | None) -> None:
    try:
        folder = location(place or ".")
        whole = str(folder.absolute() if is_local(folder) else folder)
        require(
            is_unicode(whole),
            f"{escaped(whole)} has bytes that are not UTF-8: give another folder",
        )
    except UserError as error:
        raise UserError(f"{flag} {error}") from None
