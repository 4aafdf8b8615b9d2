"""A step of SGD of all trainings of an array: one after the other, or recorded and replayed.

On a GPU a small network leaves the chip idle, because each of its hundreds of kernels takes less
time than its launch. There the steps of all trainings are recorded once into one CUDA graph, a
branch for each, so that a step is one launch and the branches fill the chip together. The
recorder is a parameter: the same recording runs without a GPU, with a recorder that remembers the
function and calls it again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from rkd_core.datasets.batches.batches import Batch
from rkd_core.training.run import Run

__all__ = ["CudaRecorder", "EagerSteps", "PlainRecorder", "RecordedSteps", "Recorder", "Steps"]

log = logging.getLogger(__name__)

_WARM_UPS = 3  # what libraries do only at first (choose algorithms, allocate) is not recorded
_STREAMS = 8  # branches that may run at the same time


class Steps(Protocol):
    """One step of every training of an array."""

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """Train on a batch; returns the losses before the step, float32 ``(runs,)``.

        Args:
            batch: What all trainings see.
            logits: Their teacher's on it, float32 ``(batch, classes)``, or None.
            rate: Learning rate.
        """
        ...


class EagerSteps:
    """One training after the other; those that were given up are left out."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """See ``Steps``."""
        losses = torch.full((len(self._runs),), torch.nan, device=batch.images.device)
        for place, run in enumerate(self._runs):
            if run.cause is None:
                run.set_rate(rate)
                losses[place] = run.step(batch.images, batch.labels, logits)
        return losses


class Recorder(Protocol):
    """What can record the work of a function, and do it again without calling it."""

    def branch(self, number: int) -> contextlib.AbstractContextManager[object]:
        """Where the work of the training of this number goes, beside that of the others."""

    def join(self) -> None:
        """Wait for all branches."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call a function in the place where it will be recorded."""

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Record a function; what is returned replays it on what its tensors hold by then."""


class RecordedSteps:
    """All trainings' steps as one recording, for batches of one size; others go one by one.

    Args:
        runs: The trainings; made with ``rate``.
        rate: The learning rate that their optimisers read, a scalar tensor on the device.
        size: Images of the batches that are recorded.
        recorder: What records.
    """

    def __init__(self, runs: Sequence[Run], rate: Tensor, size: int, recorder: Recorder) -> None:
        self._runs, self._rate, self._size, self._recorder = runs, rate, size, recorder
        self._replay: Callable[[], None] | None = None
        self._losses = torch.full((len(runs),), torch.nan, device=rate.device)

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """See ``Steps``."""
        self._rate.fill_(rate)
        if len(batch.labels) != self._size:
            self._step_all(batch.images, batch.labels, logits)
            return self._losses
        if self._replay is None:
            self._replay = self._record(batch, logits)
        self._images.copy_(batch.images)
        self._labels.copy_(batch.labels)
        if self._logits is not None and logits is not None:
            self._logits.copy_(logits)
        self._replay()
        return self._losses

    def _step_all(self, images: Tensor, labels: Tensor, logits: Tensor | None) -> None:
        for number, run in enumerate(self._runs):
            with self._recorder.branch(number):
                self._losses[number].copy_(run.step(images, labels, logits))
        self._recorder.join()

    def _record(self, batch: Batch, logits: Tensor | None) -> Callable[[], None]:
        self._images, self._labels = batch.images.clone(), batch.labels.clone()
        self._logits = None if logits is None else logits.clone()

        def step() -> None:
            self._step_all(self._images, self._labels, self._logits)

        # Warming up trains, so what that changes is put back. Momentum starts
        # from zero, which is what SGD does at its first step.
        before = [[value.clone() for value in run.changing()] for run in self._runs]
        momenta = [
            {p: buffer.clone() for p, buffer in run.optimizer.momentum_buffers.items()}
            for run in self._runs
        ]
        for _ in range(_WARM_UPS):
            self._recorder.warm_up(step)
        try:
            replay = self._recorder.record(step)
        except RuntimeError as error:  # some operation cannot be recorded
            log.warning("steps are not recorded: %s", error)
            replay = step
        with torch.no_grad():
            for run, values, buffers in zip(self._runs, before, momenta, strict=True):
                for now, then in zip(run.changing(), values, strict=True):
                    now.copy_(then)
                for parameter, buffer in run.optimizer.momentum_buffers.items():
                    if parameter in buffers:
                        buffer.copy_(buffers[parameter])
                    else:
                        buffer.zero_()
        return replay


class PlainRecorder:
    """Remembers the function and calls it again: the same interface where there is no graph."""

    def branch(self, number: int) -> contextlib.AbstractContextManager[object]:
        """See ``Recorder``."""
        return contextlib.nullcontext()

    def join(self) -> None:
        """See ``Recorder``."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """See ``Recorder``."""
        function()

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """See ``Recorder``."""
        return function


class CudaRecorder:
    """CUDA graphs; each branch on a stream of its own."""

    def __init__(self, device: str, branches: int) -> None:
        self._main = torch.cuda.Stream(device)
        self._streams = [torch.cuda.Stream(device) for _ in range(min(branches, _STREAMS))]
        self._used: set[int] = set()

    @contextlib.contextmanager
    def branch(self, number: int) -> Iterator[None]:
        """See ``Recorder``."""
        place = number % len(self._streams)
        stream = self._streams[place]
        if place not in self._used:
            stream.wait_stream(torch.cuda.current_stream())
            self._used.add(place)
        with torch.cuda.stream(stream):
            yield

    def join(self) -> None:
        """See ``Recorder``."""
        for place in self._used:
            torch.cuda.current_stream().wait_stream(self._streams[place])
        self._used.clear()

    def warm_up(self, function: Callable[[], None]) -> None:
        """See ``Recorder``."""
        self._main.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._main):
            function()
        torch.cuda.current_stream().wait_stream(self._main)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """See ``Recorder``."""
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Threads that pin memory for streamed images may go on while this one records.
        with torch.cuda.graph(graph, stream=self._main, capture_error_mode="thread_local"):
            function()
        return graph.replay
