"""Rows of results, fresh processes and memory for the benchmarks. Standard library only."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

__all__ = [
    "ROOT",
    "fresh",
    "load_average",
    "one_core",
    "peak_mib",
    "print_row",
    "quick",
    "quick_and_data_dir",
    "spread",
]

ROOT = Path(__file__).resolve().parent.parent


def quick() -> bool:
    """Return whether ``--quick`` is given; any other argument is an error."""
    return _parsed("[--quick]", sys.argv[1:])


def quick_and_data_dir() -> tuple[bool, Path | None]:
    """Return ``quick()`` and the folder of the optional ``--data-dir DIR``."""
    usage = "[--quick] [--data-dir DIR]"
    arguments, folder = sys.argv[1:], None
    if "--data-dir" in arguments[:-1]:
        place = arguments.index("--data-dir")
        folder = Path(arguments[place + 1])
        del arguments[place : place + 2]
    return _parsed(usage, arguments), folder


def _parsed(usage: str, arguments: Sequence[str]) -> bool:
    if set(arguments) - {"--quick"}:
        script = Path(sys.argv[0]).resolve().relative_to(ROOT)
        raise SystemExit(f"usage: python {script} {usage}")
    return "--quick" in arguments


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Return the median, the minimum and the maximum of samples."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def print_row(name: str, ratio: dict[str, float], goal: str, details: dict[str, Any]) -> None:
    """Print one row as one line of JSON; ``ratio`` is a result of ``spread``."""
    row = {
        "name": name,
        "ratio_median": ratio["median"],
        "ratio_min": ratio["min"],
        "ratio_max": ratio["max"],
        "goal": goal,
        "details": details | {"load_average": load_average()},
    }
    print(json.dumps(row, allow_nan=False), flush=True)


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the running script in a new interpreter, with memory of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def one_core() -> None:
    """Pin this process and its children to the first core it may use, if the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def peak_mib() -> float:
    """Return the largest resident set of this process so far, in MiB.

    On Linux the figure includes that of the parent process, so keep the parent small.
    """
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def load_average() -> float:
    """Return the load average of the last minute, which includes the benchmark itself."""
    return round(os.getloadavg()[0], 2)
