"""JSON that came from outside."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse", "parse_object"]


def parse(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, is no Unicode, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object of a JSON text.

    Raises:
        ValueError: It is no JSON, or something other than an object.
    """
    value = parse(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value
