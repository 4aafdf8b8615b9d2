"""Distillation methods by name.

A module of this package defines a :class:`~.common.protocol.Method` with its options, needs and
loss, or a method and its ablations; code that several methods share is in ``common``. No code
outside its module refers to a method by name. Plug-ins register others, see ``docs/extend.md``.

Built-in methods are discovered by scanning this folder. Listing them, and reading their options and
needs, does not import torch; creating a loss does.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from pydantic import ValidationError

from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name
from rkd_core.methods.common.protocol import Cell, Method, SoftTeacher

__all__ = ["create", "descriptions", "digest", "find"]


def descriptions() -> dict[str, str]:
    """Return the name and the one-line description of every method, in alphabetical order.

    Those of plug-ins follow.
    """
    found = {name: method.description() for name, method in _methods().items()}
    return found | {name: find(name).description() for name in _registered()}


def find(name: str, digest: str | None = None) -> type[Method]:
    """Return the class of a method.

    The name of an objective of a plug-in stands for standard teachers, and students with it.

    Args:
        name: Name of the method.
        digest: Digest of the code of a plug-in; None for a built-in method, and for the plug-in of
            this process.

    Raises:
        UserError: There is no such method, or its code is not there.
    """
    if name in _methods():
        return _methods()[name]
    found: type[Method] | None = plugins.methods.get(name, digest)
    if found is not None:
        return found
    if plugins.objectives.get(name) is None:
        raise unknown_name("method", name, [*_methods(), *_registered()])
    return _student(name)


def digest(name: str) -> str | None:
    """Return the digest of the code of a method; None for a built-in one.

    Raises:
        UserError: The code cannot be imported from a copy of its files.
    """
    return plugins.methods.digest(name)


def create(
    name: str, options: Mapping[str, Any] | None = None, digest: str | None = None
) -> Method:
    """Create a method with the given options and defaults for the others.

    Args:
        name: Name of the method.
        options: Its options.
        digest: As for ``find``.

    Raises:
        UserError: There is no such method or option, or the value of an option is invalid.
    """
    method, options = find(name, digest), options or {}
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


def _registered() -> list[str]:
    return [*plugins.methods.names(), *plugins.objectives.names()]


@cache
def _student(objective: str) -> type[Method]:
    """Return the method of an objective of a plug-in."""

    class Student(SoftTeacher):
        __doc__ = f"A standard teacher and a student with the objective {objective}."
        name: ClassVar[str] = objective

        @property
        def cell(self) -> Cell:
            return Cell(objective, self.temperature)

    return Student


def _check(name: str, target: Any) -> None:
    if not (isinstance(target, type) and issubclass(target, Method)):
        raise UserError(
            f"{getattr(target, '__name__', type(target).__name__)} is not a class derived from "
            "rkd_core.methods.common.protocol.Method"
        )
    if vars(target).get("name", name) != name:
        raise UserError(f"{target.__name__} has another name, {target.name!r}: leave it out")
    target.name = name


plugins.methods.built_in(lambda: [*_methods(), "all"], _check)
