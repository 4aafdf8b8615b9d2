"""The one line that says why a training failed."""

from __future__ import annotations

import logging

from rkd_core.errors import UserError

__all__ = ["describe"]

log = logging.getLogger(__name__)


def describe(error: BaseException) -> str:
    """One line for the record; the traceback goes to the log, unless the line says it all."""
    if isinstance(error, UserError):
        return str(error)
    log.error("training failed", exc_info=error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
