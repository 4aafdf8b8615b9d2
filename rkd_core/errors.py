"""What can go wrong: bad input, and trainings that diverge."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["DivergedError", "StoppedError", "UserError", "first_line", "require", "unknown_name"]

_LONGEST = 2000  # characters


class UserError(ValueError):
    """Bad input. Its message is one line that names the thing and what would be right.

    Command lines print it without a traceback and exit with code 2. Names in outside data may hold
    anything: what a terminal would not show is escaped, and an endless line is cut in the middle.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        if len(line) > _LONGEST:
            half = _LONGEST // 2 - 3
            line = f"{line[:half]} ... {line[-half:]}"
        super().__init__(line)


class DivergedError(RuntimeError):
    """A training whose loss or logits are no longer finite; the message says where.

    Attributes:
        causes: Where trainings run side by side, the message of each that diverged, by run id.
    """

    causes: Mapping[str, str] = MappingProxyType({})


class StoppedError(RuntimeError):
    """A training was asked to stop, and has saved what it had done."""


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


def first_line(error: BaseException, default: str | None = None) -> str:
    """Return the first line of an error's message.

    Args:
        error: The error.
        default: Text for an error without a message; by default the name of its class.
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else default or type(error).__name__


def require(condition: bool, line: str) -> None:
    """Refuse bad input.

    Raises:
        UserError: The condition does not hold; ``line`` says what is wrong.
    """
    if not condition:
        raise UserError(line)
