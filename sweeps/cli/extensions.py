"""Plug-ins of a command, and the networks that they name."""

from __future__ import annotations

from dataclasses import replace

from analysis.selection.rule_options import load_plugins
from rkd_core import models
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
    networks = replace(
        training,
        teacher_architecture=None if teacher is None else models.resolve_reference(teacher),
        student_architecture=None
        if student is None
        else tuple(map(models.resolve_reference, student)),
    )
    return replace(options, training=networks)
