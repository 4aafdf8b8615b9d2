"""Options of the rule that selects a student, with the help texts of ``analysis.select``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import tyro

from analysis.selection.rule_options import Rule

__all__ = ["SelectionChoice"]


@dataclass(frozen=True)
class SelectionChoice(Rule):
    """Rule that selects a student."""


def _annotate() -> None:
    """Give tyro the help lines of the rule's fields, and let it append repeated options."""
    hints = get_type_hints(Rule)
    for one in fields(Rule):
        about = one.metadata
        texts = tyro.conf.arg(
            help=about["help"], metavar=about.get("metavar"), help_behavior_hint=""
        )
        hint: Any = hints[one.name]
        if about.get("action") == "append":
            hint = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
        SelectionChoice.__annotations__[one.name] = Annotated[hint, texts]


_annotate()
