"""Selection of the student to ship, with its uncertainty.

Importing this package imports no NumPy; its functions do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.selection.choose import Selection, best_first, select

__all__ = ["Selection", "best_first", "select"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis.selection import choose

    return getattr(choose, name)
