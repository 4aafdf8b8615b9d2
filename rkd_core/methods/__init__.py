"""Distillation methods by name.

A module of this package defines a :class:`~.common.protocol.Method` with its options, needs and
loss, or a method and its ablations; code that several methods share is in ``common``. No code
outside its module refers to a method by name. See ``docs/add-a-method.md`` for how to add a method.

Methods are discovered by scanning this folder. Listing them, and reading their options and needs,
does not import torch; creating a loss does.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from rkd_core.errors import UserError, unknown_name
from rkd_core.methods.common.protocol import Method

__all__ = ["create", "descriptions", "find"]


def descriptions() -> dict[str, str]:
    """Return the name and the one-line description of every method, in alphabetical order."""
    return {name: method.description() for name, method in _methods().items()}


def find(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        UserError: There is no such method.
    """
    if name not in _methods():
        raise unknown_name("method", name, _methods())
    return _methods()[name]


def create(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """Create a method with the given options and defaults for the others.

    Raises:
        UserError: There is no such method or option, or the value of an option is invalid.
    """
    method, options = find(name), options or {}
    for option in options:
        if option not in method.model_fields:
            raise unknown_name(f"option of {name}", option, method.model_fields)
    try:
        return method.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (name, *first["loc"]))
        raise UserError(f"{where}: {first['msg']}") from None


@cache
def _methods() -> dict[str, type[Method]]:
    files = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg)
    modules = [importlib.import_module(f"{__name__}.{name}") for name in files]
    found = (
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    )
    return {method.name: method for method in sorted(found, key=lambda method: method.name)}
