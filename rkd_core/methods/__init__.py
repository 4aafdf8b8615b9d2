"""Ways to train a student, by name.

A file holds one method, or a method and its ablations: each a
:class:`~.common.protocol.Method` that states its options, its needs and its loss. What several
share is in ``common``. No code outside a method's file names it.
``docs/add-a-method.md`` says how to add one.

Methods are found by looking into this folder. Listing them, and reading their options and needs,
imports no torch; asking one for its loss does.
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
    """Return the name and a one-line description of every method, in alphabetical order."""
    return {name: method.description() for name, method in _methods().items()}


def find(name: str) -> type[Method]:
    """Return the method of this name.

    Raises:
        UserError: There is none.
    """
    if name not in _methods():
        raise unknown_name("method", name, _methods())
    return _methods()[name]


def create(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """Return a method with its options, those left out at their defaults.

    Raises:
        UserError: There is no such method or option, or an option's value is none.
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
