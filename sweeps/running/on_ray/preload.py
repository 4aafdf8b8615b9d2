"""Imports of a Ray worker process before its first trial."""

from __future__ import annotations

import contextlib
from importlib import import_module

__all__ = ["imports"]


def imports() -> None:
    """Import the modules of trials; called by Ray at the start of each worker process."""
    with contextlib.suppress(Exception):  # the trial reports the error
        import_module("ray.tune")
        import_module("sweeps.running.trial")
