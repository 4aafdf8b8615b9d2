"""What ``--methods`` names. Imports no torch."""

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
    """The methods that a comma-separated list names, in its order; ``all``: every one.

    Raises:
        UserError: One is unknown, named twice, or has options that it does not know.
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
    """What is tried of a method: its grid, or with options the one point that they say.

    Args:
        name: Of the method, with options after colons: ``ltkd``, or
            ``ltkd:within_weight=0:rebalance=false``. An option of several parts is said part by
            part: ``ada_alpha:holdout.per_class=50``.

    Raises:
        UserError: There is no such method or option, or an option's value is none.
    """
    method, *options = name.split(":")
    if not options:
        return list(methods.find(method).variants())
    values: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"{name} has an option without a value: say {option}=VALUE")
        outer, _, part = key.rpartition(".")
        target = values.setdefault(outer, {}) if outer else values
        if not isinstance(target, dict):
            raise UserError(f"{name} says {outer} as a whole and by its parts")
        try:
            target[part] = json.loads(value)
        except ValueError:
            target[part] = value
    return [methods.create(method, values)]
