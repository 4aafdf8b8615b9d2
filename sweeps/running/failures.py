"""Why a training failed: a line for the record, and the traceback for the log."""

from __future__ import annotations

import errno
import traceback

from rkd_core.errors import StoppedError, UserError, first_line

__all__ = ["describe", "details", "halts", "loss"]


def describe(error: BaseException) -> str:
    """One line for the record."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error, 'no message')}"


def details(error: BaseException) -> str:
    """The traceback, for the log; nothing where the line says it all."""
    told = isinstance(error, (UserError, StoppedError))
    return "" if told else "".join(traceback.format_exception(error))


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def halts(error: BaseException) -> bool:
    """Whether every other training would fail in the same way: there is no room for results."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def loss(said: str) -> str:
    """One line for the record of a training whose process has gone, from what Ray says of it."""
    if "running low on memory" in said or "OutOfMemory" in said:
        return "its process was killed since its machine ran low on memory"
    if "node has died" in said or "node was terminated" in said or "node failure" in said:
        return "its machine was lost"
    return "its process died before it could say why (killed, perhaps for memory); see sweep.log"
