"""Consoles of rich that lay out tables by the characters that their stream can show."""

from __future__ import annotations

from typing import Any

from rich.console import Console as RichConsole
from rich.text import Text

from rkd_core import terminal

__all__ = ["Console"]


class Console(RichConsole):
    """rich's console, whose columns stay aligned where ``α`` is written out."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text as it is measured and printed."""
        return super().render_str(terminal.shown(text, self.encoding), **options)
