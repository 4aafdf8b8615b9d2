"""Names of methods on the command line, parsed without importing torch."""

from __future__ import annotations

import json
from typing import Any

from rkd_core import methods
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Method

__all__ = ["ALL", "DEFAULT", "chosen", "variants"]

ALL = "all"
DEFAULT = "tradeoff"


def chosen(text: str) -> tuple[str, ...]:
    """Return the methods in a comma-separated list, in its order; ``all`` means every method.

    Raises:
        UserError: A method is unknown, named twice, or has unknown options.
    """
    if text.strip() == ALL:
        return tuple(methods.descriptions())
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not name:
            raise UserError("--methods is a list such as tradeoff,kd,dkd, without empty names")
        try:
            variants(name)
        except UserError as error:
            raise UserError(f"--methods: {error}, or {ALL}") from None
        if names.count(name) > 1:
            raise UserError(f"--methods names {name} twice")
    return names


def variants(name: str) -> list[Method]:
    """Return the variants of a method: its grid, or the single point given by its options.

    Args:
        name: Name of the method, with options after colons: ``ltkd``, or
            ``ltkd:within_weight=0:rebalance=false``. A dot precedes a part of an option:
            ``ada_alpha:holdout.per_class=50``.

    Raises:
        UserError: The method or an option is unknown, or the value of an option is not valid.
    """
    method, *options = name.split(":")
    if not options:
        return list(methods.find(method).variants())
    values: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"{name} has an option without a value: write {option}=VALUE")
        outer, _, part = key.rpartition(".")
        target = values.setdefault(outer, {}) if outer else values
        if not isinstance(target, dict):
            raise UserError(f"{name} states {outer} both as a whole and by its parts")
        try:
            target[part] = json.loads(value)
        except ValueError:
            target[part] = value
    return [methods.create(method, values)]
