"""Schedule of the checkpoints of an array of trainings."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from rkd_core.errors import StoppedError
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.storage.files import Location
from rkd_core.training.controls import TrainingControls
from rkd_core.training.run import Run

__all__ = ["Saving"]

_SECONDS = 60.0  # between checkpoints; a killed process loses at most this much
_SHARE = 0.02  # maximum share of the training time that checkpoints may take


class Saving:
    """Checkpoints of an array of trainings, and the time spent on each training.

    Args:
        out: Results folder; None to save nothing.
        runs: Trainings of the array.
        done: Number of steps in the checkpoint to continue from; 0 to start.
        controls: When to save, and when to stop.
        began: Time at which the array started, from ``time.perf_counter``.

    Attributes:
        losses: Losses of the steps of the interrupted epoch, float32 ``(steps, runs)``.
    """

    def __init__(
        self,
        out: Location | None,
        runs: Sequence[Run],
        done: int,
        controls: TrainingControls,
        began: float,
    ) -> None:
        self._out, self._runs, self._every = out, runs, controls.checkpoint_every
        self._stop = controls.stop
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
        """Update the ``seconds`` of each training, an equal share of the time of the array."""
        share = (time.perf_counter() - self._began) / len(self._runs)
        for run, before in zip(self._runs, self._before, strict=True):
            run.seconds = before + share

    def step_begins(self, steps: int, losses: Tensor) -> None:
        """Save a checkpoint if one is due.

        Args:
            steps: Number of steps so far.
            losses: Losses of the steps of this epoch, float32 ``(steps, runs)``.

        Raises:
            StoppedError: A stop was requested; a checkpoint has been saved.
        """
        if self._stop is not None and self._stop():
            self.save(steps, losses)
            raise StoppedError(f"stopped after {steps} steps")
        if self._every is None and time.perf_counter() >= self._due:
            self.save(steps, losses)

    def epoch_ended(self, epochs: int, count: int, last: int) -> None:
        """Save a checkpoint after an epoch if one is due.

        Args:
            epochs: Number of epochs so far.
            count: Steps per epoch.
            last: Number of epochs after which the training ends.
        """
        if self._every is not None and epochs % self._every == 0 and epochs < last:
            self.save(epochs * count, self.losses[:0])

    def save(self, steps: int, losses: Tensor) -> None:
        """Save a checkpoint; see ``step_begins`` for the arguments."""
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
