"""The answer while trainings run, in ``selection.json``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.selection.rule_options import Rule
from rkd_core.storage.files import Location
from sweeps.planning.plan import PlannedRun
from sweeps.running.watcher import Watcher

__all__ = ["InterimAnswer"]

_SOON = 60.0
"""Seconds from the start to the first answer; a shorter sweep needs none."""
_AGAIN = 600.0
"""Seconds between two answers; computing one takes a few seconds at the lowest priority."""


class InterimAnswer(Watcher):
    """Watcher that selects among the completed students periodically, in a separate process.

    So a sweep that is watched or stopped early has a candidate soon after its first student is
    trained. Use it as a context manager, which ends the process.

    Args:
        out: Results folder with the plan.
        rule: Selection rule.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self, out: Location, rule: Rule, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out, self._rule, self._clock = out, rule, clock
        self._due = clock() + _SOON
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> InterimAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        """Start a selection if a student was trained and enough time has passed."""
        busy = self._process is not None and self._process.exitcode is None
        if run.spec.stage != "student" or busy or self._clock() < self._due:
            return
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_select, args=(self._out, self._rule), daemon=True)
        self._process.start()
        self._due = self._clock() + _AGAIN


def _select(out: Location, rule: Rule) -> None:
    """Write ``selection.json`` at the lowest priority, if something can be selected already."""
    from analysis.select import run
    from rkd_core.errors import UserError
    from rkd_core.text.console import Console

    os.nice(19)
    with contextlib.suppress(UserError), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        run(out, rule, figures=False, console=Console(file=nowhere))
