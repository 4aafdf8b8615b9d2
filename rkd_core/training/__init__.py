"""Training and measurement: specs in, records out.

Importing this package imports no torch; its functions do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkd_core.training.loop import Progress, train

__all__ = ["Progress", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rkd_core.training import loop

    return getattr(loop, name)
