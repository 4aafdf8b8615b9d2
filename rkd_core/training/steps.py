"""Steps of the optimizers of all trainings of an array: one after the other, or as a CUDA graph.

A small network does not utilize a GPU, because each of its hundreds of kernels takes less time
than its launch. On a GPU, the steps of all trainings are therefore recorded once into a CUDA graph
with a branch for each, so that a step is a single launch and the branches run in parallel. The
recorder is a parameter: without a GPU, ``PlainRecorder`` runs the same code by calling the
function again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rkd_core.datasets.batches.batches import Batch
from rkd_core.datasets.batches.transforms import LabelMix
from rkd_core.device.hardware import CUDA_QUEUES
from rkd_core.errors import first_line
from rkd_core.models.features import Forward, forward
from rkd_core.training.run import Run

__all__ = [
    "CudaRecorder",
    "EagerSteps",
    "PlainRecorder",
    "RecordedSteps",
    "Recorder",
    "RecordingError",
    "RecordingMemoryError",
    "Steps",
]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WARM_UPS = 3  # steps before recording, in which libraries select algorithms and allocate memory
_CAPTURE_CODES = range(900, 910)  # cudaErrorStreamCaptureUnsupported and those after it


class RecordingError(RuntimeError):
    """Error for steps that cannot be recorded; this process should train nothing more.

    Torch cannot release the memory of a recording that failed. The steps can be taken in another
    process, with ``Execution(compiled=False)`` if their forward passes were compiled, else with
    ``Execution(recorded=False)``.

    Attributes:
        compiled: Whether the forward passes were compiled.
    """

    compiled = False


class RecordingMemoryError(RecordingError, torch.OutOfMemoryError):
    """Error for steps that do not fit in memory while they are recorded."""


class Steps(Protocol):
    """Function that takes one step of every training of an array."""

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """Train on a batch; return the losses before the step, float32 ``(runs,)``.

        Args:
            batch: Batch that all trainings see.
            logits: Logits of their teacher, float32 ``(batch, classes)``; None without one.
            rate: Learning rate.
        """
        ...


class EagerSteps:
    """Steps of one training after the other; abandoned trainings are skipped."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """See ``Steps``."""
        losses = torch.full((len(self._runs),), torch.nan, device=batch.images.device)
        for place, run in enumerate(self._runs):
            if run.cause is None:
                run.set_rate(rate)
                losses[place] = run.step(batch.images, batch.labels, logits, batch.mix)
        return losses


class Recorder(Protocol):
    """Recorder of the operations of a function, for replay without calling it."""

    def branch(self, number: int) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the step of one training runs in parallel with the others."""

    def join(self) -> None:
        """Wait for all branches."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call a function in the context in which it will be recorded."""

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Record a function; return a function that replays it with the current tensor values.

        Raises:
            RecordingError: An operation of the function cannot be recorded.
            RecordingMemoryError: The recorded function does not fit in memory.
        """


class RecordedSteps:
    """Recorded steps of all trainings for batches of one size; other batches are not recorded.

    Args:
        runs: Trainings that were created with ``rate``.
        rate: Learning rate that their optimizers read, a scalar tensor on the device.
        size: Size of the recorded batches.
        recorder: Recorder of the operations.
        forward: Forward pass of recorded steps; other steps are not compiled.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        rate: Tensor,
        size: int,
        recorder: Recorder,
        forward: Forward = forward,
    ) -> None:
        self._runs, self._rate, self._size, self._recorder = runs, rate, size, recorder
        self._forward = forward
        self._replay: Callable[[], None] | None = None
        self._losses = torch.full((len(runs),), torch.nan, device=rate.device)

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """See ``Steps``."""
        self._rate.fill_(rate)
        if len(batch.labels) != self._size:
            self._step_all(batch, logits)
            return self._losses
        if self._replay is None:
            self._replay = self._record(batch, logits)
        self._batch.images.copy_(batch.images)
        self._batch.labels.copy_(batch.labels)
        if self._batch.mix is not None and batch.mix is not None:
            self._batch.mix.labels.copy_(batch.mix.labels)
            self._batch.mix.share.copy_(batch.mix.share)
        if self._logits is not None and logits is not None:
            self._logits.copy_(logits)
        self._replay()
        return self._losses

    def _step_all(self, batch: Batch, logits: Tensor | None, forward: Forward = forward) -> None:
        try:
            for number, run in enumerate(self._runs):
                with self._recorder.branch(number):
                    loss = run.step(batch.images, batch.labels, logits, batch.mix, forward)
                    self._losses[number].copy_(loss)
        finally:  # after an error, too: branches of the next step must wait for its batch
            self._recorder.join()

    def _record(self, batch: Batch, logits: Tensor | None) -> Callable[[], None]:
        mix = batch.mix
        if mix is not None:
            mix = LabelMix(mix.labels.clone(), mix.share.clone())
        self._batch = replace(
            batch, images=batch.images.clone(), labels=batch.labels.clone(), mix=mix
        )
        self._logits = None if logits is None else logits.clone()

        # The warm-up trains, so the previous values are restored. New states of optimizers are set
        # to zero, which is equivalent to having none.
        before = [[value.clone() for value in run.changing()] for run in self._runs]
        states = [
            {key: value.clone() for key, value in _optimizer_state(run)} for run in self._runs
        ]
        norms = self._counting_norms()

        def step() -> None:
            with _not_counting(norms) as counters:
                if counters:
                    torch._foreach_add_(counters, 1)
                self._step_all(self._batch, self._logits, self._forward)

        for _ in range(_WARM_UPS - 1):
            self._recorder.warm_up(step)
        try:
            replay = self._recorder.record(step)
        except RecordingError as error:
            error.compiled = self._forward is not forward
            raise
        with torch.no_grad():
            for run, values, state in zip(self._runs, before, states, strict=True):
                for now, then in zip(run.changing(), values, strict=True):
                    now.copy_(then)
                for key, value in _optimizer_state(run):
                    if key in state:
                        value.copy_(state[key])
                    else:
                        value.zero_()
        return replay

    def _counting_norms(self) -> list[_BatchNorm]:
        """Warm up, and return the batch norms that count each step once and do not use the count.

        A counter takes a kernel of its own; a recorded step increments all of them together.
        """
        counted = [
            (module, int(counter))
            for run in self._runs
            for module in run.model.modules()
            if isinstance(module, _BatchNorm) and type(module) in _NORMS
            if module.momentum is not None and (counter := module.num_batches_tracked) is not None
        ]
        self._recorder.warm_up(lambda: self._step_all(self._batch, self._logits))
        return [norm for norm, count in counted if norm.num_batches_tracked == count + 1]


@contextlib.contextmanager
def _not_counting(norms: Sequence[_BatchNorm]) -> Iterator[list[Tensor]]:
    """Let batch norms count no steps; yield their counters."""
    counters = [counter for norm in norms if (counter := norm.num_batches_tracked) is not None]
    for norm in norms:
        norm._buffers["num_batches_tracked"] = None
    try:
        yield counters
    finally:
        for norm, counter in zip(norms, counters, strict=True):
            norm._buffers["num_batches_tracked"] = counter


def _optimizer_state(run: Run) -> Iterator[tuple[tuple[str, nn.Parameter], Tensor]]:
    """Yield the tensors of the optimizer of a training, by kind and parameter."""
    for kind, values in run.optimizer.state.items():
        for parameter, value in values.items():
            yield (kind, parameter), value


class PlainRecorder:
    """Recorder without a graph, which calls the function again."""

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
    """Recorder of CUDA graphs, with branches on separate streams."""

    def __init__(self, device: str, branches: int) -> None:
        self._main = torch.cuda.Stream(device)
        self._streams = [torch.cuda.Stream(device) for _ in range(min(branches, CUDA_QUEUES))]
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
        used, self._used = self._used, set()  # cleared even if a stream has failed
        for place in used:
            torch.cuda.current_stream().wait_stream(self._streams[place])

    def warm_up(self, function: Callable[[], None]) -> None:
        """See ``Recorder``."""
        self._main.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._main):
            function()
        torch.cuda.current_stream().wait_stream(self._main)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """See ``Recorder``."""
        torch.cuda.synchronize()
        graph, outer = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # thread_local: other threads may pin memory for streamed images during the recording.
            with torch.cuda.graph(graph, stream=self._main, capture_error_mode="thread_local"):
                function()
        except RuntimeError as error:
            torch.cuda.set_stream(outer)  # torch does not restore it if the end of a capture fails
            raise _failure(error) from None
        return graph.replay


def _failure(error: RuntimeError) -> Exception:
    """Return the error to raise for one during a recording, by the causes in its chain.

    The end of an invalid capture raises an error of its own, which hides the one before it.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if isinstance(link, torch.OutOfMemoryError):
            return RecordingMemoryError(first_line(link))
    for link in chain:
        if isinstance(link, torch.AcceleratorError) and not _is_of_capture(link):
            return link  # the device itself has failed
    if any(_is_of_capture(link) for link in chain):
        return RecordingError(f"the steps cannot be recorded: {first_line(chain[-1])}")
    return error


def _is_of_capture(error: BaseException) -> bool:
    """Return whether CUDA or torch refuses an operation because it is being recorded."""
    return getattr(error, "error_code", None) in _CAPTURE_CODES or "captur" in str(error).lower()
