"""Numbers in messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, such as ``1 image`` and ``2 images``; ``plural`` if not in -s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
