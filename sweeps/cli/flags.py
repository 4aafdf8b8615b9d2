"""Messages of ``rkd_core`` in the words of a command line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from rkd_core.errors import UserError
from rkd_core.specs import Augmentation

__all__ = ["OPTIONS", "as_flags", "augmentation", "errors_as_flags"]

OPTIONS = {
    "columns": "--label-column and --image-column",
    "columns.image": "--image-column",
    "columns.label": "--label-column",
    "datasets.names()": "--list",
    "name_or_path": "--dataset",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "as_arrays",
        "classes",
        "data_dir",
        "image_size",
        "limit_train",
        "skip_bad_images",
        "split_seed",
        "stratified",
        "test_fraction",
        "test_list",
        "train_list",
        "val_fraction",
        "val_list",
    )
}
"""Flags by the names of the options of ``rkd_core.datasets.load``, between backquotes there."""


def as_flags(message: str) -> str:
    """Return a message with flags in the place of options between backquotes."""
    return re.sub(r"`([\w.()]+)`", lambda match: OPTIONS.get(match[1], match[0]), message)


def augmentation(text: str) -> Augmentation:
    """Return the augmentation that ``--augmentation`` names.

    Raises:
        UserError: The text is not valid.
    """
    try:
        return Augmentation.parse(text)
    except UserError as error:
        raise UserError(f"--augmentation: {error}") from error


@contextlib.contextmanager
def errors_as_flags() -> Iterator[None]:
    """Replace options by flags in the message of a ``UserError``."""
    try:
        yield
    except UserError as error:
        raise UserError(as_flags(str(error))) from error
