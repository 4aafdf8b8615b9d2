"""Preparation of the answer while trainings run, so that it follows the last one at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from analysis.select import prepare

__all__ = ["preparing"]

_WELL_UNDER_WAY = 20.0  # seconds: the start, which needs all cores, is over by then


@contextlib.contextmanager
def preparing(after: float = _WELL_UNDER_WAY) -> Iterator[None]:
    """Load in a thread, once, what every answer needs; this takes a core one or two seconds.

    Args:
        after: Seconds until it begins; a shorter sweep does without.
    """

    def attempt() -> None:
        with contextlib.suppress(Exception):  # the answer itself reports any error
            prepare()

    timer = threading.Timer(after, attempt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
