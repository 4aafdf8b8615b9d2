"""Base class of receivers of the events of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.planning.plan import PlannedRun

__all__ = ["Watcher"]


class Watcher:
    """Receiver of the events of a sweep, such as a progress display; by default it ignores them."""

    def added(self, runs: Sequence[PlannedRun]) -> None:
        """Handle runs that were added to the plan."""

    def started(self, runs: Sequence[PlannedRun]) -> None:
        """Handle the start of trainings that run side by side."""

    def progressed(self, run: PlannedRun, progress: Mapping[str, Any]) -> None:
        """Handle the end of an epoch; ``progress`` has the fields of ``Progress``."""

    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        """Handle a completed training; ``row`` has its record's accuracies and seconds."""

    def paused(self, run: PlannedRun, pruned: bool) -> None:
        """Handle a training that stopped before its last epoch, permanently if it is pruned."""

    def retried(self, run: PlannedRun, cause: str) -> None:
        """Handle a training that failed and will be started again."""

    def failed(self, run: PlannedRun, cause: str) -> None:
        """Handle a training that failed permanently, or whose teacher did."""
