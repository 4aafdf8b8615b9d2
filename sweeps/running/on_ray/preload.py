"""What a Ray worker process imports before it is given a trial, so that the trial need not."""

from __future__ import annotations

import contextlib
from importlib import import_module

__all__ = ["imports"]


def imports() -> None:
    """Import what trials use; called by Ray in each worker process as it starts."""
    with contextlib.suppress(Exception):  # the trial will say it better
        import_module("ray.tune")
        import_module("sweeps.running.trial")
