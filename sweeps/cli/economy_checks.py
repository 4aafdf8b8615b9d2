"""Checks of the options that reduce the number of trainings."""

from __future__ import annotations

from analysis.selection.by_metric import ByMetric
from analysis.selection.criteria import Constrained, Criterion
from rkd_core.errors import UserError, require
from rkd_core.records.predictions import Kept
from rkd_core.specs import HoldoutRule
from sweeps.cli import method_names
from sweeps.cli.budget import Budget, search_of
from sweeps.cli.options import Options
from sweeps.cli.repeats import repeats
from sweeps.search.strategies import STRATEGIES, options_of

__all__ = [
    "average_constraint",
    "check_economy",
    "check_given_logits",
    "check_metric",
    "check_temperature",
]

_TEMPERATURES = (0.01, 1000.0)  # beyond, a softmax is one-hot or uniform in float32


def check_economy(options: Options) -> None:
    """Refuse mutually exclusive options.

    Raises:
        UserError: An option is wrong; the message names it and states what would be right.
    """
    _check_repeats(options)
    _check_teachers(options)
    _check_search(options)


def average_constraint(criterion: Criterion, flag: str) -> Constrained:
    """Return the criterion if searches and pruning support it: a constraint on the average.

    Raises:
        UserError: It is another criterion, with which the flag cannot be combined.
    """
    if (
        isinstance(criterion, Constrained)
        and not isinstance(criterion, ByMetric)
        and criterion.keep == "average"
        and criterion.reference != "best"
        and criterion.group is None
    ):
        return criterion
    raise UserError(
        f"{flag} follows the worst-k accuracy under a constraint on the average: leave out "
        "--weight, --order, --floor, --metric, --worst-group, --group, --criterion, --keep "
        "balanced and --reference best"
    )


def check_metric(criterion: Criterion, kept: Kept) -> None:
    """Check that the predictions that will be kept suffice for the metric of the rule.

    Args:
        criterion: The selection rule.
        kept: Logits of validation images that will be kept.

    Raises:
        UserError: They do not.
    """
    if not isinstance(criterion, ByMetric):
        return
    flag, needs = f"--metric {criterion.figure.name}", criterion.figure.needs
    require(kept != "none", f"{flag} needs predictions: leave out --keep-predictions none")
    require(
        needs != "logits" or kept == "full",
        f"{flag} needs the logits of all classes: pass --keep-predictions full",
    )


def check_given_logits(options: Options) -> None:
    """Check that the other options suit a teacher that is known by its logits only."""
    training, folder = options.training, options.training.teacher_logits
    if folder is None:
        return
    try:
        require(folder.expanduser().is_dir(), f"--teacher-logits {folder} is not a folder")
    except OSError as error:
        raise UserError(f"--teacher-logits {folder} cannot be read: {error.strerror}") from error
    for name in ("architecture", "weights", "epochs", "learning_rate", "normalization"):
        flag = f"--teacher-{name.replace('_', '-')}"
        require(
            getattr(training, f"teacher_{name}") is None,
            f"--teacher-logits is a teacher without a network: leave {flag} out",
        )
    kind = options.economy.teachers
    require(
        kind in ("trained", "shifted"),
        f"--teachers {kind} trains a network, which --teacher-logits does not have: leave it out, "
        "and its teachers of other trade-offs are shifted",
    )
    for name in method_names.chosen(options.grid.methods):
        for method in method_names.variants(name):
            needs = method.needs
            reason = (
                "compares features of the teacher's network"
                if needs.features or needs.maps
                else "trains its teacher without the held-out images"
                if isinstance(needs.holdout, HoldoutRule)
                else "is its teacher's network with other biases"
                if not method.trains
                else None
            )
            hint = f", or pass {name}:holdout=validation" if needs.holdout is not None else ""
            require(
                reason is None,
                f"{name} {reason}, which --teacher-logits does not have: leave {name} out{hint}",
            )


def check_temperature(flag: str, temperature: float) -> None:
    """Refuse a temperature that is out of range."""
    low, high = _TEMPERATURES
    require(
        low <= temperature <= high, f"{flag} must be from {low} to {high:g}, not {temperature:g}"
    )


def _check_repeats(options: Options) -> None:
    for repeat in repeats(options.grid.repeat):
        check_temperature("--repeat: temperatures", repeat.temperature)
        require(
            repeat.alpha_t is None or options.training.teacher_epochs != 0,
            "--repeat: with --teacher-epochs 0 the standard teacher is the only one",
        )
        last = max(options.grid.seeds) + repeat.seeds
        require(last < 2**31, f"--repeat: seed {last} would exceed 2147483647")


def _check_teachers(options: Options) -> None:
    kind, training = options.economy.teachers, options.training
    if kind == "trained":
        return
    require(
        training.averaged_iterates is None,
        f"--teachers {kind} starts from one network, not from --averaged-iterates",
    )
    require(
        training.teacher_epochs != 0,
        f"--teachers {kind}: with --teacher-epochs 0 the standard teacher is the only one",
    )


def _check_search(options: Options) -> None:
    economy, grid = options.economy, options.grid
    if economy.budget is not None:
        Budget.parse(economy.budget)
    search = search_of(economy)
    of_search = () if search is None else options_of(search)
    for name, entry in STRATEGIES.items():
        for option in entry.options:
            given = getattr(economy, option) != getattr(type(economy), option)
            flag = f"--{option.replace('_', '-')}"
            require(not given or option in of_search, f"{flag} requires --search {name}")
    if search is None:
        return
    require(
        method_names.chosen(grid.methods) == (method_names.DEFAULT,),
        f"--search {search} searches the grid: leave --methods out",
    )
    require(not grid.repeat, f"--search {search} chooses seeds itself: leave --repeat out")
    require(
        len(options.training.student_architecture or ()) <= 1,
        f"--search {search} searches the students of one network: give one --student-architecture",
    )
    require(
        options.training.teacher_epochs != 0,
        f"--search {search}: with --teacher-epochs 0 there is only one teacher",
    )
