"""Schedule of the checkpoints of trainings that run side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rkd_core.errors import StoppedError
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.training.run import Run

__all__ = ["Saving"]

_SECONDS = 60.0  # a death costs at the most this much
_SHARE = 0.02  # of the time of a training that checkpoints may take; else they are rarer


class Saving:
    """When the trainings of an array are saved, and what each of them has cost.

    Args:
        out: Results folder; None to save nothing.
        runs: The trainings, side by side.
        done: Steps that each has a checkpoint of, from which it goes on; 0 to begin.
        every: Epochs between checkpoints; None: one when a minute has passed.
        stop: Asked before every step whether to save and stop; None: never.
        began: When the array began, by ``time.perf_counter``.

    Attributes:
        losses: Of the steps of the epoch that was under way, float32 ``(steps, runs)``.
    """

    def __init__(
        self,
        out: Path | None,
        runs: Sequence[Run],
        done: int,
        every: int | None,
        stop: Callable[[], bool] | None,
        began: float,
    ) -> None:
        self._out, self._runs, self._every, self._stop = out, runs, every, stop
        self._began = began
        self.losses = torch.zeros(0, len(runs))
        if out is not None and done:
            states = [Checkpoints(out, run.run_id).load(done) for run in runs]
            for run, state in zip(runs, states, strict=True):
                run.load(state)
            self.losses = torch.stack([state["losses"] for state in states], dim=1)
        self._before = [run.seconds for run in runs]
        self._newest = done
        self._due = began + _SECONDS

    def count_seconds(self) -> None:
        """Bring each training's ``seconds`` up to now; they share the time of the array."""
        share = (time.perf_counter() - self._began) / len(self._runs)
        for run, before in zip(self._runs, self._before, strict=True):
            run.seconds = before + share

    def step_begins(self, steps: int, losses: Tensor) -> None:
        """Save what is under way, if the time has come.

        Args:
            steps: Done so far.
            losses: Of those of this epoch, float32 ``(steps of the epoch, runs)``.

        Raises:
            StoppedError: It was asked to stop, and has saved.
        """
        if self._stop is not None and self._stop():
            self.save(steps, losses)
            raise StoppedError(f"stopped after {steps} steps")
        if self._every is None and time.perf_counter() >= self._due:
            self.save(steps, losses)

    def epoch_ended(self, epochs: int, count: int, last: int) -> None:
        """Save what is under way after so many epochs of ``count`` steps, if that is due."""
        if self._every is not None and epochs % self._every == 0 and epochs < last:
            self.save(epochs * count, self.losses[:0])

    def save(self, steps: int, losses: Tensor) -> None:
        """Save what is under way now; see ``step_begins``."""
        if self._out is None or steps == self._newest:
            return
        began = time.perf_counter()
        self.count_seconds()
        for k, run in enumerate(self._runs):
            if run.cause is None:
                state = run.state() | {"losses": losses[:, k]}
                Checkpoints(self._out, run.run_id).save(steps, state)
        self._newest = steps
        ended = time.perf_counter()
        self._due = ended + max(_SECONDS, (ended - began) / _SHARE)
