"""Groups of the images of runs, from the options of a rule or from their results folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from analysis.runs import image_groups
from analysis.runs.image_groups import ImageGroups
from analysis.runs.loading import Runs
from analysis.runs.samples import images_of
from rkd_core.errors import UserError

__all__ = ["GroupOptions", "all_groups", "check", "with_groups"]


class GroupOptions(Protocol):
    """Options on groups of images; see ``analysis.selection.rule_options.Rule``."""

    @property
    def worst_group(self) -> bool:
        """Whether the worst group decides."""

    @property
    def image_groups(self) -> Path | None:
        """File of the groups."""

    @property
    def group_column(self) -> str | None:
        """Column of the file."""

    @property
    def min_group(self) -> int:
        """Minimum number of validation images of a group."""


def check(rule: GroupOptions) -> None:
    """Reject options that are invalid for any data.

    Raises:
        UserError: An option is out of range or lacks another one.
    """
    if rule.min_group < 1:
        raise UserError(f"--min-group must be 1 or more, not {rule.min_group}")
    if rule.group_column is not None and rule.image_groups is None:
        raise UserError("--group-column names a column of --image-groups: give both")


def all_groups(rule: GroupOptions, runs: Runs) -> ImageGroups | None:
    """Return the groups of all validation and test images; None without groups.

    Raises:
        UserError: The file of the rule cannot be read, or an image has no group.
    """
    if rule.image_groups is None or runs.results is None:
        return runs.groups
    found = image_groups.read(rule.image_groups, rule.group_column)
    return found.only(images_of(runs.results, runs.students["run_id"][0].as_py()))


def with_groups(rule: GroupOptions, runs: Runs) -> Runs:
    """Return runs with the groups that the rule uses.

    Groups that are too small are left out, which a note says.

    Raises:
        UserError: As in ``all_groups``, or all groups are too small.
    """
    groups = all_groups(rule, runs)
    if groups is None or not rule.worst_group:
        return replace(runs, groups=groups)
    groups, left_out = groups.without_small(rule.min_group)
    note = f"groups with fewer than {rule.min_group} validation images left out: "
    notes = (*runs.notes, note + ", ".join(left_out)) if left_out else runs.notes
    return replace(runs, groups=groups, notes=notes)
