"""Numbers with nouns, for messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as ``2 images``; ``plural`` replaces the form in -s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
