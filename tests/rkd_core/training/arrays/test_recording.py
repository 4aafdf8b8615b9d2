"""Failures while steps are recorded, with fakes in the place of CUDA."""

import contextlib
import os

import pytest
import torch

from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.specs import DataOptions, Recipe
from rkd_core.training import loop
from rkd_core.training.run import Run
from rkd_core.training.steps import (
    CudaRecorder,
    EagerSteps,
    PlainRecorder,
    RecordedSteps,
    RecordingError,
    RecordingMemoryError,
)
from tests.rkd_core.training.test_loop import CPU, colourful, teacher_spec

INVALIDATED = "CUDA error: operation failed due to a previous error during capture"
NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"


class Stream:
    """A stream that writes down what it waits for."""

    def __init__(self, name):
        self.name, self.waited = name, []

    def wait_stream(self, other):
        self.waited.append(other.name)


class Cuda:
    """The part of ``torch.cuda`` that the recorder uses."""

    def __init__(self, monkeypatch):
        self.outer = self.current = Stream("outer")
        self.made = []
        self.end_fails = False
        for name in ("Stream", "current_stream", "set_stream", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", type("Graph", (), {"replay": print}))

    def Stream(self, device):  # noqa: N802
        self.made.append(Stream(str(len(self.made))))
        return self.made[-1]

    def current_stream(self):
        return self.current

    def set_stream(self, stream):
        self.current = stream

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def graph(self, graph, stream, capture_error_mode):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            if self.end_fails:
                raise torch.AcceleratorError(INVALIDATED)
        self.current = before  # not after an error of the end, like torch.cuda.graph


@pytest.fixture(name="cuda")
def fake_cuda(monkeypatch):
    return Cuda(monkeypatch)


def failing(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "end_fails", "expected", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True, RecordingMemoryError, "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), False, RecordingMemoryError, "of memory"),
        (torch.AcceleratorError(NOT_PERMITTED), True, RecordingError, "not permitted"),
        (RuntimeError("Cannot call seed during CUDA graph capture"), True, RecordingError, "seed"),
        (RuntimeError("an operation without a kernel"), True, RecordingError, "without a kernel"),
        (
            torch.AcceleratorError("CUDA error: an illegal memory access"),
            True,
            torch.AcceleratorError,
            "illegal",
        ),
        (RuntimeError("shapes do not match"), False, RuntimeError, "shapes"),
    ],
)
def test_the_first_error_of_a_recording_decides(cuda, error, end_fails, expected, message):
    recorder = CudaRecorder("cuda", 2)
    cuda.end_fails = end_fails
    with pytest.raises(RuntimeError, match=message) as caught:
        recorder.record(failing(error))
    assert type(caught.value) is expected
    assert cuda.current is cuda.outer  # restored, although the end of the capture has failed


def test_branches_wait_for_the_batch_after_a_step_that_failed(cuda, monkeypatch):
    data = colourful()
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.5)
    spec = teacher_spec(architecture="resnet8", recipe=recipe, data=DataOptions())
    array_data = ArrayData(spec, data, CPU)
    rate = torch.tensor(0.5)
    runs = [Run(spec, str(k), array_data, None, rate) for k in range(2)]
    recorded = RecordedSteps(runs, rate, 16, CudaRecorder("cuda", 2))  # batches are not recorded
    batch = next(iter(array_data.batches.epoch(0)))
    with monkeypatch.context() as broken:
        broken.setattr(runs[1], "step", lambda *_: failing(RuntimeError("broken"))())
        with pytest.raises(RuntimeError, match="broken"):
            recorded(batch, None, 0.1)
    recorded(batch, None, 0.1)
    _, *branches = cuda.made
    assert [stream.waited for stream in branches] == [["outer"] * 2] * 2


def test_there_are_as_many_streams_as_queues(cuda, monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
    CudaRecorder("cuda", 18)
    assert len(cuda.made) == 19
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Execution.best()
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"


def test_an_error_while_recording_is_not_hidden(cuda):
    """The steps are not taken eagerly in this process, whose device is in an unknown state."""

    class Broken(PlainRecorder):
        def record(self, function):
            raise RecordingError("the steps cannot be recorded: no")

    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.5)
    spec = teacher_spec(architecture="resnet8", recipe=recipe, data=DataOptions())
    array_data = ArrayData(spec, colourful(), CPU)
    rate = torch.tensor(0.5)
    recorded = RecordedSteps([Run(spec, "0", array_data, None, rate)], rate, 32, Broken())
    with pytest.raises(RecordingError):
        recorded(next(iter(array_data.batches.epoch(0))), None, 0.1)


def test_unrecorded_trainings_take_eager_steps(monkeypatch):
    made = []
    monkeypatch.setattr(
        loop, "_steps", lambda runs, rate, data: made.append(rate) or EagerSteps(runs)
    )
    monkeypatch.setattr(Execution, "on_gpu", True)
    monkeypatch.setattr(Execution, "prepared", lambda self, size: self)
    monkeypatch.setattr(Execution, "device_name", "fake")
    spec = teacher_spec(architecture="resnet8", data=DataOptions())
    for recorded in (True, False):
        execution = Execution("cpu", recorded=recorded)
        loop.train([spec], data=colourful(), execution=execution)
    assert [rate is None for rate in made] == [False, True]
