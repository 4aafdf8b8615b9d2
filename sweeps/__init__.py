"""Sweeps over trainings: plan, schedule, execution on Ray Tune, progress and the commands.

``rkd_core`` implements the trainings, and ``analysis`` interprets their results. ``Sweep`` and
``Results`` are the Python interface; they are imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import Results, Sweep

__all__ = ["Results", "Sweep"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeps import api

    return getattr(api, name)
