"""Recipes by name and from TOML files.

To add a recipe, add a file to ``recipe_files``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rkd_core.errors import UserError, first_line, require, unknown_name
from rkd_core.specs import Augmentation, Recipe

__all__ = ["RECIPES", "descriptions", "get", "read"]

_FOLDER = Path(__file__).with_name("recipe_files")
_IN_EPOCHS = {"warmup_epochs": "warmup", "milestone_epochs": "milestones"}
_KEYS = ("description", *Recipe.model_fields, *_IN_EPOCHS)


def get(name: str) -> Recipe:
    """Return the recipe with a name, or that of a file whose name ends in ``.toml``.

    Raises:
        UserError: There is no such recipe, or the file is not valid.
    """
    if name.endswith(".toml"):
        return read(Path(name).expanduser())[1]
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES, ", or a file NAME.toml")
    return RECIPES[name][1]


def descriptions() -> dict[str, str]:
    """Return the name and the one-line description of every recipe."""
    return {name: line for name, (line, _) in RECIPES.items()}


def read(path: Path) -> tuple[str, Recipe]:
    """Return the description and the recipe of a TOML file.

    The keys are the fields of ``Recipe`` and ``description``. ``warmup_epochs`` and
    ``milestone_epochs`` state the fields ``warmup`` and ``milestones`` in epochs instead of shares.

    Raises:
        UserError: The file cannot be read, or a key or a value is not valid.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise UserError(f"recipe {path} is not TOML: {first_line(error)}") from error
    try:
        return _recipe(content)
    except UserError as error:
        raise UserError(f"recipe {path}: {error}") from error


def _recipe(content: dict[str, Any]) -> tuple[str, Recipe]:
    for key in content:
        if key not in _KEYS:
            raise unknown_name("key", key, _KEYS)
    description = content.pop("description", "")
    require(isinstance(description, str), "description must be text")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    augmentation = fields.get("augmentation", "none")
    if not isinstance(augmentation, str):
        raise UserError('augmentation must be text, such as "mixup=0.2"')
    fields["augmentation"] = Augmentation.parse(augmentation)
    epochs = fields.get("epochs")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise UserError("epochs must be a whole number above 0")
    for name, share in _IN_EPOCHS.items():
        if name in fields:
            require(share not in fields, f"give either {share} or {name}")
            fields[share] = _shares(name, fields.pop(name), epochs)
    try:
        return description, Recipe.model_validate(fields, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{place}: {message}" if place else message) from error


def _shares(name: str, value: Any, epochs: int) -> float | tuple[float, ...]:
    """Return a number of epochs, or a tuple of them, as shares of a training."""
    values = value if isinstance(value, tuple) else (value,)
    require(
        all(type(v) in (int, float) and 0 <= v < epochs for v in values),
        f"{name} must be from 0 to below the {epochs} epochs",
    )
    shares = tuple(v / epochs for v in values)
    return shares if isinstance(value, tuple) else shares[0]


RECIPES: dict[str, tuple[str, Recipe]] = {
    path.stem: read(path) for path in sorted(_FOLDER.glob("*.toml"), key=lambda path: path.stem)
}
"""Description and recipe of every file in ``recipe_files``, by the name of the file."""
