"""What this machine has, without importing torch or ray."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["cpu_count", "gpu_count", "gpu_memory", "thread_count", "wait_asleep"]


def cpu_count() -> int:
    """CPU cores this process may use: its affinity, and its container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        limit = int(quota) // int(period)
    except (OSError, ValueError):  # no container, or "max": no quota
        limit = 0
    return max(1, min(cores or 1, limit or cores or 1))


def thread_count() -> int:
    """Return the number of threads for a training that has this machine to itself.

    It is ``$OMP_NUM_THREADS``, as for any OpenMP program, or else the number of cores.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else cpu_count()


def wait_asleep() -> None:
    """Let waiting threads sleep rather than spin, if torch is not imported yet.

    Measured on two busy cores: two threads that spin took 4 to 20 times the CPU time of one thread,
    two that sleep 1.3 to 1.4 times. Sums are the same to the last bit.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def gpu_count() -> int:
    """NVIDIA GPUs the driver sees, as far as ``CUDA_VISIBLE_DEVICES`` leaves them visible."""
    visible = _visible()
    if visible == []:
        return 0
    found = len(_gpu_memories())
    return found if visible is None else min(found, len(visible))


def gpu_memory() -> int | None:
    """Bytes of the smallest GPU that is visible; None without one, or where only part of one is."""
    memories, visible = _gpu_memories(), _visible()
    if visible is not None:
        try:
            memories = [memories[int(index)] for index in visible]
        except (ValueError, IndexError):  # named by UUID, as slices of a GPU are
            return None
    return min(memories, default=None)


def _visible() -> list[str] | None:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names; None if it leaves all of them visible."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return None
    return [] if named.strip() in ("", "-1", "NoDevFiles") else named.split(",")


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def _gpu_memories() -> list[int]:
    """Bytes of each GPU of this machine."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if library.nvmlInit_v2() != 0:
        return []
    count, memories = ctypes.c_uint(0), []
    try:
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            handle, memory = ctypes.c_void_p(), _Memory()
            library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
            library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
            memories.append(int(memory.total))
    finally:
        library.nvmlShutdown()
    return memories
