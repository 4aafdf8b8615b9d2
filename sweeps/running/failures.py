"""Causes of failed trainings: a line for the record, and the traceback for the log."""

from __future__ import annotations

import errno
import traceback

from rkd_core.errors import StoppedError, UserError, first_line

__all__ = ["describe", "details", "halts", "loss"]


def describe(error: BaseException) -> str:
    """Return the cause as one line for the record."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error, 'no message')}"


def details(error: BaseException) -> str:
    """Return the traceback for the log; empty if the line of ``describe`` is sufficient."""
    expected = isinstance(error, (UserError, StoppedError))
    return "" if expected else "".join(traceback.format_exception(error))


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def halts(error: BaseException) -> bool:
    """Return whether every other training would fail, too, as on a full disk."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def loss(said: str) -> str:
    """Return the cause for a training whose process has died, from the message of Ray."""
    if "running low on memory" in said or "OutOfMemory" in said:
        return "its process was killed because its machine ran low on memory"
    if "node has died" in said or "node was terminated" in said or "node failure" in said:
        return "its machine was lost"
    return "its process died before it could say why (killed, perhaps for memory); see sweep.log"
