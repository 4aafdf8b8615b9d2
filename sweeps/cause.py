"""Why a training failed: a line for the record, and the traceback for the log."""

from __future__ import annotations

import traceback

from rkd_core.errors import UserError

__all__ = ["describe", "details"]


def describe(error: BaseException) -> str:
    """One line for the record."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def details(error: BaseException) -> str:
    """The traceback, for the log; nothing where the line says it all."""
    return "" if isinstance(error, UserError) else "".join(traceback.format_exception(error))
