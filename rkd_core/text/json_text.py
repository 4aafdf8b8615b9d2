"""Parsing of JSON from external sources."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse", "parse_object"]


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: The text is not valid JSON or Unicode, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the object of a JSON text.

    Raises:
        ValueError: The text is not valid JSON, or its value is not an object.
    """
    value = parse(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value
