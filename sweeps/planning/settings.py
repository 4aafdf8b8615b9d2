"""Settings of a sweep: options with all defaults resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pydantic import ValidationError

from rkd_core import datasets, models
from rkd_core.datasets.array_set import check_recipe
from rkd_core.datasets.readers.parquet_columns import Columns
from rkd_core.errors import UserError, require
from rkd_core.metrics.class_groups import is_long_tailed
from rkd_core.models import Pretrained
from rkd_core.specs import GIVEN_LOGITS, DataOptions, MultiplierOptions, Recipe, recipes
from sweeps.cli import method_names
from sweeps.cli.budget import search_of
from sweeps.cli.flags import augmentation, errors_as_flags
from sweeps.cli.options import Grid, Options, TrainingChoice
from sweeps.cli.repeats import Repeat, repeats
from sweeps.planning.defaults import Defaults, Scale, defaults_for
from sweeps.planning.networks import (
    NO_WEIGHTS,
    Weights,
    student_architectures,
    teacher_architecture,
)

__all__ = [
    "GivenData",
    "Settings",
    "data_options",
    "load_data",
    "resolve",
]

_MIXED = (
    "--teacher-logits has no logits of mixed images: leave out mixup and cutmix (--augmentation)"
)
_ONE_CYCLE_WARMUP = 0.3  # as in ``torch.optim.lr_scheduler.OneCycleLR``


@dataclass(frozen=True)
class Settings:
    """Resolved settings of the trainings of a sweep, independent of machine and folder."""

    dataset: str
    data: DataOptions
    scale: Scale
    teacher_architecture: str
    student_architectures: tuple[str, ...]
    """Networks of the students; each trains every student."""
    recipe_name: str
    recipe: Recipe
    multipliers: MultiplierOptions
    scale_by_classes: bool
    alphas: tuple[float, ...]
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]
    methods: tuple[str, ...] = (method_names.DEFAULT,)
    repeats: tuple[Repeat, ...] = ()
    undistilled: bool = False
    """Whether students without a teacher are part of the plan."""
    teachers: Literal["trained", "shifted", "head", "warm"] = "trained"
    teacher_recipe: Recipe | None = None
    """Recipe of the teachers; None for that of the students."""
    initial_weights: str | None = None
    """SHA-256 of the file of initial weights of the teachers."""
    student_initial_weights: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the initial weights of students, by architecture."""
    classes: int | None = None
    """Number of classes; None if the plan does not depend on it."""
    given_logits: str | None = None
    """Digest of the logits of a teacher without a network."""
    network_digests: Mapping[str, str] = field(default_factory=dict)
    """``network_digest`` of each network from outside the registry, by architecture."""

    @property
    def teaching(self) -> Recipe:
        """The recipe of the teachers."""
        return self.teacher_recipe or self.recipe

    @property
    def all_teachers(self) -> bool:
        """Whether there are teachers of all trade-offs, not only the standard one."""
        return self.teaching.epochs > 0 or self.given_logits is not None


@dataclass(frozen=True)
class GivenData:
    """Data in memory, as ``rkd_core.datasets.from_data`` takes them."""

    data: Any
    name: str
    class_names: tuple[str, ...] | None = None


def data_options(options: Options) -> DataOptions:
    """Return the data options, with the default imbalance of an ``-lt`` name."""
    data = options.data
    ratio = data.imbalance
    if ratio is None:
        ratio = datasets.default_imbalance(data.dataset)
    fractions = {"val_fraction": data.val_fraction, "test_fraction": data.test_fraction}
    return DataOptions(
        **{name: share for name, share in fractions.items() if share is not None},
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


def load_data(
    options: Options, given: GivenData | None = None, cut: DataOptions | None = None
) -> datasets.Dataset:
    """Load the data set that the options name, or split data in memory.

    Args:
        options: Options of a sweep.
        given: Data in memory.
        cut: How to cut and split the data; None for what the options say.

    Raises:
        UserError: The data cannot be used; the message states what would be right.
    """
    data = options.data
    with errors_as_flags():
        if given is not None:
            return datasets.from_data(
                given.data,
                data_options(options),
                name=given.name,
                class_names=given.class_names,
                columns=Columns(data.label_column, data.image_column),
                as_arrays=data.as_arrays,
                skip_bad_images=data.skip_bad_images,
            )
        return datasets.load(
            data.dataset,
            cut or data_options(options),
            data_dir=data.data_dir,
            train_list=data.train_list,
            test_list=data.test_list,
            val_list=data.val_list,
            columns=Columns(data.label_column, data.image_column),
            as_arrays=data.as_arrays,
            skip_bad_images=data.skip_bad_images,
        )


def resolve(
    options: Options,
    dataset: datasets.Dataset,
    gpu: bool,
    weights: Weights = NO_WEIGHTS,
    networks: Mapping[str, models.Identity] = MappingProxyType({}),
    given_logits: str | None = None,
) -> Settings:
    """Resolve options with the defaults of the data set and the scale.

    Args:
        options: Checked options.
        dataset: Data set; some defaults depend on its size.
        gpu: Whether there is a GPU, which makes ``paper`` the default scale.
        weights: Initial weights of teachers and students.
        networks: Networks from outside the registry, see ``given_networks``.
        given_logits: Digest of the logits of a teacher without a network.

    Raises:
        UserError: Options are mutually exclusive or do not fit the data set.
    """
    training, grid = options.training, options.grid
    scale: Scale = training.scale or ("paper" if gpu else "small")
    data = data_options(options)
    name = options.data.dataset
    base = name.removesuffix("-lt") if name in datasets.names() else None
    listed = options.data.train_list is not None  # a list may be long-tailed itself
    long_tailed = listed and is_long_tailed(dataset.class_counts("train").tolist())
    defaults = defaults_for(
        base,
        long_tailed or data.imbalance is not None,
        dataset.image_size,
        len(dataset.train),
        scale,
        arrays=not dataset.of_images,
    )
    recipe_name = training.recipe or defaults.recipe
    try:
        recipe = _recipe(recipe_name, training, None if training.recipe else defaults.epochs)
        _check_augmentation(recipe, grid, dataset)
        teaching = _teaching(recipe, training, dataset, weights.teachers)
        for own in weights.students.values():
            recipe = _normalized(recipe, dataset, own)
        if given_logits is not None:
            require(not recipe.augmentation.mixes, _MIXED)
            teaching = Recipe(epochs=0)
        for one in () if dataset.of_images else (recipe, teaching):
            check_recipe(one, dataset.name)
        multipliers = _multipliers(training, defaults)
        averaged = multipliers.averaged_iterates
        fewest = min(recipe.epochs, teaching.epochs or recipe.epochs)
        if averaged is not None and averaged > fewest:
            raise UserError(f"--averaged-iterates {averaged} exceeds the {fewest} epochs")
        require(
            averaged is None or recipe.ema_decay is None,
            "--averaged-iterates and --ema-decay both average: choose one",
        )
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    worst_k = options.selection.worst_k
    require(
        worst_k <= dataset.classes,
        f"--worst-k {worst_k} exceeds the {dataset.classes} classes of {dataset.name}",
    )
    named = training, defaults, networks, dataset
    teacher = teacher_architecture(*named) if given_logits is None else GIVEN_LOGITS
    return Settings(
        dataset=dataset.name,
        data=data,
        scale=scale,
        teacher_architecture=teacher,
        student_architectures=student_architectures(*named),
        recipe_name=recipe_name,
        recipe=recipe,
        multipliers=multipliers,
        scale_by_classes=training.scale_by_classes,
        alphas=tuple(sorted(a + 0.0 for a in grid.alphas or defaults.alphas)),  # no -0.0
        temperatures=tuple(sorted(grid.temperatures or defaults.temperatures)),
        seeds=grid.seeds,
        methods=method_names.chosen(grid.methods),
        repeats=repeats(grid.repeat),
        undistilled=grid.undistilled and search_of(options.economy) is None,
        teachers=options.economy.teachers if given_logits is None else "shifted",
        teacher_recipe=teaching,
        initial_weights=None if weights.teachers is None else weights.teachers.digest,
        student_initial_weights={name: own.digest for name, own in weights.students.items()},
        classes=dataset.classes,
        given_logits=given_logits,
        network_digests={one.architecture: one.digest for one in networks.values()},
    )


def _recipe(name: str, training: TrainingChoice, default_epochs: int | None) -> Recipe:
    recipe = recipes.get(name)
    changes = {
        **_optimizer(recipe, training),
        **_schedule(recipe, training),
        **_augmentation(training),
        "epochs": training.epochs or default_epochs,
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "gradient_clip": training.gradient_clip,
        "ema_decay": training.ema_decay,
        "label_smoothing": training.label_smoothing,
    }
    return _changed(recipe, changes)


def _optimizer(recipe: Recipe, training: TrainingChoice) -> dict[str, Any]:
    """Return the changes to the optimizer of a recipe; another one starts from its own defaults."""
    chosen = training.optimizer or recipe.optimizer
    require(
        training.betas is None or chosen == "adamw",
        "--betas is for --optimizer adamw",
    )
    changes: dict[str, Any] = {"betas": training.betas}
    if chosen != recipe.optimizer:
        require(
            training.learning_rate is not None,
            f"--optimizer {chosen} needs --learning-rate: that of the recipe is for "
            f"{recipe.optimizer}",
        )
        others = ("momentum", "nesterov", "betas", "epsilon")
        defaults = {name: Recipe.model_fields[name].default for name in others}
        changes = defaults | {k: v for k, v in changes.items() if v} | {"optimizer": chosen}
    return changes


def _schedule(recipe: Recipe, training: TrainingChoice) -> dict[str, Any]:
    """Return the changes to the learning-rate schedule of a recipe."""
    chosen = training.lr_schedule or recipe.schedule
    changes: dict[str, Any] = {"warmup": training.warmup, "milestones": training.milestones}
    require(
        training.milestones is None or chosen == "step",
        "--milestones is for --lr-schedule step",
    )
    if chosen != recipe.schedule:
        require(
            training.milestones is not None or chosen != "step",
            "--lr-schedule step needs --milestones, such as 0.5 0.75",
        )
        changes |= {"schedule": chosen, "milestones": training.milestones or ()}
        if chosen == "one_cycle" and training.warmup is None:
            changes["warmup"] = _ONE_CYCLE_WARMUP
    return changes


def _augmentation(training: TrainingChoice) -> dict[str, Any]:
    """Return the changes to the augmentation; a random resized crop replaces a padded one."""
    if training.augmentation is None:
        return {}
    chosen = augmentation(training.augmentation)
    crop = {} if chosen.random_resized_crop is None else {"crop_padding": 0, "crop_fill": 0.0}
    return {"augmentation": chosen.model_dump(), **crop}


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """Return a recipe with the changes that are not None."""
    return Recipe(**(recipe.model_dump() | {k: v for k, v in changes.items() if v is not None}))


def _check_augmentation(recipe: Recipe, grid: Grid, dataset: datasets.Dataset) -> None:
    chosen = recipe.augmentation
    unsuited = [
        name
        for name in method_names.chosen(grid.methods)
        if not all(method.mixes_labels for method in method_names.variants(name))
    ]
    require(
        not (chosen.mixes and unsuited),
        f"mixup and cutmix mix labels, which {' and '.join(unsuited)} cannot use: leave out one",
    )
    colors = chosen.randaugment is not None or chosen.trivial_augment or chosen.color_jitter
    require(
        not colors or dataset.channels in (1, 3),
        f"randaugment, trivial_augment and color_jitter are for images of 1 or 3 channels, and "
        f"{dataset.name} has {dataset.channels}",
    )


def _teaching(
    recipe: Recipe,
    training: TrainingChoice,
    dataset: datasets.Dataset,
    weights: Pretrained | None,
) -> Recipe:
    """Return the recipe of the teachers, with the normalization of published weights."""
    for place, normalization in (
        ("--teacher-normalization imagenet", training.teacher_normalization),
        ("the normalization imagenet of the recipe", recipe.normalization),
    ):
        require(
            dataset.channels == 3 or normalization != "imagenet",
            f"{place} is for color images, and {dataset.name} is grey",
        )
    recipe = _normalized(recipe, dataset, weights)
    changes = {
        "epochs": training.teacher_epochs,
        "learning_rate": training.teacher_learning_rate,
        "normalization": training.teacher_normalization,
    }
    return _changed(recipe, changes)


def _normalized(recipe: Recipe, dataset: datasets.Dataset, weights: Pretrained | None) -> Recipe:
    """Return a recipe with the normalization of published weights for color images."""
    published = weights.normalization if weights is not None and dataset.channels == 3 else None
    return _changed(recipe, {"normalization": published})


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
