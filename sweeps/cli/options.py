"""The options of ``pareto.py``: one typed field and one help line each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from analysis.selection.rule_options import Rule
from rkd_core.specs import Normalization
from sweeps.search.strategies import STRATEGIES

__all__ = [
    "DataChoice",
    "Display",
    "Economy",
    "Grid",
    "Machine",
    "Options",
    "SelectionChoice",
    "Tracking",
    "TrainingChoice",
]

# Unset means: what goes with the data set and the scale. The help says so in words, so tyro's own
# "{None}|" and "(default: None)" are left out.
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalName = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
OptionalPlace = Annotated[str | None, tyro.conf.arg(metavar="PATH|URL", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
OptionalFloats = Annotated[
    tuple[float, ...] | None, tyro.conf.arg(metavar="FLOAT ...", help_behavior_hint="")
]

_FLAT = tyro.conf.arg(name="")  # --alphas, not --grid.alphas

_SEARCHES = {"grid": "every student"} | {name: s.description for name, s in STRATEGIES.items()}
_SEARCH = tyro.conf.arg(
    metavar=f"{{{','.join(_SEARCHES)}}}",
    help="; ".join(f"{name}: {description}" for name, description in _SEARCHES.items()),
)


@dataclass(frozen=True)
class DataChoice:
    """What to train on."""

    dataset: str = "digits"
    """digits, cifar10, cifar100, tiny-imagenet, imagenet, each also with -lt; or a folder of
    images (ImageFolder layout, or Hugging Face style Parquet)"""
    data_dir: OptionalPath = None
    """where to look for a named set first; then $RKD_DATA_DIR, then the cache folder"""
    train_list: OptionalFile = None
    """train on what this text file lists, an image and its label on each line, such as
    ImageNet_LT_train.txt; paths start from the folder that --dataset is"""
    test_list: OptionalFile = None
    """the same for the original test set; goes with --train-list"""
    val_list: OptionalFile = None
    """the same for a validation set; without it, the test set is halved"""
    label_column: OptionalName = None
    """column of Parquet that holds the labels, where there is a choice"""
    image_column: OptionalName = None
    """column of Parquet that holds the images, where there is a choice"""
    classes: OptionalInt = None
    """train and test on so many of the classes, drawn at random, such as ImageNet-100"""
    class_seed: int = 0
    """seed of that draw"""
    imbalance: OptionalFloat = None
    """largest class over smallest (-lt sets: 100, digits-lt: 20)"""
    profile: Literal["exponential", "step"] = "exponential"
    """how class sizes fall from the first to the last class"""
    limit_train: OptionalInt = None
    """train on a class-proportional subset of this many images, for quick tries"""
    image_size: OptionalInt = None
    """resize and centre-crop every image to this many pixels a side"""
    stratified: bool = False
    """halve each class of the test set into validation and test, rather than the whole set; for a
    data set without a validation set of its own"""
    split_seed: int = 0
    """seed of that halving"""
    subset_seed: int = 0
    """seed of the choice of images for a long tail or a limit"""
    skip_bad_images: bool = False
    """count images that cannot be decoded and go on without them"""


@dataclass(frozen=True)
class Grid:
    """Which trainings: a teacher for each objective, and on each teacher every student."""

    alphas: OptionalFloats = None
    """trade-offs of teachers and students: 0 is balanced, 1 is robust; standard is always there"""
    temperatures: OptionalFloats = None
    """temperatures of the teacher's probabilities"""
    seeds: tuple[int, ...] = (0,)
    """repeat the whole grid with each seed"""
    repeat: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="TEACHER/STUDENT/T=N ...", help_behavior_hint="")
    ] = ()
    """train N seeds more of these combinations, such as standard/0.5/3=2: those that are still
    undecided, as analysis.select --target-regret names them"""
    methods: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...|all")] = "tradeoff"
    """methods of distillation, each at its own small grid or, as dkd:others_weight=2, at the
    options given, on the standard teacher; tradeoff is the grid of teachers and students, and
    standard distillation is always there"""


@dataclass(frozen=True)
class Economy:
    """Fewer trainings for the same answer; see docs/budget.md."""

    search: Annotated[str, _SEARCH] = "grid"
    budget: Annotated[str | None, tyro.conf.arg(metavar="40%|2h|90min", help_behavior_hint="")] = (
        None
    )
    """what a search may spend, of the whole grid's cost or of time (default: 25%); without
    --search, it is an informed one"""
    sampler: Literal["tpe", "gp", "nsga2", "nsga3", "random"] = "tpe"
    """Optuna's sampler"""
    objectives: Literal["constrained", "pareto"] = "constrained"
    """what Optuna maximises: worst-class accuracy under the constraint on the average, or both"""
    continuous: bool = False
    """let Optuna propose students' trade-offs and temperatures between those of the grid"""
    tune: tuple[Literal["learning-rate", "weight-decay", "multiplier-step-size"], ...] = ()
    """let Optuna propose these of students' recipes, too, up to five times as much or as little"""
    prune: bool = False
    """stop students that are hopeless at a quarter or half of their epochs; the same command
    without it goes on with them"""
    teachers: Literal["trained", "shifted", "head", "warm"] = "trained"
    """where teachers of other trade-offs come from: each is trained; the standard one's logits are
    shifted, which costs nothing; its classifier alone is trained on; or each is trained on from
    its neighbour, for a fraction of the epochs"""


@dataclass(frozen=True)
class TrainingChoice:
    """How one training goes; what is left out comes with the data set and the scale."""

    scale: Annotated[
        Literal["paper", "small"] | None,
        tyro.conf.arg(metavar="paper|small", help_behavior_hint=""),
    ] = None
    """paper: the papers' networks and epochs (default where there is a GPU); small: what two
    cores finish in about an hour (default elsewhere)"""
    teacher_architecture: OptionalName = None
    """network of the teachers"""
    teacher_weights: OptionalPath = None
    """weight file (state dict or checkpoint of torch.save, or safetensors; tensors named as by
    torchvision or by this program) that every teacher starts from; needs --teacher-architecture.
    The classifier is replaced if the number of classes differs"""
    teacher_epochs: OptionalInt = None
    """epochs of the teachers, if not those of every training; 0 uses --teacher-weights as they are,
    as the one, standard teacher"""
    teacher_learning_rate: OptionalFloat = None
    """peak learning rate of the teachers, if not that of every training"""
    teacher_normalization: Annotated[
        Normalization | None,
        tyro.conf.arg(metavar="per_channel|centered|symmetric|imagenet", help_behavior_hint=""),
    ] = None
    """how the teachers' images are normalised (default: as torchvision's weights want it, else as
    the recipe says)"""
    student_architecture: OptionalName = None
    """network of the students"""
    recipe: OptionalName = None
    """named recipe: optimiser, schedule, augmentation"""
    epochs: OptionalInt = None
    """epochs of every training; the recipe's schedule is rescaled to them"""
    batch_size: OptionalInt = None
    """images per step"""
    learning_rate: OptionalFloat = None
    """peak learning rate"""
    weight_decay: OptionalFloat = None
    """weight decay"""
    multiplier_step_size: OptionalFloat = None
    """step size of the multipliers' exponentiated gradient"""
    multiplier_period: Annotated[
        int | Literal["epoch"] | None,
        tyro.conf.arg(metavar="INT|epoch", help_behavior_hint=""),
    ] = None
    """SGD steps between multiplier updates, or "epoch" for one an epoch"""
    val_labels: Literal["teacher", "true"] = "teacher"
    """whose validation labels a student's multipliers go by"""
    averaged_iterates: OptionalInt = None
    """robust and trade-off models are the mean logits of this many iterates, not the last one"""
    scale_by_classes: bool = False
    """put the factor 1/m of eq. 9 into the margin loss"""


@dataclass(frozen=True)
class SelectionChoice(Rule):
    """Which student to ship."""


def _annotate() -> None:
    """Give tyro the help lines of the rule's fields, and let it append repeated options."""
    hints = get_type_hints(Rule)
    for one in fields(Rule):
        about = one.metadata
        texts = tyro.conf.arg(
            help=about["help"], metavar=about.get("metavar"), help_behavior_hint=""
        )
        hint: Any = hints[one.name]
        if about.get("action") == "append":
            hint = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
        SelectionChoice.__annotations__[one.name] = Annotated[hint, texts]


_annotate()


@dataclass(frozen=True)
class Machine:
    """Where it runs; none of this changes what is trained."""

    out: OptionalPlace = None
    """results: a folder, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX (default: results/DATASET)"""
    cpus_per_trial: OptionalFloat = None
    """CPU cores and threads of one trial (default: 1; with --serial $OMP_NUM_THREADS, or all
    cores)"""
    gpus_per_trial: OptionalFloat = None
    """GPUs of one trial, fractions allowed (default: 1 where there are GPUs)"""
    max_concurrent: OptionalInt = None
    """trials at a time (default: as many as fit)"""
    students_per_trial: OptionalInt = None
    """trainings side by side in one trial (default: on a GPU as many as pay and fit its
    memory; on CPUs 1, or 4 where the teacher is asked live)"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """arithmetic of the forward and backward passes; auto: bfloat16 where the hardware has it"""
    checkpoint_every: OptionalInt = None
    """epochs between checkpoints of a training (default: one when a minute has passed)"""
    validate_every: OptionalInt = None
    """epochs between looks at validation that records keep, for learning curves (default: up to
    ten looks, where they cost little)"""
    max_failures: int = 2
    """how often a training that fails, diverges or loses its process is begun again"""
    hang_timeout: float = 600
    """seconds without a step, or 20 times the usual step if that is longer, after which a training
    is ended and retried; 0: never"""
    address: OptionalName = None
    """Ray cluster to join, such as "auto" (default: start Ray on this machine)"""
    storage: OptionalPlace = None
    """where Ray keeps its own files (default: OUT/ray)"""
    serial: bool = False
    """no Ray: one training after the other in this process, for debugging"""

    @property
    def cpus(self) -> float:
        """Return the number of CPU cores of one trial on Ray."""
        return 1.0 if self.cpus_per_trial is None else self.cpus_per_trial


@dataclass(frozen=True)
class Tracking:
    """Where the figures of trainings are sent as well."""

    mlflow: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar="[URI]", help_behavior_hint="")
    ] = None
    """log to MLflow, at this tracking URI (default: $MLFLOW_TRACKING_URI, or what MLflow takes)"""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT", help_behavior_hint="")] = None
    """log to this project of Weights & Biases"""


@dataclass(frozen=True)
class Display:
    """What is shown."""

    dry_run: bool = False
    """print the plan and what it would cost, train nothing"""
    calibrate: bool = False
    """measure the speed of this machine for a few seconds to estimate the time"""
    watch: bool = False
    """serve the report while trainings run, to this machine alone"""
    quiet: bool = False
    """print only the result and errors"""
    list: bool = False
    """print the data sets, methods, networks and recipes with a line each"""


@dataclass(frozen=True)
class Options:
    """Search for the teacher and student trade-offs that keep every class working.

    Trains a teacher for each objective and, on each teacher, a student for each objective and
    temperature; then selects the student with the best validation worst-class accuracy among
    those whose average accuracy is that of standard distillation or better, within the noise.
    Run the same command again to continue: nothing that is finished is trained twice.
    """

    data: Annotated[DataChoice, _FLAT] = field(default_factory=DataChoice)
    grid: Annotated[Grid, _FLAT] = field(default_factory=Grid)
    economy: Annotated[Economy, _FLAT] = field(default_factory=Economy)
    training: Annotated[TrainingChoice, _FLAT] = field(default_factory=TrainingChoice)
    selection: Annotated[SelectionChoice, _FLAT] = field(default_factory=SelectionChoice)
    machine: Annotated[Machine, _FLAT] = field(default_factory=Machine)
    tracking: Annotated[Tracking, _FLAT] = field(default_factory=Tracking)
    display: Annotated[Display, _FLAT] = field(default_factory=Display)
