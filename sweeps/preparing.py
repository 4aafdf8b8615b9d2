"""Preparation of the answer while trainings run, so that it follows the last of them at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from analysis.select import prepare

__all__ = ["preparing"]

_WELL_UNDER_WAY = 20.0  # seconds, after which the start has passed that needs all cores


@contextlib.contextmanager
def preparing(after: float = _WELL_UNDER_WAY) -> Iterator[None]:
    """Do in a thread, once, what every answer needs; it costs a second or two of a core.

    Args:
        after: Seconds until it begins; a sweep that is shorter does without.
    """

    def attempt() -> None:
        with contextlib.suppress(Exception):  # the answer says what is wrong
            prepare()

    timer = threading.Timer(after, attempt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
