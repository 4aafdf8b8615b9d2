"""Options of ``pareto.py``: a typed field and a help text for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import tyro

from rkd_core.specs import Normalization
from sweeps.cli.optional_values import (
    OptionalFile,
    OptionalFloat,
    OptionalFloats,
    OptionalInt,
    OptionalName,
    OptionalNames,
    OptionalPath,
    OptionalPlace,
)
from sweeps.cli.selection_options import SelectionChoice
from sweeps.search.strategies import STRATEGIES

__all__ = [
    "DataChoice",
    "Display",
    "Economy",
    "Extensions",
    "Grid",
    "Machine",
    "Options",
    "SelectionChoice",
    "Tracking",
    "TrainingChoice",
]

Plugins = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(metavar="FILE.py|MODULE", help_behavior_hint=""),
]

_SEARCHES = {"grid": "every student"} | {name: s.description for name, s in STRATEGIES.items()}
_SEARCH = tyro.conf.arg(
    metavar=f"{{{','.join(_SEARCHES)}}}",
    help="; ".join(f"{name}: {description}" for name, description in _SEARCHES.items()),
)


@dataclass(frozen=True)
class DataChoice:
    """Data set, and how it is cut and split."""

    dataset: str = "digits"
    """digits, cifar10, cifar100, tiny-imagenet, imagenet, each also with -lt; a folder of images
    (ImageFolder layout, Hugging Face style Parquet, tar shards, or Dataset.save_to_disk); a .npz
    file or a folder of .npy files; Parquet with lists of numbers, such as embeddings; hf:NAME
    for a data set of the Hugging Face Hub; or FILE.py:FUNCTION or package.module:FUNCTION for a
    function that returns arrays or data set objects"""
    data_dir: OptionalPath = None
    """folder to search for a named data set first; then $RKD_DATA_DIR, then the cache folder"""
    train_list: OptionalFile = None
    """train on the images in this text file, an image and its label on each line, such as
    ImageNet_LT_train.txt; paths are relative to the folder --dataset"""
    test_list: OptionalFile = None
    """the same for the test set; requires --train-list"""
    val_list: OptionalFile = None
    """the same for a validation set; without it, the test set is halved"""
    label_column: OptionalName = None
    """column with the labels in Parquet and Hugging Face data, or field of the .json in tar shards,
    if there are several candidates"""
    image_column: OptionalName = None
    """column with the images in Parquet and Hugging Face data, or ending of images in tar
    shards, if there are several candidates"""
    as_arrays: bool = False
    """the data in memory, in .npz or in .npy are float arrays of any shape, not images; always so
    for rows of one dimension (embeddings, tabular features) or of four and more"""
    classes: OptionalInt = None
    """train and test on this many classes, drawn at random, such as 100 for ImageNet-100"""
    class_seed: int = 0
    """seed of the draw of the classes"""
    imbalance: OptionalFloat = None
    """size of the largest class over that of the smallest (default: 100 for -lt data sets, 20 for
    digits-lt)"""
    profile: Literal["exponential", "step"] = "exponential"
    """decrease of the class sizes from the first to the last class"""
    limit_train: OptionalInt = None
    """train on a class-proportional subset of this many images, for quick experiments"""
    image_size: OptionalInt = None
    """resize and center-crop every image to a square of this many pixels"""
    stratified: bool = False
    """split each class of the test set in half for validation and test, rather than the whole set;
    for data sets without a validation set"""
    split_seed: int = 0
    """seed of the split of the test set into validation and test"""
    val_fraction: OptionalFloat = None
    """share of each class that is set aside for validation if the data have a training set only
    (default: 0.2)"""
    test_fraction: OptionalFloat = None
    """the same for test (default: 0.2)"""
    subset_seed: int = 0
    """seed of the choice of images for --imbalance and --limit-train"""
    skip_bad_images: bool = False
    """skip and count images that cannot be decoded"""


@dataclass(frozen=True)
class Grid:
    """Grid of trainings: a teacher for each objective, and every student on each teacher."""

    alphas: OptionalFloats = None
    """trade-offs of teachers and students: 0 is balanced, 1 is robust; the standard objective is
    always included (default: 0 0.25 0.5 0.75 1; 0 0.5 1 with --scale small, except for digits)"""
    temperatures: OptionalFloats = None
    """temperatures of the teacher's probabilities (default: 1 3 5; 1 3 or 1 with --scale small,
    except for digits)"""
    seeds: tuple[int, ...] = (0,)
    """repeat the whole grid with each seed"""
    repeat: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="TEACHER/STUDENT/T=N ...", help_behavior_hint="")
    ] = ()
    """train these combinations with N further seeds, such as standard/0.5/3=2; analysis.select
    --target-regret names the combinations that are still undecided"""
    methods: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...|all")] = "tradeoff"
    """distillation methods to train on the standard teacher, each with its own small grid or with
    given options, such as dkd:others_weight=2; tradeoff is the grid of teachers and students;
    standard distillation is always included"""
    undistilled: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    """leave out the students without a teacher, one for each objective, which show whether
    distillation is worth it; a search leaves them out anyway"""


@dataclass(frozen=True)
class Economy:
    """Options that reduce the number of trainings; see docs/budget.md."""

    search: Annotated[str, _SEARCH] = "grid"
    budget: Annotated[str | None, tyro.conf.arg(metavar="40%|2h|90min", help_behavior_hint="")] = (
        None
    )
    """budget of a search, as a share of the cost of the whole grid or as time (default: 25%);
    without --search, the search is informed"""
    sampler: Literal["tpe", "gp", "nsga2", "nsga3", "random"] = "tpe"
    """sampler of Optuna"""
    objectives: Literal["constrained", "pareto"] = "constrained"
    """objective of Optuna: worst-class accuracy under a constraint on average accuracy, or both"""
    continuous: bool = False
    """let Optuna propose trade-offs and temperatures of students between those of the grid"""
    tune: Annotated[
        tuple[Literal["learning-rate", "weight-decay", "multiplier-step-size"], ...],
        tyro.conf.arg(help_behavior_hint=""),
    ] = ()
    """let Optuna tune these parameters of students by a factor of up to 5 in both directions"""
    prune: bool = False
    """stop students after a quarter or half of their epochs if they are very unlikely to be
    selected; the same command without this option continues them"""
    teachers: Literal["trained", "shifted", "head", "warm"] = "trained"
    """source of the teachers of other trade-offs. trained: train each of them; shifted: shift the
    logits of the standard teacher, without training; head: continue to train only its classifier;
    warm: continue to train the neighboring teacher, for a fraction of the epochs"""


@dataclass(frozen=True)
class TrainingChoice:
    """Networks, recipe and multipliers; the defaults depend on the data set and the scale."""

    scale: Annotated[
        Literal["paper", "small"] | None,
        tyro.conf.arg(metavar="paper|small", help_behavior_hint=""),
    ] = None
    """paper: networks and epochs of the papers (default with a GPU); small: a sweep that two CPU
    cores finish in about an hour (default without a GPU)"""
    teacher_architecture: OptionalName = None
    """network of the teachers: a name of --list, timm:NAME, torchvision:NAME, or a class or
    function, FILE.py:NAME or package.module:NAME; arguments follow as (name=value) (default: by
    data set and scale, such as digits_cnn for digits, resnet56 for cifar10 and resnet8 with --scale
    small; --dry-run shows it)"""
    teacher_weights: OptionalPath = None
    """file of initial weights of every teacher (state dict or checkpoint of torch.save, or
    safetensors; tensor names of torchvision, of this project or of the network itself); requires
    --teacher-architecture. The classifier is replaced if the number of classes differs"""
    teacher_logits: OptionalPath = None
    """folder with the logits of a teacher without a network, such as an ensemble or a remote model:
    train.npy, validation.npy and test.npy, or .parquet, with a row for each image of the original
    splits. The logits are the standard teacher, shifted ones the others; see docs/teacher.md"""
    teacher_epochs: OptionalInt = None
    """epochs of the teachers (default: --epochs); 0 uses --teacher-weights without training, as
    the only, standard teacher"""
    teacher_learning_rate: OptionalFloat = None
    """peak learning rate of the teachers (default: --learning-rate)"""
    teacher_normalization: Annotated[
        Normalization | None,
        tyro.conf.arg(metavar="per_channel|centered|symmetric|imagenet", help_behavior_hint=""),
    ] = None
    """normalization of the images of the teachers (default: the one of torchvision for its
    weights, else that of the recipe)"""
    student_architecture: OptionalNames = None
    """networks that each train every student, named as above (default: by data set and scale)"""
    student_stages: OptionalNames = None
    """modules of the student, such as layer1,layer2, whose outputs review_kd and cat_kd compare;
    see docs/networks.md"""
    teacher_stages: OptionalNames = None
    """the same for the teachers"""
    student_weights: OptionalPath = None
    """file of initial weights of every student, as for --teacher-weights; requires
    --student-architecture"""
    recipe: Annotated[
        str | None, tyro.conf.arg(metavar="NAME|FILE.toml", help_behavior_hint="")
    ] = None
    """optimizer, schedule and augmentation: the name of a recipe, or a file with one (default: by
    data set and scale; --dry-run shows it)"""
    augmentation: Annotated[
        str | None, tyro.conf.arg(metavar="NAME=STRENGTH,...|none", help_behavior_hint="")
    ] = None
    """random_resized_crop, randaugment, trivial_augment, color_jitter, random_erasing, mixup and
    cutmix, such as randaugment=9,mixup=0.2 (default: those of the recipe); see docs/recipes.md"""
    epochs: OptionalInt = None
    """epochs of every training; the schedule of the recipe is rescaled (default: those of the
    recipe, 40 for digits; with --scale small as many as fit into about an hour)"""
    batch_size: OptionalInt = None
    """images per step (default: that of the recipe)"""
    learning_rate: OptionalFloat = None
    """peak learning rate (default: that of the recipe)"""
    weight_decay: OptionalFloat = None
    """weight decay (default: that of the recipe)"""
    optimizer: Annotated[
        Literal["sgd", "adamw"] | None,
        tyro.conf.arg(metavar="sgd|adamw", help_behavior_hint=""),
    ] = None
    """optimizer (default: that of the recipe); another one than that of the recipe needs
    --learning-rate"""
    betas: Annotated[
        tuple[float, float] | None, tyro.conf.arg(metavar="FLOAT FLOAT", help_behavior_hint="")
    ] = None
    """decay rates of the averages of adamw (default: 0.9 0.999)"""
    lr_schedule: Annotated[
        Literal["constant", "step", "cosine", "one_cycle"] | None,
        tyro.conf.arg(metavar="constant|step|cosine|one_cycle", help_behavior_hint=""),
    ] = None
    """schedule of the learning rate (default: that of the recipe)"""
    warmup: OptionalFloat = None
    """share of the training over which the learning rate rises, such as 0.1 (default: that of the
    recipe; 0.3 with --lr-schedule one_cycle)"""
    milestones: OptionalFloats = None
    """shares of the training at which the step schedule lowers the learning rate, such as 0.5
    0.75"""
    gradient_clip: OptionalFloat = None
    """largest norm of the gradient of all parameters together (default: that of the recipe)"""
    ema_decay: OptionalFloat = None
    """evaluate and keep an exponential moving average of the weights with this decay per step, such
    as 0.999, instead of the last weights (default: that of the recipe)"""
    label_smoothing: OptionalFloat = None
    """share of a true label that is spread evenly over all classes, for trainings on labels without
    a teacher (default: that of the recipe, 0)"""
    multiplier_step_size: OptionalFloat = None
    """step size of the exponentiated gradient updates of the multipliers (default: 0.1; 0.5 with
    --scale small; 0.2 for digits)"""
    multiplier_period: Annotated[
        int | Literal["epoch"] | None,
        tyro.conf.arg(metavar="INT|epoch", help_behavior_hint=""),
    ] = None
    """SGD steps between updates of the multipliers, or "epoch" for one update per epoch (default:
    32; epoch with --scale small and for digits)"""
    val_labels: Literal["teacher", "true"] = "teacher"
    """validation labels for the multipliers of students: those of the teacher or the true ones"""
    averaged_iterates: OptionalInt = None
    """average the logits of this many iterates in robust and trade-off models (default: only the
    last iterate)"""
    scale_by_classes: bool = False
    """include the factor 1/m of eq. 9 in the margin loss"""


@dataclass(frozen=True)
class Machine:
    """Machines and execution; none of these options changes what is trained."""

    out: OptionalPlace = None
    """results folder, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX (default: results/DATASET)"""
    cpus_per_trial: OptionalFloat = None
    """CPU cores and threads of one trial (default: 1; with --serial $OMP_NUM_THREADS, or all
    cores)"""
    gpus_per_trial: OptionalFloat = None
    """GPUs of one trial, possibly a fraction (default: 1 if there are GPUs)"""
    max_concurrent: OptionalInt = None
    """largest number of concurrent trials (default: as many as fit)"""
    students_per_trial: OptionalInt = None
    """trainings side by side in one trial (default: on a GPU as many as improve throughput and fit
    in memory; on CPUs 1, or 4 if the logits of the teacher are computed for every batch)"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """precision of the forward and backward passes; auto: bfloat16 if the hardware supports it"""
    keep_predictions: Annotated[
        Literal["full", "top", "none"] | None,
        tyro.conf.arg(metavar="full|top|none", help_behavior_hint=""),
    ] = None
    """predictions to keep for each image of validation and test: with all logits, with the five
    largest, or none (default: full for splits with up to two million logits, else top)"""
    checkpoint_every: OptionalInt = None
    """epochs between checkpoints of a training (default: a checkpoint about every minute)"""
    validate_every: OptionalInt = None
    """epochs between the validations that records keep for learning curves (default: up to ten
    validations, if they cost little)"""
    max_failures: int = 2
    """number of retries of a training that fails, diverges or loses its process"""
    hang_timeout: float = 600
    """seconds without a step after which a training is ended and retried, or 20 times the usual
    duration of a step if that is longer; 0: never"""
    address: OptionalName = None
    """Ray cluster to join, such as "auto" (default: start Ray on this machine)"""
    storage: OptionalPlace = None
    """folder for the files of Ray (default: OUT/ray)"""
    serial: bool = False
    """run one training after the other in this process, without Ray, for debugging"""

    @property
    def cpus(self) -> float:
        """Return the number of CPU cores of one trial on Ray."""
        return 1.0 if self.cpus_per_trial is None else self.cpus_per_trial


@dataclass(frozen=True)
class Tracking:
    """Experiment trackers that receive the figures of trainings."""

    mlflow: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar="[URI]", help_behavior_hint="")
    ] = None
    """log to MLflow at this tracking URI (default: $MLFLOW_TRACKING_URI, else that of MLflow)"""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT", help_behavior_hint="")] = None
    """log to this project of Weights & Biases"""


@dataclass(frozen=True)
class Display:
    """Output of the command."""

    dry_run: bool = False
    """print the plan and its cost, and train nothing"""
    calibrate: bool = False
    """measure the speed of this machine for a few seconds to estimate the duration"""
    watch: bool = False
    """serve the report on this machine only while trainings run"""
    verbose: bool = False
    """print all tables after the answer, too; the report always has them"""
    no_images: bool = False
    """store no small pictures of test images, and show none in the report"""
    quiet: bool = False
    """print only the result and errors"""
    list: bool = False
    """list the data sets, methods, networks and recipes"""


@dataclass(frozen=True)
class Extensions:
    """User code that adds networks, data sets, methods and the like by name."""

    plugin: Plugins = ()
    """import this module or file, which registers networks, data sets, methods, objectives,
    selection rules or search strategies by name; repeatable; see docs/extend.md"""


@dataclass(frozen=True)
class Options:
    """Search for the teacher and student trade-offs that keep every class working.

    Trains a teacher for each objective and, on each teacher, a student for each objective and
    temperature. Then selects the student with the best worst-class accuracy on validation among
    those whose average accuracy is not below that of standard distillation, up to noise. Run the
    same command again to continue: completed trainings are not repeated.
    """

    LEADING: ClassVar[str] = "--dataset"
    """Option that a name before all others stands for."""
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "digits-lt                     # included data",
        "path/to/images --seeds 0,1,2  # your own, three seeds",
        "cifar10-lt --budget 2h        # most promising first",
        "cifar10-lt --alphas 0,1 --dry-run  # plan and cost",
    )

    # fmt: off
    COMMON: ClassVar[frozenset[str]] = frozenset({
        "dataset", "data_dir", "imbalance", "limit_train", "image_size", "alphas", "temperatures",
        "seeds", "methods", "search", "budget", "teachers", "scale", "teacher_architecture",
        "teacher_weights", "teacher_epochs", "student_architecture", "recipe", "augmentation",
        "epochs", "batch_size", "learning_rate", "worst_k", "margin", "floor", "out",
        "cpus_per_trial", "gpus_per_trial", "max_concurrent", "precision", "address", "serial",
        "mlflow", "wandb", "dry_run", "calibrate", "watch", "verbose", "quiet", "list",
    })
    # fmt: on
    """Options that ``--help`` shows; ``--help-all`` shows all."""

    data: DataChoice = field(default_factory=DataChoice)
    grid: Grid = field(default_factory=Grid)
    economy: Economy = field(default_factory=Economy)
    training: TrainingChoice = field(default_factory=TrainingChoice)
    selection: SelectionChoice = field(default_factory=SelectionChoice)
    machine: Machine = field(default_factory=Machine)
    tracking: Tracking = field(default_factory=Tracking)
    display: Display = field(default_factory=Display)
    extensions: Extensions = field(default_factory=Extensions)
