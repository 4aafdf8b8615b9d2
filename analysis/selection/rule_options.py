"""Command-line options of the selection rule, and the criterion made from them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from analysis.runs.class_lists import ClassNames, chosen_group, read_groups
from rkd_core.errors import UserError

if TYPE_CHECKING:
    from analysis.runs.loading import Runs
    from analysis.runs.networks import Limits
    from analysis.selection.criteria import Criterion, Measure
    from analysis.selection.outcome import Outcome
    from rkd_core.plugins import Registry

__all__ = ["Rule", "add_options", "load_plugins", "rule_of"]


def _option(default: Any, help_line: str, **more: Any) -> Any:
    """Return a field whose metadata are the arguments of ``argparse.add_argument``."""
    return field(default=default, metadata={"help": help_line, **more})


@dataclass(frozen=True)
class Rule:
    """Options that define a selection rule, as given on a command line.

    The commands of ``analysis`` and of ``sweeps`` take their options from these fields.
    """

    worst_k: int = _option(
        1,
        "maximize the mean of the k smallest class accuracies on validation (1)",
        type=int,
        metavar="K",
    )
    margin: str | None = _option(
        None,
        "accuracy that may be given up against the reference, a fraction such as 0.005, or "
        "standard errors of the difference such as 2se (1se)",
        metavar="M",
    )
    keep: Literal["average", "balanced"] = _option(
        "average",
        "accuracy that the constraint is on (average)",
        choices=("average", "balanced"),
    )
    reference: str = _option(
        "standard",
        "reference of the constraint: standard distillation, the best combination, or a fraction "
        "(standard)",
        metavar="standard|best|F",
    )
    group: Sequence[str] = _option(
        (),
        "maximize the mean accuracy of these classes instead; repeat for more classes of the same "
        """group; use JSON, {"NAME": ["A", "B"]}, if names have commas""",
        action="append",
        metavar="NAME=A,B",
    )
    groups_file: Path | None = _option(  # noqa: RUF009
        None,
        "read groups of classes from JSON (as above), TOML, or CSV with the columns group and "
        "class; --group NAME then selects one of them",
        type=Path,
        metavar="FILE",
    )
    floor: Sequence[str] = _option(
        (), "least accuracy of a class; repeatable", action="append", metavar="CLASS=F"
    )
    weight: float | None = _option(
        None, "maximize W x worst-k + (1 - W) x average accuracy", type=float, metavar="W"
    )
    order: str | None = _option(
        None,
        "maximize these accuracies in turn: worst_k, average, balanced",
        metavar="A,B",
    )
    tolerance: float = _option(
        0.0,
        "accuracy that may be given up for a higher one of the next step of --order; without it, "
        "worst-k accuracy for a higher average (0)",
        type=float,
        metavar="M",
    )
    criterion: str | None = _option(
        None, "apply the rule that a plug-in registers under this name", metavar="NAME"
    )
    metric: str | None = _option(
        None,
        "maximize the worst-k classes by this metric instead of accuracy: precision, f1, auroc, "
        "average_precision, top-5 (or another number), ece, cost, or a name that a plug-in "
        "registers; the constraint stays on the average accuracy",
        metavar="NAME",
    )
    cost_matrix: Path | None = _option(  # noqa: RUF009
        None,
        "costs of --metric cost as .csv, .json or .npy: a row for each true class and a column for "
        "each predicted one, numbers only",
        type=Path,
        metavar="FILE",
    )
    worst_group: bool = _option(
        False, "maximize the accuracy of the worst of --image-groups", action="store_true"
    )
    image_groups: Path | None = _option(  # noqa: RUF009
        None,
        "groups of images (of classes: --groups-file), kept for later commands: .csv or .parquet "
        "with the columns image (row in the original split), group and perhaps split (val or "
        "test), or .npy; without a column image, in the order of the rows",
        type=Path,
        metavar="FILE",
    )
    group_column: str | None = _option(None, "column with the groups (group)", metavar="NAME")
    min_group: int = _option(
        1, "leave out groups of fewer validation images (1)", type=int, metavar="N"
    )
    estimate: Literal["raw", "counts", "shrunk"] = _option(
        "shrunk",
        "apply the rule to accuracies as counted (raw), or to estimates from all combinations "
        "together: from their counts alone (counts), or with the predictions for each image where "
        "the results have them (shrunk)",
        choices=("raw", "counts", "shrunk"),
    )
    shifts: bool = _option(
        True,
        "consider every student with its logits shifted, too; the shifts are fitted to validation "
        "and need no training (yes)",
        action=argparse.BooleanOptionalAction,
    )

    max_parameters: int | None = _option(
        None,
        "consider only networks with at most this many parameters",
        type=int,
        metavar="N",
    )

    max_multiply_adds: int | None = _option(
        None,
        "consider only networks with at most this many multiply-adds for an image",
        type=int,
        metavar="N",
    )
    max_latency: float | None = _option(
        None,
        "consider only networks that take at most this many milliseconds for an image, as measured "
        "on one CPU thread at the end of the sweep",
        type=float,
        metavar="MS",
    )

    def resolve(self, names: Sequence[str]) -> Criterion:
        """Return the criterion for classes with these names, in label order.

        Raises:
            UserError: An option is invalid, names an unknown class, or excludes another one.
        """
        return self._criterion(ClassNames(names))

    def check(self) -> None:
        """Reject options that are invalid for any set of classes.

        Raises:
            UserError: An option is invalid or excludes another one; the message names it.
        """
        try:
            self._criterion(None)
            self._check_limits()
        except UserError as error:
            text = str(error)
            said = text.startswith(("--", "the ", "a "))  # the others start with the option
            raise UserError(text if said else f"--{text}") from None

    def assess(self, runs: Runs) -> Outcome:
        """Return the result of ``analysis.selection.outcome.assess`` with this rule.

        Raises:
            UserError: As in ``resolve`` and ``assess``.
        """
        from analysis.runs.given_groups import with_groups
        from analysis.selection.outcome import assess, class_names

        runs = with_groups(self, runs)
        by_accuracy = not self.by_metric
        considered = runs if self.shifts and by_accuracy else replace(runs, shifted=None)
        considered = self.within_limits(considered)
        return assess(considered, self.resolve(class_names(runs)), self.estimate)

    def plugins(self) -> list[tuple[Registry, str]]:
        """Return the registries and names of the objects that plug-ins may have registered."""
        from rkd_core import plugins
        from rkd_core.metrics import per_class

        used = [] if self.criterion is None else [(plugins.criteria, self.criterion)]
        if self.metric is not None and not per_class.is_built_in(self.metric):
            used.append((plugins.metrics, self.metric))
        return used

    @property
    def by_metric(self) -> bool:
        """Whether the rule maximizes another figure than accuracy."""
        return self._measured or self.worst_group

    @property
    def _measured(self) -> bool:
        return self.metric not in (None, "recall") or self.cost_matrix is not None

    def within_limits(self, runs: Runs) -> Runs:
        """Return the runs of the networks within the limits, with a note on the others.

        Raises:
            UserError: No network is within the limits, or a size is not known.
        """
        from analysis.runs.networks import within

        return within(runs, self.limits)

    @property
    def limits(self) -> Limits:
        """The limits on the networks."""
        from analysis.runs.networks import Limits

        return Limits(self.max_parameters, self.max_multiply_adds, self.max_latency)

    def groups(self) -> dict[str, list[str]] | None:
        """Return the groups of ``groups_file``; None without such a file.

        Raises:
            UserError: The file cannot be read, or has no groups.
        """
        return None if self.groups_file is None else read_groups(self.groups_file)

    def _criterion(self, names: ClassNames | None) -> Criterion:
        """Return the criterion; without names, do not resolve the classes of groups and floors."""
        from analysis.selection.criteria import Floors, Lexicographic, WeightedSum

        self._check_exclusions()
        if self.criterion is not None:
            from analysis.selection.registered import registered

            return registered(self.criterion, self.worst_k)
        if self.weight is not None:
            return WeightedSum(self.worst_k, self.weight)
        if self.order is not None:
            order = tuple(cast("Measure", name) for name in self.order.split(","))
            return Lexicographic(self.worst_k, order, self.tolerance)
        if not self.floor:
            return self._constrained(names)
        if names is None:
            pairs = self._floors()
            return Floors(dict(enumerate(pairs.values())), tuple(pairs), self.worst_k)
        floors: dict[int, float] = {}
        for name, floor in self._floors().items():
            label = names.label(name, "--floor")
            if floors.setdefault(label, floor) != floor:
                raise UserError(f"--floor names {names.names[label]} twice")
        return Floors(floors, names.names, self.worst_k)

    def _check_limits(self) -> None:
        for option, limit in (
            ("--max-parameters", self.max_parameters),
            ("--max-multiply-adds", self.max_multiply_adds),
            ("--max-latency", self.max_latency),
        ):
            if limit is not None and not 0 < limit < math.inf:
                raise UserError(f"{option} must be above 0, not {limit}")

    @property
    def _grouped(self) -> bool:
        return bool(self.group) or self.groups_file is not None

    def _check_exclusions(self) -> None:
        given = {
            "--weight": self.weight is not None,
            "--floor": bool(self.floor),
            "--order": self.order is not None,
            "--criterion": self.criterion is not None,
            "--metric": self._measured,
            "--worst-group": self.worst_group,
        }
        rules = [name for name, is_given in given.items() if is_given]
        if len(rules) > 1:
            raise UserError(f"{' and '.join(rules)} exclude each other; give one of them")
        if self.tolerance and rules and rules != ["--order"]:
            raise UserError(f"{rules[0]} excludes --tolerance")
        constrained = self.margin, self.keep, self.reference, self._grouped
        if self.worst_group and self._grouped:
            raise UserError("--worst-group excludes --group, which is a group of classes")
        from analysis.runs import given_groups

        given_groups.check(self)
        if (
            rules
            and rules not in (["--metric"], ["--worst-group"])
            and constrained != (None, "average", "standard", False)
        ):
            raise UserError(f"{rules[0]} excludes --margin, --keep, --reference and --group")

    def _constrained(self, names: ClassNames | None) -> Criterion:
        from analysis.selection.criteria import Constrained, Group

        fixed, errors = None, 1.0
        if self.margin is not None and self.margin.endswith("se"):
            errors = _fraction(self.margin.removesuffix("se"), "--margin")
        elif self.margin is not None:
            fixed = _fraction(self.margin, "--margin")
        against: Literal["standard", "best"] | float
        if self.reference in ("standard", "best"):
            against = cast(Literal["standard", "best"], self.reference)
        else:
            against = _fraction(self.reference, "--reference")
        group = None
        if self._grouped and names is not None:
            texts = [self.group] if isinstance(self.group, str) else list(self.group)
            group = Group(*chosen_group(names, texts, self.groups_file))
        rule = Constrained(self.worst_k, fixed, errors, self.keep, against, group, self.tolerance)
        if not self.by_metric:
            return rule
        if self.worst_group:
            from analysis.selection.by_metric import ByGroup

            return ByGroup(**{one.name: getattr(rule, one.name) for one in fields(rule)})
        from analysis.selection.metrics import by_metric

        known = None if names is None else names.names
        return by_metric(rule, self.metric, self.cost_matrix, known)

    def _floors(self) -> dict[str, float]:
        """Return the minimum recalls by class name, as written."""
        floors: dict[str, float] = {}
        for text in self.floor:
            name, equals, value = text.rpartition("=")
            if not (name and equals and value):
                raise UserError(f"--floor must be like cat=0.8, not {text}")
            floor = _fraction(value, "--floor")
            if floors.setdefault(name, floor) != floor:
                raise UserError(f"--floor names {name} twice")
        return floors


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of ``Rule``, and ``--plugin``."""
    for one in fields(Rule):
        default = [] if one.default == () else one.default  # argparse appends to a list
        parser.add_argument(f"--{one.name.replace('_', '-')}", default=default, **one.metadata)
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py|MODULE",
        help="import this module or file, which registers rules by name; repeatable",
    )


def rule_of(options: argparse.Namespace) -> Rule:
    """Import the plug-ins of parsed options, and return the rule that the options define.

    Raises:
        UserError: A plug-in cannot be imported.
    """
    if options.plugin:
        load_plugins(options.plugin)
    given: dict[str, Any] = {one.name: getattr(options, one.name) for one in fields(Rule)}
    for name, value in given.items():
        given[name] = tuple(value) if isinstance(value, list) else value
    return Rule(**given)


def load_plugins(places: Iterable[str]) -> None:
    """Import the modules and files that ``--plugin`` names.

    Raises:
        UserError: A module does not exist, cannot be imported, or registers nothing.
    """
    from analysis.selection import criteria, metrics  # noqa: F401  (check what is registered)
    from rkd_core import plugins

    try:
        plugins.load(places)
    except UserError as error:
        raise UserError(f"--plugin {error}") from error


def _fraction(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        examples = {"--margin": "a fraction, such as 0.005, or standard errors, such as 2se"}
        what = examples.get(option, "a fraction, such as 0.8")
        raise UserError(f"{option.removeprefix('--')} must be {what}, not {text}")
    return value
