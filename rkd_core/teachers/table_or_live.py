"""Choice between a table of teacher logits and a live teacher, by the size of the table.

All students of a teacher see the same views of the same images, so that one forward pass per view
serves all of them. This module does not import torch, because plans are made without it.
"""

from __future__ import annotations

from typing import Literal

from rkd_core.specs import Recipe

__all__ = [
    "FILE",
    "FOLDER",
    "LARGEST_TABLE",
    "TeacherPass",
    "all_views",
    "table_bytes",
    "teacher_pass",
    "views_per_image",
]

TeacherPass = Literal["table", "live"]

FOLDER = "teacher_logits"
"""Subfolder of the results folder with the logits of each teacher, by run id."""
FILE = "logits.safetensors"
"""File with the logits of a teacher."""

LARGEST_TABLE = 2**30
"""Maximum size of a table in bytes. Tables are memory-mapped, so all processes of a machine share
one copy."""


def all_views(recipe: Recipe) -> bool:
    """Return whether a table has every view of every image, and so serves students of all seeds.

    It does if there are at least as many epochs as views. Otherwise the table has only the views
    that the training sees, at most one per image and epoch.
    """
    return recipe.epochs >= recipe.views


def views_per_image(recipe: Recipe) -> int:
    """Return the maximum number of views per image in a table."""
    return min(recipe.epochs, recipe.views)


def table_bytes(recipe: Recipe, images: int, classes: int) -> int:
    """Return the size of a table in bytes: float32 logits for every view that a training sees."""
    if recipe.views == 1:
        return 0  # the logits of images without augmentation are computed in any case
    key = 0 if all_views(recipe) else 8  # int64 number of the view
    return images * views_per_image(recipe) * (classes * 4 + key)


def teacher_pass(recipe: Recipe, images: int, classes: int, *, in_memory: bool) -> TeacherPass:
    """Return ``table`` if views are numbered and their table is small enough, else ``live``.

    Args:
        recipe: Recipe of the student.
        images: Number of training images.
        classes: Number of logits per view.
        in_memory: Whether the images are in memory; views of streamed images are not numbered.
    """
    if not recipe.numbers_views:
        return "live"
    if recipe.views == 1:
        return "table"
    fits = table_bytes(recipe, images, classes) <= LARGEST_TABLE
    return "table" if in_memory and fits else "live"
