"""Checkpoints: all that a training needs to go on where it was, to the last bit.

``checkpoints/<run id>/step-<steps done>/state.safetensors``, a bundle: it appears complete or not
at all and is checked before it is used. There are no random states in it, since every random
choice is a pure function of the spec, the epoch and the step. A checkpoint that is damaged counts
as none; those of a run are deleted when it is committed.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rkd_core import bundles, files
from rkd_core.errors import StoppedError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rkd_core.runs import Run

__all__ = ["FILE", "FOLDER", "Checkpoints", "Saving"]

log = logging.getLogger(__name__)

FOLDER, FILE = "checkpoints", "state.safetensors"
_SECONDS = 60.0  # a death costs at the most this much
_SHARE = 0.02  # of the time of a training that checkpoints may take; else they are rarer


class Checkpoints:
    """The checkpoints of one run.

    Args:
        out: Results folder.
        run_id: Of the run.
    """

    def __init__(self, out: Path, run_id: str) -> None:
        self._folder, self._run_id = out / FOLDER / run_id, run_id

    def newest(self) -> int:
        """Steps done at the newest checkpoint that is whole; 0 if there is none."""
        for steps in sorted(self._saved(), reverse=True):
            try:
                bundles.check(self._path(steps), self._run_id, (FILE,))
            except UserError as error:
                log.warning("%s; it is deleted", error)  # or it would be in a new one's way
                files.remove(self._path(steps))
            else:
                return steps
        return 0

    def load(self, steps: int) -> dict[str, Tensor]:
        """The state saved after so many steps, on the CPU.

        Raises:
            UserError: It is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(steps)
        try:
            state: dict[str, Tensor] = load(bundles.read(path, self._run_id, (FILE,))[FILE])
        except SafetensorError as error:
            raise UserError(f"{path / FILE} is no checkpoint of this program: {error}") from error
        return state

    def save(self, steps: int, state: Mapping[str, Tensor]) -> None:
        """Keep a state, and none of earlier steps. A full disk is logged and stops nobody."""
        from safetensors.torch import save

        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        try:
            bundles.write(self._path(steps), self._run_id, {FILE: save(tensors)})
        except OSError as error:
            log.warning("no checkpoint of %s after step %d: %s", self._run_id, steps, error)
            return
        for earlier in self._saved():
            if earlier < steps:
                files.remove(self._path(earlier))

    def delete(self) -> None:
        """The run needs them no more."""
        files.remove(self._folder)

    def _path(self, steps: int) -> Path:
        return self._folder / f"step-{steps}"

    def _saved(self) -> list[int]:
        found = (re.fullmatch(r"step-([0-9]{1,18})", name) for name in files.names(self._folder))
        return [int(match[1]) for match in found if match]


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
        import torch

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
