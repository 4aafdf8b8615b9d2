"""Import of plug-ins, and the networks that they name."""

from __future__ import annotations

from dataclasses import replace

from rkd_core import models, plugins
from rkd_core.errors import UserError
from sweeps.cli.options import Extensions, Options

__all__ = ["load_plugins", "with_plugins"]


def load_plugins(extensions: Extensions) -> None:
    """Import the modules that ``--plugin`` names.

    Raises:
        UserError: A module does not exist, cannot be imported, or registers nothing.
    """
    try:
        plugins.load(extensions.plugin)
    except UserError as error:
        raise UserError(f"--plugin {error}") from error


def with_plugins(options: Options) -> Options:
    """Import the plug-ins, and return the options with references to the networks that they name.

    Raises:
        UserError: A plug-in or a network cannot be imported.
    """
    load_plugins(options.extensions)
    training = options.training
    teacher, student = training.teacher_architecture, training.student_architecture
    networks = replace(
        training,
        teacher_architecture=None if teacher is None else models.resolve_reference(teacher),
        student_architecture=None if student is None else models.resolve_reference(student),
    )
    return replace(options, training=networks)
