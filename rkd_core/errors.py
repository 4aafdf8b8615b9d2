"""What can go wrong: bad input, and trainings that diverge."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["DivergedError", "UserError", "unknown_name"]


class UserError(ValueError):
    """Bad input. Its message is one line that names the thing and what would be right.

    Command lines print it without a traceback and exit with code 2.
    """


class DivergedError(RuntimeError):
    """A training whose loss or logits are no longer finite; the message says where."""


def unknown_name(kind: str, name: str, known: Iterable[str], more: str = "") -> UserError:
    """The error for a name that no registry has, with the names that come close.

    Args:
        kind: What it should name, such as ``recipe``.
        name: What was given.
        known: All the names there are.
        more: What else would be right, such as ``, or a folder``.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return UserError(f"unknown {kind} {name!r}: {hint}choose one of {', '.join(names)}{more}")
