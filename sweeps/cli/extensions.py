"""Plug-ins of a command, and the networks that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.selection.rule_options import load_plugins
from rkd_core import models
from rkd_core.errors import require
from sweeps.cli.options import Options

__all__ = ["with_plugins"]


def with_plugins(options: Options) -> Options:
    """Import the plug-ins, and return the options with references to the networks that they name.

    Raises:
        UserError: A plug-in or a network cannot be imported.
    """
    load_plugins(options.extensions.plugin)
    training = options.training
    teacher, student = training.teacher_architecture, training.student_architecture
    teachers = _named("teacher", None if teacher is None else [teacher], training.teacher_stages)
    students = _named("student", student, training.student_stages)
    networks = replace(
        training,
        teacher_architecture=None if teachers is None else teachers[0],
        student_architecture=students,
    )
    return replace(options, training=networks)


def _named(
    role: str, texts: Sequence[str] | None, stages: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Return references to networks, with their stages in brackets.

    Raises:
        UserError: A network cannot be imported, or cannot have given stages.
    """
    named = None if texts is None else tuple(map(models.resolve_reference, texts))
    if stages is None:
        return named
    require(
        named is not None and len(named) == 1 and models.is_foreign(named[0]),
        f"--{role}-stages names modules of one network from outside the built-in ones: give it "
        f"as --{role}-architecture",
    )
    assert named is not None
    require(len(stages) > 0, f"--{role}-stages names no module")
    require(not named[0].endswith("]"), f"--{role}-stages: {named[0]} has its stages in brackets")
    return (f"{named[0]}[{','.join(stages)}]",)
