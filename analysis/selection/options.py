"""The rule of selection on a command line, the same for all who select. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.runs.loading import Runs
    from analysis.selection.outcome import Outcome
    from analysis.selection.rule_options import Rule

__all__ = ["add_options", "assessing", "rule_of"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what names a rule, and what it is applied to."""
    parser.add_argument(
        "--worst-k", type=int, default=1, metavar="K", help="classes in the worst-k accuracy (1)"
    )
    parser.add_argument(
        "--margin",
        metavar="M",
        help="accuracy that may be given up against the reference, a fraction such as 0.005, or "
        "standard errors of the difference such as 2se (1se)",
    )
    parser.add_argument(
        "--keep", choices=("average", "balanced"), default="average", help="accuracy that is kept"
    )
    parser.add_argument(
        "--reference",
        default="standard",
        metavar="R",
        help="what it is measured against: standard distillation, the best, or a fraction",
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="maximize the mean accuracy of these classes instead; repeat for more classes of the "
        """same group; use JSON, {"NAME": ["A", "B"]}, if names have commas""",
    )
    parser.add_argument(
        "--groups-file",
        type=Path,
        metavar="FILE",
        help="read groups of classes from JSON (as above), TOML, or CSV with the columns group and "
        "class; --group NAME then selects one of them",
    )
    parser.add_argument(
        "--floor", action="append", default=[], metavar="CLASS=F", help="least accuracy of a class"
    )
    parser.add_argument(
        "--weight", type=float, metavar="W", help="maximise W x worst-k + (1 - W) x average"
    )
    parser.add_argument(
        "--order", metavar="A,B", help="accuracies in turn: worst_k, average, balanced"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.0, metavar="M", help="given up of each in --order (0)"
    )
    parser.add_argument(
        "--estimate",
        choices=("raw", "shrunk"),
        default="shrunk",
        help="accuracies as counted, or estimates from all combinations together (shrunk)",
    )


def rule_of(options: argparse.Namespace) -> Rule:
    """The rule that was asked for."""
    from analysis.selection.rule_options import Rule

    return Rule(
        options.worst_k,
        options.margin,
        options.keep,
        options.reference,
        options.group,
        options.floor,
        options.weight,
        options.order,
        options.tolerance,
        options.groups_file,
    )


def assessing(options: argparse.Namespace) -> Callable[[Runs], Outcome]:
    """``analysis.selection.outcome.assess`` by the rule that was asked for.

    The function raises a ``UserError`` where the rule has no sense, or names a class that is not.
    """
    from analysis.selection.outcome import assess, class_names

    rule = rule_of(options)
    return lambda runs: assess(runs, rule.criterion(class_names(runs)), options.estimate)
