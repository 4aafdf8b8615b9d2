"""How students ask their teacher: from a table of its answers, or live. Sizes alone decide.

Every student of a teacher sees the same views of the same images, so a teacher that is asked
once about each has answered all of them. Imports no torch, since plans are made without it.
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
    "answers_per_image",
    "table_bytes",
    "teacher_pass",
]

TeacherPass = Literal["table", "live"]

FOLDER = "teacher_logits"
"""Of the results folder; answers lie there by their teacher's run id."""
FILE = "logits.safetensors"
"""Of a folder of answers."""

LARGEST_TABLE = 2**30
"""Bytes. It is read through the page cache, so a machine holds a table once for all who use it."""


def all_views(recipe: Recipe) -> bool:
    """Whether a teacher is asked about every view of an image, and so answers every seed.

    A training of fewer epochs than an image has views sees at most one view an epoch, and its
    teacher is asked about no other.
    """
    return recipe.epochs >= recipe.views


def answers_per_image(recipe: Recipe) -> int:
    """Views of an image that a teacher is asked about, at the most."""
    return min(recipe.epochs, recipe.views)


def table_bytes(recipe: Recipe, images: int, classes: int) -> int:
    """Return the bytes of a teacher's float32 logits on every view that a training can see."""
    if recipe.views == 1:
        return 0  # the clean pass has answered already
    key = 0 if all_views(recipe) else 8  # which view it is
    return images * answers_per_image(recipe) * (classes * 4 + key)


def teacher_pass(recipe: Recipe, images: int, classes: int, *, in_memory: bool) -> TeacherPass:
    """How a student asks: ``table`` where views can be counted and their answers are few enough.

    Args:
        recipe: The student's.
        images: Training images.
        classes: Logits per answer.
        in_memory: Whether the images are; the views of streamed ones are without number.
    """
    if recipe.views == 1:
        return "table"
    fits = table_bytes(recipe, images, classes) <= LARGEST_TABLE
    return "table" if in_memory and fits else "live"
