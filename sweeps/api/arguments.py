"""Keyword arguments of the Python interface as options of the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

from analysis.selection.rule_options import Rule
from rkd_core.errors import UserError, unknown_name
from sweeps.cli.options import Options, SelectionChoice
from sweeps.cli.parse import parse

__all__ = ["as_arguments", "in_python", "names", "options_of", "rule_of"]

T = TypeVar("T")


def options_of(arguments: Mapping[str, Any]) -> Options:
    """Return the options of ``pareto.py`` with these values.

    Raises:
        UserError: An argument is unknown or has a wrong value; the message names it.
    """
    return _parsed(arguments, Options)


def rule_of(arguments: Mapping[str, Any]) -> Rule:
    """Return the selection rule with these options.

    Raises:
        UserError: An argument is unknown or has a wrong value; the message names it.
    """
    rule = _parsed(arguments, SelectionChoice)
    try:
        rule.check()
    except UserError as error:
        raise in_python(error) from None
    return rule


def as_arguments(arguments: Mapping[str, Any], options: type = Options) -> list[str]:
    """Return the command line for keyword arguments; None stands for the default.

    Raises:
        UserError: An argument is unknown.
    """
    known, line = names(options), []
    for name, value in arguments.items():
        if name not in known:
            raise unknown_name("argument", name, known)
        flag = f"--{name.replace('_', '-')}"
        if value is None or value is (name in _ON):
            continue
        if value is True:
            line.append(flag)
        elif value is False:
            line.append(f"--no-{flag.removeprefix('--')}")
        elif name in _REPEATED:
            line += [f"{flag}={one}" for one in _many(value)]
        elif _is_sequence(value):
            line += [flag, *map(_text, value)]
        else:
            line.append(f"{flag}={_text(value)}")
    return line


def names(options: type) -> list[str]:
    """Return the names of all options, those of nested groups included."""
    found: list[str] = []
    hints = get_type_hints(options)
    for field in fields(options):
        group = hints[field.name]
        found += names(cast(type, group)) if is_dataclass(group) else [field.name]
    return found


def in_python(error: UserError) -> UserError:
    """Return an error with arguments in the place of flags: ``image_size`` for ``--image-size``."""
    text = re.sub(
        r"--([a-z][a-z-]*[a-z])", lambda flag: flag[1].replace("-", "_"), str(error)
    ).removesuffix(" (see help)")
    return UserError(text)


_ON = ("undistilled",)
"""Switches that are on by default."""
_REPEATED = ("group", "floor", "plugin")
"""Options that are given once for each value."""


def _parsed(arguments: Mapping[str, Any], options: type[T]) -> T:
    line = as_arguments(arguments, options)
    try:
        return parse(line, "Sweep", options)
    except UserError as error:
        raise in_python(error) from None


def _many(value: Any) -> list[str]:
    return [_text(one) for one in value] if _is_sequence(value) else [_text(value)]


def _is_sequence(value: Any) -> bool:
    return not isinstance(value, str | bytes | os.PathLike) and hasattr(value, "__iter__")


def _text(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a scalar of NumPy
        value = value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
