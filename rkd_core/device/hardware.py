"""Processor cores and GPUs of this machine."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "CUDA_QUEUES",
    "cpu_count",
    "gpu_count",
    "gpu_memory",
    "thread_count",
    "use_all_queues",
    "wait_asleep",
]

CUDA_QUEUES = 32
"""Maximum number of hardware queues of a process, and so of streams that run in parallel."""


def cpu_count() -> int:
    """Return the number of CPU cores that affinity and quota (cgroup v2) leave to this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        limit = int(quota) // int(period)
    except (OSError, ValueError):  # no container, or "max", which means no quota
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


def use_all_queues() -> None:
    """Let all streams of this process run in parallel, if CUDA has not started yet.

    CUDA reads the number of hardware queues when it starts, and uses 8 by default: streams that
    share a queue wait for each other.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", str(CUDA_QUEUES))


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that ``CUDA_VISIBLE_DEVICES`` leaves visible."""
    visible = _visible()
    if visible == []:
        return 0
    found = len(_gpu_memories())
    return found if visible is None else min(found, len(visible))


def gpu_memory() -> int | None:
    """Return the bytes of the smallest visible GPU; None if there is none, or only part of one."""
    memories, visible = _gpu_memories(), _visible()
    if visible is not None:
        try:
            memories = [memories[int(index)] for index in visible]
        except (ValueError, IndexError):  # named by UUID, as slices of a GPU are
            return None
    return min(memories, default=None)


def _visible() -> list[str] | None:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` names; None if it is not set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return None
    return [] if named.strip() in ("", "-1", "NoDevFiles") else named.split(",")


def _gpu_memories() -> list[int]:
    """Return the bytes of each GPU of this machine; none without a driver."""
    import pynvml  # imported only here, since most processes do not need it

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
    except pynvml.NVMLError:  # a failed GPU also makes the others unusable
        return []
    finally:
        pynvml.nvmlShutdown()
