"""Preparation of the selection while trainings run, so that its result appears immediately."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from analysis.select import prepare

__all__ = ["preparing"]

_WELL_UNDER_WAY = 20.0  # seconds until the start, which needs all cores, is over


@contextlib.contextmanager
def preparing(after: float = _WELL_UNDER_WAY) -> Iterator[None]:
    """Load the libraries of the selection in a thread, which takes one or two seconds of a core.

    Args:
        after: Seconds until this starts; a shorter sweep does not need it.
    """

    def attempt() -> None:
        with contextlib.suppress(Exception):  # the selection itself reports any error
            prepare()

    timer = threading.Timer(after, attempt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
