"""Selection of the student to ship, with its uncertainty."""

from analysis.selection.choose import Selection, best_first, select

__all__ = ["Selection", "best_first", "select"]
