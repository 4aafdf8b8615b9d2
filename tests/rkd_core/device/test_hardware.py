"""Count of GPUs, given the environment."""

from types import SimpleNamespace

import pynvml
import pytest

from rkd_core.device import hardware
from rkd_core.device.hardware import gpu_count, gpu_memory


@pytest.mark.parametrize(
    ("visible", "count", "memory"),
    [
        (None, 3, 10),
        ("", 0, None),
        ("-1", 0, None),
        ("0", 1, 30),
        ("1,0", 2, 10),
        ("0,2", 2, 20),
        ("MIG-1f2e", 1, None),  # part of a GPU, of a size that its whole does not tell
        ("0,7", 2, None),
    ],
)
def test_visible_gpus(monkeypatch, visible, count, memory):
    monkeypatch.setattr(hardware, "_gpu_memories", lambda: [30, 10, 20])
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert (gpu_count(), gpu_memory()) == (count, memory)


def test_without_gpus_there_are_none(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "_gpu_memories", list)
    assert (gpu_count(), gpu_memory()) == (0, None)


@pytest.mark.parametrize(
    "failing", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", None]
)
def test_the_driver_reports_the_memory_of_each_gpu(monkeypatch, failing):
    ended = []

    def ask(name, answer):
        def function(*arguments):
            if name == failing:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
            return answer(*arguments)

        monkeypatch.setattr(pynvml, name, function)

    ask("nvmlInit", lambda: None)
    ask("nvmlDeviceGetCount", lambda: 2)
    ask("nvmlDeviceGetHandleByIndex", lambda index: index)
    ask("nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=[30, 10][handle]))
    ask("nvmlShutdown", lambda: ended.append(1))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (gpu_count(), gpu_memory()) == ((0, None) if failing else (2, 10))
    assert len(ended) == (0 if failing == "nvmlInit" else 2)


@pytest.mark.parametrize(
    ("text", "threads"), [("3", 3), ("4,2", 4), ("", None), ("0", None), ("many", None)]
)
def test_threads_are_all_cores_unless_openmp_is_limited(monkeypatch, text, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert hardware.thread_count() == (threads or hardware.cpu_count())
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert hardware.thread_count() == hardware.cpu_count()
