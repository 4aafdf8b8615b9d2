"""Number and times of the batches that this process produces, for the detection of hangs."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque

__all__ = ["beat", "beats", "usual_seconds"]

_FEW = 8  # minimum number of intervals for a median

_count = 0
_times: deque[float] = deque(maxlen=65)


def beat() -> None:
    """Record that a batch has been produced."""
    global _count  # noqa: PLW0603 - one count per process
    _count += 1
    _times.append(time.monotonic())


def beats() -> int:
    """Return the number of batches that have been produced."""
    return _count


def usual_seconds() -> float:
    """Return the median of the last 64 intervals between batches; 0 if there are fewer than 8."""
    times = list(_times)
    intervals = [after - before for before, after in itertools.pairwise(times)]
    return statistics.median(intervals) if len(intervals) >= _FEW else 0.0
