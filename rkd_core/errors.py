"""Exceptions for invalid input and for trainings that diverge or are stopped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["DivergedError", "StoppedError", "UserError", "first_line", "require", "unknown_name"]

_LONGEST = 2000  # maximum characters of a message


class UserError(ValueError):
    """Error for invalid input; its message is one line on what is wrong and what would be valid.

    Command lines print it without a traceback and exit with code 2. Names in external data may
    contain any characters: those that cannot be printed are escaped, and a message that is too long
    is cut in the middle.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        if len(line) > _LONGEST:
            half = _LONGEST // 2 - 3
            line = f"{line[:half]} ... {line[-half:]}"
        super().__init__(line)


class DivergedError(RuntimeError):
    """Error for a training with a loss or logit that is not finite; the message says where.

    Attributes:
        causes: Message of each training that diverged, by run id, if several ran side by side.
    """

    causes: Mapping[str, str] = MappingProxyType({})


class StoppedError(RuntimeError):
    """Error for a training that stopped on request, after it saved its state."""


def unknown_name(kind: str, name: str, known: Iterable[str], more: str = "") -> UserError:
    """Return the error for an unknown name, with similar names.

    Args:
        kind: Kind of the named object, such as ``recipe``.
        name: The unknown name.
        known: All valid names.
        more: Text on other valid input, such as ``, or a folder``.
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
